"""The network: shapes, types, and how prompts are drawn for it."""

import pytest
import torch

from maskwire_server.engines.nano.network import (
    MASKS,
    NanoNetwork,
    WindowPrompts,
    prompt_channels,
)


def _prompts(batch: int, size: int) -> WindowPrompts:
    return WindowPrompts(
        boxes=torch.full((batch, 4), float("nan")),
        clicks=torch.full((batch, 2, 3), -1.0),
        previous=torch.full((batch, 1, size, size), -1.0),
    )


def test_no_prompt_draws_nothing() -> None:
    assert not prompt_channels(_prompts(2, 32), 32).any()


def test_each_prompt_draws_its_own_channel() -> None:
    prompts = _prompts(1, 64)
    prompts.boxes[0] = torch.tensor([0.25, 0.5, 0.75, 1.0])
    prompts.clicks[0, 0] = torch.tensor([0.5, 0.5, 1.0])
    prompts.clicks[0, 1] = torch.tensor([0.1, 0.9, 0.0])
    box, foreground, background, previous = prompt_channels(prompts, 64)[0]
    assert (box[32:, 16:48] == 1).all()
    assert (box == 1).sum() == 32 * 32
    assert (box[:32] == -1).all()
    assert foreground[32, 32] == 1
    assert foreground.sum() == foreground[28:36, 28:36].sum() > 0
    assert background[57, 6] == 1
    assert not previous.any()


def test_the_last_of_many_clicks_is_drawn() -> None:
    prompts = _prompts(1, 32)
    clicks = torch.full((1, 100, 3), -1.0)
    clicks[0, 99] = torch.tensor([0.5, 0.5, 1.0])
    drawn = prompt_channels(WindowPrompts(prompts.boxes, clicks, prompts.previous), 32)
    assert drawn[0, 1].any()
    assert not drawn[0, 2].any()


def test_an_earlier_mask_is_drawn_from_minus_1_to_1() -> None:
    prompts = _prompts(1, 32)
    prompts.previous[0] = 0.0
    prompts.previous[0, 0, :16] = 1.0
    channel = prompt_channels(prompts, 32)[0, 3]
    assert (channel[:16] == 1).all()
    assert (channel[16:] == -1).all()


@pytest.mark.parametrize("size", [64, 128])
def test_answers_have_the_window_s_size(size: int) -> None:
    network = NanoNetwork().eval()
    with torch.inference_mode():
        logits, quality = network(torch.rand(2, 3, size, size), _prompts(2, size))
    assert logits.shape == (2, MASKS, size, size)
    assert quality.shape == (2, MASKS)
    assert logits.dtype == quality.dtype == torch.float32


def test_weights_stay_within_20_mb() -> None:
    values = sum(tensor.numel() for tensor in NanoNetwork().state_dict().values())
    assert 2 * values < 20e6
