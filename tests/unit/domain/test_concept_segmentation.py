"""Requests with text, from prompts to masks, on an engine whose concepts are colours."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from maskwire_server.domain import concept_segmentation
from maskwire_server.domain.concepts import ConceptPrompt, DetectedInstance
from maskwire_server.domain.engine import ImageEmbedding, ModelDescription
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.geometry import Box, ImageSize, Point
from maskwire_server.domain.image_access import ImageAccess
from maskwire_server.domain.images import ImageLimits
from maskwire_server.domain.masks import MaskEncoding, decode_mask, encode_mask
from maskwire_server.domain.models import ModelRegistry, ServedModel
from maskwire_server.domain.picture_delivery import PictureLimits, PictureMaker
from maskwire_server.domain.postprocessing import PostprocessOptions
from maskwire_server.domain.prompts import (
    AnyPrompt,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    TextPrompt,
)
from maskwire_server.domain.segmentation import (
    Caller,
    InlineImage,
    MaskOptions,
    ScoreKind,
    SegmentedMask,
    SegmentRequest,
    SegmentResult,
)
from maskwire_server.domain.segmentation_service import SegmentationService
from maskwire_server.observability.metrics import Metrics
from tests.support.colour_engine import ColourEngine
from tests.support.concept_engine import COLOURS, ConceptColourEngine

CALLER = Caller("tenant", "request")
SIZE = ImageSize(width_px=200, height_px=120)
LARGE, MIDDLE, SMALL = Box(10, 10, 60, 60), Box(80, 10, 120, 50), Box(140, 10, 160, 30)
GREEN, BLUE = Box(10, 70, 50, 110), Box(80, 70, 110, 100)
OPTIONS = MaskOptions(include_scores=True)


def picture() -> bytes:
    """Three red squares, a green and a blue one on black."""
    pixels = np.zeros((SIZE.height_px, SIZE.width_px, 3), dtype=np.uint8)
    drawn = {LARGE: "red", MIDDLE: "red", SMALL: "red", GREEN: "green", BLUE: "blue"}
    for box, colour in drawn.items():
        rows, columns = slice(int(box.y_min), int(box.y_max)), slice(int(box.x_min), int(box.x_max))
        pixels[rows, columns] = COLOURS[colour]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def request(*contents: AnyPrompt | tuple[AnyPrompt, int], **changes) -> SegmentRequest:
    pairs = (one if isinstance(one, tuple) else (one, None) for one in contents)
    prompts = tuple(
        Prompt(content, object_id, f"prompts[{index}]")
        for index, (content, object_id) in enumerate(pairs)
    )
    return replace(SegmentRequest(InlineImage(picture()), prompts, mask_options=OPTIONS), **changes)


def point_in(box: Box, *, is_foreground: bool = True) -> PointPrompt:
    return PointPrompt(
        Point((box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2), is_foreground
    )


def mask_of(*boxes: Box) -> MaskPrompt:
    bitmap = np.zeros((SIZE.height_px, SIZE.width_px), dtype=np.bool_)
    for box in boxes:
        bitmap[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = True
    return MaskPrompt(encode_mask(bitmap, MaskEncoding.COCO_RLE))


def boxes_of(result: SegmentResult) -> list[Box | None]:
    return [mask.box for mask in result.masks]


def all_of_colour(mask: SegmentedMask) -> int:
    """How many pixels the mask has: what was drawn anew has all regions of a colour."""
    assert mask.encoded is not None
    return int(decode_mask(mask.encoded, SIZE, field="mask").sum())


ALL_RED = 50 * 50 + 40 * 40 + 20 * 20


@pytest.fixture
def words() -> ConceptColourEngine:
    return ConceptColourEngine()


@pytest.fixture
def colour() -> ColourEngine:
    """The default model, which takes no text."""
    return ColourEngine()


@pytest.fixture
def make_service() -> Iterator:
    executors: list[BoundedExecutor] = []

    def make(*engines: ColourEngine) -> SegmentationService:
        metrics = Metrics()
        device, pixels = (BoundedExecutor(name, 1, 8, metrics) for name in ("cpu", "pixels"))
        executors.extend((device, pixels))
        models = [
            ServedModel(engine, device, is_default=index == 0)
            for index, engine in enumerate(engines)
        ]
        images = ImageAccess(
            pixels,
            ImageLimits(),
            metrics,
            embedding_budget_bytes=10**8,
            image_budget_bytes=10**7,
        )
        return SegmentationService(
            ModelRegistry(models),
            images,
            pixels,
            PictureMaker(pixels, None, PictureLimits(10**7, 10**7)),
            metrics,
            max_prompts=64,
            mask_budget_bytes=10**6,
            max_refined_masks=8,
        )

    yield make
    for executor in executors:
        executor.close()


@pytest.fixture
def service(make_service, colour, words) -> SegmentationService:
    return make_service(colour, words)


async def test_every_instance_of_a_text_best_first_with_its_confidence(service, words):
    result = await service.segment(request(TextPrompt("red")), CALLER)
    assert boxes_of(result) == [LARGE, MIDDLE, SMALL]
    assert [mask.object_id for mask in result.masks] == [1, 2, 3]
    assert [mask.score for mask in result.masks] == [0.9, 0.8, 0.7]
    assert {(mask.text, mask.score_kind) for mask in result.masks} == {
        ("red", ScoreKind.CONCEPT_CONFIDENCE)
    }
    assert (result.model, result.further_models) == ("words", ())
    assert words.decoded == [], "nothing is to be drawn anew"


async def test_an_absent_concept_gives_no_mask(service):
    assert (await service.segment(request(TextPrompt("yellow")), CALLER)).masks == ()


async def test_each_text_has_its_own_threshold(service):
    result = await service.segment(
        request(TextPrompt("red", 0.75), TextPrompt("green", 0.95), TextPrompt("blue")), CALLER
    )
    assert boxes_of(result) == [LARGE, MIDDLE, BLUE]


async def test_what_two_texts_name_is_one_object_of_the_more_confident(service):
    result = await service.segment(request(TextPrompt("crimson"), TextPrompt("red")), CALLER)
    assert boxes_of(result) == [LARGE, MIDDLE, SMALL]
    assert {mask.text for mask in result.masks} == {"red"}


async def test_the_number_of_instances_is_bounded_only_where_it_is_asked_for(service):
    several = MaskOptions(return_multiple_masks=True, max_masks=2)
    wanted = request(TextPrompt("red"), TextPrompt("green"), mask_options=several)
    assert boxes_of(await service.segment(wanted, CALLER)) == [LARGE, MIDDLE, GREEN]


async def test_exemplars_add_and_remove(service):
    added = await service.segment(request(TextPrompt("red"), BoxPrompt(GREEN)), CALLER)
    assert set(boxes_of(added)) == {LARGE, MIDDLE, SMALL, GREEN}
    removed = await service.segment(
        request(TextPrompt("red"), BoxPrompt(MIDDLE, is_positive=False)), CALLER
    )
    assert boxes_of(removed) == [LARGE, SMALL]
    without_text = await service.segment(
        request(BoxPrompt(SMALL), BoxPrompt(LARGE, is_positive=False)), CALLER
    )
    assert boxes_of(without_text) == [MIDDLE, SMALL]
    assert {(one.text, one.score_kind) for one in without_text.masks} == {
        ("", ScoreKind.CONCEPT_CONFIDENCE)
    }


async def test_a_negative_box_needs_a_concept(service):
    for contents in (
        [BoxPrompt(LARGE, is_positive=False)],
        [TextPrompt("red"), (BoxPrompt(LARGE, is_positive=False), 7)],
    ):
        with pytest.raises(MaskwireError) as refused:
            await service.segment(request(*contents), CALLER)
        assert refused.value.code is ErrorCode.INVALID_ARGUMENT


async def test_points_draw_one_instance_anew_and_leave_the_others(service, words):
    result = await service.segment(request(TextPrompt("red"), point_in(MIDDLE)), CALLER)
    assert [all_of_colour(mask) for mask in result.masks] == [50 * 50, ALL_RED, 20 * 20]
    assert [mask.score for mask in result.masks] == [0.9, 0.8, 0.7], "confidence stays"
    assert [len(objects) for objects in words.decoded] == [1]


async def test_a_background_point_is_about_the_instance_that_holds_it(service):
    point = point_in(SMALL, is_foreground=False)
    result = await service.segment(request(TextPrompt("red"), point), CALLER)
    # Without a foreground point the engine takes the colour of the mask's first pixel: black.
    changed = [
        mask.object_id
        for mask, box in zip(result.masks, (LARGE, MIDDLE, SMALL), strict=True)
        if all_of_colour(mask) != box.width * box.height
    ]
    assert changed == [3]


async def test_a_point_that_no_instance_holds_is_about_the_nearest(service):
    beside = PointPrompt(Point(SMALL.x_max + 5, SMALL.y_min))
    result = await service.segment(request(TextPrompt("red"), beside), CALLER)
    assert boxes_of(result)[:2] == [LARGE, MIDDLE]
    assert all_of_colour(result.masks[2]) > ALL_RED, "the background, which the point is on"


async def test_a_mask_and_points_refine_one_instance_together(service, words):
    off = point_in(LARGE, is_foreground=False)
    await service.segment(
        request(TextPrompt("red"), mask_of(MIDDLE), point_in(MIDDLE), off), CALLER
    )
    ((anew,),) = words.decoded
    assert isinstance(anew.mask, np.ndarray)
    assert anew.point_labels.tolist() == [True, False]


async def test_logits_of_an_answer_refine_the_instance_that_they_are_of(service):
    options = replace(OPTIONS, include_logits=True)
    first = await service.segment(request(TextPrompt("red"), mask_options=options), CALLER)
    logits = first.masks[2].logits
    assert logits is not None
    again = await service.segment(request(TextPrompt("red"), MaskPrompt(logits)), CALLER)
    both = zip(first.masks, again.masks, strict=True)
    changed = [one.area_px != other.area_px for one, other in both]
    assert changed == [False, False, True]


async def test_plain_objects_stand_beside_what_a_text_found(service):
    result = await service.segment(
        request(TextPrompt("red"), (point_in(GREEN), 2), (BoxPrompt(BLUE), 9)), CALLER
    )
    assert [mask.object_id for mask in result.masks] == [1, 3, 4, 2, 9]
    assert boxes_of(result)[3:] == [GREEN, BLUE]
    kinds = [mask.score_kind for mask in result.masks]
    assert kinds == [ScoreKind.CONCEPT_CONFIDENCE] * 3 + [ScoreKind.PREDICTED_IOU] * 2
    assert [mask.text for mask in result.masks] == ["red", "red", "red", "", ""]


async def test_confidence_decides_what_is_good_enough_and_what_overlaps(service):
    wanted = request(TextPrompt("red"), postprocess=PostprocessOptions(min_score=0.75))
    assert boxes_of(await service.segment(wanted, CALLER)) == [LARGE, MIDDLE]
    # Drawn anew, the third has the pixels of all: it overlaps the first, which scores higher.
    overlapping = request(
        TextPrompt("red"), point_in(SMALL), postprocess=PostprocessOptions(max_overlap_iou=0.5)
    )
    assert boxes_of(await service.segment(overlapping, CALLER)) == [LARGE, MIDDLE]


async def test_a_smaller_copy_is_asked_in_its_own_frame_and_answered_in_the_images(service, words):
    wanted = request(
        TextPrompt("red"),
        BoxPrompt(MIDDLE, is_positive=False),
        point_in(SMALL),
        (point_in(GREEN), 8),
        inference_size_px=100,
    )
    result = await service.segment(wanted, CALLER)
    assert words.asked[0].negative_boxes == (Box(40, 5, 60, 25),)
    assert boxes_of(result)[0] == LARGE
    assert boxes_of(result)[2] == GREEN
    assert result.image.size == SIZE
    box = result.masks[1].box
    assert box is not None
    assert (box.x_min, box.x_max) == (LARGE.x_min, SMALL.x_max), "drawn anew: all that is red"


async def test_a_named_model_that_takes_no_text_draws_what_another_finds(service, colour, words):
    first = await service.segment(request(TextPrompt("red"), model="colour"), CALLER)
    assert [mask.score for mask in first.masks] == [0.9, 0.8, 0.7]
    assert [all_of_colour(mask) for mask in first.masks] == [ALL_RED] * 3
    assert first.model == "words"
    assert [one.name for one in first.further_models] == ["colour"]
    assert words.decoded == []
    assert (words.encoded, colour.encoded) == (1, 1)
    assert not first.embedding_cached
    assert first.timings.encode_s is not None
    again = await service.segment(request(TextPrompt("red"), model="colour"), CALLER)
    assert again.embedding_cached
    assert (words.encoded, colour.encoded) == (1, 1)


async def test_the_encoder_of_the_second_model_counts_too(service, colour):
    await service.segment(request(TextPrompt("red")), CALLER)
    result = await service.segment(request(TextPrompt("red"), model="colour"), CALLER)
    assert colour.encoded == 1
    assert not result.embedding_cached
    assert result.timings.encode_s is not None


async def test_visual_prompts_alone_stay_with_the_default_model(service, words):
    result = await service.segment(request(point_in(LARGE)), CALLER)
    assert result.model == "colour"
    assert result.masks[0].score_kind is ScoreKind.PREDICTED_IOU
    assert words.encoded == 0
    named = await service.segment(request(point_in(LARGE), model="words"), CALLER)
    assert named.model == "words"


@pytest.mark.parametrize("content", [TextPrompt("red"), BoxPrompt(LARGE, is_positive=False)])
async def test_without_a_model_for_text_the_command_that_helps_is_told(
    make_service, colour, content
):
    with pytest.raises(MaskwireError) as refused:
        await make_service(colour).segment(request(content), CALLER)
    assert refused.value.code is ErrorCode.UNSUPPORTED_BY_MODEL
    assert "maskwire models pull sam3" in refused.value.message
    assert "maskwire serve --model maskwire-nano --model sam3" in refused.value.message
    assert colour.encoded == 0


class FewObjects(ConceptColourEngine):
    """Takes two objects at once; finds any number."""

    @property
    def description(self) -> ModelDescription:
        return replace(super().description, max_objects=2)


async def test_more_instances_than_a_model_takes_at_once_are_drawn_in_turn(make_service):
    few = FewObjects("few")
    points = [(point_in(box), number) for number, box in enumerate((LARGE, GREEN, BLUE), start=1)]
    texts = [(TextPrompt(name), number) for number, name in enumerate(COLOURS, start=1)]
    result = await make_service(few).segment(request(*texts, *points), CALLER)
    assert len(result.masks) == 5
    assert [len(objects) for objects in few.decoded] == [2, 1]


class Counting(ConceptColourEngine):
    """Notes how many concepts it is asked for at a time."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.together: list[int] = []

    def detect(
        self, embedding: ImageEmbedding, concepts: Sequence[ConceptPrompt]
    ) -> list[tuple[DetectedInstance, ...]]:
        self.together.append(len(concepts))
        return super().detect(embedding, concepts)


