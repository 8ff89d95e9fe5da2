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


def corrected(*clicks: tuple[float, float, bool], box: Box | None = None) -> ObjectPrompts:
    """Clicks that correct a mask of the whole image."""
    return ObjectPrompts(
        object_id=1,
        points=np.array([click[:2] for click in clicks], np.float32).reshape(-1, 2),
        point_labels=np.array([click[2] for click in clicks], np.bool_),
        box=box,
        mask=MaskLogits(np.full((4, 4), 5, np.float32), Box.covering(IMAGE)),
    )


def test_a_fresh_view_is_as_wide_as_the_nearest_background_click_lets_it_be() -> None:
    clicks = ((300.0, 200.0, True), (310.0, 200.0, True), (305.0, 230.0, False), (9.0, 9.0, False))
    view = views.fresh_view(corrected(*clicks), IMAGE, SIZE)
    assert view is not None
    assert view.window.side == views.FRESH_MARGIN * 30
    assert view.window.left + view.window.side / 2 == 305
    assert view.window.top + view.window.side / 2 == 200
    assert (view.previous == -1).all()


@pytest.mark.parametrize(
    "without",
    [
        corrected((300, 200, True)),
        corrected((300, 200, False)),
        corrected(),
        corrected((300, 200, True), (9, 9, False), box=Box(1, 1, 50, 50)),
        ObjectPrompts(
            1, np.array([[9, 9], [5, 5]], np.float32), np.array([True, False]), None, None
        ),
    ],
)
def test_there_is_no_fresh_view_where_nothing_says_how_wide(without: ObjectPrompts) -> None:
    assert views.fresh_view(without, IMAGE, SIZE) is None


def test_agreement_counts_clicks_on_their_side() -> None:
    values = np.full((4, 4), -1, np.float32)
    values[1, 2] = 1
    answer = MaskLogits(values, Box(100, 100, 140, 140))
    inside, beside, beyond = (125.0, 115.0), (115.0, 115.0), (500.0, 300.0)
    assert views.agreement(corrected((*inside, True), (*beside, False)), answer) == 1
    assert views.agreement(corrected((*inside, False), (*beside, False)), answer) == 0.5
    assert views.agreement(corrected((*inside, True), (*beyond, True)), answer) == 0.5
    assert views.agreement(corrected((*beyond, False)), answer) == 1
    assert views.agreement(corrected(), answer) == 1


def logits_of(box: Box) -> MaskLogits:
    """Logits over the image that show a box."""
    values = np.full((IMAGE.height_px, IMAGE.width_px), -5, np.float32)
    values[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = 5
    return MaskLogits(values, Box.covering(IMAGE))


def test_a_click_in_the_middle_of_a_change_explains_it_and_one_at_its_rim_does_not() -> None:
    before, small = logits_of(Box(100, 100, 500, 300)), logits_of(Box(100, 100, 140, 140))

    def explained(x: float, y: float, after: MaskLogits) -> float:
        clicks = ObjectPrompts(
            object_id=1,
            points=np.array([[120, 120], [x, y]], np.float32),
            point_labels=np.array([True, False]),
            box=None,
            mask=before,
        )
        return views.explanation(clicks, after, IMAGE, 64)

    assert explained(320, 200, small) > 0.9
    assert explained(480, 110, small) < 0.3
    assert explained(600, 400, small) == 0
    assert explained(320, 200, before) == 1
    corner_gone = MaskLogits(before.values.copy(), before.window)
    corner_gone.values[100:130, 460:500] = -5
    assert explained(480, 115, corner_gone) > 0.8


def test_what_shows_nothing_is_explained_by_nothing() -> None:
    nothing = MaskLogits(np.full((4, 4), -5, np.float32), Box.covering(IMAGE))
    assert views.explanation(corrected((300, 200, False)), nothing, IMAGE, 64) == 0
