"""A small real engine for tests of the service: an object is what has the clicked pixel's colour.

It encodes, decodes and tracks deterministically in microseconds and nothing else, so that tests of
sessions can say exactly which mask is right. A gate lets a test hold the device at a frame.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.engine import (
    ImageEmbedding,
    MaskCandidate,
    ModelDescription,
    ObjectPrediction,
)
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts, PromptKind
from maskwire_server.domain.tracking import (
    ObjectSighting,
    ObjectTracker,
    PromptedObject,
    TrackingEngine,
    TrackingLimits,
)

GATE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class ColourEmbedding(ImageEmbedding):
    pixels: NDArray[np.uint8]


class ColourEngine(TrackingEngine):
    """Segments and tracks by exact colour.

    Attributes:
        encoded: Images encoded so far.
        open_trackers: Trackers that were made and not closed.
        device_is_broken: Makes `advance` fail as a device does.
        gate: While it is cleared, `advance` waits.
        reached_gate: Set when `advance` is called.
    """

    def __init__(self, name: str = "colour", checkpoint_digest: str = "sha256:colour") -> None:
        self._name = name
        self._checkpoint_digest = checkpoint_digest
        self.encoded = 0
        self.open_trackers = 0
        self.device_is_broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.reached_gate = threading.Event()

    @property
    def description(self) -> ModelDescription:
        return ModelDescription(
            name=self._name,
            engine="colour",
            architecture="colour",
            checkpoint_digest=self._checkpoint_digest,
            prompt_kinds=frozenset({PromptKind.POINT, PromptKind.BOX, PromptKind.MASK}),
            masks_per_object=2,
            max_objects=64,
            native_resolution_px=64,
            supports_video=True,
            device="cpu",
            precision="fp32",
            license="Apache-2.0",
        )

    def encode(self, pixels: NDArray[np.uint8]) -> ColourEmbedding:
        self.encoded += 1
        size = ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0])
        return ColourEmbedding(size, pixels.nbytes, pixels.copy())

    def decode(
        self, embedding: ImageEmbedding, objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> list[ObjectPrediction]:
        assert isinstance(embedding, ColourEmbedding)
        return [
            ObjectPrediction(
                prompts.object_id, _candidates(embedding.pixels, prompts, multimask=multimask)[1]
            )
            for prompts in objects
        ]

    def new_tracker(self, size: ImageSize, limits: TrackingLimits) -> ColourTracker:
        self.open_trackers += 1
        return ColourTracker(self, limits)


class ColourTracker(ObjectTracker):
    def __init__(self, engine: ColourEngine, limits: TrackingLimits) -> None:
        self._engine = engine
        self._limits = limits
        self._colours: dict[int, tuple[int, ...]] = {}
        self._frames: dict[int, NDArray[np.uint8]] = {}

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self._colours)

    @property
    def size_bytes(self) -> int:
        return sum(pixels.nbytes for pixels in self._frames.values())

    def advance(self, frame: int, embedding: ImageEmbedding) -> list[ObjectSighting]:
        assert isinstance(embedding, ColourEmbedding)
        self._engine.reached_gate.set()
        assert self._engine.gate.wait(GATE_TIMEOUT_S)
        if self._engine.device_is_broken:
            raise MaskwireError(ErrorCode.MODEL_UNAVAILABLE, "the device failed")
        assert frame == max(self._frames, default=-1) + 1
        self._frames[frame] = embedding.pixels
        self._frames.pop(frame - self._limits.held_frames - 1, None)
        return [
            _sighting(object_id, embedding.pixels, colour)
            for object_id, colour in self._colours.items()
        ]

    def prompt(
        self, frame: int, objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> list[PromptedObject]:
        pixels = self._frames[frame]
        prompted = []
        for prompts in objects:
            colour, candidates = _candidates(pixels, prompts, multimask=multimask)
            self._colours[prompts.object_id] = colour
            prompted.append(PromptedObject(prompts.object_id, candidates, 1.0))
        assert len(self._colours) <= self._limits.max_objects
        return prompted

    def clear_prompts(self, object_ids: Collection[int]) -> None:
        assert set(object_ids) <= self._colours.keys()

    def remove(self, object_ids: Collection[int]) -> None:
        for object_id in object_ids:
            self._colours.pop(object_id, None)

    def reset(self) -> None:
        self._colours.clear()
        self._frames.clear()

    def close(self) -> None:
        self.reset()
        self._engine.open_trackers -= 1


def _candidates(
    pixels: NDArray[np.uint8], prompts: ObjectPrompts, *, multimask: bool
) -> tuple[tuple[int, ...], tuple[MaskCandidate, ...]]:
    colour = _colour(pixels, prompts)
    bitmap = (pixels == np.array(colour, np.uint8)).all(-1)
    best = MaskCandidate(_logits(bitmap), 0.9)
    if not multimask:
        return colour, (best,)
    return colour, (best, MaskCandidate(_logits(~bitmap), 0.3))


def _colour(pixels: NDArray[np.uint8], prompts: ObjectPrompts) -> tuple[int, ...]:
    foreground = prompts.points[prompts.point_labels]
    if len(foreground):
        x, y = foreground[-1]
    elif prompts.box is not None:
        x = (prompts.box.x_min + prompts.box.x_max) / 2
        y = (prompts.box.y_min + prompts.box.y_max) / 2
    elif isinstance(prompts.mask, np.ndarray):
        y, x = np.argwhere(prompts.mask)[0]
    else:
        x, y = 0, 0
    return tuple(int(value) for value in pixels[int(y), int(x)])


def _sighting(object_id: int, pixels: NDArray[np.uint8], colour: tuple[int, ...]) -> ObjectSighting:
    bitmap = (pixels == np.array(colour, np.uint8)).all(-1)
    return ObjectSighting(object_id, _logits(bitmap), 0.95 if bitmap.any() else 0.05)


def _logits(bitmap: NDArray[np.bool_]) -> MaskLogits:
    values = np.where(bitmap, np.float32(8), np.float32(-8)).astype(np.float32)
    height, width = bitmap.shape
    return MaskLogits(values, Box.covering(ImageSize(width_px=width, height_px=height)))
