"""What sessions take and give: tracked masks, results of frames, seeds, summaries.

The sessions themselves are `Session` and `AsyncSession`, which `open_session` of the clients opens.
Coordinates are in the frame of `geometry`, in pixels of the session's frames.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from .masks import Mask
from .results import ProcessingInfo

__all__ = [
    "DrainNotice",
    "DropPolicy",
    "DropReason",
    "DroppedFrame",
    "FrameResult",
    "Heartbeat",
    "LostFrame",
    "ObjectState",
    "Reconnect",
    "SessionSeed",
    "SessionSummary",
    "TrackedMask",
]


class DropPolicy(enum.Enum):
    """What happens to frames that come faster than the server can process them."""

    PROCESS_ALL = "process_all"
    """Every frame is processed; sending waits."""
    LATEST_ONLY = "latest_only"
    """Only the latest frame waits; a newer one replaces it, and the next answer says so."""


class DropReason(enum.Enum):
    """Why a frame has no answer of its own."""

    UNSPECIFIED = "unspecified"
    STALE = "stale"
    """A newer frame replaced it before it was processed."""
    SAMPLED_OUT = "sampled_out"
    """It was processed, and left out by the sampling that the session asked for."""


class ObjectState(enum.Enum):
    """How a tracked object fares."""

    UNSPECIFIED = "unspecified"
    TRACKED = "tracked"
    """It is seen."""
    LOST = "lost"
    """It is not seen in this frame: hidden, or out of the picture."""
    FOUND_AGAIN = "found_again"
    """It is seen again after it was lost."""


@dataclass(frozen=True, slots=True)
class DroppedFrame:
    """A frame that has no answer of its own.

    Attributes:
        sequence: What `send` returned for it.
        frame_id: Its number at the source.
        reason: Why.
    """

    sequence: int
    frame_id: int
    reason: DropReason


@dataclass(frozen=True, slots=True)
class LostFrame:
    """A frame that was sent, but never answered, because the connection was lost."""

    sequence: int
    frame_id: int


@dataclass(frozen=True, eq=False)
class TrackedMask(Mask):
    """The mask of an object in a frame, always at the frame's full size.

    What was sent in short is resolved: `encoded` and `bitmap` of an unchanged mask are those of the
    mask sent last, of a cropped one those of the whole frame, and of a lost object empty.

    Attributes:
        state: How the object fares.
        is_new: Whether it appeared in this frame.
        unchanged: Whether the mask was sent as a mere marker, because it equals the last one.
    """

    state: ObjectState = ObjectState.UNSPECIFIED
    is_new: bool = False
    unchanged: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """The masks of one frame; iterating gives them too.

    Attributes:
        frame_id: Number of the frame at its source.
        sequence: Number of the request that this answers.
        masks: One for each object, or its alternatives right after a prompt; none while paused.
        info: How they came about.
        capture_time: When the frame was captured, as it was given.
        dropped_frames: Frames since the last answer that have no answer of their own.
        lost_frames: Frames that were sent and lost with a connection since the last answer; only
            sessions that reconnect have any.
        latency_s: Seconds from the moment the request was handed to the connection to its answer.
    """

    frame_id: int
    sequence: int
    masks: tuple[TrackedMask, ...]
    info: ProcessingInfo = field(repr=False)
    capture_time: datetime | None = None
    dropped_frames: tuple[DroppedFrame, ...] = ()
    lost_frames: tuple[LostFrame, ...] = ()
    latency_s: float = 0.0

    def mask(self, object_id: int) -> TrackedMask:
        """Return the best mask of an object.

        Raises:
            KeyError: The result holds no such object.
        """
        for mask in self.masks:
            if mask.object_id == object_id:
                return mask
        raise KeyError(object_id)

    def __iter__(self) -> Iterator[TrackedMask]:
        """Give the masks."""
        return iter(self.masks)

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.masks)


@dataclass(frozen=True, slots=True)
class SessionSeed:
    """What is needed to go on with a session elsewhere; plain bytes, to be kept anywhere.

    Attributes:
        data: Opaque to all but the servers of the same model.
        last_sequence: Last request that it covers.
    """

    data: bytes = field(repr=False)
    last_sequence: int = 0


@dataclass(frozen=True, slots=True)
class DrainNotice:
    """The server is about to end the session.

    Attributes:
        end_time: When.
        reason: Why, for people.
        seed: The session as of now, to go on elsewhere.
    """

    end_time: datetime | None
    reason: str
    seed: SessionSeed | None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the server last said about its counts, when it had nothing else to say."""

    frames_received: int
    frames_answered: int
    frames_dropped: int


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """How a session went, counted by the client over all its connections.

    `frames_sent` is the sum of the four counts after it.

    Attributes:
        frames_sent: Frames handed to a connection.
        frames_answered: Frames with a result.
        frames_dropped: Frames left out by the drop policy or the sampling.
        frames_failed: Frames answered with an error.
        frames_lost: Frames lost with a connection.
        dropped_frames: Dropped frames that no result has reported.
        lost_frames: The lost frames, of many the latest 65,536.
        reconnects: How often the session moved to another connection.
    """

    frames_sent: int
    frames_answered: int
    frames_dropped: int
    frames_failed: int = 0
    frames_lost: int = 0
    dropped_frames: tuple[DroppedFrame, ...] = ()
    lost_frames: tuple[LostFrame, ...] = ()
    reconnects: int = 0

    @property
    def frames_received(self) -> int:
        """Frames of which the server is known to have received them."""
        return self.frames_answered + self.frames_dropped + self.frames_failed


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How a session goes on when its connection is lost, or its server drains or ends the lease.

    One that the server ends because nothing was said for long goes on with the next request.
    The session keeps the server's newest seed: it asks for one after each request that changes the
    objects, and with the frames at most every `seed_interval_s`. The objects keep their ids; what a
    text found since the newest seed is found anew, and its ids may then be given to others.

    Attributes:
        targets: Other addresses that serve the same model; they and the client's own are tried in
            turn, starting with the one after that which was lost.
        seed_interval_s: Least seconds between two seeds that frames ask for.
        resend: Send unanswered requests again. The default sends nothing twice: waiting calls
            raise `ConnectionLost`, and the frames are named as lost.
        max_attempts: Most attempts to connect, until the session fails.
        initial_backoff_s: Pause after the first attempt; each pause is twice the one before.
        max_backoff_s: Longest pause.
    """

    targets: tuple[str, ...] = ()
    seed_interval_s: float = 1.0
    resend: bool = False
    max_attempts: int = 10
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 3.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: One is out of its range.
        """
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, not {self.max_attempts}")
        for name in ("seed_interval_s", "initial_backoff_s", "max_backoff_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
