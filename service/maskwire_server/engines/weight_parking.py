"""Takes the weights of a network out of memory, and puts them back from their file.

The network's modules stay, and with them all that refers to them; only the parameters' storage is
given back. Buffers stay too: they are small, and many are computed rather than read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

from maskwire_server.domain.errors import ErrorCode, MaskwireError

from .weights import sha256_of, verified_folder_digest

ReadState = Callable[[], Mapping[str, torch.Tensor]]
"""Reads all parameters by name, on the CPU; raises what loading raises."""


class ParkedWeights:
    """The parameters of one network, in memory or not."""

    def __init__(self, network: torch.nn.Module, read_state: ReadState) -> None:
        """Take a network whose weights are in place.

        Args:
            network: The network, on its device.
            read_state: Reads its parameters again; more than those do no harm.
        """
        self._network = network
        self._read_state = read_state
        self._shapes = {name: one.shape for name, one in network.named_parameters()}
        self.size_bytes = sum(one.untyped_storage().nbytes() for one in network.parameters())

    def drop(self) -> None:
        """Give the memory back; the network must not be used until `load`."""
        for parameter in self._network.parameters():
            parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def load(self) -> None:
        """Read the weights again; where that fails, none of them are in memory.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where the file is not what it was.
        """
        state = self._read_state()
        for name, shape in self._shapes.items():
            if name not in state or state[name].shape != shape:
                raise MaskwireError(
                    ErrorCode.MODEL_UNAVAILABLE,
                    f"the checkpoint has lost its tensor {name} of shape {tuple(shape)}",
                )
        try:
            for name, parameter in self._network.named_parameters():
                parameter.data = state[name].to(
                    device=parameter.device, dtype=parameter.dtype, copy=True
                )
        except BaseException:
            self.drop()
            raise


def of_same_files(read_state: ReadState, source: Path, digest: str) -> ReadState:
    """Return what reads weights again, but no others than those that were read at first.

    Files that nobody touched are not digested again: that would take as long as reading them.

    Args:
        read_state: Reads the weights.
        source: Their file, or the folder of their safetensors files.
        digest: What `sha256_of` or `verified_folder_digest` said of it.
    """
    seen = _stamps(source)

    def read() -> Mapping[str, torch.Tensor]:
        nonlocal seen
        now = _stamps(source)
        if now != seen:
            found = verified_folder_digest(source, None) if source.is_dir() else sha256_of(source)
            if found != digest:
                raise MaskwireError(
                    ErrorCode.MODEL_UNAVAILABLE,
                    f"the weights in {source} are not those that are served: put these back, or "
                    "restart the server to serve the others",
                    resource=str(source),
                )
            seen = now
        return read_state()

    return read


def _stamps(source: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return of each file of weights what changes when it is written or replaced."""
    files = sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
    stamps = []
    for file in files:
        with suppress(OSError):  # one that is missing is another change
            status = file.stat()
            stamps.append((file.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamps)
