"""What a request to track objects through a stored video and its answers are.

Reading videos is in `reader.py`, which frames are visited in which order in `plan.py`, the work
itself in `run.py`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ..errors import MaskwireError
from ..files.store import StoredFile
from ..geometry import ImageSize
from ..postprocessing import PostprocessOptions
from ..prompts import Prompt
from ..segmentation import MaskOptions, Timings
from ..tracked_masks import TrackedMask


@dataclass(frozen=True, slots=True)
class InlineVideo:
    """An encoded video in the request itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class VideoUri:
    """A video to be found at a URI, or the name of an uploaded file."""

    uri: str


VideoSource = InlineVideo | VideoUri


class TrackDirection(enum.Enum):
    """Which way through the video to go from the prompts; the members are the contract's."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames of a video: from `start`, every `stride`-th, up to but without `end`.

    Attributes:
        start: First frame, counted from 0 in display order.
        end: Frame after the last; None means the end of the video.
        stride: At least 1.
    """

    start: int = 0
    end: int | None = None
    stride: int = 1


@dataclass(frozen=True, slots=True)
class FramePrompt:
    """A prompt about one frame of a video."""

    prompt: Prompt
    frame_index: int


@dataclass(frozen=True, slots=True)
class TrackVideoRequest:
    """A request to track prompted objects through a video.

    Attributes:
        video: Where the video comes from.
        prompts: At least one.
        model: Name of the model; None means the default.
        direction: Which way to go.
        frames: Which frames to visit.
        mask_options: How to return the masks.
        postprocess: What to change in the masks first.
        render_overlay: Whether to make an overlay video too.
        stores_overlay: Whether the overlay video is stored as a file instead of being returned.
    """

    video: VideoSource
    prompts: tuple[FramePrompt, ...]
    model: str | None = None
    direction: TrackDirection = TrackDirection.FORWARD
    frames: FrameRange = field(default_factory=FrameRange)
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    postprocess: PostprocessOptions = field(default_factory=PostprocessOptions)
    render_overlay: bool = False
    stores_overlay: bool = False


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video is.

    Attributes:
        size: Size of its frames, upright.
        frame_count: Frames in all, as far as the container tells; None where it does not.
        frames_per_second: On average.
        duration_s: How long it is, in seconds.
        digest: `sha256:` and the hexadecimal digest of the encoded bytes.
    """

    size: ImageSize
    frame_count: int | None
    frames_per_second: float
    duration_s: float
    digest: str


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """The masks of one frame.

    Attributes:
        index: The frame, counted from 0 in display order.
        time_s: When it is shown, in seconds from the start of the video.
        masks: One for each object.
        mask_options: The options that were asked for, which say what of the masks to send.
        size: Size of the frame.
    """

    index: int
    time_s: float
    masks: tuple[TrackedMask, ...]
    mask_options: MaskOptions
    size: ImageSize


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """The end of a tracked video.

    Attributes:
        overlay_video: The overlay video as an MP4 file or as what it was stored as, where it was
            asked for.
        model: Name of the model.
        checkpoint_digest: `sha256:` and the hexadecimal digest of its weights.
        timings: Where the time went; the stages overlap, so they may exceed the total.
        decode_error: What kept frames of the range from being decoded, if anything did.
    """

    overlay_video: bytes | StoredFile | None
    model: str
    checkpoint_digest: str
    timings: Timings
    decode_error: MaskwireError | None


@dataclass(frozen=True, slots=True)
class TrackProgress:
    """How many frames are answered, of how many; None while that is not known."""

    frames_done: int
    frames_total: int | None


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """One message of the answer."""

    content: VideoInfo | TrackedFrame | TrackSummary
    progress: TrackProgress
