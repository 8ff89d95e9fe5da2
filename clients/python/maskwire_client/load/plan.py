"""What a load run consists of: kinds of calls and their weights, cameras, rates, bounds."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..sessions import DropPolicy

__all__ = ["Cameras", "JobForm", "Kind", "LoadPlan", "Mix", "PromptForm"]


class Kind(enum.Enum):
    """What is counted and timed apart."""

    SEGMENT = "segment"
    """A unary call that segments by prompts."""
    AUTO = "auto"
    """A unary call that segments everything."""
    JOB = "job"
    """A job, from its submission until its result is there."""
    SESSION = "session"
    """The opening of a live session."""
    FRAME = "frame"
    """A frame of a live session, from the instant at which its camera took it to its answer."""


ARRIVING = (Kind.SEGMENT, Kind.AUTO, Kind.JOB)
"""The kinds that arrive at random; sessions and frames come from cameras at their own pace."""


class PromptForm(enum.Enum):
    """The prompts of calls."""

    POINT = "point"
    BOX = "box"
    TEXT = "text"


class JobForm(enum.Enum):
    """What jobs do."""

    SEGMENT = "segment"
    RECONSTRUCT = "reconstruct"
    """Reconstructs an object in 3D from a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Which calls arrive, and what they are about.

    Attributes:
        weights: Kind to its share of the arrivals, relative to the others; only kinds that arrive.
        repeat_share: Share of the calls about a picture of the pool, 0 to 1, which the server may
            know by its digest; the others are about a picture that it has never seen.
        prompts: Forms of prompts, drawn with equal probability.
        text: What text prompts say.
        job: What jobs do.
    """

    weights: Mapping[Kind, float] = field(default_factory=lambda: {Kind.SEGMENT: 1.0})
    repeat_share: float = 0.5
    prompts: tuple[PromptForm, ...] = (PromptForm.POINT, PromptForm.BOX)
    text: str = "object"
    job: JobForm = JobForm.SEGMENT

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: One is out of its range.
        """
        for kind, weight in self.weights.items():
            if kind not in ARRIVING:
                raise ValueError(f"{kind.value} does not arrive by itself: cameras bring it")
            if not (weight >= 0 and math.isfinite(weight)):
                raise ValueError(f"the weight of {kind.value} must be at least 0, not {weight}")
        if not 0 <= self.repeat_share <= 1:
            raise ValueError(f"repeat_share must be 0 to 1, not {self.repeat_share}")
        if not self.prompts:
            raise ValueError("there must be at least one form of prompt")

    @property
    def arrives(self) -> bool:
        """Whether any call arrives at all."""
        return sum(self.weights.values()) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cameras:
    """Live sessions that run all the time.

    Attributes:
        count: How many at a time.
        frames_per_second: Rate of each camera.
        session_s: Length of a session; then the camera opens another.
        drop_policy: What the server does with frames that come too fast.
        window: Frames of a session that may wait for their answers; a camera that finds it full
            lets its next frame pass by, which is counted as shed.
        reconnects: Whether sessions go on elsewhere when their connection is lost.
    """

    count: int = 0
    frames_per_second: float = 10.0
    session_s: float = 60.0
    drop_policy: DropPolicy = DropPolicy.LATEST_ONLY
    window: int = 64
    reconnects: bool = True

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: One is out of its range.
        """
        if self.count < 0 or self.window < 1:
            raise ValueError("cameras and their window cannot be negative")
        for name in ("frames_per_second", "session_s"):
            _check_positive(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One run, all of it drawn from the seed before it begins.

    Attributes:
        target: Address of the service, `host:port`.
        rate_per_s: Mean rate of Poisson arrivals.
        duration_s: Length of the part that is measured.
        warmup_s: Length of the part before it, whose calls are made and not measured.
        seed: What arrivals, kinds, pictures and prompts follow from.
        connections: Connections over which the calls are spread in turn.
        max_in_flight: Most calls and jobs at a time; an arrival beyond is shed and counted.
        deadline_s: Longest time of a call.
        job_deadline_s: Longest time of a job.
        retries: Whether the client repeats calls, as it does by default.
        model: Model of all calls; empty is the server's default.
        mix: What arrives.
        cameras: Live sessions beside.
    """

    target: str
    rate_per_s: float = 5.0
    duration_s: float = 30.0
    warmup_s: float = 5.0
    seed: int = 0
    connections: int = 1
    max_in_flight: int = 256
    deadline_s: float = 30.0
    job_deadline_s: float = 600.0
    retries: bool = True
    model: str = ""
    mix: Mix = field(default_factory=Mix)
    cameras: Cameras = field(default_factory=Cameras)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: One is out of its range.
        """
        for name in ("rate_per_s", "duration_s", "deadline_s", "job_deadline_s"):
            _check_positive(name, getattr(self, name))
        if not (self.warmup_s >= 0 and math.isfinite(self.warmup_s)):
            raise ValueError(f"warmup_s must be at least 0, not {self.warmup_s}")
        if not 1 <= self.connections <= 1024:
            raise ValueError(f"connections must be 1 to 1024, not {self.connections}")
        if self.max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1, not {self.max_in_flight}")
        if not (self.mix.arrives or self.cameras.count):
            raise ValueError("nothing is to be done: all weights are 0 and there is no camera")

    @property
    def length_s(self) -> float:
        """Warm-up and measured part together."""
        return self.warmup_s + self.duration_s


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be greater than 0, not {value}")
