"""Masks of photographs, as maskwire-nano makes them, through every encoding and back."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco
from skimage import data

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.masks import EncodedPolygons, MaskEncoding, decode_mask, encode_mask
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.registry import load_engine

PHOTOGRAPHS = {
    "astronaut": [Box(150, 0, 330, 240), Box(300, 320, 505, 512)],
    "coffee": [Box(50, 10, 360, 390), Box(430, 250, 600, 370)],
    "chelsea": [Box(90, 10, 400, 300)],
}
LEAST_IOU = 0.98


@pytest.fixture(scope="module")
def masks() -> list[np.ndarray]:
    """The best mask and its alternatives for each box."""
    engine = load_engine(ModelSpecification("maskwire-nano", "nano", device="cpu"))
    bitmaps = []
    for name, boxes in PHOTOGRAPHS.items():
        pixels = getattr(data, name)()
        size = ImageSize(width_px=pixels.shape[1], height_px=pixels.shape[0])
        nothing = np.zeros((0, 2), dtype=np.float32)
        labels = np.zeros(0, dtype=np.bool_)
        objects = [
            ObjectPrompts(number, nothing, labels, box, None) for number, box in enumerate(boxes)
        ]
        answers = engine.decode(engine.encode(pixels), objects, multimask=True)
        bitmaps += [
            candidate.logits.to_bitmap(size)
            for answer in answers
            for candidate in answer.candidates
        ]
    engine.close()
    kept = [bitmap for bitmap in bitmaps if bitmap.any()]
    assert len(kept) >= 5
    return kept


def size_of(bitmap: np.ndarray) -> ImageSize:
    return ImageSize(width_px=bitmap.shape[1], height_px=bitmap.shape[0])


@pytest.mark.parametrize("encoding", [one for one in MaskEncoding if one is not MaskEncoding.NONE])
def test_every_encoding_gives_real_masks_back(masks: list[np.ndarray], encoding) -> None:
    for bitmap in masks:
        decoded = decode_mask(encode_mask(bitmap, encoding), size_of(bitmap))
        np.testing.assert_array_equal(decoded, bitmap)


# pycocotools itself uses a deprecated protocol of numpy when it decodes.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_others_fill_the_polygons_of_real_masks_alike(masks: list[np.ndarray]) -> None:
    for bitmap in masks:
        encoded = encode_mask(bitmap, MaskEncoding.POLYGONS)
        assert isinstance(encoded, EncodedPolygons)
        filled = np.zeros_like(bitmap)
        for polygon in encoded.polygons:
            region = fill_with_pycocotools(polygon.outer, bitmap.shape)
            for hole in polygon.holes:
                region &= ~fill_with_pycocotools(hole, bitmap.shape)
            filled |= region
        assert (filled & bitmap).sum() / (filled | bitmap).sum() >= LEAST_IOU


def fill_with_pycocotools(ring: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    [run_lengths] = coco.frPyObjects([ring.ravel().astype(float).tolist()], *shape)
    return np.asarray(coco.decode(run_lengths)).astype(np.bool_)
