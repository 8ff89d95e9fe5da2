"""The simulation of capacity: against closed forms, against what the service does, and its tables.

Waiting times are compared with queueing theory within four standard errors of batch means, so that
a right simulator fails about once in 10,000 seeds; the seeds are fixed.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable

import pytest

from deploy.capacity import report
from deploy.capacity.events import Clock, Process, SharedCores, Station
from deploy.capacity.fleet import MAX_DEVICE_QUEUE, Fleet, Load, simulate
from deploy.capacity.profiles import Profile, assumptions, measured, network_seconds, profile
from deploy.capacity.scaling import Scaler, job_waits, simulate_scaling
from maskwire_server.settings import Settings

ARRIVALS = 20_000
BATCHES = 40
STANDARD_ERRORS = 4.0

EXACT = Profile(
    label="exact",
    is_measured=True,
    loop_frame_s=0.005,
    loop_call_s=0.003,
    decode_s=0.002,
    encode_s=0.010,
    track_s=0.020,
    prompt_s=0.005,
    postprocess_s=0.003,
    pixel_threads=2,
    held_embeddings=1000,
    price_per_hour=1.0,
    spread=1e-9,
)


def waits(
    servers: int, rate: float, draw: Callable[[random.Random], float], *, shared: bool = False
) -> list[float]:
    """How long each arrival of a Poisson process stays beyond its own work, in their order."""
    clock, chance = Clock(), random.Random(5)
    place = SharedCores(clock, servers) if shared else Station(clock, servers)
    seen: list[float] = []

    def visitor(came_s: float, work_s: float) -> Process:
        yield place, work_s
        seen.append(clock.now_s - came_s - work_s)

    def arrivals() -> Process:
        for _ in range(ARRIVALS):
            yield None, chance.expovariate(rate)
            clock.start(visitor(clock.now_s, draw(chance)))

    clock.start(arrivals())
    clock.run(math.inf)
    return seen[ARRIVALS // 20 :]


def assert_mean(values: list[float], expected: float) -> None:
    size = len(values) // BATCHES
    means = [statistics.fmean(values[i * size : (i + 1) * size]) for i in range(BATCHES)]
    error = statistics.stdev(means) / math.sqrt(BATCHES)
    assert abs(statistics.fmean(means) - expected) < STANDARD_ERRORS * error
    assert error < 0.15 * expected, "too few arrivals to tell"


def exponential(chance: random.Random) -> float:
    return chance.expovariate(1.0)


def constant(chance: random.Random) -> float:
    return 1.0


@pytest.mark.parametrize("used", [0.5, 0.8])
def test_one_server_waits_as_mm1(used: float) -> None:
    assert_mean(waits(1, used, exponential), used / (1 - used))


@pytest.mark.parametrize("used", [0.5, 0.8])
def test_constant_work_waits_as_md1(used: float) -> None:
    assert_mean(waits(1, used, constant), used / (2 * (1 - used)))


@pytest.mark.parametrize("servers", [2, 4])
def test_several_servers_wait_as_mmc(servers: int) -> None:
    offered = 0.8 * servers  # Erlang C
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) / (1 - offered / servers)
    delayed = last / (sum(terms) + last)
    assert_mean(waits(servers, offered, exponential), delayed / (servers - offered))


def test_shared_cores_are_processor_sharing() -> None:
    # M/D/1-PS: the mean time in the system depends on the mean work alone, 1 / (1 - used).
    assert_mean(waits(1, 0.7, constant, shared=True), 1 / (1 - 0.7) - 1)


def test_one_camera_alone_takes_the_sum_of_its_stages() -> None:
    load = Load(1, 10.0, 0.0, 1.0, 1.0)
    outcome = simulate(load, Fleet(1, EXACT), seconds=20, warm_up_s=1, seed=1)
    assert outcome.p50_s == pytest.approx(0.005 + 0.002 + 0.010 + 0.020 + 0.003)
    assert outcome.dropped == 0
    assert outcome.device == pytest.approx(10 * 0.030, rel=0.05)


def test_latest_only_drops_what_the_session_cannot_do() -> None:
    load = Load(1, 50.0, 0.0, 1.0, 1.0)  # a frame each 20 ms; one takes 39 ms after its receipt
    outcome = simulate(load, Fleet(1, EXACT), seconds=60, warm_up_s=1, seed=1)
    assert 1 - outcome.dropped == pytest.approx(0.020 / 0.039, rel=0.02)
    # One being worked on and at most one frame old that waited.
    assert outcome.p99_s < 0.040 + 0.020 + 0.001


def test_too_many_cameras_share_the_device_and_never_queue_without_bound() -> None:
    load = Load(20, 10.0, 0.0, 1.0, 1.0)  # 200 frames a second for 33
    outcome = simulate(load, Fleet(1, EXACT), seconds=30, warm_up_s=5, seed=1)
    assert 1 - outcome.dropped == pytest.approx(1 / 0.030 / 200, rel=0.05)
    assert outcome.p99_s < 3 * 20 * 0.030


def test_calls_are_refused_where_the_queue_of_the_device_is_full() -> None:
    load = Load(0, 1.0, 400.0, 1.0, 1.0)  # each encodes and prompts: 15 ms, 67 a second
    outcome = simulate(load, Fleet(1, EXACT), seconds=20, warm_up_s=10, seed=1)
    assert outcome.refused > 0.5
    # Those that were let in before it filled queue twice, once to encode and once to prompt.
    assert outcome.calls_p99_s < 2.5 * (MAX_DEVICE_QUEUE + 1) * 0.015
    assert Settings().limits.max_device_queue == MAX_DEVICE_QUEUE


def test_hashing_finds_embeddings_that_round_robin_does_not() -> None:
    load = Load(0, 1.0, 60.0, 5.0, 1.0)
    hashed, turned = (
        simulate(load, Fleet(10, EXACT, balancing), seconds=60, warm_up_s=10, seed=3)
        for balancing in ("hash", "round robin")
    )
    assert hashed.hits == pytest.approx(1 - 1 / 5, abs=0.03)  # all but the first of an image
    assert turned.hits < 0.35
    assert hashed.device < turned.device


def test_the_same_seed_gives_the_same_outcome() -> None:
    load = Load(6, 10.0, 2.0, 3.0, 1.0)
    kind = profile("tiny-h200")
    first, again, other = (
        simulate(load, Fleet(2, kind), seconds=5, warm_up_s=1, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_jobs_wait_as_mdc_with_one_worker() -> None:
    used, wait_s = job_waits(jobs_per_hour=360, job_s=5.0, spread=1e-9, workers=1, seed=1)
    assert used == pytest.approx(0.5)
    # The 95th percentile of M/D/1 at half load is 2.1 times the work (Erlang's distribution).
    assert wait_s == pytest.approx(2.1 * 5.0, rel=0.1)


def test_replicas_that_start_sooner_refuse_fewer_sessions() -> None:
    outcomes = [
        simulate_scaling(
            Scaler(4, 0.8, 15.0, start_s, 300.0, 2),
            sessions=40,
            surge=2.0,
            session_s=300.0,
            hours=2.0,
            seed=1,
        )
        for start_s in (30.0, 300.0)
    ]
    assert outcomes[0].refused_first < outcomes[1].refused_first
    assert outcomes[0].mean_sessions == pytest.approx(40 / 3 + 80 * 2 / 3, rel=0.15)


def test_assumed_times_lie_between_the_launches_and_the_memory() -> None:
    published = assumptions()["published"]["tiny"]
    assert network_seconds("tiny", "a100", "middle") == pytest.approx(1 / published["eager"])
    fast, middle, slow = (
        network_seconds("tiny", "l4", scaling) for scaling in ("fast", "middle", "slow")
    )
    assert fast < middle < slow
    assert network_seconds("tiny", "h200", "fast") == 1 / published["eager"]


def test_what_was_measured_is_told_apart() -> None:
    assert profile("nano-cpu").is_measured
    assert not profile("tiny-l4").is_measured
    assert {"machine", "measured_at", "versions"} <= measured().keys()


def test_results_are_of_these_inputs() -> None:
    results = report.read("results.json")
    assert results["inputs"]["measured_at"] == measured()["measured_at"], "run simulate again"
    for name in assumptions()["replicas"]:
        told = profile(name)
        assert results["profiles"][name]["track_s"] == pytest.approx(told.track_s), name
        assert results["profiles"][name]["price_per_hour"] == told.price_per_hour, name
    assert report.PLOT.is_file()


def test_the_readme_has_the_tables_of_the_results() -> None:
    assert report.section_in_readme() == report.section()
