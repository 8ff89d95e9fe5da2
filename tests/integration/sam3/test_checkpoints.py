"""Pulling and loading SAM 3's folder; the hub is on the loopback interface and wants a token."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines import catalogue, checkpoints
from maskwire_server.engines.checkpoints import PullProgress, PullStage
from maskwire_server.engines.sam3 import Sam3Engine, Sam3EngineFactory
from tests.support.model_hub import GRANTED, WAITING, ModelHub, serving

NAME, REPOSITORY = "sam3", "facebook/sam3"


@pytest.fixture(autouse=True)
def no_login_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no token that the machine may have answer for the tests."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def hub(small_sam3: Path) -> Iterator[ModelHub]:
    files = {file.name: file.read_bytes() for file in small_sam3.iterdir()}
    files |= {"README.md": b"not needed", "sam3.pt": b"not needed"}
    with serving(REPOSITORY, files, is_gated=True) as server:
        yield server


def files_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / NAME).iterdir()}


def unavailable(folder: Path, **options: Any) -> str:
    with pytest.raises(MaskwireError) as caught:
        checkpoints.pull(NAME, folder, **options)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    return caught.value.message


def load(folder: Path, **options: Any) -> Sam3Engine:
    return Sam3EngineFactory().load(
        ModelSpecification("own", "sam3", folder, device="cpu", **options)
    )


def refused(folder: Path) -> str:
    with pytest.raises(MaskwireError) as caught:
        load(folder)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    return caught.value.message


def test_the_published_folder_is_fetched_checked_and_served(
    hub: ModelHub, tmp_path: Path, small_sam3: Path
):
    heard: list[PullProgress] = []
    pulled = checkpoints.pull(
        NAME, tmp_path, progress=heard.append, endpoint=hub.endpoint, token=GRANTED
    )
    weights = (small_sam3 / "model.safetensors").read_bytes()
    assert pulled.is_published
    assert pulled.sha256 == hashlib.sha256(weights).hexdigest()
    assert pulled.size_bytes > len(weights)
    assert checkpoints.installed(tmp_path) == (pulled,)
    assert files_in(tmp_path) == {pulled.file.name, "checkpoint.json"}, "the download is removed"
    assert {file.name for file in pulled.file.iterdir()} == {
        file.name for file in small_sam3.iterdir()
    }
    assert set(hub.downloads).isdisjoint({"README.md", "sam3.pt"})
    stages = [progress.stage for progress in heard]
    assert sorted(set(stages), key=stages.index) == list(PullStage)
    downloaded = [p.done_bytes for p in heard if p.stage is PullStage.DOWNLOADING]
    assert downloaded == sorted(downloaded)
    assert downloaded[-1] == heard[0].total_bytes

    engine = Sam3EngineFactory().load(checkpoints.specify(NAME, tmp_path, device="cpu"))
    assert engine.description.checkpoint_digest == f"sha256:{pulled.sha256}"
    assert engine.description.license == catalogue.require(NAME).license


def test_without_a_token_the_way_to_one_is_told(hub: ModelHub, tmp_path: Path):
    message = unavailable(tmp_path, endpoint=hub.endpoint)
    assert "MASKWIRE_MODELS__HUB_TOKEN" in message
    assert REPOSITORY in message


def test_a_token_whose_owner_waits_for_access_is_told_from_none(hub: ModelHub, tmp_path: Path):
    message = unavailable(tmp_path, endpoint=hub.endpoint, token=WAITING)
    assert "not open to the token's owner yet" in message
    assert f"maskwire models pull {NAME}" in message
    assert WAITING not in message
    assert checkpoints.pull(NAME, tmp_path, endpoint=hub.endpoint, token=GRANTED).is_published


@pytest.mark.parametrize("around", ["{}\n", " {}"])
def test_a_token_with_space_around_it_is_the_token(hub: ModelHub, tmp_path: Path, around: str):
    token = around.format(GRANTED)
    assert checkpoints.pull(NAME, tmp_path, endpoint=hub.endpoint, token=token).is_published


@pytest.mark.parametrize("empty", ["", "\n"])
def test_an_empty_token_is_none(hub: ModelHub, tmp_path: Path, empty: str):
    message = unavailable(tmp_path, endpoint=hub.endpoint, token=empty)
    assert "MASKWIRE_MODELS__HUB_TOKEN" in message


def test_an_unreachable_hub_is_answered_with_the_way_out(hub: ModelHub, tmp_path: Path):
    endpoint = hub.endpoint
    hub.shutdown()
    hub.server_close()
    message = unavailable(tmp_path, endpoint=endpoint, token=GRANTED)
    assert "cannot be reached" in message
    assert f"maskwire models pull {NAME} --from FOLDER" in message
    assert GRANTED not in message


@pytest.mark.parametrize("taken", [NAME, f"{NAME}/download"])
def test_a_folder_that_cannot_be_written_is_not_taken_for_the_hub(
    hub: ModelHub, tmp_path: Path, taken: str
):
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("not a folder")
    message = unavailable(tmp_path, endpoint=hub.endpoint, token=GRANTED)
    assert f"{tmp_path / NAME} cannot be written" in message
    assert "connection" not in message


def test_what_the_hub_had_when_an_earlier_download_broke_off_is_left_out(
    hub: ModelHub, tmp_path: Path
):
    weights = hub.files["model.safetensors"]
    download = tmp_path / NAME / "download"
    download.mkdir(parents=True)
    (download / "model-00001-of-00002.safetensors").write_bytes(weights)
    pulled = checkpoints.pull(NAME, tmp_path, endpoint=hub.endpoint, token=GRANTED)
    assert pulled.sha256 == hashlib.sha256(weights).hexdigest()
    assert [file.name for file in pulled.file.glob("*.safetensors")] == ["model.safetensors"]


def test_weights_of_another_digest_are_refused_and_fetched_again(hub: ModelHub, tmp_path: Path):
    whole = hub.files["model.safetensors"]
    hub.files["model.safetensors"] = whole[:-1] + bytes([whole[-1] ^ 1])
    message = unavailable(tmp_path, endpoint=hub.endpoint, token=GRANTED)
    assert hashlib.sha256(whole).hexdigest() in message
    hub.files["model.safetensors"] = whole
    assert checkpoints.pull(NAME, tmp_path, endpoint=hub.endpoint, token=GRANTED).is_published
    assert hub.downloads.count("model.safetensors") == 2


def test_a_local_folder_is_imported(tmp_path: Path, small_sam3: Path):
    imported = checkpoints.pull(NAME, tmp_path, source_file=small_sam3)
    assert not imported.is_published
    again = checkpoints.pull(NAME, tmp_path, source_file=small_sam3)
    assert again == imported
    assert files_in(tmp_path) == {imported.file.name, "checkpoint.json"}
    assert (small_sam3 / "model.safetensors").is_file(), "the source is left as it was"
    assert checkpoints.specify(NAME, tmp_path).sha256 == imported.sha256


def test_a_folder_that_does_not_fit_is_not_installed(tmp_path: Path, small_sam3: Path):
    source = changed(small_sam3, tmp_path / "source", drop="detector_model.text_projection.weight")
    message = unavailable(tmp_path, source_file=source)
    assert "missing: detector_model.text_projection.weight" in message
    assert files_in(tmp_path) == set()


def test_specifying_what_is_not_there_names_the_command(tmp_path: Path):
    with pytest.raises(MaskwireError, match="maskwire models pull sam3"):
        checkpoints.specify(NAME, tmp_path)


def changed(
    source: Path,
    target: Path,
    *,
    drop: str | None = None,
    add: dict[str, torch.Tensor] | None = None,
    prefix: tuple[str, str] = ("", ""),
) -> Path:
    """Copy a checkpoint with other tensors."""
    shutil.copytree(source, target)
    state = load_file(source / "model.safetensors")
    if drop is not None:
        del state[drop]
    old, new = prefix
    state = {
        new + name.removeprefix(old) if name.startswith(old) else name: tensor
        for name, tensor in state.items()
    }
    save_file(state | (add or {}), target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("part", ["detector_model", "tracker_model", "tracker_neck"])
def test_a_missing_tensor_refuses_the_load_by_name(tmp_path: Path, small_sam3: Path, part: str):
    names = load_file(small_sam3 / "model.safetensors")
    missing = next(name for name in sorted(names) if name.startswith(part))
    message = refused(changed(small_sam3, tmp_path / "broken", drop=missing))
    assert f"missing: {missing}" in message


def test_an_unexpected_tensor_refuses_the_load_by_name(tmp_path: Path, small_sam3: Path):
    folder = changed(small_sam3, tmp_path / "broken", add={"tracker_model.more": torch.zeros(2)})
    assert "unexpected: tracker_model.more" in refused(folder)


def test_a_tensor_of_another_shape_refuses_the_load_by_name(tmp_path: Path, small_sam3: Path):
    name = "detector_model.text_projection.bias"
    folder = changed(small_sam3, tmp_path / "broken", add={name: torch.zeros(7)})
    assert f"of another shape: {name}" in refused(folder)


def test_a_doubled_prefix_is_read_as_the_published_spelling(tmp_path: Path, small_sam3: Path):
    """What `Sam3VideoModel.save_pretrained` writes; `Sam3TrackerModel` would load it at random."""
    doubled = changed(
        small_sam3, tmp_path / "doubled", prefix=("tracker_model.", "tracker_model.tracker_model.")
    )
    first, second = load(small_sam3), load(doubled)
    ours, theirs = (engine._network.model.state_dict() for engine in (first, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_folder_that_upstream_saved_is_read(tmp_path: Path, small_sam3: Path):
    from transformers import Sam3VideoConfig, Sam3VideoModel

    # Built, not loaded: one that was loaded remembers the spelling that it was loaded from.
    model = Sam3VideoModel(Sam3VideoConfig.from_pretrained(small_sam3, local_files_only=True))
    model.load_state_dict(load_file(small_sam3 / "model.safetensors"))
    shutil.copytree(small_sam3, tmp_path / "saved")
    model.save_pretrained(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert any(name.startswith("tracker_model.tracker_model.") for name in saved), "as noted"
    first, second = (load(folder)._network.model for folder in (small_sam3, tmp_path / "saved"))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"detector_config": "none"}),
        ("config.json", {"tracker_config": [1]}),
        ("tokenizer_config.json", None),
        ("processor_config.json", None),
        ("tokenizer.json", None),
    ],
)
def test_a_damaged_file_refuses_the_load(
    tmp_path: Path, small_sam3: Path, file: str, changes: dict[str, Any] | None
):
    shutil.copytree(small_sam3, tmp_path / "broken")
    whole = json.loads((small_sam3 / file).read_text())
    damaged = None if changes is None else whole | changes
    (tmp_path / "broken" / file).write_text(json.dumps(damaged))
    assert str(tmp_path / "broken") in refused(tmp_path / "broken")


@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "tokenizer.json"])
def test_a_missing_file_refuses_the_load(tmp_path: Path, small_sam3: Path, file: str):
    shutil.copytree(small_sam3, tmp_path / "broken")
    (tmp_path / "broken" / file).unlink()
    assert str(tmp_path / "broken") in refused(tmp_path / "broken")


def test_weights_of_another_format_are_not_read(tmp_path: Path, small_sam3: Path):
    shutil.copytree(small_sam3, tmp_path / "broken")
    state = load_file(small_sam3 / "model.safetensors")
    torch.save(state, tmp_path / "broken" / "pytorch_model.bin")
    (tmp_path / "broken" / "model.safetensors").unlink()
    assert "no *.safetensors" in refused(tmp_path / "broken")


def test_another_kind_of_model_is_named(tmp_path: Path, small_sam3: Path):
    shutil.copytree(small_sam3, tmp_path / "other")
    config = json.loads((small_sam3 / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config["detector_config"]))
    assert "says sam3" in refused(tmp_path / "other")


def test_shards_are_read_and_digested_in_the_order_of_their_names(tmp_path: Path, small_sam3: Path):
    folder = tmp_path / "shards"
    shutil.copytree(small_sam3, folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    index: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    digest = hashlib.sha256(
        b"".join(file.read_bytes() for file in sorted(folder.glob("*.safetensors")))
    ).hexdigest()
    engine = load(folder, sha256=digest)
    assert engine.description.checkpoint_digest == f"sha256:{digest}"


def negated(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: -tensor for name, tensor in state.items()}


def test_weights_that_others_replaced_are_not_served_under_the_first_ones_name(
    tmp_path: Path, small_sam3: Path
):
    folder = tmp_path / "served"
    shutil.copytree(small_sam3, folder)
    engine = load(folder)
    state = load_file(folder / "model.safetensors")
    engine.drop_weights()
    save_file(negated(state), folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MaskwireError, match="restart the server") as caught:
        engine.load_weights()
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    shutil.copy(small_sam3 / "model.safetensors", folder)
    engine.load_weights()
    for name, parameter in engine._network.model.named_parameters():
        assert torch.equal(parameter, state[name])


@pytest.mark.parametrize("other", ["copy.safetensors", "model-old.safetensors", "z.safetensors"])
def test_weights_come_back_from_the_file_that_they_were_loaded_from(
    tmp_path: Path, small_sam3: Path, other: str
):
    folder = tmp_path / "served"
    shutil.copytree(small_sam3, folder)
    state = load_file(folder / "model.safetensors")
    save_file(negated(state), folder / other, metadata={"format": "pt"})
    engine = load(folder)
    for _ in range(2):
        for name, parameter in engine._network.model.named_parameters():
            assert torch.equal(parameter, state[name])
        engine.drop_weights()
        engine.load_weights()
