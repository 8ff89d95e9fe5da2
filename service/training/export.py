"""Writes a trained network's averaged weights as the file that ships with Maskwire."""

from __future__ import annotations

from pathlib import Path

import torch

from maskwire_server.engines.weights import write_state


def export_weights(checkpoint: Path, target: Path) -> int:
    """Writes the averaged weights of a training checkpoint in float16; returns the step."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    half = {name: tensor.half() for name, tensor in state["average"].items()}
    step = int(state["step"])
    description = f"maskwire-nano, seed {state['seed']}, step {step} of {state['preset']['steps']}"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_state(target, half, description)
    return step
