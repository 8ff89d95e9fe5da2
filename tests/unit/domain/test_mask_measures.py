"""Area, box and stability of masks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as hnp

from maskwire_server.domain.geometry import Box
from maskwire_server.domain.mask_measures import area, bounding_box, stability_score

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)


@given(hnp.arrays(np.bool_, SHAPES))
def test_box_is_the_tight_half_open_one(bitmap):
    rows, columns = np.nonzero(bitmap)
    box = bounding_box(bitmap)
    if rows.size == 0:
        assert box is None
    else:
        assert box == Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert area(bitmap) == rows.size


def test_box_and_area_of_a_view_with_strides():
    whole = np.zeros((30, 40), dtype=np.bool_)
    whole[10:20, 4:30] = True
    assert bounding_box(whole[5:, 2:]) == Box(2, 5, 28, 15)
    assert bounding_box(whole.T) == Box(10, 4, 20, 30)


def test_stability_is_the_ratio_of_areas_at_the_two_thresholds():
    logits = np.array([[-3.0, -0.5, 0.5, 1.5], [2.0, 1.0, -1.0, 0.0]], dtype=np.float32)
    assert stability_score(logits) == 2 / 6
    assert stability_score(logits, offset=0.2) == 4 / 5
    assert stability_score(logits, offset=0.5, threshold=1.0) == 1 / 3
    assert stability_score(np.full((4, 4), -9.0, dtype=np.float32)) == 0.0
    assert stability_score(np.full((4, 4), 9.0, dtype=np.float32)) == 1.0
