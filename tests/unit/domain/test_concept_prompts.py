"""What a request with text means: concepts, exemplars, refinements, objects beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskwire_server.domain.concept_prompts import (
    FoundInstance,
    as_prompts,
    asks_for_concepts,
    number_instances,
    read_concepts,
    refinements,
)
from maskwire_server.domain.concepts import DetectedInstance
from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.file_decoder import InProcessDecoder
from maskwire_server.domain.geometry import Box, ImageSize, Point
from maskwire_server.domain.grouping import group_prompts
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.masks import MaskEncoding, encode_mask
from maskwire_server.domain.prompts import (
    AnyPrompt,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    TextPrompt,
)

SIZE = ImageSize(80, 60)
BOX = Box(10, 10, 30, 30)


def prompts(*contents: AnyPrompt | tuple[AnyPrompt, int]) -> list[Prompt]:
    pairs = (one if isinstance(one, tuple) else (one, None) for one in contents)
    return [
        Prompt(content, object_id, f"prompts[{index}]")
        for index, (content, object_id) in enumerate(pairs)
    ]


def instance(box: Box, score: float) -> DetectedInstance:
    """An instance that fills a box."""
    values = np.full((SIZE.height_px, SIZE.width_px), -5.0, dtype=np.float32)
    values[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = 5.0
    return DetectedInstance(MaskLogits(values, Box.covering(SIZE)), box, score)


LEFT, RIGHT = Box(2, 5, 22, 45), Box(50, 5, 72, 45)


def test_a_text_or_a_negative_box_asks_for_concepts() -> None:
    assert asks_for_concepts(prompts(TextPrompt("wheel")))
    assert asks_for_concepts(prompts(BoxPrompt(BOX), BoxPrompt(BOX, is_positive=False)))
    assert not asks_for_concepts(prompts(BoxPrompt(BOX), PointPrompt(Point(1, 1))))


def test_boxes_are_exemplars_of_the_text_of_their_id_or_of_every_text() -> None:
    shared, own = Box(0, 0, 9, 9), Box(5, 5, 20, 20)
    read = read_concepts(
        prompts(
            (TextPrompt("cat", 0.3), 4),
            TextPrompt("dog"),
            BoxPrompt(shared),
            (BoxPrompt(own, is_positive=False), 4),
        ),
        SIZE,
    )
    cat, dog = (one.prompt for one in read.concepts)
    assert (cat.text, cat.score_threshold, cat.positive_boxes, cat.negative_boxes) == (
        "cat",
        0.3,
        (shared,),
        (own,),
    )
    assert (dog.text, dog.score_threshold, dog.positive_boxes, dog.negative_boxes) == (
        "dog",
        None,
        (shared,),
        (),
    )
    assert [one.object_id for one in read.concepts] == [4, None]


def test_exemplars_without_a_text_are_one_concept() -> None:
    read = read_concepts(
        prompts(BoxPrompt(BOX), BoxPrompt(Box(-5, 0, 5, 5), is_positive=False)), SIZE
    )
    (concept,) = read.concepts
    assert (concept.prompt.text, concept.prompt.positive_boxes) == ("", (BOX,))
    assert concept.prompt.negative_boxes == (Box(0, 0, 5, 5),)


@pytest.mark.parametrize(
    ("contents", "field"),
    [
        ([BoxPrompt(BOX, is_positive=False)], "prompts"),
        ([TextPrompt("a"), BoxPrompt(Box(90, 0, 99, 9))], "prompts[1].box"),
        ([(TextPrompt("a"), 2), (TextPrompt("b"), 2)], "prompts[1].object_id"),
        ([TextPrompt("a"), (BoxPrompt(BOX, is_positive=False), 9)], "prompts[1].box.label"),
        ([TextPrompt("a")] * 33, "prompts"),
        ([TextPrompt("a"), TextPrompt(" \t")], "prompts[1].text.text"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(
    contents: list[AnyPrompt | tuple[AnyPrompt, int]], field: str
) -> None:
    with pytest.raises(MaskwireError) as refused:
        read_concepts(prompts(*contents), SIZE)
    assert refused.value.violations[0].field == field


def test_points_and_masks_refine_where_they_belong_to_a_text_and_are_objects_elsewhere() -> None:
    read = read_concepts(
        prompts(
            (TextPrompt("cat"), 4),
            PointPrompt(Point(1, 1)),
            (PointPrompt(Point(2, 2)), 4),
            (PointPrompt(Point(3, 3)), 7),
            (BoxPrompt(BOX), 7),
        ),
        SIZE,
    )
    assert [one.field for one in read.refining] == ["prompts[1]", "prompts[2]"]
    assert [one.field for one in read.objects] == ["prompts[3]", "prompts[4]"]


def test_instances_are_numbered_around_the_ids_of_the_request() -> None:
    read = read_concepts(
        prompts((TextPrompt("cat"), 2), TextPrompt("dog"), (PointPrompt(Point(1, 1)), 3)), SIZE
    )
    found = number_instances(
        [[instance(LEFT, 0.9), instance(RIGHT, 0.8)], [instance(Box(25, 5, 45, 45), 0.7)]],
        read,
        first_free_id=1,
        most=None,
    )
    assert [(one.concept, one.object_id) for one in found] == [(0, 2), (0, 1), (1, 4)]


def test_what_two_texts_found_counts_once_and_what_one_found_twice_stays() -> None:
    read = read_concepts(prompts(TextPrompt("truck"), TextPrompt("vehicle")), SIZE)
    nearly = Box(LEFT.x_min, LEFT.y_min, LEFT.x_max + 2, LEFT.y_max)
    found = number_instances(
        [[instance(LEFT, 0.6)], [instance(nearly, 0.9), instance(RIGHT, 0.5)]],
        read,
        first_free_id=1,
        most=None,
    )
    assert [(one.concept, one.instance.score) for one in found] == [(1, 0.9), (1, 0.5)]
    twice = number_instances(
        [[instance(LEFT, 0.6), instance(nearly, 0.5)], [instance(RIGHT, 0.4)]],
        read,
        first_free_id=1,
        most=None,
    )
    assert [(one.concept, one.instance.score) for one in twice] == [(0, 0.6), (0, 0.5), (1, 0.4)]


def test_at_most_so_many_of_each_concept_the_best_first() -> None:
    read = read_concepts(prompts(TextPrompt("cat")), SIZE)
    found = number_instances(
        [[instance(LEFT, 0.4), instance(RIGHT, 0.8)]], read, first_free_id=1, most=1
    )
    assert [one.instance.score for one in found] == [0.8]


def found_pair() -> tuple[FoundInstance, FoundInstance]:
    return FoundInstance(instance(LEFT, 0.9), 0, 1), FoundInstance(instance(RIGHT, 0.5), 1, 2)


def test_points_refine_the_instance_that_holds_most_of_them() -> None:
    read = read_concepts(
        prompts(
            TextPrompt("a"),
            TextPrompt("b"),
            PointPrompt(Point(60, 20)),
            PointPrompt(Point(10, 20), is_foreground=False),
        ),
        SIZE,
    )
    grouped = group_prompts(read.refining, SIZE, InProcessDecoder(), first_free_id=1 << 31)
    (anew,) = refinements(found_pair(), read, grouped, SIZE)
    assert anew.object_id == 2
    assert anew.points.tolist() == [[60, 20], [10, 20]]
    assert isinstance(anew.mask, MaskLogits)


def test_a_mask_refines_the_instance_that_it_overlaps_most_and_replaces_its_mask() -> None:
    bitmap = np.zeros((SIZE.height_px, SIZE.width_px), dtype=np.bool_)
    bitmap[10:40, 55:75] = True
    encoded = encode_mask(bitmap, MaskEncoding.COCO_RLE)
    read = read_concepts(prompts(TextPrompt("a"), TextPrompt("b"), MaskPrompt(encoded)), SIZE)
    grouped = group_prompts(read.refining, SIZE, InProcessDecoder(), first_free_id=1 << 31)
    (anew,) = refinements(found_pair(), read, grouped, SIZE)
    assert anew.object_id == 2
    assert isinstance(anew.mask, np.ndarray)
    assert np.array_equal(anew.mask, bitmap)


BESIDE, NOTHING = Box(44, 10, 49, 40), Box(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("drawn", "clicked"), [(BESIDE, None), (BESIDE, Point(48, 20)), (NOTHING, Point(48, 20))]
)
def test_a_mask_that_overlaps_none_refines_the_nearest(drawn: Box, clicked: Point | None) -> None:
    bitmap = np.zeros((SIZE.height_px, SIZE.width_px), dtype=np.bool_)
    bitmap[int(drawn.y_min) : int(drawn.y_max), int(drawn.x_min) : int(drawn.x_max)] = True
    encoded = encode_mask(bitmap, MaskEncoding.COCO_RLE)
    points = [] if clicked is None else [(PointPrompt(clicked), 5)]
    read = read_concepts(prompts((TextPrompt("a"), 5), (MaskPrompt(encoded), 5), *points), SIZE)
    grouped = group_prompts(read.refining, SIZE, InProcessDecoder(), first_free_id=1 << 31)
    pair = [replace(one, concept=0) for one in found_pair()]
    (anew,) = refinements(pair, read, grouped, SIZE)
    assert anew.object_id == 2, "not the one of the highest score, far off"


def test_logits_that_show_nothing_in_the_image_refine_the_most_confident() -> None:
    values = np.full((10, 20), -5.0, dtype=np.float32)
    values[:, :5] = 5.0
    beyond = MaskLogits(values, Box(-SIZE.width_px, 0.0, SIZE.width_px, SIZE.height_px))
    read = read_concepts(prompts(TextPrompt("a"), TextPrompt("b"), MaskPrompt(beyond)), SIZE)
    grouped = group_prompts(read.refining, SIZE, InProcessDecoder(), first_free_id=1 << 31)
    (anew,) = refinements(found_pair(), read, grouped, SIZE)
    assert anew.object_id == 1


def test_points_with_the_id_of_a_text_refine_its_instances_only() -> None:
    read = read_concepts(
        prompts((TextPrompt("a"), 1), TextPrompt("b"), (PointPrompt(Point(60, 20)), 1)), SIZE
    )
    grouped = group_prompts(read.refining, SIZE, InProcessDecoder(), first_free_id=1 << 31)
    (anew,) = refinements(found_pair(), read, grouped, SIZE)
    assert anew.object_id == 1
    nothing_found = list(refinements([found_pair()[1]], read, grouped, SIZE))
    assert nothing_found == []


def test_an_instance_is_prompts_for_another_model() -> None:
    one = as_prompts(found_pair()[0])
    assert (one.object_id, one.box, len(one.points)) == (1, LEFT, 0)
    assert isinstance(one.mask, MaskLogits)
