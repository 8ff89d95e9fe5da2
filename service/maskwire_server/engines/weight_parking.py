"""Takes the weights of a network out of memory, and puts them back from their file.

The network's modules stay, and with them all that refers to them; only the parameters' storage is
given back. Buffers stay too: they are small, and many are computed rather than read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from maskwire_server.domain.errors import ErrorCode, MaskwireError

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
        self.size_bytes = sum(one.untyped_storage().nbytes() for one in network.parameters())

    def drop(self) -> None:
        """Give the memory back; the network must not be used until `load`."""
        for parameter in self._network.parameters():
            parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def load(self) -> None:
        """Read the weights again.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where the file is not what it was.
        """
        state = self._read_state()
        for name, parameter in self._network.named_parameters():
            if name not in state:
                raise MaskwireError(
                    ErrorCode.MODEL_UNAVAILABLE, f"the checkpoint has lost its tensor {name}"
                )
            parameter.data = state[name].to(
                device=parameter.device, dtype=parameter.dtype, copy=True
            )
