"""Pictures of masks: what may be asked for, and drawing all of it for one image.

`draw` turns requests into encoded pictures, one at a time, so that no more than one is held besides
what is encoded already. How an overlay looks is in `overlay.py`, colours are in `palette.py`, COCO
annotations in `coco.py`. All of it blocks, and runs on the executor for pixels.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .coco import coco_document
from .errors import invalid_field
from .files.store import StoredFile
from .geometry import ImageSize
from .mask_pictures import black_white, cut_out, label_map, union
from .overlay import OverlayOptions, render_contours, render_overlay
from .packed_masks import DrawableMask, PackedMask, Window
from .pictures import PictureFormat, check_picture, encode_picture

MAX_LABEL = 0xFFFF
"""Largest object id that a label map holds."""

_JSON_TYPE = "application/json"


class RenderingStyle(enum.Enum):
    """A kind of picture; the members are the contract's."""

    OVERLAY = "overlay"
    """The image with its masks laid over it in colour."""
    CONTOURS = "contours"
    """The image with the masks' outlines."""
    BLACK_WHITE = "black_white"
    """All masks together in white on black."""
    CUTOUT = "cutout"
    """The objects cut out of the image."""
    CROPS = "crops"
    """One picture for each object: cut out and cropped to its box."""
    LABEL_MAP = "label_map"
    """One 16-bit PNG of object ids."""
    INDIVIDUAL_MASKS = "individual_masks"
    """One picture for each mask, in white on black."""
    COCO_JSON = "coco_json"
    """COCO annotations."""


class Delivery(enum.Enum):
    """How pictures reach the caller; the members are the contract's."""

    INLINE = "inline"
    """In the answer."""
    STORED_FILE = "stored_file"
    """Stored, to be fetched by the reference that the answer carries."""


_OF_THE_IMAGE = frozenset(
    {
        RenderingStyle.OVERLAY,
        RenderingStyle.CONTOURS,
        RenderingStyle.CUTOUT,
        RenderingStyle.CROPS,
    }
)
_IN_THE_FORMAT_ASKED_FOR = frozenset(RenderingStyle) - {
    RenderingStyle.LABEL_MAP,
    RenderingStyle.COCO_JSON,
}
_FILE_STEMS = {
    RenderingStyle.OVERLAY: "overlay",
    RenderingStyle.CONTOURS: "contours",
    RenderingStyle.BLACK_WHITE: "black-white",
    RenderingStyle.CUTOUT: "cutout",
    RenderingStyle.CROPS: "crop",
    RenderingStyle.LABEL_MAP: "labels",
    RenderingStyle.INDIVIDUAL_MASKS: "mask",
    RenderingStyle.COCO_JSON: "annotations",
}


