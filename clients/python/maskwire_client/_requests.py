"""Builds the messages of requests from what callers give; pure functions, no channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwire.v1 import (
    file_pb2,
    geometry_pb2,
    image_pb2,
    mask_pb2,
    prompt_pb2,
    rendering_pb2,
    segmentation_pb2,
)

from ._enums import to_wire
from .geometry import Box, ImageSize, Point
from .images import EncodedImage, ImageReference
from .masks import (
    CocoRle,
    CocoRleCounts,
    CroppedMask,
    EncodedMask,
    Mask,
    MaskLogits,
    PngMask,
    PolygonMask,
)
from .options import Delivery, MaskEncoding, Postprocess, Rendering
from .prompts import BoxLike, MaskPrompt, PointLike, PromptLike, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentArguments:
    """What `segment` takes besides the image; documented there."""

    points: Sequence[PointLike] = ()
    boxes: Sequence[BoxLike] = ()
    masks: Sequence[MaskPrompt] = ()
    texts: Sequence[Text | str] = ()
    model: str = ""
    encoding: MaskEncoding = MaskEncoding.COCO_RLE
    return_multiple_masks: bool = False
    max_masks: int | None = None
    include_scores: bool = True
    include_boxes: bool = False
    include_logits: bool = False
    postprocess: Postprocess | None = None
    renderings: Sequence[Rendering] = ()
    delivery: Delivery = Delivery.INLINE
    inference_size_px: int | None = None


def segment_request(arguments: SegmentArguments) -> segmentation_pb2.SegmentImageRequest:
    """Return the request, still without its image.

    Raises:
        TypeError: A prompt is not of a kind that its list takes.
        ValueError: A number is none that the message can hold, or a mask has another shape than
            (height, width).
    """
    return segmentation_pb2.SegmentImageRequest(
        prompts=prompt_messages(
            arguments.points, arguments.boxes, arguments.masks, arguments.texts
        ),
        model=arguments.model,
        mask_options=mask_pb2.MaskOptions(
            encoding=to_wire(mask_pb2.MaskEncoding, arguments.encoding),
            return_multiple_masks=arguments.return_multiple_masks,
            max_masks=arguments.max_masks,
            include_scores=arguments.include_scores,
            include_boxes=arguments.include_boxes,
            include_logits=arguments.include_logits,
        ),
        postprocess=postprocess_message(arguments.postprocess),
        renderings=[rendering_message(rendering) for rendering in arguments.renderings],
        delivery=to_wire(file_pb2.Delivery, arguments.delivery),
        inference_size_px=arguments.inference_size_px,
    )


def image_source(image: EncodedImage | ImageReference) -> image_pb2.ImageSource:
    """Return the source that carries the image itself, or says where it is."""
    return reference_source(image) if isinstance(image, ImageReference) else bytes_source(image)


def bytes_source(image: EncodedImage) -> image_pb2.ImageSource:
    """Return the source that carries the image itself."""
    return image_pb2.ImageSource(data=image.data)


def digest_source(image: EncodedImage) -> image_pb2.ImageSource:
    """Return the source that only names the image by its digest."""
    return image_pb2.ImageSource(digest=image.digest)


def reference_source(image: ImageReference) -> image_pb2.ImageSource:
    """Return the source for an image that is elsewhere."""
    if image.is_digest:
        return image_pb2.ImageSource(digest=image.address)
    return image_pb2.ImageSource(uri=image.address)


def prompt_messages(
    points: Iterable[PointLike],
    boxes: Iterable[BoxLike],
    masks: Iterable[MaskPrompt],
    texts: Iterable[Text | str] = (),
) -> list[prompt_pb2.Prompt]:
    """Return the messages of prompts: points, then boxes, masks and texts.

    Raises:
        TypeError: A prompt is not of a kind that its list takes.
        ValueError: A number is none that the message can hold, or a mask has another shape than
            (height, width).
    """
    return [
        *(_point_prompt(point if isinstance(point, Point) else Point(*point)) for point in points),
        *(_box_prompt(box if isinstance(box, Box) else Box(*box)) for box in boxes),
        *(_prompt_of_mask(mask) for mask in masks),
        *(_text_prompt(text) for text in _no_string(texts)),
    ]


def prompt_message(prompt: PromptLike) -> prompt_pb2.Prompt:
    """Return the message of one prompt of any kind.

    Raises:
        TypeError: It is no prompt.
        ValueError: As for `prompt_messages`.
    """
    match prompt:
        case Point():
            return prompt_messages([prompt], (), ())[0]
        case Box():
            return prompt_messages((), [prompt], ())[0]
        case MaskPrompt():
            return prompt_messages((), (), [prompt])[0]
        case Text():
            return prompt_messages((), (), (), [prompt])[0]
    raise TypeError(f"a prompt is a Point, Box, MaskPrompt or Text, not {type(prompt).__name__}")


def _point_prompt(point: Point) -> prompt_pb2.Prompt:
    return prompt_pb2.Prompt(
        point=prompt_pb2.PointPrompt(
            point=geometry_pb2.Point(x=point.x, y=point.y),
            label=to_wire(prompt_pb2.PointLabel, point.label),
        ),
        object_id=point.object_id,
        frame_index=point.frame_index,
    )


def _box_prompt(box: Box) -> prompt_pb2.Prompt:
    return prompt_pb2.Prompt(
        box=prompt_pb2.BoxPrompt(
            box=box_message(box), label=to_wire(prompt_pb2.BoxLabel, box.label)
        ),
        object_id=box.object_id,
        frame_index=box.frame_index,
    )


def _no_string(texts: Iterable[Text | str]) -> Iterable[Text | str]:
    """Refuse a string in place of a list, whose letters would be taken for texts."""
    if isinstance(texts, str):
        raise TypeError(f"texts is a list of Text or str, [{texts!r}] for one, not a str")
    return texts


def _text_prompt(text: Text | str) -> prompt_pb2.Prompt:
    if isinstance(text, str):
        text = Text(text)
    if not isinstance(text, Text):
        raise TypeError(f"a text is a Text or a str, not {type(text).__name__}")
    return prompt_pb2.Prompt(
        text=prompt_pb2.TextPrompt(text=text.text, score_threshold=text.score_threshold),
        object_id=text.object_id,
        frame_index=text.frame_index,
    )


def _prompt_of_mask(mask: MaskPrompt) -> prompt_pb2.Prompt:
    if not isinstance(mask, MaskPrompt):
        raise TypeError(f"masks are MaskPrompts, not {type(mask).__name__}")
    return prompt_pb2.Prompt(
        mask=_mask_prompt(mask), object_id=mask.object_id, frame_index=mask.frame_index
    )


def _mask_prompt(prompt: MaskPrompt) -> prompt_pb2.MaskPrompt:
    mask = prompt.mask
    if isinstance(mask, Mask):
        mask = _best_form(mask)
    if isinstance(mask, MaskLogits):
        return prompt_pb2.MaskPrompt(logits=logits_message(mask))
    return prompt_pb2.MaskPrompt(encoded=mask_message(mask))


def mask_message(mask: NDArray[np.bool_] | EncodedMask) -> mask_pb2.EncodedMask:
    """Return the message of a bitmap or an encoded mask.

    Raises:
        TypeError: It is neither.
        ValueError: The bitmap is not bool of shape (height, width), or empty.
    """
    if isinstance(mask, np.ndarray):
        if mask.ndim != 2 or mask.dtype != np.bool_ or mask.size == 0:
            raise ValueError(
                "a mask must be bool of shape (height, width), "
                f"not {mask.dtype} of shape {mask.shape}"
            )
        # PNG is never much larger than the bitmap; run lengths of a noisy mask are.
        mask = PngMask.encode(mask)
    return encoded_mask_message(mask)


def _best_form(mask: Mask) -> EncodedMask | MaskLogits:
    form = mask.logits if mask.logits is not None else mask.encoded
    if form is None:
        raise ValueError("the mask carries neither logits nor an encoding, so it is no prompt")
    return form


def encoded_mask_message(mask: EncodedMask) -> mask_pb2.EncodedMask:
    """Return the message of an encoded mask.

    Raises:
        TypeError: It is not one.
    """
    match mask:
        case CroppedMask():
            return encoded_mask_message(PngMask.encode(mask.decode()))
        case CocoRle():
            rle = mask_pb2.CocoRle(size=size_message(mask.size), counts=mask.counts)
            return mask_pb2.EncodedMask(coco_rle=rle)
        case CocoRleCounts():
            counts = mask_pb2.CocoRleCounts(size=size_message(mask.size), counts=mask.counts)
            return mask_pb2.EncodedMask(coco_rle_counts=counts)
        case PngMask():
            return mask_pb2.EncodedMask(png=mask_pb2.PngMask(data=mask.data))
        case PolygonMask():
            polygons = mask_pb2.PolygonMask(
                size=size_message(mask.size),
                polygons=[
                    mask_pb2.Polygon(
                        outer=mask_pb2.Ring(coordinates=polygon.outer),
                        holes=[mask_pb2.Ring(coordinates=hole) for hole in polygon.holes],
                    )
                    for polygon in mask.polygons
                ],
            )
            return mask_pb2.EncodedMask(polygons=polygons)
    raise TypeError(f"a mask prompt cannot be made of {type(mask).__name__}")


def logits_message(logits: MaskLogits) -> mask_pb2.MaskLogits:
    """Return the message of mask logits."""
    rows, columns = logits.values.shape
    return mask_pb2.MaskLogits(
        window=box_message(logits.window),
        rows=rows,
        columns=columns,
        values=logits.values.astype("<f4").tobytes(),
    )


def box_message(box: Box) -> geometry_pb2.Box:
    """Return the message of a box's edges."""
    return geometry_pb2.Box(x_min=box.x_min, y_min=box.y_min, x_max=box.x_max, y_max=box.y_max)


