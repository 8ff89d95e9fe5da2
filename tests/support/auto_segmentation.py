"""Automatic segmentation without a server around it, and upstream's own beside it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwire_server.domain.auto_segmentation.requests import AutoSegmentLimits, AutoSegmentOptions
from maskwire_server.domain.auto_segmentation.service import AutoSegmentationService
from maskwire_server.domain.engine import SegmentationEngine
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.image_access import ImageAccess
from maskwire_server.domain.images import ImageLimits
from maskwire_server.domain.models import ModelRegistry, ServedModel
from maskwire_server.domain.picture_delivery import PictureLimits, PictureMaker
from maskwire_server.domain.rle import decode_rle
from maskwire_server.observability.metrics import Metrics

_BUDGET_BYTES = 1 << 30


@contextmanager
def auto_segmentation(engine: SegmentationEngine) -> Iterator[AutoSegmentationService]:
    """Serve an engine, with an executor of its own for the device and one for pixels."""
    metrics = Metrics()
    device = BoundedExecutor("device", 1, 64, metrics)
    pixels = BoundedExecutor("pixels", 2, 64, metrics)
    limits = ImageLimits(max_bytes=1 << 26, max_pixels=1 << 26, max_side_px=1 << 14)
    images = ImageAccess(
        pixels, limits, metrics, embedding_budget_bytes=0, image_budget_bytes=_BUDGET_BYTES
    )
    models = ModelRegistry([ServedModel(engine, device, is_default=True)])
    try:
        yield AutoSegmentationService(
            models,
            images,
            pixels,
            PictureMaker(pixels, None, PictureLimits(_BUDGET_BYTES, _BUDGET_BYTES)),
            metrics,
            AutoSegmentLimits(1 << 20, _BUDGET_BYTES),
        )
    finally:
        device.close()
        pixels.close()


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode a picture without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def bitmaps_of(masks: Any) -> list[NDArray[np.bool_]]:
    """Return the bitmaps of segmented masks that are encoded as compressed run lengths."""
    return [decode_rle(mask.encoded.counts, mask.encoded.size) for mask in masks]


def upstream_generator(predictor: Any, options: AutoSegmentOptions) -> Any:
    """Return upstream's automatic mask generator with the same settings, without its clean-up.

    Args:
        predictor: As `sam2_upstream` makes it, with feature sizes that fit its network.
        options: The settings.
    """
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        generator = SAM2AutomaticMaskGenerator(
            predictor.model,
            points_per_side=options.points_per_side,
            pred_iou_thresh=options.criteria.pred_iou_thresh,
            stability_score_thresh=options.criteria.stability_score_thresh,
            stability_score_offset=options.criteria.stability_score_offset,
            box_nms_thresh=options.box_nms_thresh,
            crop_n_layers=options.crop_n_layers,
            crop_nms_thresh=options.crop_nms_thresh,
            crop_overlap_ratio=options.crop_overlap_ratio,
            crop_n_points_downscale_factor=options.crop_n_points_downscale_factor,
            multimask_output=options.criteria.multimask,
            output_mode="uncompressed_rle",
        )
    generator.predictor = predictor
    return generator


def upstream_bitmaps(
    generator: Any, pixels: NDArray[np.uint8], options: AutoSegmentOptions
) -> list[NDArray[np.bool_]]:
    """Run upstream's generator, with the clean-up of small regions where it is asked for.

    The generator of the `sam2` package has lost the call of its own clean-up: with networks of the
    first SAM it followed on the generation, as here.
    """
    from sam2.utils.amg import rle_to_mask

    if not options.min_mask_region_area:
        return [rle_to_mask(one["segmentation"]) for one in generator.generate(pixels)]
    data = generator._generate_masks(pixels)
    data = _as_tensors(data)
    threshold = max(options.box_nms_thresh, options.crop_nms_thresh)
    cleaned = generator.postprocess_small_regions(data, options.min_mask_region_area, threshold)
    return [rle_to_mask(one) for one in cleaned["rles"]]


def _as_tensors(data: Any) -> Any:
    import torch

    for key, value in list(data.items()):
        if isinstance(value, np.ndarray):
            data[key] = torch.from_numpy(value)
    return data


def matched_iou(masks: Sequence[NDArray[np.bool_]], others: Sequence[NDArray[np.bool_]]) -> float:
    """Return how well two sets of masks match: the mean IoU of the best pairing of all masks.

    Masks are paired one to one so that the sum is largest; a mask without a partner counts as 0.
    """
    from scipy.optimize import linear_sum_assignment

    if not masks or not others:
        return float(not masks and not others)
    first, second = (np.stack([np.packbits(mask) for mask in some]) for some in (masks, others))
    areas = [np.bitwise_count(packed).sum(1, dtype=np.int64) for packed in (first, second)]
    overlaps = np.zeros((len(first), len(second)))
    for number, packed in enumerate(first):
        shared = np.bitwise_count(packed & second).sum(1, dtype=np.int64)
        overlaps[number] = shared / np.maximum(areas[0][number] + areas[1] - shared, 1)
    pairs = linear_sum_assignment(overlaps, maximize=True)
    return float(overlaps[pairs].sum() / max(len(first), len(second)))
