"""Trackers go on where they were when their model's weights made room for another's meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import TrackingEngine, TrackingLimits
from maskwire_server.engines.checkpoints import specify
from maskwire_server.engines.registry import load_engine
from tests.support.sam2_checkpoints import Sam2Files

SIZE = ImageSize(width_px=128, height_px=96)
FRAMES = 5


def frame(number: int) -> np.ndarray:
    """A bright square that moves over dark noise."""
    pixels = np.random.default_rng(number).integers(0, 60, (96, 128, 3), dtype=np.uint8)
    pixels[30:60, 20 + 5 * number : 50 + 5 * number] = 220
    return pixels


def follow(engine: TrackingEngine, *, parked: bool) -> list[tuple[float, bytes]]:
    """Track the square; between any two calls the weights are gone where `parked`."""

    def rest() -> None:
        if parked:
            engine.drop_weights()
            engine.load_weights()

    tracker = engine.new_tracker(SIZE, TrackingLimits(max_objects=4, held_frames=0))
    seen: list[tuple[float, bytes]] = []
    nothing = np.zeros((0, 2), dtype=np.float32)
    for number in range(FRAMES):
        rest()
        embedding = engine.encode(frame(number))
        rest()
        sightings = tracker.advance(number, embedding)
        seen += [(one.presence, one.logits.values.tobytes()) for one in sightings]
        if number == 0:
            box = Box(20.0, 30.0, 50.0, 60.0)
            wanted = ObjectPrompts(1, nothing, np.zeros(0, dtype=np.bool_), box, None)
            rest()
            prompted = tracker.prompt(0, [wanted], multimask=False)
            seen += [(one.presence, one.best.logits.values.tobytes()) for one in prompted]
    tracker.close()
    return seen


@pytest.mark.parametrize("name", ["maskwire-nano", "sam2", "sam3"])
def test_nothing_changes(
    name: str, tmp_path: Path, quick_sam2: Sam2Files, small_sam3: Path
) -> None:
    files: dict[str, dict[str, Any]] = {
        "maskwire-nano": {},
        "sam2": {
            "engine": "sam2",
            "checkpoint": quick_sam2.checkpoint,
            "config": quick_sam2.config,
        },
        "sam3": {"engine": "sam3", "checkpoint": small_sam3},
    }
    engine = load_engine(specify(name, tmp_path, device="cpu", **files[name]))
    assert isinstance(engine, TrackingEngine)
    loaded = follow(engine, parked=False)
    assert len(loaded) == FRAMES
    assert follow(engine, parked=True) == loaded
    engine.close()