async def test_several_texts_are_asked_together_and_many_in_turn(make_service):
    counting = Counting()
    texts = [
        TextPrompt(name) for name in (*COLOURS, "yellow", "red", "green", "blue", "red", "red")
    ]
    result = await make_service(counting).segment(request(*texts), CALLER)
    assert counting.together == [8, 1]
    assert boxes_of(result) == [LARGE, MIDDLE, SMALL, GREEN, BLUE]


class Waiting(Counting):
    """Answers when it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def detect(
        self, embedding: ImageEmbedding, concepts: Sequence[ConceptPrompt]
    ) -> list[tuple[DetectedInstance, ...]]:
        self.is_asked.set()
        assert self.may_answer.wait(60)
        return super().detect(embedding, concepts)


async def test_of_many_texts_the_rest_is_not_looked_for_once_the_caller_has_gone(make_service):
    waiting = Waiting()
    service = make_service(waiting)
    call = asyncio.create_task(service.segment(request(*[TextPrompt("red")] * 20), CALLER))
    await asyncio.to_thread(waiting.is_asked.wait, 60)
    call.cancel()
    await asyncio.wait([call])
    waiting.may_answer.set()
    result = await service.segment(request(TextPrompt("red")), CALLER)
    assert waiting.together == [8, 1], "eight for the first caller, one for the second"
    assert len(result.masks) == 3


async def test_more_objects_beside_a_text_than_a_model_takes_are_refused(make_service):
    service = make_service(FewObjects("few"))
    beside = [(point_in(GREEN), number) for number in (5, 6, 7)]
    with pytest.raises(MaskwireError, match="more than the limit 2"):
        await service.segment(request(TextPrompt("red"), *beside), CALLER)


async def test_of_very_many_instances_the_best_of_all_texts_are_kept(service, monkeypatch):
    monkeypatch.setattr(concept_segmentation, "_MAX_INSTANCES", 3)
    result = await service.segment(request(TextPrompt("red"), TextPrompt("green")), CALLER)
    assert boxes_of(result) == [LARGE, MIDDLE, GREEN]
