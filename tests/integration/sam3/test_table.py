"""The small SAM 3 network judged by meaning: questions drawn by chance, through the API.

How they are drawn, and how many must be answered rightly, was fixed before any network was asked
(`tests/support/sam3_drawn_questions.py`). An answer is right where every instance that is wanted is
found once, with an IoU above a half, and nothing else is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from maskwire.v1 import image_pb2, prompt_pb2, segmentation_pb2, segmentation_pb2_grpc
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.rle import decode_rle
from tests.support.sam3_drawn_questions import (
    EACH,
    KINDS_OF_QUESTIONS,
    LEAST_SHARE_OF_A_KIND,
    LEAST_SHARE_RIGHT,
    drawn_questions,
)
from tests.support.sam3_scenes import Question, answers
from tests.support.server_process import server_process

SHAPES = "shapes"
EXEMPLARS_ALONE = "visual"
DEADLINE_S = 60.0
SIZE = ImageSize(width_px=200, height_px=160)


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory, small_sam3: Path) -> Iterator[Any]:
    models = [{"name": SHAPES, "engine": "sam3", "checkpoint": str(small_sam3)}]
    chosen = {"serve": models, "device": "cpu", "cpu_threads": 1}
    folder = tmp_path_factory.mktemp("table")
    with (
        server_process(folder, models=chosen, jobs={"workers": 0}) as process,
        grpc.insecure_channel(process.address) as channel,
    ):
        yield segmentation_pb2_grpc.SegmentationServiceStub(channel)


@pytest.fixture(scope="module")
def wrong(stub: Any) -> dict[str, list[str]]:
    """What was answered wrongly, of each kind, in words."""
    return {
        kind: [said for one in drawn_questions(kind) if (said := mistake(stub, one))]
        for kind in KINDS_OF_QUESTIONS
    }


def mistake(stub: Any, question: Question) -> str:
    """Ask a question; say what was wrong, and nothing if all was right."""
    scene = question.scene()
    file = io.BytesIO()
    Image.fromarray(scene.pixels).save(file, "PNG")
    # Exemplars alone go with the word that SAM 3 itself knows them by.
    text = prompt_pb2.TextPrompt(text=question.text or EXEMPLARS_ALONE)
    prompts = [prompt_pb2.Prompt(text=text)]
    for shown, label in (
        (question.positive, prompt_pb2.BOX_LABEL_POSITIVE),
        (question.negative, prompt_pb2.BOX_LABEL_NEGATIVE),
    ):
        if shown is not None:
            prompts.append(exemplar(scene.shapes[shown].box, label))
    request = segmentation_pb2.SegmentImageRequest(
        image=image_pb2.ImageSource(data=file.getvalue()), prompts=prompts
    )
    response = stub.SegmentImage(request, timeout=DEADLINE_S)
    masks = [decode_rle(mask.mask.coco_rle.counts, SIZE) for mask in response.masks]
    found = sorted(answers(scene, masks), key=str)
    if found == sorted(question.expected):
        return ""
    return f"{question.text!r} of {question.kinds}, seed {question.seed}: found {found}"


def exemplar(box: Box, label: prompt_pb2.BoxLabel.ValueType) -> prompt_pb2.Prompt:
    made = prompt_pb2.Prompt()
    corners = made.box.box
    corners.x_min, corners.y_min = box.x_min, box.y_min
    corners.x_max, corners.y_max = box.x_max, box.y_max
    made.box.label = label
    return made


@pytest.mark.parametrize("kind", KINDS_OF_QUESTIONS)
def test_questions_of_a_kind_are_answered(wrong: dict[str, list[str]], kind: str) -> None:
    questions = drawn_questions(kind)
    assert len(questions) == len({(one.seed, one.text) for one in questions}) == EACH
    print(f"{kind}: {EACH - len(wrong[kind])} of {EACH} right", *wrong[kind], sep="\n")
    assert len(wrong[kind]) <= EACH * (1 - LEAST_SHARE_OF_A_KIND)


def test_the_whole_table_is_answered(wrong: dict[str, list[str]]) -> None:
    count = EACH * len(KINDS_OF_QUESTIONS)
    mistakes = [said for of_a_kind in wrong.values() for said in of_a_kind]
    assert len(mistakes) <= count * (1 - LEAST_SHARE_RIGHT), "\n".join(mistakes)


def test_the_kinds_are_what_they_are_called() -> None:
    counts = {
        kind: [len(one.expected) for one in drawn_questions(kind)] for kind in KINDS_OF_QUESTIONS
    }
    assert set(counts["there once"]) == {1}
    assert min(counts["there several times"]) == 2
    assert set(counts["not there"]) == {0}
    assert min(counts["exemplar alone"]) == 1
    assert all(one.negative is not None for one in drawn_questions("negative exemplar"))
    scenes = [one for kind in KINDS_OF_QUESTIONS for one in drawn_questions(kind)]
    distractors = [len(one.kinds) - len(one.expected) for one in scenes]
    assert np.mean([count > 0 for count in distractors]) > 0.5, (
        "most scenes show something else too"
    )
