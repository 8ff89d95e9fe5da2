"""The test checkpoint can be made again: new networks learn, and this one learns further."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support import sam3_tracker_training
from tests.support.sam3_checkpoint import WEIGHTS, configuration
from tests.support.sam3_training import (
    accuracy,
    prepare,
    teach_answers,
    teach_following,
    teach_masks,
    teach_prompts,
    teach_sight,
    teach_together,
)

LEAST_IOU = 0.75


@pytest.fixture
def network() -> Any:
    from transformers import Sam3VideoModel

    torch.manual_seed(0)
    made = Sam3VideoModel(configuration())
    prepare(made)
    return made.eval()


@pytest.fixture
def taught(network: Any) -> Any:
    network.load_state_dict({n: tensor.float() for n, tensor in load_file(WEIGHTS).items()})
    return network


@pytest.mark.robustness
def test_a_new_network_learns_to_see(network: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy(network) < 0.35, "a new network guesses"
    teach_sight(network, np.random.default_rng(1), steps=200, batch=32, rate=1e-3)
    first, last = (
        float(line.split()[3]) for line in capsys.readouterr().out.splitlines() if "sight" in line
    )
    assert last > first + 0.1, "the share of tokens whose kind is said rightly"


@pytest.mark.robustness
def test_what_is_known_is_kept_when_it_is_taught_further(taught: Any) -> None:
    before = accuracy(taught)
    random = np.random.default_rng(5)
    teach_answers(taught, random, steps=40, batch=16, rate=1e-4, save=lambda: None)
    teach_together(taught, random, steps=10, batch=8, rate=1e-5, save=lambda: None)
    assert accuracy(taught) > before - 0.1


@pytest.mark.robustness
@pytest.mark.parametrize("with_queries", [False, True])
def test_masks_are_taught_further(
    taught: Any, capsys: pytest.CaptureFixture[str], with_queries: bool
) -> None:
    random = np.random.default_rng(7)
    teach_masks(taught, random, steps=10, batch=8, rate=1e-5, with_queries=with_queries)
    assert told(capsys, "masks")[1] > LEAST_IOU


@pytest.mark.robustness
def test_prompts_are_taught_further(taught: Any, capsys: pytest.CaptureFixture[str]) -> None:
    teach_prompts(taught, np.random.default_rng(8), steps=10, batch=8, rate=1e-5)
    assert told(capsys, "prompts")[1] > LEAST_IOU


@pytest.mark.robustness
def test_the_tracker_is_taught_further(taught: Any) -> None:
    random = np.random.default_rng(6)
    teach_following(taught, random, steps=10, batch=4, rate=1e-5, save=lambda: None)
    clips = sam3_tracker_training.draw_clips(random, 16)
    with torch.inference_mode():
        _, ious = sam3_tracker_training.lesson_loss(taught, clips, random)
    assert min(ious) > LEAST_IOU


def told(capsys: pytest.CaptureFixture[str], part: str) -> list[float]:
    """Return the last means of a part: its loss and what was measured beside it."""
    line = next(line for line in reversed(capsys.readouterr().out.splitlines()) if part in line)
    return [float(mean) for mean in line.partition(": ")[2].split(" (")[0].split()]
