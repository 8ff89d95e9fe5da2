"""Finished masks: ranking, filters and numbering."""

from __future__ import annotations

import numpy as np
import pytest

from maskwire_server.domain.engine import MaskCandidate, ObjectPrediction
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.finishing import finish_masks
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.masks import EncodedRle, MaskEncoding
from maskwire_server.domain.postprocessing import PostprocessOptions
from maskwire_server.domain.rle import decode_rle
from maskwire_server.domain.segmentation import MaskOptions

SIZE = ImageSize(width_px=40, height_px=20)
ALTERNATIVES = MaskOptions(return_multiple_masks=True)


def candidate(score, columns):
    values = np.full((20, 40), -4, dtype=np.float32)
    values[:, :columns] = 4
    return MaskCandidate(MaskLogits(values, Box.covering(SIZE)), score)


def predictions(*objects):
    return [
        ObjectPrediction(number, tuple(candidate(score, columns) for score, columns in answers))
        for number, answers in objects
    ]


def finish(objects, options=None, postprocess=None, keep_drawables=False, budget_bytes=10**6):
    return finish_masks(
        predictions(*objects),
        SIZE,
        options or MaskOptions(),
        postprocess or PostprocessOptions(),
        keep_drawables=keep_drawables,
        budget_bytes=budget_bytes,
    )


def summary(finished):
    return [(m.index, m.object_id, m.alternative, m.score, m.area_px) for m in finished.masks]


TWO = [(5, [(0.2, 1), (0.9, 2), (0.5, 3), (0.4, 4)]), (3, [(0.7, 30)])]


def test_one_mask_for_each_object_is_its_best():
    assert summary(finish(TWO)) == [(0, 5, 0, 0.9, 40), (1, 3, 0, 0.7, 600)]


def test_alternatives_come_best_first_and_no_more_than_were_asked_for():
    three = [(0, 5, 0, 0.9, 40), (1, 5, 1, 0.5, 60), (2, 5, 2, 0.4, 80), (3, 3, 0, 0.7, 600)]
    assert summary(finish(TWO, ALTERNATIVES)) == three
    all_of_them = finish(TWO, MaskOptions(return_multiple_masks=True, max_masks=32))
    assert [mask.object_id for mask in all_of_them.masks] == [5, 5, 5, 5, 3]
    ignored = MaskOptions(return_multiple_masks=False, max_masks=32)
    assert len(finish(TWO, ignored).masks) == 2


def test_masks_that_score_too_low_are_left_out_and_the_rest_is_numbered_anew():
    finished = finish(TWO, ALTERNATIVES, PostprocessOptions(min_score=0.5))
    assert summary(finished) == [(0, 5, 0, 0.9, 40), (1, 5, 1, 0.5, 60), (2, 3, 0, 0.7, 600)]
    assert finish(TWO, None, PostprocessOptions(min_score=1)).masks == ()


def test_overlapping_objects_are_left_out_and_ranks_close_up():
    objects = [(1, [(0.6, 20), (0.5, 5)]), (2, [(0.8, 21)])]
    finished = finish(objects, ALTERNATIVES, PostprocessOptions(max_overlap_iou=0.9))
    assert summary(finished) == [(0, 1, 0, 0.5, 100), (1, 2, 0, 0.8, 420)]


def test_masks_are_measured_and_encoded_as_they_are_after_the_changes():
    values = np.full((20, 40), -4, dtype=np.float32)
    values[5:15, 10:30] = 4
    values[0, 0] = 4
    made = ObjectPrediction(1, (MaskCandidate(MaskLogits(values, Box.covering(SIZE)), 0.5),))
    options = PostprocessOptions(min_region_area_px=5)
    [mask] = finish_masks(
        [made], SIZE, MaskOptions(), options, keep_drawables=False, budget_bytes=0
    ).masks
    assert (mask.area_px, mask.box) == (200, Box(10, 5, 30, 15))
    assert isinstance(mask.encoded, EncodedRle)
    assert decode_rle(mask.encoded.counts, SIZE).sum() == 200


def test_what_is_drawn_are_the_masks_that_are_sent():
    finished = finish(TWO, MaskOptions(MaskEncoding.NONE, True), keep_drawables=True)
    assert all(mask.encoded is None for mask in finished.masks)
    for mask, drawable in zip(finished.masks, finished.drawables, strict=True):
        assert (mask.index, mask.object_id) == (drawable.index, drawable.object_id)
        assert (mask.alternative, mask.score) == (drawable.alternative, drawable.score)
        assert mask.area_px == drawable.mask.area_px
    assert finish(TWO).drawables == ()


@pytest.mark.parametrize("keep_drawables", [True, False])
def test_masks_that_are_kept_must_fit_into_the_memory_set_aside(keep_drawables):
    overlaps = PostprocessOptions(max_overlap_iou=1.0)
    postprocess = None if keep_drawables else overlaps
    needed = 20 * 1 + 20 * 4  # two masks of 20 rows, 2 and 30 columns wide
    assert len(finish(TWO, None, postprocess, keep_drawables, needed).masks) == 2
    with pytest.raises(MaskwireError, match="more than 99 bytes") as caught:
        finish(TWO, None, postprocess, keep_drawables, needed - 1)
    assert caught.value.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert len(finish(TWO, budget_bytes=0).masks) == 2
