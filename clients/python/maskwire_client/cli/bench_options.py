"""The options of `maskwire bench load`, and the plan that they amount to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ..load import Cameras, CapacityGoal, JobForm, Kind, LoadPlan, Mix, PromptForm
from ..sessions import DropPolicy
from .exit_codes import ExitCode
from .failures import CommandFailure
from .options import JsonOption, ModelOption

__all__ = ["LoadOptions", "parse_mix", "parse_prompts", "parse_size"]

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", envvar="MASKWIRE_SERVER", metavar="HOST:PORT", help="Service to load."
    ),
]

RateOption = Annotated[
    float, typer.Option("--rate", min=0.001, help="Arrivals per second, on average.")
]
DurationOption = Annotated[
    float, typer.Option("--duration", min=0.1, help="Seconds that are measured, or of each step.")
]
WarmupOption = Annotated[
    float, typer.Option("--warmup", min=0.0, help="Seconds before that, not measured.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="What arrivals, pictures and prompts follow from.")
]
ConnectionsOption = Annotated[
    int, typer.Option("--connections", min=1, max=1024, help="Connections to spread calls over.")
]
InFlightOption = Annotated[
    int,
    typer.Option(
        "--max-in-flight", min=1, help="Most calls at a time; arrivals beyond are shed and counted."
    ),
]
DeadlineOption = Annotated[
    float, typer.Option("--deadline", min=0.001, help="Longest time of a call, in seconds.")
]
JobDeadlineOption = Annotated[
    float, typer.Option("--job-deadline", min=0.001, help="Longest time of a job, in seconds.")
]
RetriesOption = Annotated[
    bool, typer.Option("--retries/--no-retries", help="Whether the client repeats calls.")
]
MixOption = Annotated[
    str,
    typer.Option(
        "--mix",
        metavar="KIND=WEIGHT,...",
        help="Shares of the arrivals: segment, auto, job.",
    ),
]
RepeatShareOption = Annotated[
    float,
    typer.Option(
        "--repeat-share",
        min=0.0,
        max=1.0,
        help="Share of the calls about a picture that was there before, found by its digest.",
    ),
]
PromptsOption = Annotated[
    str, typer.Option("--prompts", metavar="FORM,...", help="Prompts: point, box, text.")
]
TextOption = Annotated[str, typer.Option("--text", help="What text prompts say.")]
JobOption = Annotated[JobForm, typer.Option("--job", help="What jobs do.")]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="Images of the calls; none draws them."),
]
SizeOption = Annotated[
    str, typer.Option("--size", metavar="WxH", help="Size of drawn images and frames, in pixels.")
]
PicturesOption = Annotated[
    int, typer.Option("--pictures", min=1, max=1024, help="How many images are drawn.")
]
CamerasOption = Annotated[
    int, typer.Option("--cameras", min=0, help="Live sessions at a time, beside the arrivals.")
]
FpsOption = Annotated[
    float, typer.Option("--fps", min=0.01, help="Frames a second of each camera.")
]
SessionOption = Annotated[
    float, typer.Option("--session", min=0.1, help="Length of a session, in seconds.")
]
ProcessAllOption = Annotated[
    bool,
    typer.Option("--process-all", help="Sessions process every frame, instead of dropping stale."),
]
MaxFailuresOption = Annotated[
    int,
    typer.Option("--max-failures", min=0, help="Failures, and shed arrivals, that are accepted."),
]
FindCapacityOption = Annotated[
    bool,
    typer.Option("--find-capacity", help="Raise the rate from --rate until the goal breaks."),
]
GoalP99Option = Annotated[
    float, typer.Option("--goal-p99", min=0.001, help="Longest 99th percentile, in seconds.")
]
GoalErrorsOption = Annotated[
    float,
    typer.Option(
        "--goal-errors", min=0.0, max=1.0, help="Largest share of calls that fail or are shed."
    ),
]
GrowthOption = Annotated[
    float, typer.Option("--growth", min=1.01, help="Factor between two rates of the search.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Folder for report.json, plots and latency log."),
]

_FormT = TypeVar("_FormT", PromptForm, Kind)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What users say: the fields are the options of the command, in the order of its help."""

    server: ServerOption = None
    rate: RateOption = 5.0
    duration: DurationOption = 30.0
    warmup: WarmupOption = 5.0
    seed: SeedOption = 0
    connections: ConnectionsOption = 1
    max_in_flight: InFlightOption = 256
    deadline: DeadlineOption = 30.0
    job_deadline: JobDeadlineOption = 600.0
    retries: RetriesOption = True
    mix: MixOption = "segment=1"
    repeat_share: RepeatShareOption = 0.5
    prompts: PromptsOption = "point,box"
    text: TextOption = "object"
    job: JobOption = JobForm.SEGMENT
    images: ImagesOption = None
    size: SizeOption = "640x480"
    pictures: PicturesOption = 32
    cameras: CamerasOption = 0
    fps: FpsOption = 10.0
    session: SessionOption = 60.0
    process_all: ProcessAllOption = False
    model: ModelOption = ""
    max_failures: MaxFailuresOption = 0
    find_capacity: FindCapacityOption = False
    goal_p99: GoalP99Option = 1.0
    goal_errors: GoalErrorsOption = 0.0
    growth: GrowthOption = 1.5
    out: OutOption = None
    as_json: JsonOption = False

    @property
    def goal(self) -> CapacityGoal:
        """What a rate must keep."""
        return CapacityGoal(p99_s=self.goal_p99, max_failed_share=self.goal_errors)

    def plan(self) -> LoadPlan:
        """Return the run.

        Raises:
            CommandFailure: An option cannot be read, or there is no server.
            ValueError: The options make no plan.
        """
        if not self.server:
            raise CommandFailure(
                "name the service to load: --server HOST:PORT",
                ExitCode.USAGE,
                "in this process it would share the processor with what measures it",
            )
        return LoadPlan(
            target=self.server,
            rate_per_s=self.rate,
            duration_s=self.duration,
            warmup_s=self.warmup,
            seed=self.seed,
            connections=self.connections,
            max_in_flight=self.max_in_flight,
            deadline_s=self.deadline,
            job_deadline_s=self.job_deadline,
            retries=self.retries,
            model=self.model,
            mix=Mix(
                weights=parse_mix(self.mix),
                repeat_share=self.repeat_share,
                prompts=parse_prompts(self.prompts),
                text=self.text,
                job=self.job,
            ),
            cameras=Cameras(
                count=self.cameras,
                frames_per_second=self.fps,
                session_s=self.session,
                drop_policy=(
                    DropPolicy.PROCESS_ALL if self.process_all else DropPolicy.LATEST_ONLY
                ),
            ),
        )