@dataclass(frozen=True, slots=True)
class RenderingRequest:
    """A picture to make; the fields are the contract's `Rendering`.

    Attributes:
        style: What to draw.
        format: File format; label maps are always PNG.
        quality: 1 to 100, for JPEG and WebP.
        opacity: How strongly the overlay's colours cover the image, 0 to 1.
        draw_outlines: Whether the overlay also draws outlines.
        invert: Swaps object and background.
        background_rgb: What is around cut-outs in JPEG, as 0xRRGGBB.
        field: Path of the rendering in the request, for errors.
    """

    style: RenderingStyle = RenderingStyle.OVERLAY
    format: PictureFormat = PictureFormat.PNG
    quality: int = 90
    opacity: float = 0.5
    draw_outlines: bool = True
    invert: bool = False
    background_rgb: int = 0
    field: str = "renderings"

    @property
    def needs_image(self) -> bool:
        """Whether the image itself shows in the picture, and not only its masks."""
        return self.style in _OF_THE_IMAGE


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was made.

    Attributes:
        style: What was drawn.
        content: The encoded picture, or where it is stored.
        content_type: Its media type.
        file_name: Name to save it under.
        size: Its size; None for annotations, which are no picture.
        mask_index: Index of the mask, for styles with one picture for each mask.
        object_id: The object, for styles with one picture for each object or mask.
    """

    style: RenderingStyle
    content: bytes | StoredFile
    content_type: str
    file_name: str
    size: ImageSize | None
    mask_index: int | None = None
    object_id: int | None = None


def needs_image(requests: Sequence[RenderingRequest]) -> bool:
    """Whether any of the pictures shows the image itself."""
    return any(request.needs_image for request in requests)


def check_renderings(requests: Sequence[RenderingRequest], size: ImageSize) -> None:
    """Refuse pictures that cannot be made of an image of this size, before any work is done.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` naming the field and the rule.
    """
    for request in requests:
        if request.style in _IN_THE_FORMAT_ASKED_FOR:
            check_picture(request.format, size, f"{request.field}.format")


def draw(
    requests: Sequence[RenderingRequest],
    size: ImageSize,
    pixels: NDArray[np.uint8] | None,
    masks: Sequence[DrawableMask],
) -> Iterator[Picture]:
    """Draw and encode pictures, lazily, in the order of the requests; within one, by index.

    Args:
        requests: What to draw.
        size: Size of the image.
        pixels: The image, shape (height, width, 3), uint8, RGB; not changed. May be None where
            `needs_image` says so.
        masks: Masks of the image's size; later ones lie on top.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a label map of ids above 65535.
        ValueError: The image is needed and missing.
    """
    if pixels is None and needs_image(requests):
        raise ValueError("these pictures need the image")
    shown = np.empty((0, 0, 3), dtype=np.uint8) if pixels is None else pixels
    used: Counter[RenderingStyle] = Counter()
    for request in requests:
        used[request.style] += 1
        yield from _Drawing(request, used[request.style], size, shown, masks).pictures()


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """What one request asks for, about to be drawn; `number` counts requests of the same style."""

    request: RenderingRequest
    number: int
    size: ImageSize
    pixels: NDArray[np.uint8]
    masks: Sequence[DrawableMask]

    def pictures(self) -> Iterator[Picture]:
        match self.request.style:
            case RenderingStyle.OVERLAY:
                yield self._picture(self._overlay())
            case RenderingStyle.CONTOURS:
                yield self._picture(render_contours(self.pixels, self._by_object()))
            case RenderingStyle.BLACK_WHITE:
                yield self._picture(black_white(self._union()))
            case RenderingStyle.CUTOUT:
                yield self._picture(self._cut_out(self._union(), Window.covering(self.size)))
            case RenderingStyle.CROPS:
                yield from self._crops()
            case RenderingStyle.LABEL_MAP:
                yield self._label_map()
            case RenderingStyle.INDIVIDUAL_MASKS:
                yield from self._individual_masks()
            case RenderingStyle.COCO_JSON:
                yield self._annotations()

    def _by_object(self) -> dict[int, PackedMask]:
        return {one.object_id: one.mask for one in self.masks if one.alternative == 0}

    def _union(self) -> NDArray[np.bool_]:
        return union(self._by_object().values(), self.size, invert=self.request.invert)

    def _overlay(self) -> NDArray[np.uint8]:
        by_object = self._by_object()
        if self.request.invert:
            by_object = {next(iter(by_object), 1): PackedMask.pack(self._union())}
        options = OverlayOptions(self.request.opacity, self.request.draw_outlines)
        return render_overlay(self.pixels, by_object, options)

    def _cut_out(self, bitmap: NDArray[np.bool_], window: Window) -> NDArray[np.uint8]:
        background = None
        if not self.request.format.has_transparency:
            rgb = self.request.background_rgb
            background = (rgb >> 16 & 0xFF, rgb >> 8 & 0xFF, rgb & 0xFF)
        return cut_out(self.pixels, bitmap, window, background)

    def _in_order(self) -> list[DrawableMask]:
        """Return the masks as the result lists them, whatever order they are drawn in."""
        return sorted(self.masks, key=lambda one: one.index)

    def _crops(self) -> Iterator[Picture]:
        for one in self._in_order():
            if one.alternative == 0 and not one.mask.window.is_empty:
                bitmap = one.mask.crop()
                kept = ~bitmap if self.request.invert else bitmap
                yield self._picture(self._cut_out(kept, one.mask.window), one)

    def _individual_masks(self) -> Iterator[Picture]:
        for one in self._in_order():
            bitmap = union([one.mask], self.size, invert=self.request.invert)
            yield self._picture(black_white(bitmap), one)

    def _label_map(self) -> Picture:
        by_object = self._by_object()
        if by_object and max(by_object) > MAX_LABEL:
            rule = f"a label map holds object ids up to {MAX_LABEL}, not {max(by_object)}"
            raise invalid_field(f"{self.request.field}.style", rule)
        return self._picture(label_map(by_object, self.size))

    def _annotations(self) -> Picture:
        return Picture(
            style=self.request.style,
            content=coco_document(self._in_order(), self.size),
            content_type=_JSON_TYPE,
            file_name=f"{self._stem()}.json",
            size=None,
        )

    def _picture(
        self,
        pixels: NDArray[np.uint8] | NDArray[np.uint16],
        one: DrawableMask | None = None,
    ) -> Picture:
        is_labels = self.request.style is RenderingStyle.LABEL_MAP
        file_format = PictureFormat.PNG if is_labels else self.request.format
        is_of_mask = self.request.style is RenderingStyle.INDIVIDUAL_MASKS
        return Picture(
            style=self.request.style,
            content=encode_picture(pixels, file_format, self.request.quality),
            content_type=file_format.value,
            file_name=f"{self._stem(one)}{file_format.extension}",
            size=ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0]),
            mask_index=one.index if one is not None and is_of_mask else None,
            object_id=one.object_id if one is not None else None,
        )

    def _stem(self, one: DrawableMask | None = None) -> str:
        parts = [_FILE_STEMS[self.request.style]]
        if self.number > 1:
            parts.append(f"v{self.number}")
        if one is not None:
            is_crop = self.request.style is RenderingStyle.CROPS
            parts.append(f"{one.object_id if is_crop else one.index}")
        return "-".join(parts)