def size_message(size: ImageSize) -> geometry_pb2.ImageSize:
    """Return the message of a size."""
    return geometry_pb2.ImageSize(width_px=size.width_px, height_px=size.height_px)


def postprocess_message(options: Postprocess | None) -> mask_pb2.PostprocessOptions | None:
    """Return the message of what to change in masks; None for nothing."""
    if options is None:
        return None
    return mask_pb2.PostprocessOptions(
        max_hole_area_px=options.max_hole_area_px,
        min_region_area_px=options.min_region_area_px,
        smoothing_radius_px=options.smoothing_radius_px,
        morphological_cleanup=options.morphological_cleanup,
        refine=options.refine,
        min_score=options.min_score,
        max_overlap_iou=options.max_overlap_iou,
        coarse_masks=options.coarse_masks,
    )


def rendering_message(rendering: Rendering) -> rendering_pb2.Rendering:
    """Return the message of a picture to make."""
    return rendering_pb2.Rendering(
        style=to_wire(rendering_pb2.RenderingStyle, rendering.style),
        format=to_wire(rendering_pb2.PictureFormat, rendering.format),
        quality=rendering.quality,
        opacity=rendering.opacity,
        draw_outlines=rendering.draw_outlines,
        invert=rendering.invert,
        background_rgb=rendering.background_rgb,
    )
