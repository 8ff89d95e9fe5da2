"""What a client and a session say to each other, independent of how it travels.

The names are the contract's (`realtime.proto`), whose comments give the meaning of every field.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from ..concept_tracking import SoughtConcept
from ..errors import MaskwireError
from ..geometry import ImageSize
from ..masks import EncodedRle
from ..postprocessing import PostprocessOptions
from ..prompts import Prompt
from ..segmentation import ImageInfo, ImageSource, MaskOptions, Timings
from ..tracked_masks import MaskDelta, TrackedMask


class DropPolicy(enum.Enum):
    """What happens to frames that arrive faster than they can be processed."""

    PROCESS_ALL = "process_all"
    LATEST_ONLY = "latest_only"


@dataclass(frozen=True, slots=True)
class ResponseSampling:
    """Which processed frames are answered with masks."""

    every_nth_frame: int = 1
    on_change_only: bool = False
    change_iou_threshold: float = 0.98


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """How a session runs.

    Attributes:
        model: Name of the model; None means the default.
        mask_options: Which masks to return, and how.
        drop_policy: What to do when frames come too fast.
        sampling: Which frames are answered.
        mask_delta: How masks that hardly change are sent.
        max_objects: Most objects at a time; None means the server's limit.
        held_frames: Frames before the latest that prompts may refer to.
        heartbeat_interval_s: Seconds of silence after which the server speaks; None means never.
        postprocess: What to change in the masks first.
    """

    model: str | None = None
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    drop_policy: DropPolicy = DropPolicy.PROCESS_ALL
    sampling: ResponseSampling = field(default_factory=ResponseSampling)
    mask_delta: MaskDelta = field(default_factory=MaskDelta)
    max_objects: int | None = None
    held_frames: int = 1
    heartbeat_interval_s: float | None = None
    postprocess: PostprocessOptions = field(default_factory=PostprocessOptions)


@dataclass(frozen=True, slots=True)
class SnapshotObject:
    """An object as it was last seen: `mask` in the frame at position `frame` of the snapshot.

    `text` and `confidence` are those with which a text found it; empty and None where none did.
    """

    object_id: int
    frame: int
    mask: EncodedRle
    is_visible: bool
    text: str = ""
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a session is resumed from.

    Attributes:
        model: Name of the model.
        checkpoint_digest: Digest of its checkpoint.
        tenant: Whose session it was.
        config: The session's config.
        last_sequence: Last sequence that it covers.
        frame_size: Size of the frames; None where none had been processed.
        next_object_id: Smallest id that was never used.
        frames: Encoded frames that objects were last seen in, oldest first.
        objects: The objects.
        sought: The texts that were looked for.
    """

    model: str
    checkpoint_digest: str
    tenant: str
    config: SessionConfig
    last_sequence: int
    frame_size: ImageSize | None
    next_object_id: int
    frames: tuple[bytes, ...]
    objects: tuple[SnapshotObject, ...]
    sought: tuple[SoughtConcept, ...] = ()


@dataclass(frozen=True, slots=True)
class StartSession:
    """The first request: how to run, and what to resume from, if anything."""

    config: SessionConfig
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class NewFrame:
    """A frame, with prompts on it or without; `capture_time_ns` counts from the Unix epoch."""

    image: ImageSource
    frame_id: int
    capture_time_ns: int | None
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class NewPrompts:
    """Prompts on a frame that was sent before; `frame_id` None means the latest processed."""

    prompts: tuple[Prompt, ...]
    frame_id: int | None
    replace: bool


@dataclass(frozen=True, slots=True)
class RemoveObjects:
    """Forget objects."""

    object_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClearPrompts:
    """Forget what was said about objects on the latest frame; no ids means all."""

    object_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SetPaused:
    """Stop or restart tracking."""

    paused: bool


@dataclass(frozen=True, slots=True)
class ResetSession:
    """Forget all objects, texts and frames."""


@dataclass(frozen=True, slots=True)
class ExportSeed:
    """Ask for a seed."""


@dataclass(frozen=True, slots=True)
class EndSession:
    """Say that no more requests follow."""


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request that could not be read, with what is wrong with it."""

    error: MaskwireError


@dataclass(frozen=True, slots=True)
class SendNotice:
    """A request of the server's own: tell the client that the session must move.

    Attributes:
        end_s: When the session will be ended, on the event loop's clock.
        reason: Why, for people.
    """

    end_s: float
    reason: str


RequestContent: TypeAlias = (
    StartSession
    | NewFrame
    | NewPrompts
    | RemoveObjects
    | ClearPrompts
    | SetPaused
    | ResetSession
    | ExportSeed
    | EndSession
    | BadRequest
    | SendNotice
)


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """One message from the client; `received_s` is on `time.perf_counter`'s clock."""

    sequence: int
    content: RequestContent
    received_s: float = 0.0

    @property
    def kind(self) -> str:
        """What it asks for: `frame`, `prompts` or `control`."""
        match self.content:
            case NewFrame():
                return "frame"
            case NewPrompts():
                return "prompts"
            case _:
                return "control"


class DropReason(enum.Enum):
    """Why a frame has no answer of its own."""

    STALE = "stale"
    SAMPLED_OUT = "sampled_out"


@dataclass(frozen=True, slots=True)
class DroppedFrame:
    """A frame without an answer of its own."""

    sequence: int
    frame_id: int
    reason: DropReason


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Frames so far: received = answered + dropped + those that still wait."""

    received: int
    answered: int
    dropped: int


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The session runs."""

    session_id: str
    model: str
    checkpoint_digest: str
    resumed_object_ids: tuple[int, ...]
    max_objects: int
    held_frames: int
    idle_timeout_s: float
    lease_s: float


@dataclass(frozen=True, slots=True)
class ProcessedFrame:
    """How an answer came about; the names are those of `SegmentResult`."""

    image: ImageInfo
    model: str
    checkpoint_digest: str
    embedding_cached: bool
    timings: Timings


@dataclass(frozen=True, slots=True)
class FrameResult:
    """Masks on a frame; `processed` is None for a frame that came while paused."""

    frame_id: int
    capture_time_ns: int | None
    masks: tuple[TrackedMask, ...]
    dropped_frames: tuple[DroppedFrame, ...]
    mask_options: MaskOptions
    processed: ProcessedFrame | None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A control was carried out; the objects of the session now."""

    object_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request failed; the session lives on."""

    error: MaskwireError


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The server is alive."""

    counts: FrameCounts


@dataclass(frozen=True, slots=True)
class DrainNotice:
    """The session must move; `end_time_s` is Unix time."""

    end_time_s: float
    reason: str
    seed: Snapshot | None


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session ended as asked."""

    counts: FrameCounts
    dropped_frames: tuple[DroppedFrame, ...]


ResponseContent: TypeAlias = (
    SessionStarted
    | FrameResult
    | Acknowledgement
    | Refusal
    | Heartbeat
    | DrainNotice
    | Snapshot
    | SessionEnded
)


@dataclass(frozen=True, slots=True)
class SessionResponse:
    """One message from the server; sequence 0 for what it says by itself."""

    sequence: int
    content: ResponseContent
