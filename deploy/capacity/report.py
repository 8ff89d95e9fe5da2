"""The plot and the tables of deploy/README.md: `python -m deploy.capacity.report`.

Everything is from `results.json`, `measured.json` and `validation.json`; a test compares the tables
with the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib

from .fleet import Fleet, Load, simulate
from .profiles import FOLDER, Profile, assumptions, measured, profile

README = FOLDER.parent / "README.md"
PLOT = FOLDER / "capacity.png"
BEGIN, END = "<!-- capacity: begin -->\n", "<!-- capacity: end -->\n"


def section() -> str:
    """Return what stands between the marks in deploy/README.md."""
    results = read("results.json")
    parts = [
        _needed(results),
        _per_replica(results),
        _limits(),
        _balancing(results),
        _autoscaling(results),
        _jobs(results),
        _costs(),
        _validation(),
    ]
    return "\n".join(parts)


def section_in_readme() -> str:
    """Return what stands there now."""
    return README.read_text().split(BEGIN)[1].split(END)[0]


def read(name: str) -> dict[str, Any]:
    """Return a file of results."""
    content: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return content


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _needed(results: dict[str, Any]) -> str:
    told = assumptions()
    names = list(results["fleets"])
    head = ["cameras"]
    for name in names:
        rate = results["fleets"][name][0]["frames_per_s"]
        limit_ms = told["replicas"][name]["p99_s"] * 1000
        label = results["profiles"][name]["label"]
        head.append(f"{label}: {rate:g} frames/s each, p99 at most {limit_ms:g} ms")
    rows = []
    for number, fleet in enumerate(results["fleets"][names[0]]):
        enough = [_enough(results["fleets"][name][number]) for name in names]
        rows.append([f"{fleet['cameras']:,}", *enough])
    return (
        "Replicas that the objective asks for (at most 1 % of frames dropped), with the p99, the "
        "dropped part and the price per hour that come of them. The more cameras, the shorter the "
        "simulated time (60 s to 1 s), so that large fleets with too few replicas look better than "
        "they would be after a minute:\n\n" + _table(head, rows)
    )


def _enough(fleet: dict[str, Any]) -> str:
    for point in fleet["points"]:
        if point["replicas"] == fleet["needed"]:
            return (
                f"**{point['replicas']:,}** ({_ms(point['p99_s'])} ms, "
                f"{point['dropped']:.1%}, {point['cost_per_hour']:,.0f})"
            )
    return "none of those tried"


def _per_replica(results: dict[str, Any]) -> str:
    rates = list(next(iter(results["cameras_per_replica"].values())))
    rows = [
        [results["profiles"][name]["label"], *(str(by_rate[rate]) for rate in rates)]
        for name, by_rate in results["cameras_per_replica"].items()
    ]
    text = "Cameras that one replica serves within its objective:\n\n" + _table(
        ["replica", *(f"{rate} frames/s" for rate in rates)], rows
    )
    rows = [
        [
            results["profiles"][name]["label"],
            *(
                f"{row['device_s'] * 1000:.0f} ms: {row['cameras_per_replica']}"
                for row in scalings.values()
            ),
        ]
        for name, scalings in results["scalings"].items()
    ]
    rate = assumptions()["load"]["frames_per_s"]
    return (
        text
        + f"\nHow much of that the assumptions are: device time of a frame and cameras at {rate:g} "
        "frames/s, scaled from the published figures by arithmetic (fast), by memory bandwidth "
        "(slow) and between:\n\n" + _table(["replica", "fast", "middle", "slow"], rows)
    )


def limits(of: Profile) -> dict[str, float]:
    """Return the live frames a second at which each part of one replica is full."""
    return {
        "device": 1 / of.device_s,
        "pixels": of.pixel_threads / (of.decode_s + of.postprocess_s),
        "event loop": 1 / of.loop_frame_s,
    }


def _limits() -> str:
    request_bits = measured()["live_frame"]["request_bytes"] * 8
    rows = []
    for name in assumptions()["replicas"]:
        of = profile(name)
        full = limits(of)
        first = min(full, key=lambda part: full[part])
        network = full[first] * request_bits / 1e6
        rows.append(
            [of.label, *(f"{rate:,.0f}" for rate in full.values()), first, f"{network:,.0f} Mbit/s"]
        )
    head = ["replica", "device", "threads for pixels", "event loop", "full first", "network then"]
    return "Live frames a second at which a part of one replica is full:\n\n" + _table(head, rows)


def _balancing(results: dict[str, Any]) -> str:
    told = results["balancing"]
    rows = [
        [
            f"{row['calls_per_s']:g}",
            row["balancing"],
            f"{row['hits']:.0%}",
            f"{row['device']:.0%}",
            f"{_ms(row['calls_p99_s'])} ms",
            f"{row['refused']:.1%}",
        ]
        for row in told["rows"]
    ]
    text = (
        f"Prompts on still images, {told['replicas']} replicas "
        f"({results['profiles'][told['profile']]['label']}), "
        f"{results['inputs']['load']['prompts_per_image']} prompts an image:\n\n"
        + _table(["calls/s", "balancing", "embedding found", "device busy", "p99", "refused"], rows)
    )
    placed = results["placement"]
    even, at_random = placed["even"], placed["random"]
    return (
        text
        + f"\nSessions that fall on replicas at random instead of evenly: {placed['cameras']:,} "
        f"cameras need {at_random['replicas']:,} replicas instead of {even['replicas']:,} "
        f"({results['profiles'][placed['profile']]['label']}).\n"
    )


def _autoscaling(results: dict[str, Any]) -> str:
    told = results["autoscaling"]
    rows = [
        [
            f"{row['start_s']:g} s",
            f"{row['target']:.0%}",
            f"{row['refused_first']:.1%}",
            f"{row['wait_p99_s']:.0f} s",
            f"{row['mean_replicas']:.1f}",
            f"{row['mean_sessions'] / row['mean_replicas'] / told['per_replica']:.0%}",
        ]
        for row in told["rows"]
    ]
    head = ["pod ready after", "target", "sessions refused first", "their wait, p99 of all"]
    return (
        f"Autoscaling on sessions, {told['per_replica']} a replica, 100 on average and then "
        "suddenly 200, 10 minutes each; pods that start on a warm node, and with a new node:\n\n"
        + _table([*head, "replicas, mean", "in use"], rows)
    )


def _jobs(results: dict[str, Any]) -> str:
    rows = [
        [
            row["queue"],
            f"{row['job_s']:g} s",
            str(row["jobs_per_hour"]),
            str(row["workers"]),
            f"{row['used']:.0%}",
            f"{row['wait_p95_s']:g} s",
        ]
        for row in results["jobs"]
    ]
    head = ["queue", "a job", "jobs/h", "workers", "in use", "wait, p95"]
    return "Workers for jobs:\n\n" + _table(head, rows)


def _costs() -> str:
    told = measured()
    of = profile("nano-cpu")
    frame = (of.decode_s, of.encode_s, of.track_s, of.postprocess_s, of.loop_frame_s)
    prompt = (0.0, 0.0, of.prompt_s, of.postprocess_s, of.loop_call_s)
    rows = [
        ["live frame", *(f"{seconds * 1000:.2f}" for seconds in frame)],
        ["prompt on an encoded image", *(f"{seconds * 1000:.2f}" for seconds in prompt)],
    ]
    machine, size = told["machine"], told["frame_size_px"]
    load = machine["load_average_before_and_after"]
    return (
        f"Measured on {told['measured_at'][:10]} with {told['model']} on one core of "
        f"{machine['cpu']} ({machine['cores']} cores, load average {load[0]:g}), "
        f"{size[0]} x {size[1]} px JPEG of {told['live_frame']['request_bytes'] / 1000:.0f} kB, "
        f"{told['objects']} objects; milliseconds, CPU time but for pixels (least wall time):\n\n"
        + _table(["", "decode", "encode", "track or prompt", "masks", "event loop"], rows)
        + "\nOf the event loop, a call that does nothing takes "
        f"{told['bare_call']['event_loop_s'] * 1000:.2f} ms. A job of `inflate` takes "
        f"{told['inflate_job']['minimum_s']:.1f} s, the first "
        f"{told['inflate_job']['first_s']:.0f} s, since it starts the worker's child (wall times "
        "on that busy machine).\n"
    )


def _validation() -> str:
    return _twice_the_rate() + "\n" + _beside_a_server()


def _twice_the_rate() -> str:
    """Compare with what `tests/benchmarks/test_sessions.py` measured on a quiet machine."""
    of = profile("tiny-h200")
    alone_s = of.loop_frame_s + of.decode_s + of.device_s + of.postprocess_s
    load = Load(1, 2 / alone_s, 0.0, 1.0, 1.0)
    outcome = simulate(load, Fleet(1, of), seconds=60, warm_up_s=1, seed=1)
    return (
        "One camera that sends at twice the rate that can be processed: on a quiet machine a real "
        "server answered after 1.3 frame times at the median and 1.8 at most (0.2.0, in the "
        f"changelog); simulated {outcome.p50_s / alone_s:.2f} at the median and "
        f"{outcome.p99_s / alone_s:.2f} at the 99th percentile.\n"
    )


def _beside_a_server() -> str:
    if not (FOLDER / "validation.json").is_file():
        return (
            "The comparison with a server under several cameras (`python -m "
            "deploy.capacity.validate`) has not been run: the machine was too busy.\n"
        )
    told = read("validation.json")
    rows = []
    for row in told["loads"]:
        real, simulated = row["real"], row["simulated"]
        part = row["part_of_the_processor"]["other_threads"]
        rows.append(
            [
                f"{row['cameras']} x {row['frames_per_s']:g} frames/s",
                f"{part:.0%}",
                *(f"{_ms(real[key])} / {_ms(simulated[key])} ms" for key in ("p50_s", "p99_s")),
                f"{real['dropped']:.0%} / {simulated['dropped']:.0%}",
            ]
        )
    return (
        f"The simulation beside a real server ({told['measured_at'][:10]}, load average "
        f"{told['load_average'][0]:g} on two cores), real / simulated, with service times "
        "stretched by the part of the processor that the server's threads got:\n\n"
        + _table(["cameras", "processor", "median", "p99", "dropped"], rows)
        + "\nThe median of a device that has time is right; under load the simulation says too "
        "little of p99, drops and, by half, the median. On a tenth of a processor service times "
        "vary far more than the simulated 10 %, and nano searches longer after frames that it "
        "missed. Take the replicas above as the least that could do, and measure.\n"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def plot() -> None:
    """Draw p99, dropped frames and price against replicas."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # after the choice of a backend without a display

    results = read("results.json")
    names = list(results["fleets"])
    figure, axes = plt.subplots(3, len(names), figsize=(4 * len(names), 8), sharex="col")
    panels = (("p99_s", "p99 of frames, s"), ("dropped", "dropped"), ("cost_per_hour", "price/h"))
    for column, name in enumerate(names):
        axes[0][column].set_title(results["profiles"][name]["label"], fontsize=10)
        for row, (key, label) in enumerate(panels):
            panel = axes[row][column]
            for fleet in results["fleets"][name]:
                sizes = [point["replicas"] for point in fleet["points"]]
                values = [point[key] for point in fleet["points"]]
                panel.plot(sizes, values, "o-", ms=3, label=f"{fleet['cameras']:,} cameras")
            panel.set_xscale("log")
            if row != 1:
                panel.set_yscale("log")
            if column == 0:
                panel.set_ylabel(label)
            panel.grid(alpha=0.3)
        axes[0][column].axhline(
            assumptions()["replicas"][name]["p99_s"], color="black", lw=0.8, ls="--"
        )
        axes[1][column].axhline(
            assumptions()["objective"]["dropped"], color="black", lw=0.8, ls="--"
        )
        axes[2][column].set_xlabel("replicas")
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=90, metadata={"Software": None})


def main() -> None:
    """Write the plot and the section."""
    plot()
    before, rest = README.read_text().split(BEGIN)
    README.write_text(before + BEGIN + section() + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
