"""How prompts become objects: the contract's rules on ids, clipping and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.file_decoder import InProcessDecoder
from maskwire_server.domain.geometry import Box, ImageSize, Point
from maskwire_server.domain.grouping import group_prompts, prompt_kinds
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.masks import MaskEncoding, encode_mask
from maskwire_server.domain.prompts import (
    AnyPrompt,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    PromptKind,
    TextPrompt,
)

SIZE = ImageSize(width_px=40, height_px=30)
DECODER = InProcessDecoder()


def _prompts(*contents: AnyPrompt | tuple[AnyPrompt, int]) -> list[Prompt]:
    prompts = []
    for index, item in enumerate(contents):
        content, object_id = item if isinstance(item, tuple) else (item, None)
        prompts.append(Prompt(content, object_id, f"prompts[{index}]"))
    return prompts


def _point(x: float, y: float, *, is_foreground: bool = True) -> PointPrompt:
    return PointPrompt(Point(x, y), is_foreground)


def _box(*corners: float) -> BoxPrompt:
    return BoxPrompt(Box(*corners))


def test_points_without_id_are_one_object_and_boxes_one_each() -> None:
    objects = group_prompts(
        _prompts(
            _point(1, 1), _box(0, 0, 5, 5), _point(2, 2, is_foreground=False), _box(1, 1, 9, 9)
        ),
        SIZE,
        DECODER,
    )
    assert [one.object_id for one in objects] == [1, 2, 3]
    np.testing.assert_array_equal(objects[0].points, [[1, 1], [2, 2]])
    np.testing.assert_array_equal(objects[0].point_labels, [True, False])
    assert objects[0].points.dtype == np.float32
    assert objects[1].box == Box(0, 0, 5, 5)
    assert objects[1].points.shape == (0, 2)
    assert objects[2].box == Box(1, 1, 9, 9)


def test_prompts_with_one_id_refine_one_object_and_assigned_ids_avoid_it() -> None:
    objects = group_prompts(
        _prompts(_box(0, 0, 5, 5), (_point(3, 3), 1), (_box(2, 2, 8, 8), 1), _point(9, 9)),
        SIZE,
        DECODER,
    )
    assert [one.object_id for one in objects] == [2, 1, 3]
    assert objects[1].box == Box(2, 2, 8, 8)
    np.testing.assert_array_equal(objects[1].points, [[3, 3]])


def test_box_is_clipped_to_the_image() -> None:
    (only,) = group_prompts(_prompts(_box(-5, -5, 100, 10)), SIZE, DECODER)
    assert only.box == Box(0, 0, 40, 10)


def test_mask_is_decoded_and_logits_pass_through() -> None:
    bitmap = np.zeros((30, 40), dtype=np.bool_)
    bitmap[3:9, 4:20] = True
    logits = MaskLogits(np.ones((4, 4), dtype=np.float32), Box.covering(SIZE))
    first, second = group_prompts(
        _prompts(MaskPrompt(encode_mask(bitmap, MaskEncoding.COCO_RLE)), MaskPrompt(logits)),
        SIZE,
        DECODER,
    )
    np.testing.assert_array_equal(first.mask, bitmap)
    assert second.mask is logits


@pytest.mark.parametrize(
    ("contents", "field"),
    [
        ([_point(40, 10)], "prompts[0].point.point"),
        ([_point(10, -0.5)], "prompts[0].point.point"),
        ([_point(1, 1), _box(50, 0, 60, 10)], "prompts[1].box"),
        ([(_box(0, 0, 5, 5), 7), (_box(1, 1, 5, 5), 7)], "prompts[1].box"),
        (
            [MaskPrompt(MaskLogits(np.full((2, 2), np.nan, dtype=np.float32), Box(0, 0, 40, 30)))],
            "prompts[0].mask.logits.values",
        ),
        (
            [MaskPrompt(MaskLogits(np.ones((2, 2), dtype=np.float32), Box(50, 0, 60, 30)))],
            "prompts[0].mask.logits.window",
        ),
        (
            [MaskPrompt(MaskLogits(np.ones((2, 2), dtype=np.float32), Box(0, 0, 0.5, 30)))],
            "prompts[0].mask.logits.window",
        ),
        (
            [MaskPrompt(MaskLogits(np.ones((2, 2), dtype=np.float32), Box(0, 0, 1e30, 30)))],
            "prompts[0].mask.logits.window",
        ),
        (
            [MaskPrompt(encode_mask(np.zeros((30, 40), dtype=np.bool_), MaskEncoding.COCO_RLE))],
            "prompts[0].mask",
        ),
        (
            [MaskPrompt(MaskLogits(np.full((2, 2), -1, dtype=np.float32), Box(0, 0, 40, 30)))],
            "prompts[0].mask",
        ),
        (
            [MaskPrompt(encode_mask(np.ones((30, 41), dtype=np.bool_), MaskEncoding.COCO_RLE))],
            "prompts[0].mask.encoded",
        ),
    ],
)
def test_what_breaks_a_rule_names_its_field(
    contents: list[AnyPrompt | tuple[AnyPrompt, int]], field: str
) -> None:
    with pytest.raises(MaskwireError) as refusal:
        group_prompts(_prompts(*contents), SIZE, DECODER)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    assert refusal.value.violations[0].field.startswith(field)


def test_an_empty_mask_may_go_with_a_click() -> None:
    empty = MaskPrompt(encode_mask(np.zeros((30, 40), dtype=np.bool_), MaskEncoding.COCO_RLE))
    (only,) = group_prompts(_prompts((empty, 1), (_point(3, 3), 1)), SIZE, DECODER)
    assert only.mask is not None
    assert len(only.points) == 1


def test_kinds_tell_negative_boxes_and_text() -> None:
    negative = BoxPrompt(Box(0, 0, 5, 5), is_positive=False)
    kinds = prompt_kinds(_prompts(_point(1, 1), negative, TextPrompt("dog")))
    assert kinds == {PromptKind.POINT, PromptKind.NEGATIVE_BOX, PromptKind.TEXT}
