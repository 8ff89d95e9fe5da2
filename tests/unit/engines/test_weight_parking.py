"""Weights that were put out of memory come back whole, from the files that they came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines.weight_parking import ParkedWeights, of_same_files
from maskwire_server.engines.weights import sha256_of, verified_folder_digest

State = Mapping[str, torch.Tensor]


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def in_memory(module: torch.nn.Module) -> int:
    return sum(one.untyped_storage().nbytes() for one in module.parameters())


def refused(weights: ParkedWeights) -> str:
    with pytest.raises(MaskwireError) as caught:
        weights.load()
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    return caught.value.message


def without_the_last(state: State) -> State:
    return dict(list(state.items())[:-1])


def with_another_shape(state: State) -> State:
    return {**state, "1.bias": torch.zeros(7)}


@pytest.mark.parametrize("damaged", [without_the_last, with_another_shape])
def test_weights_that_do_not_come_back_whole_leave_nothing_in_memory(damaged) -> None:
    module = network()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found: list[State] = [damaged(state), state]
    weights = ParkedWeights(module, lambda: found.pop(0))
    weights.drop()
    assert "1.bias" in refused(weights)
    assert in_memory(module) == 0, "nobody counts them"
    weights.load()
    assert in_memory(module) == weights.size_bytes
    assert all(torch.equal(one, state[name]) for name, one in module.state_dict().items())


@pytest.mark.parametrize("is_folder", [False, True])
def test_weights_come_from_the_files_that_they_came_from_at_first(
    tmp_path: Path, is_folder: bool
) -> None:
    module, file = network(), tmp_path / "model.safetensors"
    save_file(module.state_dict(), file)
    content, times = file.read_bytes(), file.stat()
    source = tmp_path if is_folder else file
    digest = verified_folder_digest(source, None) if is_folder else sha256_of(source)
    weights = ParkedWeights(module, of_same_files(lambda: load_file(file), source, digest))
    weights.drop()
    weights.load()
    weights.drop()
    save_file(network().state_dict(), file)
    assert "restart" in refused(weights)
    assert in_memory(module) == 0
    file.write_bytes(content)
    assert file.stat().st_mtime_ns != times.st_mtime_ns
    weights.load()
    weights.drop()
    file.unlink()
    assert str(tmp_path) in refused(weights)
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    weights.load()
    assert in_memory(module) == weights.size_bytes
