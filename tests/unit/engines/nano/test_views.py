"""Which windows prompts lead to, whatever the prompts are."""

from __future__ import annotations

import numpy as np
import pytest

from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.nano import views

IMAGE = ImageSize(width_px=640, height_px=480)
SIZE = 32


def prompts(mask: MaskLogits, *points: tuple[float, float]) -> ObjectPrompts:
    return ObjectPrompts(
        object_id=1,
        points=np.array(points, np.float32).reshape(-1, 2),
        point_labels=np.ones(len(points), np.bool_),
        box=None,
        mask=mask,
    )


@pytest.mark.parametrize("points", [(), ((320.0, 240.0),)])
@pytest.mark.parametrize(
    "window",
    [
        Box(-30_000, -30_000, 30_000, 30_000),
        Box(-1000, -1000, 700, 500),
        Box(600, 400, 60_000, 900),
    ],
)
def test_logits_far_beyond_the_image_lead_to_windows_of_its_size(
    window: Box, points: tuple[tuple[float, float], ...]
) -> None:
    everything = MaskLogits(np.full((4, 4), 5, np.float32), window)
    for view in views.first_views(prompts(everything, *points), IMAGE, SIZE):
        assert view.window.side <= views.CORRECTION_MARGIN * IMAGE.width_px


def test_logits_that_show_nothing_inside_the_image_are_looked_at_whole() -> None:
    values = np.full((2, 2), -5, np.float32)
    values[0, 0] = 5  # above and left of the image
    mask = MaskLogits(values, Box(-100, -100, 100, 100))
    (view,) = views.first_views(prompts(mask), IMAGE, SIZE)
    assert IMAGE.width_px <= view.window.side <= views.MARGIN * IMAGE.width_px
