"""What one session may use, and where the time of one request went."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..engine import ModelDescription
from ..image_access import FrameImage
from ..segmentation import ImageInfo, Timings
from ..tracked_masks import TrackedMask
from .frames import HeldFrame
from .messages import ProcessedFrame


@dataclass(frozen=True, slots=True)
class StateLimits:
    """What bounds one session's objects and prompts.

    Attributes:
        max_objects: Most objects at a time.
        held_frames: Frames before the latest that prompts may refer to.
        max_prompts: Most prompts in a request, and points on one object and frame.
        max_seed_bytes: Most bytes of frames and masks in a seed.
    """

    max_objects: int
    held_frames: int
    max_prompts: int
    max_seed_bytes: int


@dataclass(frozen=True, slots=True)
class Answered:
    """What a frame or prompts led to; `masks` is None where the sampling leaves the frame out."""

    frame: HeldFrame
    masks: tuple[TrackedMask, ...] | None
    processed: ProcessedFrame


@dataclass(slots=True)
class Costs:
    """Where the time of a request went, in seconds; `started_s` on `time.perf_counter`'s clock."""

    started_s: float
    queue_s: float = 0.0
    encode_s: float = 0.0
    prompt_s: float = 0.0
    postprocess_s: float = 0.0

    def processed(
        self, model: ModelDescription, info: ImageInfo, image: FrameImage | None
    ) -> ProcessedFrame:
        """Return how an answer came about.

        Args:
            model: What served it.
            info: The frame.
            image: The frame as it was read for this request; None where it is held.
        """
        is_new = image is not None and not image.is_cached
        return ProcessedFrame(
            image=info,
            model=model.name,
            checkpoint_digest=model.checkpoint_digest,
            embedding_cached=not is_new,
            timings=Timings(
                decode_s=image.decode_s if image is not None and is_new else None,
                queue_s=self.queue_s,
                encode_s=self.encode_s if is_new else None,
                prompt_s=self.prompt_s,
                postprocess_s=self.postprocess_s,
                total_s=time.perf_counter() - self.started_s,
            ),
        )
