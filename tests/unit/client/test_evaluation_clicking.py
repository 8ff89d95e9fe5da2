"""Simulated clicking, and the means over objects."""

from __future__ import annotations

import numpy as np
import pytest

from maskwire_client.evaluation import (
    Click,
    PromptedScores,
    TrackedScores,
    clicks_needed,
    first_click,
    mean_curve,
    next_click,
    prompted_summary,
    tracked_summary,
)


def mask(*rectangles: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of 40 x 60 pixels with rectangles: left, top, right, bottom, half open."""
    drawn = np.zeros((40, 60), dtype=np.bool_)
    for left, top, right, bottom in rectangles:
        drawn[top:bottom, left:right] = True
    return drawn


def test_the_first_click_is_in_the_middle() -> None:
    click = first_click(mask((10, 10, 21, 21)))
    assert (click.x, click.y, click.is_foreground) == (15.5, 15.5, True)


def test_the_edge_of_the_picture_is_outside() -> None:
    click = first_click(mask((0, 0, 11, 40)))
    assert click.column == 5
    assert click.row >= 5


def test_an_empty_object_cannot_be_clicked() -> None:
    with pytest.raises(ValueError, match="pixel"):
        first_click(mask())


def test_the_next_click_goes_to_the_deepest_error() -> None:
    truth = mask((0, 0, 20, 20))
    assert next_click(truth, mask((0, 0, 20, 9)), []) == Click(5, 14, True)
    assert next_click(truth, mask((0, 0, 20, 20), (30, 10, 37, 17)), []) == Click(33, 13, False)
    # A broad but thin error is larger in pixels; what counts is how deep it is.
    both = mask((0, 0, 20, 18), (30, 10, 37, 17))
    assert next_click(truth, both, []) == Click(33, 13, False)


def test_of_errors_equally_deep_a_missed_object_goes_first() -> None:
    truth, answer = mask((0, 0, 9, 9)), mask((30, 0, 39, 9))
    assert next_click(truth, answer, []) == Click(4, 4, True)


def test_no_pixel_is_clicked_twice() -> None:
    truth = mask((10, 10, 15, 15))
    clicks = [first_click(truth)]
    for _ in range(24):
        click = next_click(truth, mask(), clicks)
        assert click is not None
        clicks.append(click)
    assert len(set(clicks)) == 25
    assert next_click(truth, mask(), clicks) is None


def test_a_right_answer_needs_no_click() -> None:
    assert next_click(mask((3, 3, 9, 9)), mask((3, 3, 9, 9)), []) is None


@pytest.mark.parametrize(
    ("curve", "clicks"),
    [([0.9, 0.1], 1), ([0.5, 0.8, 0.7], 2), ([0.1] * 20, 20), ([0.1] * 19 + [0.8], 20)],
)
def test_clicks_needed(curve: list[float], clicks: int) -> None:
    assert clicks_needed(curve, 0.8, 20) == clicks


def scores(scene: str, box: float, curve: tuple[float, ...]) -> PromptedScores:
    return PromptedScores(scene, "1", box, click_1=box / 2, curve=curve)


def test_means_are_over_objects_not_over_photographs() -> None:
    everything = [
        scores("a", 0.9, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        scores("a", 0.6, (0.3, 0.4, 0.5, 0.8, 0.9, 0.9)),
        scores("b", 0.0, (0.2, 0.2, 0.2, 0.2, 0.2, 0.2)),
    ]
    assert prompted_summary(everything) == {
        "box": 0.5,
        "click_1": 0.25,
        "click_1_single": 0.2,
        "click_3": pytest.approx(1 / 3, abs=1e-6),
        "click_5": pytest.approx(1.6 / 3, abs=1e-6),
        "noc_80": pytest.approx(16 / 3, abs=1e-6),
        "objects": 3,
    }
    assert mean_curve(everything)[:2] == pytest.approx([0.2, 0.8 / 3])


def test_j_and_f_are_means_of_objects_means() -> None:
    tracks = [
        TrackedScores("a", "1", (1, 2), (0.5, 0.7), (0.2, 0.4)),
        TrackedScores("b", "1", (1,), (1.0,), (0.8,)),
    ]
    assert tracks[0].j_and_f == pytest.approx(0.45)
    assert tracked_summary(tracks) == {"j": 0.8, "f": 0.55, "j_and_f": 0.675, "objects": 2}
