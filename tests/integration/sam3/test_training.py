"""The test checkpoint can be made again: what made it still learns, and keeps what it knows."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tests.support.sam3_checkpoint import WEIGHTS, configuration
from tests.support.sam3_training import accuracy, prepare, train


@pytest.mark.robustness
def test_the_checkpoint_is_trained_further_without_harm():
    from transformers import Sam3VideoModel

    torch.manual_seed(0)
    network = Sam3VideoModel(configuration())
    prepare(network)
    assert accuracy(network) < 0.35, "a new network guesses"
    network.load_state_dict({n: tensor.float() for n, tensor in load_file(WEIGHTS).items()})
    before = accuracy(network)
    train(network, steps=60, batch=8, rate=1e-4, seed=5)
    assert accuracy(network) > before - 0.1
