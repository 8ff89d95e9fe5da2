"""Examines what a server with these settings would stand on: packages, device, models, stores.

Nothing is left behind: the file that tries the store is deleted again.
"""

from __future__ import annotations

import asyncio
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from importlib import metadata
from pathlib import Path

from ..domain.diagnosis.findings import Finding, Verdict, judged
from ..domain.errors import MaskwireError
from ..domain.jobs.job import JobKey
from ..domain.reconstruction.engine import ObjectEngine
from ..domain.segmentation import Caller
from ..engines.doctor import describe_device
from ..engines.reconstruction_registry import load_reconstruction_engine
from ..observability.metrics import Metrics
from ..settings import ModelSettings, Settings
from .jobs import make_job_backend
from .models import load_models
from .reconstruction import reconstruction_specification
from .shared import build_shared

_PACKAGES = ("torch", "numpy", "grpcio", "protobuf", "obstore", "av", "sam2", "trimesh")
_OPTIONAL = {"transformers": "the engine sam3", "nats-py": "the job backend nats"}
_CALLER = Caller("", "doctor")
_PATIENCE_S = 15.0
_TRIAL = b"maskwire doctor"


async def examine_environment(settings: Settings) -> AsyncIterator[Finding]:
    """Yield what is found, as it is found; models take seconds to minutes each."""
    for finding in _packages(settings):
        yield finding
    yield _device(settings)
    for model in settings.models.serve:
        yield await _tried(f"model {model.name}", partial(_model, settings, model))
    reconstruction = settings.reconstruction
    for name in (*reconstruction.object_models, *reconstruction.body_models):
        yield await _tried(f"engine {name}", partial(_engine, settings, name))
    yield await _tried("file store", partial(_store, settings))
    yield await _tried("jobs", partial(_jobs, settings))


async def _tried(subject: str, examination: Callable[[], Awaitable[str]]) -> Finding:
    """Run one examination; what it raises is a finding, too."""
    try:
        return judged(subject, True, await examination())
    except MaskwireError as error:
        return Finding(subject, Verdict.FAILED, error.message)
    except TimeoutError:
        return Finding(subject, Verdict.FAILED, f"no answer within {_PATIENCE_S:.0f} s")
    except Exception as error:  # the doctor reports what nobody foresaw, and goes on
        return Finding(subject, Verdict.FAILED, f"{type(error).__name__}: {error}")


def _packages(settings: Settings) -> Iterator[Finding]:
    yield judged("python", True, f"{platform.python_version()} on {platform.platform()}")
    yield judged("maskwire", True, metadata.version("maskwire"))
    for name in _PACKAGES:
        version = _version(name)
        yield judged(name, version is not None, version or "not installed")
    for name, purpose in _OPTIONAL.items():
        version = _version(name)
        if version is not None:
            yield judged(name, True, version)
        elif name == "nats-py" and settings.jobs.backend == "nats":
            yield Finding(name, Verdict.FAILED, f"not installed, but {purpose} is chosen")
        else:
            yield Finding(name, Verdict.SKIPPED, f"not installed; {purpose} needs it")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device(settings: Settings) -> Finding:
    try:
        line = describe_device(settings.models.device, settings.models.precision)
    except MaskwireError as error:
        return Finding("device", Verdict.FAILED, error.message)
    return judged("device", True, line)


async def _model(settings: Settings, model: ModelSettings) -> str:
    started = time.perf_counter()
    models = settings.models.model_copy(update={"serve": (model,)})
    async with AsyncExitStack() as resources:
        alone = settings.model_copy(update={"models": models})
        loaded = await load_models(alone, Metrics(), resources)
        (served,) = loaded.list()
        described = served.engine.description
    seconds = time.perf_counter() - started
    return f"{described.engine} on {described.device}, loaded in {seconds:.1f} s"


async def _engine(settings: Settings, name: str) -> str:
    specification = reconstruction_specification(settings, name)
    started = time.perf_counter()
    engine = await asyncio.to_thread(load_reconstruction_engine, specification)
    kind = "objects" if isinstance(engine, ObjectEngine) else "bodies"
    device = engine.description.device
    await asyncio.to_thread(engine.close)
    seconds = time.perf_counter() - started
    return f"{kind} on {device}, loaded in {seconds:.1f} s; not run: see maskwire doctor {name}"


async def _store(settings: Settings) -> str:
    """Write, read and delete a small file."""
    async with AsyncExitStack() as resources, asyncio.timeout(_PATIENCE_S):
        files = build_shared(settings, Metrics(), resources).stores.files
        stored = await files.put(_CALLER, _TRIAL, content_type="text/plain")
        try:
            chunks = [chunk async for chunk in files.read(_CALLER, stored.name)]
        finally:
            await files.delete(_CALLER, stored.name)
    whole = b"".join(chunks) == _TRIAL
    place = settings.storage.url or settings.storage.folder
    if not whole:
        raise ValueError(f"{place} gave back other bytes than were written")
    return f"{place}: written, read and deleted"


async def _jobs(settings: Settings) -> str:
    """Connect and ask for a job that nobody has."""
    chosen = settings.jobs
    if chosen.backend == "sqlite":
        place = str(chosen.database.expanduser())
        await asyncio.to_thread(_try_folder, chosen.database.expanduser())
    else:
        place = f"names begin with {chosen.nats_prefix}"
    backend = make_job_backend(settings)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await backend.open()
            await backend.load(JobKey("", "0" * 32))
    finally:
        await backend.close()
    queues = ", ".join(chosen.queues)
    return f"{chosen.backend}, {place}; {chosen.workers} workers here for {queues}"


def _try_folder(file: Path) -> None:
    """Make and forget a file where another will be made with the first job.

    Raises:
        OSError: Nothing can be written there.
    """
    folder = next(parent for parent in file.absolute().parents if parent.is_dir())
    with tempfile.TemporaryFile(dir=folder):
        pass