def parse_mix(text: str) -> dict[Kind, float]:
    """Return the weights of `segment=8,auto=1,job=1`.

    Raises:
        CommandFailure: It is something else.
    """
    weights: dict[Kind, float] = {}
    for part in filter(None, text.split(",")):
        name, _, weight = part.partition("=")
        kind = _named(name.strip(), (Kind.SEGMENT, Kind.AUTO, Kind.JOB), "--mix")
        try:
            weights[kind] = float(weight) if weight else 1.0
        except ValueError as error:
            raise CommandFailure(
                f"--mix: {weight!r} is no number", ExitCode.USAGE, "e.g. segment=8,auto=1,job=1"
            ) from error
    return weights


def parse_prompts(text: str) -> tuple[PromptForm, ...]:
    """Return the forms of `point,box`.

    Raises:
        CommandFailure: It is something else.
    """
    parts = filter(None, text.split(","))
    return tuple(_named(part.strip(), tuple(PromptForm), "--prompts") for part in parts)


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of `640x480`.

    Raises:
        CommandFailure: It is something else, or a side is not 16 to 8192 pixels.
    """
    try:
        width_px, height_px = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise CommandFailure(f"--size: {text!r} is not WxH", ExitCode.USAGE) from error
    if not all(16 <= side <= 8192 for side in (width_px, height_px)):
        raise CommandFailure("--size: sides are 16 to 8192 pixels", ExitCode.USAGE)
    return width_px, height_px


def _named(name: str, known: Sequence[_FormT], option: str) -> _FormT:
    for one in known:
        if one.value == name:
            return one
    names = ", ".join(one.value for one in known)
    raise CommandFailure(f"{option}: {name!r} is none of {names}", ExitCode.USAGE)
