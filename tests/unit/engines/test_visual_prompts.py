from __future__ import annotations

import numpy as np
import pytest
import torch

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.visual_prompts import PromptBatch, batched, mask_logits

SIZE = ImageSize(width_px=200, height_px=100)
WHOLE = Box.covering(SIZE)


def prompts(points=(), box=None, mask=None, labels=None) -> ObjectPrompts:
    coordinates = np.array(points, dtype=np.float32).reshape(-1, 2)
    labels = [True] * len(coordinates) if labels is None else labels
    return ObjectPrompts(1, coordinates, np.array(labels, dtype=bool), box, mask)


def batches(*objects: ObjectPrompts, batch_limit: int = 16) -> list[PromptBatch]:
    return list(
        batched(
            objects,
            SIZE,
            network_side=64,
            mask_side=16,
            batch_limit=batch_limit,
            device=torch.device("cpu"),
        )
    )


def test_points_are_scaled_to_the_networks_square():
    (batch,) = batches(prompts([(100.0, 25.0), (200.0, 100.0)], labels=[True, False]))
    assert batch.coordinates is not None
    assert batch.coordinates.tolist() == [[[32.0, 16.0], [64.0, 64.0]]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [[1, 0]]
    assert batch.masks is None


def test_a_boxs_corners_come_before_the_points():
    (batch,) = batches(prompts([(100.0, 50.0)], box=Box(0.0, 0.0, 50.0, 100.0), labels=[False]))
    assert batch.coordinates is not None
    assert batch.coordinates.tolist() == [[[0.0, 0.0], [16.0, 64.0], [32.0, 32.0]]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [[2, 3, 0]]


def test_a_mask_alone_has_no_points():
    (batch,) = batches(prompts(mask=np.zeros((100, 200), dtype=bool)))
    assert batch.coordinates is None
    assert batch.labels is None
    assert batch.masks is not None
    assert batch.masks.shape == (1, 1, 16, 16)


def test_only_objects_of_the_same_structure_share_a_batch():
    box, bitmap = Box(1.0, 2.0, 30.0, 40.0), np.zeros((100, 200), dtype=bool)
    objects = [
        prompts(box=box),
        prompts([(1, 1)]),
        prompts([(1, 1), (2, 2)]),
        prompts([(3, 3)]),
        prompts([(1, 1)], box=box),
        prompts(box=box),
        prompts([(5, 5)], mask=bitmap),
    ]
    assert [batch.positions for batch in batches(*objects)] == [(0, 5), (1, 3), (2,), (4,), (6,)]


def test_a_batch_never_exceeds_the_limit():
    objects = [prompts([(i, i)]) for i in range(7)]
    positions = [batch.positions for batch in batches(*objects, batch_limit=3)]
    assert positions == [(0, 1, 2), (3, 4, 5), (6,)]


def test_the_networks_own_logits_are_used_as_they_are_within_upstreams_bounds():
    values = np.linspace(-50, 50, 256, dtype=np.float32).reshape(16, 16)
    got = mask_logits(MaskLogits(values, WHOLE), SIZE, 16)
    np.testing.assert_array_equal(got, np.clip(values, -32, 32))


def test_a_bitmap_becomes_logits_by_coverage():
    bitmap = np.zeros((100, 200), dtype=bool)
    bitmap[:, :100] = True
    bitmap.flags.writeable = False
    got = mask_logits(bitmap, SIZE, 16)
    assert got.dtype == np.float32
    assert got[:, :7] == pytest.approx(10.0, abs=1e-4)
    assert got[:, 9:] == pytest.approx(-10.0, abs=1e-4)
    assert (np.abs(got[:, 7:9]) < 10.0).all(), "cells on the edge are covered in part"


def test_logits_of_a_window_are_background_beyond_it():
    window = Box(50.0, 25.0, 100.0, 50.0)
    got = mask_logits(MaskLogits(np.full((40, 40), 7.0, dtype=np.float32), window), SIZE, 16)
    expected = np.full((16, 16), -10.0, dtype=np.float32)
    expected[4:8, 4:8] = 7.0
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_logits_of_a_window_beyond_the_image_keep_their_place():
    bitmap = np.zeros((100, 200), dtype=bool)
    bitmap[30:60, 40:120] = True
    window = Box(-100.0, -100.0, 300.0, 200.0)
    grid = np.full((300, 400), -9.0, dtype=np.float32)
    grid[130:160, 140:220] = 9.0
    got = mask_logits(MaskLogits(grid, window), SIZE, 16) > 0
    expected = mask_logits(bitmap, SIZE, 16) > 0
    assert (got & expected).sum() / (got | expected).sum() > 0.8
