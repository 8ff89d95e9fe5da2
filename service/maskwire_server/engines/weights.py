"""Files of weights: digests, reading torch and safetensors files, writing safetensors.

What a file is for, where it lies and which model it fits is decided elsewhere (`checkpoints`, the
engines).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from maskwire_server.domain.errors import ErrorCode, MaskwireError

State = Mapping[str, torch.Tensor]


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where the file cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error.strerror or type(error).__name__) from error


def verified_digest(file: Path, expected: str | None) -> str:
    """Return the SHA-256 of a file after comparing it with what is expected.

    Args:
        file: The file.
        expected: Hexadecimal digest, or None to accept any.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where the file cannot be read or has another digest.
    """
    digest = sha256_of(file)
    if expected is not None and digest != expected.lower():
        raise MaskwireError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"{file} has SHA-256 {digest}, but {expected.lower()} was expected: "
            "it is damaged or another file; fetch it again",
            resource=str(file),
        )
    return digest


def verified_folder_digest(folder: Path, expected: str | None) -> str:
    """Return the SHA-256 over the safetensors files of a folder after comparing it.

    The files are taken one after another in the order of their names, so that the digest of a
    single file is the file's own.

    Args:
        folder: The checkpoint.
        expected: Hexadecimal digest, or None to accept any.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where there is no such folder, it has no such file, one
            cannot be read, or the digest is another.
    """
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise _unusable(
            folder,
            f"checkpoint {folder} {state}: this model's checkpoint is a folder with its "
            "configuration, its weights as safetensors and the files of its tokenizer",
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise _unusable(folder, f"checkpoint {folder} has no *.safetensors file")
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise _unreadable(file, error.strerror or type(error).__name__) from error
    found = digest.hexdigest()
    if expected is not None and found != expected.lower():
        raise _unusable(
            folder,
            f"the weights in {folder} have SHA-256 {found}, but {expected.lower()} was expected: "
            "they are damaged or others; fetch them again",
        )
    return found


def read_state(file: Path) -> State:
    """Read named tensors onto the CPU from a `.safetensors` file or torch's `{"model": ...}`.

    Torch's format is read with `weights_only=True`, which refuses code.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where the file cannot be read or holds something else.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file, device="cpu")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _unreadable(file, error.strerror or type(error).__name__) from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise _unreadable(file, "not a checkpoint of plain tensors") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in state.values()
    ):
        raise _unreadable(file, 'not of the form {"model": {name: tensor}}')
    return state


def write_state(file: Path, state: State, metadata: str) -> None:
    """Write tensors as safetensors, so that the file appears whole or not at all.

    Equal arguments give an equal file, byte for byte.

    Args:
        file: Where to; its folder exists.
        state: The tensors; each is written contiguous and without sharing.
        metadata: Text kept in the file's header under the key `maskwire`.
    """
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".writing-")
    os.close(descriptor)
    temporary = Path(name)
    try:
        save_file(tensors, temporary, metadata={"maskwire": metadata})
        replace_durably(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def replace_durably(temporary: Path, file: Path) -> None:
    """Move a finished temporary file to its name, after its content has reached the disk."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.chmod(0o644)
    temporary.replace(file)


def _unreadable(file: Path, reason: str) -> MaskwireError:
    return _unusable(file, f"checkpoint {file} cannot be read: {reason}")


def _unusable(path: Path, message: str) -> MaskwireError:
    return MaskwireError(ErrorCode.MODEL_UNAVAILABLE, message, resource=str(path))
