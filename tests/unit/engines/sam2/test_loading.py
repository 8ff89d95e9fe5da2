from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines.sam2 import Sam2EngineFactory
from maskwire_server.engines.sam2.loading import build_network, load_weights
from tests.support.sam2_checkpoints import Sam2Files


@pytest.fixture(scope="module")
def network(small_sam2: Sam2Files) -> Any:
    return build_network(small_sam2.config)


@pytest.fixture
def state(small_sam2: Sam2Files) -> dict[str, torch.Tensor]:
    content = torch.load(small_sam2.checkpoint, weights_only=True)["model"]
    return dict(content)


def refusal(network: Any, state: dict[str, torch.Tensor]) -> str:
    with pytest.raises(MaskwireError) as caught:
        load_weights(network, state, Path("/models/w.pt"))
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert "/models/w.pt" in caught.value.message
    return caught.value.message


def test_weights_that_fit_are_loaded(network: Any, state: dict[str, torch.Tensor]):
    load_weights(network, state, Path("w.pt"))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_missing_names_are_listed(network: Any, state: dict[str, torch.Tensor]):
    del state["no_mem_embed"]
    assert "missing: no_mem_embed" in refusal(network, state)


def test_unexpected_names_are_listed(network: Any, state: dict[str, torch.Tensor]):
    state["teacher.weight"] = torch.zeros(1)
    assert "unexpected: teacher.weight" in refusal(network, state)


def test_other_shapes_are_listed(network: Any, state: dict[str, torch.Tensor]):
    state["no_mem_embed"] = torch.zeros(1, 1, 7)
    assert "of another shape: no_mem_embed" in refusal(network, state)


def test_long_lists_are_shortened(network: Any, state: dict[str, torch.Tensor]):
    assert "more" in refusal(network, {})
    assert len(refusal(network, {})) < 1000


def test_the_defaults_of_upstreams_builder_apply_unless_the_configuration_differs(
    network: Any, small_sam2: Sam2Files, tmp_path: Path
):
    assert network.sam_mask_decoder.dynamic_multimask_via_stability
    configuration: Any = OmegaConf.load(small_sam2.config)
    configuration.model.sam_mask_decoder_extra_args = {"dynamic_multimask_via_stability": False}
    OmegaConf.save(configuration, tmp_path / "plain.yaml")
    plain = build_network(tmp_path / "plain.yaml")
    assert not plain.sam_mask_decoder.dynamic_multimask_via_stability


@pytest.mark.parametrize(
    "text",
    [
        "model: [unclosed",
        "network: {}",
        "model: {_target_: sam2.no_such.Thing}",
        "model: {_target_: sam2.modeling.sam2_base.SAM2Base, image_size: 512}",
        "just a sentence",
        "",
    ],
)
def test_a_broken_configuration_is_named(tmp_path: Path, text: str):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(MaskwireError, match=r"broken\.yaml") as caught:
        build_network(file)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_a_missing_configuration_is_named(tmp_path: Path):
    with pytest.raises(MaskwireError, match=r"missing\.yaml cannot be read"):
        build_network(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("specification", "words"),
    [
        (ModelSpecification("sam2.1-hiera-tiny", "sam2"), "maskwire models pull"),
        (ModelSpecification("mine", "sam2", checkpoint=Path("w.pt")), "configuration file"),
    ],
)
def test_what_is_missing_to_load_a_model_is_said(specification: ModelSpecification, words: str):
    with pytest.raises(MaskwireError, match=words) as caught:
        Sam2EngineFactory().load(specification)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_weights_that_others_replaced_are_not_served_under_the_first_ones_name(
    tmp_path: Path, small_sam2: Sam2Files
):
    file = tmp_path / "weights.pt"
    shutil.copy(small_sam2.checkpoint, file)
    specification = ModelSpecification(
        "own", "sam2", checkpoint=file, config=small_sam2.config, device="cpu"
    )
    engine = Sam2EngineFactory().load(specification)
    engine.drop_weights()
    state = torch.load(file, weights_only=True)["model"]
    torch.save({"model": {name: -tensor for name, tensor in state.items()}}, file)
    with pytest.raises(MaskwireError, match="restart the server"):
        engine.load_weights()
    shutil.copy(small_sam2.checkpoint, file)
    engine.load_weights()
    engine.close()
