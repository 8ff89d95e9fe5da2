"""Masks as answers carry them: encodings, logits, scores and boxes; decoded only on demand."""

from __future__ import annotations

import enum
import io
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import _polygons, _rle
from .geometry import Box, ImageSize, NormalizedBox, Point

__all__ = [
    "CocoRle",
    "CocoRleCounts",
    "CroppedMask",
    "EncodedMask",
    "Mask",
    "MaskLogits",
    "PngMask",
    "Polygon",
    "PolygonMask",
    "ScoreKind",
]


class ScoreKind(enum.Enum):
    """What a score means."""

    UNSPECIFIED = "unspecified"
    PREDICTED_IOU = "predicted_iou"
    CONCEPT_CONFIDENCE = "concept_confidence"
    OBJECT_PRESENCE = "object_presence"


@dataclass(frozen=True, slots=True)
class CocoRle:
    """COCO's compressed run-length encoding; `counts` is what pycocotools holds, in ASCII."""

    size: ImageSize
    counts: bytes

    def decode(self) -> NDArray[np.bool_]:
        """Return the bitmap, shape (height, width).

        Raises:
            ValueError: The counts are not of this form, or do not fill the size.
        """
        counts = _rle.decompress_counts(self.counts)
        return _rle.decode_counts(counts, self.size.width_px, self.size.height_px)

    def to_coco(self) -> dict[str, Any]:
        """Return the dictionary that pycocotools takes: `size` [height, width] and `counts`."""
        size = [self.size.height_px, self.size.width_px]
        return {"size": size, "counts": self.counts.decode("ascii")}


@dataclass(frozen=True, slots=True)
class CocoRleCounts:
    """COCO's uncompressed run lengths, down the columns, of 0 and 1 in turn, starting with 0."""

    size: ImageSize
    counts: tuple[int, ...]

    @classmethod
    def encode(cls, bitmap: NDArray[np.bool_]) -> CocoRleCounts:
        """Return the run lengths of a bitmap of shape (height, width)."""
        height, width = bitmap.shape
        counts = _rle.encode_counts(bitmap)
        return cls(ImageSize(width_px=width, height_px=height), tuple(counts.tolist()))

    def decode(self) -> NDArray[np.bool_]:
        """Return the bitmap, shape (height, width).

        Raises:
            ValueError: The counts do not fill the size.
        """
        counts = np.asarray(self.counts, dtype=np.int64)
        return _rle.decode_counts(counts, self.size.width_px, self.size.height_px)

    def to_coco(self) -> dict[str, Any]:
        """Return COCO's dictionary: `size` [height, width] and `counts` as a list."""
        return {
            "size": [self.size.height_px, self.size.width_px],
            "counts": list(self.counts),
        }


@dataclass(frozen=True, slots=True)
class PngMask:
    """A mask as a greyscale or one-bit PNG; above half is object."""

    data: bytes = field(repr=False)

    @classmethod
    def encode(cls, bitmap: NDArray[np.bool_]) -> PngMask:
        """Return a bitmap of shape (height, width) as a one-bit PNG."""
        stream = io.BytesIO()
        Image.fromarray(bitmap).save(stream, "PNG")
        return cls(stream.getvalue())

    def decode(self) -> NDArray[np.bool_]:
        """Return the bitmap, shape (height, width).

        Raises:
            ValueError: The bytes are no picture that Pillow reads.
        """
        try:
            with Image.open(io.BytesIO(self.data)) as image:
                return np.asarray(image.convert("L")) > 127
        except OSError as error:
            raise ValueError("the mask is not a readable PNG") from error


@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed outline with holes; rings list x, y in turn, in the image frame, as COCO does."""

    outer: tuple[float, ...]
    holes: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class PolygonMask:
    """A mask as the union of polygons with holes; none for an empty mask."""

    size: ImageSize
    polygons: tuple[Polygon, ...]

    def decode(self) -> NDArray[np.bool_]:
        """Return the bitmap, shape (height, width): the pixels whose centres lie inside."""
        bitmap = np.zeros((self.size.height_px, self.size.width_px), dtype=np.bool_)
        for polygon in self.polygons:
            _polygons.fill(bitmap, (polygon.outer, *polygon.holes))
        return bitmap


@dataclass(frozen=True, slots=True)
class CroppedMask:
    """A mask of which only a part was sent; the rest of the image is not of the object.

    Attributes:
        size: Size of the image.
        crop: What part of it `content` covers, in whole pixels.
        content: The mask of that part, in an encoding of the wire.
    """

    size: ImageSize
    crop: Box
    content: CocoRle | CocoRleCounts | PngMask | PolygonMask

    def decode(self) -> NDArray[np.bool_]:
        """Return the bitmap, shape (height, width) of the image.

        Raises:
            ValueError: The content does not decode, or is not of the crop's size.
        """
        bitmap = np.zeros((self.size.height_px, self.size.width_px), dtype=np.bool_)
        left, top = int(self.crop.x_min), int(self.crop.y_min)
        window = bitmap[top : int(self.crop.y_max), left : int(self.crop.x_max)]
        part = self.content.decode()
        if part.shape != window.shape:
            raise ValueError(f"a mask of shape {part.shape} does not fill {self.crop}")
        window[...] = part
        return bitmap


EncodedMask: TypeAlias = CocoRle | CocoRleCounts | PngMask | PolygonMask | CroppedMask
"""A mask in one of the encodings of the wire, or a part of one; each has `decode()`."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskLogits:
    """A mask before it is thresholded: a grid of logits over a window of the image.

    Attributes:
        window: What part of the image the grid covers, its outer edges on the window's; it may
            reach beyond the image.
        values: Shape (rows, columns), float32; above 0 is object.
    """

    window: Box
    values: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Mask:
    """One mask of one object.

    Attributes:
        index: Position in the answer, from 0.
        object_id: The object.
        alternative: Rank among the alternatives for the same object, 0 is the best.
        score: How good the mask is, 0 to 1; None unless asked for.
        score_kind: What the score means.
        stability_score: IoU of the masks at a higher and a lower threshold, where computed.
        area_px: Pixels of the object.
        box: Tight box around it in pixels; None for an empty mask.
        normalized_box: The same box in fractions of the image; None unless asked for.
        encoded: The mask as it was sent; None where none was asked for.
        logits: The logits; None unless asked for.
        text: The text that found this instance; empty where none did.
        grid_point: The grid point that found this mask; None where none did.
        refined: Whether the second pass of `Postprocess.refine` drew it.
    """

    index: int
    object_id: int
    area_px: int
    alternative: int = 0
    score: float | None = None
    score_kind: ScoreKind = ScoreKind.UNSPECIFIED
    stability_score: float | None = None
    box: Box | None = None
    normalized_box: NormalizedBox | None = None
    encoded: EncodedMask | None = field(default=None, repr=False)
    logits: MaskLogits | None = field(default=None, repr=False)
    text: str = ""
    grid_point: Point | None = None
    refined: bool = False

    @cached_property
    def bitmap(self) -> NDArray[np.bool_]:
        """The mask, shape (height, width) of the image; decoded at first use, then kept, read-only.

        Raises:
            ValueError: The answer carries no mask, or one that does not decode.
        """
        if self.encoded is None:
            raise ValueError("the answer carries no mask: MaskEncoding.NONE was asked for")
        bitmap = self.encoded.decode()
        bitmap.flags.writeable = False
        return bitmap
