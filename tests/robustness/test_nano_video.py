"""The floor of the embedded default in video, on objects cut from labelled photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.engines.nano import NanoEngineFactory
from tests.support.tracked_clips import follow_from_click, j_and_f, labelled_clips

LABELLED = Path(__file__).parents[3] / "shared" / "eval"
FLOOR = 0.70
FEWEST_CLIPS = 20


@pytest.mark.robustness
@pytest.mark.skipif(
    not LABELLED.is_dir(), reason="no labelled photographs in ../shared/eval to cut objects from"
)
def test_one_click_follows_an_object_through_an_occlusion() -> None:
    """One click in the middle of the object, its one best answer, 48 frames, hidden in between."""
    engine = NanoEngineFactory().load(ModelSpecification("maskwire-nano", "nano", device="cpu"))
    scores = {}
    for name, clip in labelled_clips(LABELLED):
        assert clip.hidden_frames(1), f"{name} is never hidden"
        scores[name] = j_and_f(clip, follow_from_click(engine, clip))
    engine.close()
    assert len(scores) >= FEWEST_CLIPS
    listed = "\n".join(f"{score:.3f} {name}" for name, score in scores.items())
    assert np.mean(list(scores.values())) >= FLOOR, listed
