"""What the small SAM 3 network finds, judged by meaning, and what it costs to ask again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from maskwire_server.domain.concepts import ConceptPrompt
from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.prompts import ObjectPrompts, PromptKind
from maskwire_server.engines.sam3 import Sam3Engine, Sam3EngineFactory
from tests.support.sam3_questions import QUESTIONS
from tests.support.sam3_scenes import Question, answers, draw_scene

SIZE = ImageSize(width_px=200, height_px=160)
ROUNDING = 1e-5
KINDS = (("red", "disc"), ("blue", "square"), ("green", "triangle"))


@pytest.fixture
def runs(engine: Sam3Engine) -> Iterator[list[object]]:
    """Note every run of the vision encoder."""
    calls: list[object] = []
    backbone = engine._network.detector.vision_encoder.backbone
    hook = backbone.register_forward_hook(lambda *call: calls.append(call))
    yield calls
    hook.remove()


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_the_table_of_questions(engine: Sam3Engine, question: Question):
    scene = question.scene()
    positive = () if question.positive is None else (scene.shapes[question.positive].box,)
    negative = () if question.negative is None else (scene.shapes[question.negative].box,)
    asked = ConceptPrompt(question.text, positive, negative)
    (found,) = engine.detect(engine.encode(scene.pixels), [asked])
    masks = [instance.logits.to_bitmap(SIZE) for instance in found]
    covered = answers(scene, masks)
    assert len(covered) == len(question.expected), "one instance for each"
    assert set(covered) == question.expected


def test_an_image_is_looked_at_once(engine: Sam3Engine, runs: list[object]):
    scene = draw_scene(np.random.default_rng(4), width=200, height=160, kinds=KINDS)
    embedding = engine.encode(scene.pixels)
    assert len(runs) == 1, "once for both heads"
    engine.detect(embedding, [ConceptPrompt("red disc"), ConceptPrompt("blue square")])
    engine.detect(embedding, [ConceptPrompt("", (scene.shapes[0].box,))])
    engine.decode(embedding, [clicked(100.0, 80.0)], multimask=True)
    assert len(runs) == 1


def test_instances_come_best_first_and_inside_the_image(engine: Sam3Engine):
    scene = draw_scene(np.random.default_rng(4), width=200, height=160, kinds=KINDS)
    everything = ConceptPrompt("red shape", score_threshold=0.0)
    (found,) = engine.detect(engine.encode(scene.pixels), [everything])
    scores = [instance.score for instance in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in scores)
    for instance in found:
        assert 0 <= instance.box.x_min <= instance.box.x_max <= SIZE.width_px
        assert 0 <= instance.box.y_min <= instance.box.y_max <= SIZE.height_px


def test_concepts_do_not_change_each_other(engine: Sam3Engine):
    scene = draw_scene(np.random.default_rng(4), width=200, height=160, kinds=KINDS)
    embedding = engine.encode(scene.pixels)
    asked = [
        ConceptPrompt("red disc", score_threshold=0.0),
        ConceptPrompt("blue square", score_threshold=0.0),
        ConceptPrompt("square", (scene.shapes[0].box,), score_threshold=0.0),
        ConceptPrompt("triangle", score_threshold=0.0),
        ConceptPrompt("green shape", (), (scene.shapes[2].box,), score_threshold=0.0),
    ]
    together = engine.detect(embedding, asked)
    for concept, found in zip(asked, together, strict=True):
        (alone,) = engine.detect(embedding, [concept])
        assert len(found) == len(alone)
        for one, other in zip(found, alone, strict=True):
            assert one.score == pytest.approx(other.score, abs=ROUNDING)
            assert astuple(one.box) == pytest.approx(
                astuple(other.box), abs=SIZE.width_px * ROUNDING
            )
            np.testing.assert_allclose(one.logits.values, other.logits.values, atol=1e-4)


def test_each_concept_has_its_own_threshold(engine: Sam3Engine):
    kinds = (*KINDS[:2], KINDS[0], KINDS[0])
    scene = draw_scene(np.random.default_rng(4), width=200, height=160, kinds=kinds)
    assert len(scene.shapes) == len(kinds)
    embedding = engine.encode(scene.pixels)
    every, none = engine.detect(
        embedding,
        [
            ConceptPrompt("red disc", score_threshold=0.0),
            ConceptPrompt("red disc", score_threshold=1.0),
        ],
    )
    assert len(every) == engine._network.detector.config.detr_decoder_config.num_queries
    assert none == ()
    first, second, third, *others = (instance.score for instance in every)
    assert first > second > third > 0.5 > max(others)
    some, by_default = engine.detect(
        embedding,
        [ConceptPrompt("red disc", score_threshold=second), ConceptPrompt("red disc")],
    )
    assert len(some) == 2, "an instance at the threshold is one"
    assert len(by_default) == 3


def test_a_concept_that_cannot_be_read_is_refused(engine: Sam3Engine):
    embedding = engine.encode(np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(MaskwireError) as caught:
        engine.detect(embedding, [ConceptPrompt("a long description of what might be found")])
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_bfloat16_finds_what_float32_finds(small_sam3: Path, engine: Sam3Engine):
    half = Sam3EngineFactory().load(
        ModelSpecification("own", "sam3", small_sam3, device="cpu", precision="bf16")
    )
    scene = draw_scene(np.random.default_rng(4), width=200, height=160, kinds=KINDS)
    asked = [ConceptPrompt("blue shape", (scene.shapes[0].box,), score_threshold=0.0)]
    ((first, *_),) = half.detect(half.encode(scene.pixels), asked)
    ((same, *_),) = engine.detect(engine.encode(scene.pixels), asked)
    assert first.score == pytest.approx(same.score, abs=0.05)
    (prediction,) = half.decode(half.encode(scene.pixels), [clicked(100, 80)], multimask=False)
    assert prediction.candidates[0].logits.values.dtype == np.float32
    half.close()


def test_the_engine_says_that_it_takes_every_kind_of_prompt(engine: Sam3Engine):
    assert engine.description.prompt_kinds == frozenset(PromptKind)


def clicked(x: float, y: float) -> ObjectPrompts:
    return ObjectPrompts(1, np.array([[x, y]], np.float32), np.array([True]), None, None)
