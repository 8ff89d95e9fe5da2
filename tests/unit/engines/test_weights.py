from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.engines import weights


def state() -> dict[str, torch.Tensor]:
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    return {"plain": base, "transposed": base.T, "shared": base[:2]}


def test_what_is_written_is_read(tmp_path: Path):
    file = tmp_path / "w.safetensors"
    weights.write_state(file, state(), "about it")
    back = weights.read_state(file)
    assert back.keys() == state().keys()
    for name, tensor in state().items():
        assert torch.equal(back[name], tensor)
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"maskwire": "about it"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


def test_equal_weights_make_equal_files(tmp_path: Path):
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file, content in zip(files, (state(), dict(reversed(state().items()))), strict=True):
        weights.write_state(file, content, "text")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_torchs_format_is_read(tmp_path: Path):
    torch.save({"model": state(), "epoch": 3}, tmp_path / "w.pt")
    assert weights.read_state(tmp_path / "w.pt").keys() == state().keys()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch):
    file = tmp_path / "w.safetensors"
    weights.write_state(file, state(), "old")
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.write_state(file, state(), "new")
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pt", b""),
        ("empty.safetensors", b""),
        ("text.pt", b"hello"),
        ("text.safetensors", b"hello, this is a text"),
        ("numbers.pt", pickle.dumps({"model": [1, 2]}, protocol=2)),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MaskwireError, match=name) as caught:
        weights.read_state(tmp_path / name)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


@pytest.mark.parametrize("content", [{"state": {}}, {"model": {"w": 3}}, [1]])
def test_another_structure_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(MaskwireError, match="of the form"):
        weights.read_state(tmp_path / "w.pt")


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path):
    target = tmp_path / "ran"
    torch.save({"model": Malicious(target)}, tmp_path / "w.pt")
    with pytest.raises(MaskwireError, match="plain tensors"):
        weights.read_state(tmp_path / "w.pt")
    assert not target.exists()


def test_digests(tmp_path: Path):
    file = tmp_path / "f"
    file.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert weights.verified_digest(file, None) == digest
    assert weights.verified_digest(file, digest.upper()) == digest
    with pytest.raises(MaskwireError, match=digest):
        weights.verified_digest(file, "0" * 64)
    with pytest.raises(MaskwireError, match="cannot be read"):
        weights.sha256_of(tmp_path / "missing")
