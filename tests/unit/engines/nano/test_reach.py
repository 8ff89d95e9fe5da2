"""What clicks say of places far from them."""

from __future__ import annotations

import torch
from torch.nn import functional

from maskwire_server.engines.nano.reach import CLUE_CHANNELS, _spread, click_clues

SIZE = 64


def halves() -> torch.Tensor:
    """A window that is red on the left and blue on the right, (1, 3, 64, 64)."""
    colours = torch.zeros(1, 3, SIZE, SIZE)
    colours[:, 0, :, : SIZE // 2] = 0.9
    colours[:, 2, :, SIZE // 2 :] = 0.9
    return colours


def test_likeness_and_reach_stop_where_the_colour_changes() -> None:
    clicks = torch.tensor([[[0.2, 0.5, 1.0], [0.8, 0.5, 0.0]]])
    clues = click_clues(halves(), clicks)
    assert clues.shape == (1, CLUE_CHANNELS, SIZE, SIZE)
    like, unlike, reached, reached_by_background = clues[0]
    assert like[5, 5] > 0.95 > 0.05 > like[5, 60]
    assert unlike[5, 60] > 0.95 > 0.05 > unlike[5, 5]
    assert reached[5, 5] > 0.4 > 0.05 > reached[5, 60]
    assert reached_by_background[5, 60] > 0.4 > 0.05 > reached_by_background[5, 5]


def test_likeness_crosses_an_edge_and_reach_does_not() -> None:
    colours = halves()
    colours[:, :, :, 56:] = colours[:, :, :, :8]
    like, _, reached, _ = click_clues(colours, torch.tensor([[[0.2, 0.5, 1.0]]]))[0]
    assert like[30, 61] > 0.95
    assert reached[30, 61] < 0.05


def test_clicks_beyond_the_window_and_unused_rows_say_nothing() -> None:
    clicks = torch.tensor([[[1.5, 0.5, 1.0], [-0.1, 0.2, 0.0], [0.5, 0.5, -1.0]]])
    assert click_clues(halves(), clicks).abs().sum() == 0
    assert click_clues(halves(), torch.empty(1, 0, 3)).shape == (1, CLUE_CHANNELS, SIZE, SIZE)


def test_many_clicks_say_what_each_says_alone() -> None:
    clicks = torch.rand(1, 40, 3)
    clicks[..., 2] = (clicks[..., 2] > 0.5).float()
    together = click_clues(halves(), clicks)
    alone = torch.stack([click_clues(halves(), clicks[:, [row]]) for row in range(40)]).amax(0)
    torch.testing.assert_close(together, alone)


def test_spreading_by_rows_and_columns_is_spreading_to_eight_neighbours() -> None:
    random = torch.Generator().manual_seed(3)
    start = (torch.rand(3, 2, 16, 16, generator=random) > 0.98).float()
    passed = torch.rand(3, 1, 16, 16, generator=random)
    expected = start
    for _ in range(16):
        around = functional.max_pool2d(expected, 3, stride=1, padding=1)
        expected = torch.maximum(expected, around * passed)
    before = start.clone()
    assert torch.equal(_spread(start, passed, steps=16), expected)
    assert torch.equal(start, before)
