"""Where and how a model computes: device and precision as asked for in the settings, resolved.

Shared by the engines that run on torch. Nothing here changes torch's global state, apart from
`set_thread_count`, which the composition root calls once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from maskwire_server.domain.errors import ErrorCode, MaskwireError


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and the precision to compute in.

    Attributes:
        device: Where the tensors live; a CUDA device always has its index.
        precision: `fp32` or `bf16`; with `autocast`, bfloat16 over weights kept in float32.
    """

    device: torch.device
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations where a model is computed in one precision throughout."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[object]:
        """Return a fresh context for one computation; entered around calls, never for good."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def resolve(device: str = "auto", precision: str = "auto") -> Placement:
    """Turn the words of the settings into a placement on this machine.

    Args:
        device: `auto` (CUDA where there is one, then MPS, then the CPU), `cpu`, `cuda`, `cuda:N`
            or `mps`.
        precision: `auto` (bf16 on CUDA devices that compute it natively, fp32 elsewhere), `fp32`
            or `bf16`.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` where the word is unknown or the device absent.
    """
    chosen = _resolve_device(device)
    if precision == "auto":
        precision = "bf16" if _is_bf16_native(chosen) else "fp32"
    if precision not in ("fp32", "bf16"):
        raise _unavailable(f"precision {precision!r} is unknown: use auto, fp32 or bf16")
    return Placement(chosen, precision)


def memory_reader(device: str) -> Callable[[], tuple[int, int]] | None:
    """Return what reads a device's memory: bytes in use by all processes, and bytes in all.

    None for a device without memory of its own. Reading waits for no work and may be done on any
    thread.
    """
    chosen = torch.device(device)
    if chosen.type != "cuda":
        return None

    def read() -> tuple[int, int]:
        free, total = torch.cuda.mem_get_info(chosen)
        return total - free, total

    return read


def set_thread_count(count: int) -> None:
    """Set how many threads torch computes with on the CPU, for the whole process.

    Call it before the first computation: threads that computed already keep their number.
    """
    torch.set_num_threads(count)


@contextmanager
def reporting_device_failure(model: str) -> Iterator[None]:
    """Translate what a device raises, out of memory above all, to `MODEL_UNAVAILABLE`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise _unavailable(
            f"the device of model {model} is out of memory: "
            "send fewer objects at once, or try again when it is less busy",
            resource=model,
        ) from error
    except (torch.AcceleratorError, MemoryError) as error:
        raise _unavailable(f"the device of model {model} failed", resource=model) from error


def _resolve_device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _unavailable(
            f"device {name!r} is unknown: use auto, cpu, cuda, cuda:N or mps"
        ) from error
    if device.type == "cuda":
        return _checked_cuda_device(device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise _unavailable("device mps is absent: this torch or machine has no Metal support")
    if device.type not in ("cpu", "mps"):
        raise _unavailable(f"device {name!r} is not supported: use auto, cpu, cuda, cuda:N or mps")
    return device


def _checked_cuda_device(device: torch.device) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise _unavailable(
            f"device {device} is absent: torch {torch.__version__} sees no CUDA device; "
            "check the driver, install a CUDA build of torch, or set the device to cpu"
        )
    has_index = ":" in str(device)  # the index of a bare "cuda" is None, which torch's types deny
    index = device.index if has_index else torch.cuda.current_device()
    if index >= count:
        raise _unavailable(f"device cuda:{index} is absent: this machine has {count}, from cuda:0")
    return torch.device("cuda", index)


def _is_bf16_native(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _unavailable(message: str, *, resource: str = "") -> MaskwireError:
    return MaskwireError(ErrorCode.MODEL_UNAVAILABLE, message, resource=resource)
