"""Text and exemplars through the API, on a real server whose default model takes neither.

The second model is the small SAM 3 network; the scenes are such as it never saw.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from maskwire.v1 import (
    image_pb2,
    mask_pb2,
    model_pb2,
    model_pb2_grpc,
    prompt_pb2,
    rendering_pb2,
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.rle import decode_rle
from tests.support.hosted_requests import refused, violated_fields
from tests.support.metrics_page import scraped
from tests.support.sam3_questions import QUESTIONS
from tests.support.sam3_scenes import Question, Scene, answers
from tests.support.server_process import ServerProcess, server_process

NANO, SHAPES = "maskwire-nano", "shapes"
EXEMPLARS_ALONE = "visual"
DEADLINE_S = 60.0
SIZE = ImageSize(width_px=200, height_px=160)
ENCODED = ("maskwire_stage_seconds_count", "encode")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, small_sam3: Path) -> Iterator[ServerProcess]:
    models = [
        {"name": NANO},
        {"name": SHAPES, "engine": "sam3", "checkpoint": str(small_sam3)},
    ]
    chosen = {"serve": models, "device": "cpu", "cpu_threads": 1}
    folder = tmp_path_factory.mktemp("text")
    with server_process(folder, models=chosen, jobs={"workers": 0}) as process:
        yield process


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as connected:
        yield connected


def segment(channel: grpc.Channel, request: segmentation_pb2.SegmentImageRequest) -> Any:
    stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    return stub.SegmentImage(request, timeout=DEADLINE_S)


def about(
    scene: Scene, *prompts: prompt_pb2.Prompt, **changes: Any
) -> segmentation_pb2.SegmentImageRequest:
    file = io.BytesIO()
    Image.fromarray(scene.pixels).save(file, "PNG")
    options = mask_pb2.MaskOptions(include_scores=True, include_boxes=True)
    return segmentation_pb2.SegmentImageRequest(
        image=image_pb2.ImageSource(data=file.getvalue()),
        prompts=prompts,
        **{"mask_options": options} | changes,
    )


def text(words: str, threshold: float | None = None, **more: Any) -> prompt_pb2.Prompt:
    content = prompt_pb2.TextPrompt(text=words, score_threshold=threshold)
    return prompt_pb2.Prompt(text=content, **more)


def exemplar(box: Box, *, is_positive: bool = True, **more: Any) -> prompt_pb2.Prompt:
    made = prompt_pb2.Prompt(**more)
    corners = made.box.box
    corners.x_min, corners.y_min, corners.x_max, corners.y_max = (
        box.x_min,
        box.y_min,
        box.x_max,
        box.y_max,
    )
    labels = prompt_pb2.BOX_LABEL_POSITIVE, prompt_pb2.BOX_LABEL_NEGATIVE
    made.box.label = labels[0] if is_positive else labels[1]
    return made


def click(box: Box, *, is_foreground: bool = True, **more: Any) -> prompt_pb2.Prompt:
    made = prompt_pb2.Prompt(**more)
    made.point.point.x = (box.x_min + box.x_max) / 2
    made.point.point.y = (box.y_min + box.y_max) / 2
    labels = prompt_pb2.POINT_LABEL_FOREGROUND, prompt_pb2.POINT_LABEL_BACKGROUND
    made.point.label = labels[0] if is_foreground else labels[1]
    return made


def bitmap(mask: mask_pb2.Mask) -> np.ndarray:
    return decode_rle(mask.mask.coco_rle.counts, SIZE)


def covered(scene: Scene, masks: Sequence[mask_pb2.Mask]) -> list[int | None]:
    return answers(scene, [bitmap(mask) for mask in masks])


def asked(question: Question) -> segmentation_pb2.SegmentImageRequest:
    scene = question.scene()
    # Exemplars alone go with the word that SAM 3 itself knows them by.
    prompts = [text(question.text or EXEMPLARS_ALONE)]
    if question.positive is not None:
        prompts.append(exemplar(scene.shapes[question.positive].box))
    if question.negative is not None:
        prompts.append(exemplar(scene.shapes[question.negative].box, is_positive=False))
    return about(scene, *prompts)


def question_with(words: str, *, negative: bool = False) -> Question:
    """The first question of the table with this text that has an answer."""
    return next(
        one
        for one in QUESTIONS
        if one.text == words and one.expected and (one.negative is not None) == negative
    )


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: f"{one.seed}: {one.text}")
def test_the_table_of_questions(channel: grpc.Channel, question: Question) -> None:
    scene = question.scene()
    response = segment(channel, asked(question))
    found = covered(scene, response.masks)
    assert sorted(found, key=str) == sorted(question.expected)
    assert [one.model for one in response.info.models] == [SHAPES], "the default takes no text"
    for mask in response.masks:
        assert mask.text == (question.text or EXEMPLARS_ALONE)
        assert mask.score_kind == mask_pb2.SCORE_KIND_CONCEPT_CONFIDENCE
        assert 0.5 <= mask.score <= 1
        rows, columns = np.nonzero(bitmap(mask))
        assert mask.area_px == len(rows)
        box = mask.box
        assert (box.x_min, box.x_max) == (columns.min(), columns.max() + 1)
        assert (box.y_min, box.y_max) == (rows.min(), rows.max() + 1)
        assert mask.normalized_box.width == pytest.approx(
            (mask.box.x_max - mask.box.x_min) / SIZE.width_px
        )
    scores = [mask.score for mask in response.masks]
    assert scores == sorted(scores, reverse=True)
    assert [mask.object_id for mask in response.masks] == list(range(1, len(scores) + 1))


def test_several_texts_each_with_a_threshold_and_an_id(channel: grpc.Channel) -> None:
    question = question_with("blue square")
    scene = question.scene()
    both = about(scene, text("yellow triangle", object_id=9), text("blue square"))
    masks = segment(channel, both).masks
    assert [(mask.text, mask.object_id) for mask in masks] == [
        ("yellow triangle", 9),
        ("blue square", 1),
        ("blue square", 2),
        ("blue square", 3),
    ]
    assert covered(scene, masks)[0] == 0
    lowest = min(mask.score for mask in masks[1:])
    above = about(scene, text("yellow triangle"), text("blue square", lowest + 1e-4))
    assert len(segment(channel, above).masks) == len(masks) - 1
    none = about(scene, text("yellow triangle", 1.0), text("blue square", 1.0))
    assert not segment(channel, none).masks


def test_texts_that_name_the_same_things_find_them_once(channel: grpc.Channel) -> None:
    question = question_with("green square")
    scene = question.scene()
    masks = segment(channel, about(scene, text("green square"), text("green shape"))).masks
    assert sorted(covered(scene, masks), key=str) == sorted(question.expected)


def test_the_best_instances_alone(channel: grpc.Channel) -> None:
    question = question_with("green square")
    all_of_them = segment(channel, asked(question)).masks
    options = mask_pb2.MaskOptions(
        include_scores=True, include_boxes=True, return_multiple_masks=True, max_masks=2
    )
    wanted = asked(question)
    wanted.mask_options.CopyFrom(options)
    assert list(segment(channel, wanted).masks) == list(all_of_them)[:2]
    wanted = asked(question)
    wanted.postprocess.min_score = all_of_them[2].score
    assert list(segment(channel, wanted).masks) == list(all_of_them)[:3]


def test_a_negative_exemplar_removes_what_the_text_alone_finds(channel: grpc.Channel) -> None:
    question = question_with("square", negative=True)
    scene = question.scene()
    alone = segment(channel, about(scene, text("square"))).masks
    assert question.negative in covered(scene, alone)
    with_exemplar = segment(channel, asked(question)).masks
    assert question.negative not in covered(scene, with_exemplar)
    assert set(covered(scene, with_exemplar)) == set(question.expected)


def test_what_was_found_is_drawn(channel: grpc.Channel) -> None:
    question = question_with("red square")
    scene = question.scene()
    style = rendering_pb2.Rendering(style=rendering_pb2.RENDERING_STYLE_OVERLAY)
    response = segment(channel, about(scene, text("red square"), renderings=[style]))
    (picture,) = response.pictures
    with Image.open(io.BytesIO(picture.content.data)) as opened:
        drawn = np.asarray(opened.convert("RGB")).astype(int)
    changed = np.abs(drawn - scene.pixels).sum(-1) > 0
    found = np.logical_or.reduce([bitmap(mask) for mask in response.masks])
    assert changed[found].mean() > 0.9
    assert changed[scene.shapes[1].mask & ~found].mean() < 0.5, "the triangle is left alone"


def test_points_refine_one_of_the_instances(channel: grpc.Channel) -> None:
    question = question_with("red square")
    scene = question.scene()
    before = segment(channel, about(scene, text("red square"))).masks
    at = covered(scene, before).index(2)
    after = segment(channel, about(scene, text("red square"), click(scene.shapes[2].box))).masks
    assert len(after) == len(before)
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        assert (one.object_id, one.text) == (other.object_id, other.text)
        assert one.score == other.score
        assert (one.mask == other.mask) == (number != at)
    assert covered(scene, after) == covered(scene, before), "drawn anew, it is the same shape"


def test_an_object_of_its_own_stands_beside_a_text(channel: grpc.Channel) -> None:
    question = question_with("red square")
    scene = question.scene()
    beside = exemplar(scene.shapes[1].box, object_id=7)
    masks = segment(channel, about(scene, text("red square"), beside)).masks
    assert [(mask.text, mask.object_id) for mask in masks] == [
        ("red square", 1),
        ("red square", 2),
        ("", 7),
    ]
    assert covered(scene, masks)[2] == 1, "what the box holds"
    assert masks[2].score_kind == mask_pb2.SCORE_KIND_PREDICTED_IOU


def test_a_named_model_draws_what_the_text_found(channel: grpc.Channel) -> None:
    question = question_with("blue disc")
    scene = question.scene()
    point = click(scene.shapes[1].box)
    response = segment(channel, about(scene, text("blue disc"), point, model=NANO))
    assert [one.model for one in response.info.models] == [SHAPES, NANO]
    alone = segment(channel, about(scene, text("blue disc")))
    assert set(covered(scene, response.masks)) == set(question.expected)
    pairs = list(zip(response.masks, alone.masks, strict=True))
    assert all(one.score == other.score for one, other in pairs)
    assert any(one.mask != other.mask for one, other in pairs)


def test_visual_prompts_alone_need_no_text(channel: grpc.Channel) -> None:
    scene = question_with("blue disc").scene()
    box = exemplar(scene.shapes[1].box)
    response = segment(channel, about(scene, box, click(scene.shapes[0].box), model=SHAPES))
    assert [one.model for one in response.info.models] == [SHAPES]
    assert [mask.score_kind for mask in response.masks] == [mask_pb2.SCORE_KIND_PREDICTED_IOU] * 2
    assert all(mask.text == "" for mask in response.masks)
    assert covered(scene, response.masks) == [1, 0]
    by_default = segment(channel, about(scene, box))
    assert [one.model for one in by_default.info.models] == [NANO]


def test_a_smaller_copy_is_answered_in_the_images_own_frame(channel: grpc.Channel) -> None:
    question = question_with("red square")
    scene = question.scene()
    response = segment(channel, about(scene, text("red square"), inference_size_px=168))
    assert set(covered(scene, response.masks)) == set(question.expected)


def test_the_second_question_runs_no_vision_encoder(
    server: ServerProcess, channel: grpc.Channel
) -> None:
    scene = Question(
        3001, (("red", "disc"), ("blue", "square"), ("green", "triangle")), "", frozenset()
    ).scene()
    before = scraped(server.metrics_port, *ENCODED, SHAPES)
    first = segment(channel, about(scene, text("red disc")))
    assert not first.info.embedding_cached
    assert first.info.timings.HasField("encode")
    assert scraped(server.metrics_port, *ENCODED, SHAPES) == before + 1
    further = (
        [text("blue square")],
        [text("red disc"), text("shape")],
        [exemplar(scene.shapes[0].box), exemplar(scene.shapes[1].box, is_positive=False)],
        [text("red disc"), click(scene.shapes[0].box)],
        [click(scene.shapes[2].box)],
    )
    for prompts in further:
        again = segment(channel, about(scene, *prompts, model=SHAPES))
        assert again.info.embedding_cached
        assert not again.info.timings.HasField("encode")
    assert scraped(server.metrics_port, *ENCODED, SHAPES) == before + 1


@pytest.mark.parametrize(
    ("prompts", "field"),
    [
        ([text("disc", object_id=1), text("square", object_id=1)], "prompts[1].object_id"),
        ([exemplar(Box(5, 5, 50, 50), is_positive=False)], "prompts"),
        (
            [text("disc"), exemplar(Box(5, 5, 50, 50), is_positive=False, object_id=4)],
            "prompts[1].box.label",
        ),
        ([text("disc"), exemplar(Box(500, 5, 550, 50))], "prompts[1].box"),
        ([text("disc", 1.5)], "prompts[0].text.score_threshold"),
        ([text("a" * 1025)], "prompts[0].text.text"),
        ([text(" ")], "prompts[0].text.text"),
        ([text("disc"), text("red disc " * 8)], "prompts[1].text.text"),
        ([text("disc")] * 33, "prompts"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(
    channel: grpc.Channel, prompts: list[prompt_pb2.Prompt], field: str
) -> None:
    scene = QUESTIONS[0].scene()
    error = refused(lambda: segment(channel, about(scene, *prompts)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violated_fields(error) == [field]


def test_a_model_says_that_it_finds_concepts(channel: grpc.Channel) -> None:
    stub: Any = model_pb2_grpc.ModelServiceStub(channel)
    told = stub.GetModel(model_pb2.GetModelRequest(name=SHAPES), timeout=DEADLINE_S).model
    assert model_pb2.CAPABILITY_DETECT_CONCEPT in told.capabilities
