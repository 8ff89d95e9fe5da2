"""One object followed through a clip from one click, and how well: J&F as DAVIS has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from maskwire_client.evaluation import boundary_f, iou
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import TrackingEngine, TrackingLimits
from tests.support.clips import Clip, make_clip
from tests.support.cutouts import Bitmap, Picture, cutouts_in

SEEN_FROM = 0.5
"""Presence from which a mask is shown, as the service shows it."""

FRAMES = 48


def labelled_clips(folder: Path) -> Iterator[tuple[str, Clip]]:
    """A clip of each object of labelled photographs that is large enough, with an occlusion.

    An object is taken if it has 2,000 pixels and no more than 40 % of its photograph. It moves over
    the other photographs in turn; everything follows from its number. See `cutouts_in`.
    """
    pictures: dict[str, Picture] = {
        path.parent.name: np.asarray(Image.open(path).convert("RGB"), np.uint8)
        for path in sorted(folder.glob("*/image.*"))
    }
    for number, cutout in enumerate(cutouts_in(folder)):
        others = [name for name in pictures if name != cutout.photograph]
        background = pictures[others[number % len(others)]]
        yield (
            f"{cutout.photograph}, object {number}",
            make_clip(
                1000 + number, FRAMES, occlusion=True, cutouts=[cutout], background=background
            ),
        )


def follow_from_click(engine: TrackingEngine, clip: Clip) -> list[Bitmap]:
    """What is shown of object 1 in each frame after one click in the middle of it in the first."""
    tracker = engine.new_tracker(clip.size, TrackingLimits(max_objects=1, held_frames=0))
    point = clip.click(1)
    clicked = ObjectPrompts(
        object_id=1,
        points=np.array([[point.x, point.y]], np.float32),
        point_labels=np.array([True]),
        box=None,
        mask=None,
    )
    tracker.advance(0, engine.encode(clip.frames[0]))
    (answer,) = tracker.prompt(0, [clicked], multimask=False)
    shown = [answer.best.logits.to_bitmap(clip.size)]
    for number, frame in enumerate(clip.frames[1:], start=1):
        (sighting,) = tracker.advance(number, engine.encode(frame))
        mask = sighting.logits.to_bitmap(clip.size)
        shown.append(mask if sighting.presence >= SEEN_FROM else np.zeros_like(mask))
    tracker.close()
    return shown


def j_and_f(clip: Clip, shown: list[Bitmap]) -> float:
    """The mean of J and F over all frames but the first; 1 where nothing is to be shown or is."""
    scores = [
        (iou(mask, truth[1]) + boundary_f(mask, truth[1])) / 2
        for mask, truth in zip(shown[1:], clip.masks[1:], strict=True)
    ]
    return float(np.mean(scores))
