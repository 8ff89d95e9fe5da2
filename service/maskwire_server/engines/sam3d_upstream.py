"""What the two SAM 3D engines share in running packages that are not ours.

Those packages exist in a worker image of their own, with a torch older than this project's, so that
nothing here needs a recent one.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.reconstruction.engine import StageReport

_HELP = "run this engine in the worker image for SAM 3D, and see `maskwire doctor`"


def unavailable(engine: str, reason: str, remedy: str = _HELP) -> MaskwireError:
    """Make the error for an engine that cannot be loaded or whose device failed."""
    return MaskwireError(
        ErrorCode.MODEL_UNAVAILABLE, f"{engine}: {reason}; {remedy}", resource=engine
    )


def require_device(engine: str, device: str) -> None:
    """Check that the first CUDA device is there and meant: the packages know no other.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE`.
    """
    if device not in ("auto", "cuda", "cuda:0"):
        raise unavailable(
            engine,
            f"device {device!r} cannot be used: the package computes on cuda:0 only",
            "set the device to auto, and CUDA_VISIBLE_DEVICES to choose among several",
        )
    if not torch.cuda.is_available():
        raise unavailable(
            engine,
            f"device cuda:0 is absent: torch {torch.__version__} sees no CUDA device",
            "it needs an NVIDIA GPU with 32 GB of memory or more, its driver, and the worker "
            "image for SAM 3D",
        )


def require_file(engine: str, file: Path | None, setting: str, what: str) -> Path:
    """Return a file that a setting names, checked to be there.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE`.
    """
    if file is None:
        raise unavailable(engine, f"{setting} is not set", f"set it to {what}")
    file = file.expanduser()
    if not file.is_file():
        raise unavailable(engine, f"{setting}: there is no file {file}", f"it must be {what}")
    return file


def import_upstream(engine: str, module: str) -> Any:
    """Import a module of upstream's.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` naming the module and what it lacks.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # modules that probe GPUs while they are imported fail in any way
        reason = f"package {module} cannot be imported: {_reason(error)}"
        raise unavailable(engine, reason) from error


@contextlib.contextmanager
def loading(engine: str, source: Path) -> Iterator[None]:
    """Translate whatever goes wrong while upstream's code reads its files.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE` naming the file.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # upstream prints; standard output is not its
            yield
    except MaskwireError:
        raise
    except Exception as error:
        release_memory()
        raise unavailable(
            engine,
            f"{source} cannot be loaded: {_reason(error)}",
            "check that the checkpoint is complete, unchanged and of the package's version",
        ) from error


@contextlib.contextmanager
def running(engine: str) -> Iterator[None]:
    """Translate failures of the device, and give its memory back after any failure.

    Raises:
        MaskwireError: `MODEL_UNAVAILABLE`.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr), _releasing_memory():
            yield
    except torch.OutOfMemoryError as error:
        raise unavailable(
            engine,
            "the device is out of memory",
            "it needs 32 GB to itself: end what else computes on it, or send a smaller image",
        ) from error
    except RuntimeError as error:
        if not _is_device_failure(error):
            raise
        raise unavailable(engine, f"the device failed: {_reason(error)}") from error
    except MemoryError as error:
        raise unavailable(engine, "the machine is out of memory") from error


@contextlib.contextmanager
def _releasing_memory() -> Iterator[None]:
    try:
        yield
    except BaseException:
        release_memory()
        raise


def release_memory() -> None:
    """Give cached memory of the device back to it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def replaced(target: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Put a wrapper in front of one object's method, and take it away at the end.

    Args:
        target: The object; others of its class are not touched.
        name: Name of the method.
        wrap: Gets the method and returns what is called instead.
    """
    own = vars(target).get(name)
    setattr(target, name, wrap(getattr(target, name)))
    try:
        yield
    finally:
        if own is None:
            delattr(target, name)
        else:
            setattr(target, name, own)


class Progress:
    """Tells how far the work is, never backwards, and remembers when it was told to end.

    Upstream's pipeline catches every exception of its last stage, the one that ends the work among
    them: `raise_interruption` raises it again.
    """

    def __init__(self, report: StageReport) -> None:
        """Take what to tell."""
        self._report = report
        self._reached = 0.0
        self._interruption: BaseException | None = None

    def __call__(self, stage: str, fraction: float) -> None:
        """Tell the stage and the fraction of all the work.

        Raises:
            JobCancelled: The work is to end, as the report raised it.
        """
        self._reached = max(self._reached, min(fraction, 1.0))
        try:
            self._report(stage, self._reached)
        except BaseException as error:
            self._interruption = error
            raise

    def raise_interruption(self) -> None:
        """Raise what ended the work, if anything did."""
        if self._interruption is not None:
            raise self._interruption


def _is_device_failure(error: RuntimeError) -> bool:
    kind = getattr(torch, "AcceleratorError", None)  # torch 2.8 and later
    if kind is not None and isinstance(error, kind):
        return True
    return str(error).lstrip().startswith(("CUDA", "cuDNN", "CUBLAS", "NCCL"))


def _reason(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
