"""What a text costs: the first question about an image beside further ones, through the service.

All in one run, in turn; no time is ever a pass or a failure. The assertions say only that the
vision encoder ran where it must and nowhere else. The network is the small one of the tests, whose
encoder is small beside its detector: the published one gains more from what is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskwire_client import Client, Point, SegmentationResult, Text
from tests.benchmarks.measuring import Percentiles, measure_in_turn, report
from tests.support.metrics_page import scraped
from tests.support.sam3_scenes import CONCEPTS, draw_scene
from tests.support.server_process import server_process

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

ROUNDS, WARM_UP = 60, 5
SHAPES = "shapes"
FIRST, SAME_TEXT, OTHER_TEXT = "first text on an image", "same text again", "another text"
EIGHT_TEXTS, REFINED, CLICKED = "eight texts", "a text and a point", "a point alone"
ENCODER_RUNS = ("maskwire_stage_seconds_count", "encode", SHAPES)


def test_questions_about_one_image(tmp_path: Path, small_sam3: Path) -> None:
    models = {
        "serve": [{"name": SHAPES, "engine": "sam3", "checkpoint": str(small_sam3)}],
        "device": "cpu",
        "cpu_threads": 1,
    }
    random = np.random.default_rng(11)
    scenes = [draw_scene(random, width=200, height=160).pixels for _ in range(ROUNDS + WARM_UP)]
    with (
        server_process(tmp_path, models=models, jobs={"workers": 0}) as server,
        Client(server.address) as client,
    ):
        answers: dict[str, list[SegmentationResult]] = {}

        def asking(name: str, **prompts: object) -> Callable[[int], object]:
            def ask(number: int) -> object:
                answer = client.segment(scenes[number], **prompts)  # type: ignore[arg-type]
                answers.setdefault(name, []).append(answer)
                return answer

            return ask

        rows = measure_in_turn(
            {
                FIRST: asking(FIRST, texts=["red disc"]),
                SAME_TEXT: asking(SAME_TEXT, texts=["red disc"]),
                OTHER_TEXT: asking(OTHER_TEXT, texts=[Text("blue square", 0.3)]),
                EIGHT_TEXTS: asking(EIGHT_TEXTS, texts=list(CONCEPTS[:8])),
                REFINED: asking(REFINED, texts=[Text("disc", 0.0)], points=[Point(100, 80)]),
                CLICKED: asking(CLICKED, points=[Point(100, 80)]),
            },
            rounds=ROUNDS,
            warm_up=WARM_UP,
        )
        assert scraped(server.metrics_port, *ENCODER_RUNS) == len(scenes)
    assert not any(one.info.embedding_cached for one in answers[FIRST])
    for name in (SAME_TEXT, OTHER_TEXT, EIGHT_TEXTS, REFINED, CLICKED):
        assert all(one.info.embedding_cached for one in answers[name])
    report("Texts on one image, small SAM 3", rows, _notes(rows, answers[FIRST]))


def _notes(rows: dict[str, Percentiles], first: list[SegmentationResult]) -> dict[str, str]:
    encoding = [one.info.timings.encode for one in first[WARM_UP:]]
    taken = [one.total_seconds() for one in encoding if one is not None]
    ratio = rows[FIRST].p50_ms / rows[OTHER_TEXT].p50_ms
    each_ms = (rows[EIGHT_TEXTS].p50_ms - rows[SAME_TEXT].p50_ms) / 7
    return {
        "vision encoder, p50": f"{np.median(taken) * 1000:.2f} ms",
        "first / another text": f"{ratio:.2f}",
        "a text more, of eight": f"{each_ms:.2f} ms",
    }
