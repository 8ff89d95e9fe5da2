"""Mask logits at the image's resolution, against torch's own interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits


@pytest.mark.parametrize(("width", "height"), [(64, 64), (301, 199), (40, 25), (7, 500)])
def test_whole_image_agrees_with_torch(width: int, height: int) -> None:
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    size = ImageSize(width, height)
    bitmap = MaskLogits(values, Box.covering(size)).to_bitmap(size)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], (height, width), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    decided = np.abs(expected) > 1e-4
    np.testing.assert_array_equal(bitmap[decided], expected[decided] > 0)
    assert decided.mean() > 0.99


def test_window_places_its_mask_where_it_lies() -> None:
    values = np.full((8, 8), -1.0, dtype=np.float32)
    values[2:6, 2:6] = 1.0
    size = ImageSize(100, 80)
    bitmap = MaskLogits(values, Box(20, 10, 60, 50)).to_bitmap(size)
    rows, columns = np.nonzero(bitmap)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (30, 50, 20, 40)
    alone = MaskLogits(values, Box(0, 0, 40, 40)).to_bitmap(ImageSize(40, 40))
    np.testing.assert_array_equal(bitmap[10:50, 20:60], alone)


def test_window_beyond_the_image_is_cut_off() -> None:
    size = ImageSize(30, 20)
    logits = MaskLogits(np.ones((4, 4), dtype=np.float32), Box(-10, -10, 10, 10))
    bitmap = logits.to_bitmap(size)
    assert bitmap[:10, :10].all()
    assert bitmap.sum() == 100
    outside = MaskLogits(np.ones((4, 4), dtype=np.float32), Box(40, 40, 50, 50))
    assert not outside.to_bitmap(size).any()
