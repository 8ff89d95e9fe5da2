"""The floors of the embedded default on labelled photographs, by box and by clicks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwire_client.evaluation import find_photographs, first_click, iou
from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.engines.nano import NanoEngineFactory
from tests.support.prompted_engine import ask, measure_box, measure_clicks

LABELLED = Path(__file__).parents[3] / "shared" / "eval"
FLOORS = {"box": 0.68, "click_1": 0.53, "click_5": 0.75}

pytestmark = [
    pytest.mark.robustness,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not LABELLED.is_dir(), reason="no labelled photographs in ../shared/eval to measure on"
    ),
]


@pytest.fixture(scope="module")
def means() -> dict[str, float]:
    """Mean IoU for the tight box, one click (best of three) and five corrective clicks."""
    engine = NanoEngineFactory().load(ModelSpecification("maskwire-nano", "nano", device="cpu"))
    scores: dict[str, list[float]] = {name: [] for name in FLOORS}
    for photograph in find_photographs(LABELLED):
        with Image.open(photograph.image) as picture:
            embedding = engine.encode(np.asarray(picture.convert("RGB")))
        for labelled in photograph.objects:
            truth = labelled.read()
            click = first_click(truth)
            three = ask(engine, embedding, clicks=[(click.x, click.y, 1)], multimask=True)
            size = embedding.image_size
            scores["box"].append(measure_box(engine, embedding, truth))
            scores["click_1"].append(max(iou(one.logits.to_bitmap(size), truth) for one in three))
            scores["click_5"].append(measure_clicks(engine, embedding, truth, 5)[-1])
    engine.close()
    return {name: float(np.mean(values)) for name, values in scores.items()}


@pytest.mark.parametrize("prompt", FLOORS)
def test_photographs_reach_the_floor(means: dict[str, float], prompt: str) -> None:
    assert means[prompt] >= FLOORS[prompt]
