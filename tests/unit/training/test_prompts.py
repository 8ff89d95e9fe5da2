"""Simulated clicks, boxes and worn masks."""

import numpy as np

from training import prompts


def _square(low: int, high: int, size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return mask


def test_corrective_click_marks_what_was_missed() -> None:
    truth, answer = _square(10, 50), _square(10, 50)
    answer[10:50, 30:50] = False
    click = prompts.corrective_click(truth, answer)
    assert click is not None
    x, y, label = click
    assert label == 1
    assert truth[int(y), int(x)]
    assert not answer[int(y), int(x)]


def test_corrective_click_marks_what_was_taken_too_much() -> None:
    truth, answer = _square(10, 20), _square(10, 50)
    click = prompts.corrective_click(truth, answer)
    assert click is not None
    x, y, label = click
    assert label == 0
    assert answer[int(y), int(x)]
    assert not truth[int(y), int(x)]


def test_no_click_corrects_a_right_answer() -> None:
    assert prompts.corrective_click(_square(5, 9), _square(5, 9)) is None


def test_random_clicks_lie_in_the_mask() -> None:
    rng, mask = np.random.default_rng(0), _square(30, 33)
    for _ in range(50):
        x, y = prompts.random_click(rng, mask)
        assert mask[int(y), int(x)]


def test_jittered_boxes_stay_near_and_are_often_tight() -> None:
    rng, box = np.random.default_rng(0), (10.0, 10.0, 50.0, 90.0)
    drawn = [prompts.jittered_box(rng, box) for _ in range(200)]
    assert 0.3 < np.mean([each == box for each in drawn]) < 0.7
    assert np.abs(np.array(drawn) - box).max() < 20


def test_worn_masks_resemble_the_truth_but_are_not_it() -> None:
    rng, truth = np.random.default_rng(0), _square(16, 48).astype(np.float32)
    overlaps = []
    for _ in range(40):
        worn = prompts.worn_mask(rng, truth)
        assert worn.min() >= 0
        assert worn.max() <= 1
        answer = worn > 0.5
        overlaps.append((answer & (truth > 0)).sum() / (answer | (truth > 0)).sum())
    assert 0.45 < np.mean(overlaps) < 0.95
    assert np.std(overlaps) > 0.05
