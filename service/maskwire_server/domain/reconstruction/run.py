"""The work of a reconstruction job: read the request, run the engine, store the files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np

from ..errors import ErrorCode, MaskwireError
from ..executor import BoundedExecutor
from ..files.store import FILE_NAME_PREFIX, FileStore, StoredFile
from ..geometry import Box
from ..jobs.calls import JobProgress, JobTask
from ..segmentation import Caller, Timings
from .engine import (
    BodyEngine,
    BodyScene,
    ObjectEngine,
    ObjectScene,
    ReconstructionEngine,
    StageReport,
)
from .formats.artifacts import ArtifactFile, ResultDetails, body_artifacts, object_artifacts
from .inputs import InputReader, ReadImage
from .requests import (
    Artifact,
    BodiesRequest,
    BodiesResult,
    ObjectsRequest,
    ObjectsResult,
    PlacedObject,
)

EngineLoader = Callable[[str], ReconstructionEngine]
"""Returns the engine of a name, loading it at its first use; blocks."""

_READ = 0.02
_BUILT = 0.8
_MOST_ARTIFACTS = 256

Engine = TypeVar("Engine", bound=ReconstructionEngine)


@dataclass(frozen=True, slots=True)
class _Stopwatch:
    """When the work began, and what of it was decoding and waiting."""

    started: float
    decode_s: float

    def timings(self, built_s: float) -> Timings:
        """Return where the time went: what is not reading or the engine was making files."""
        total = time.perf_counter() - self.started
        rest = max(total - self.decode_s - built_s, 0.0)
        return Timings(self.decode_s, 0.0, None, built_s, rest, total)


class ReconstructionRunner:
    """Runs jobs of reconstruction on the engines of a worker."""

    def __init__(
        self,
        inputs: InputReader,
        load_engine: EngineLoader,
        executor: BoundedExecutor,
        files: FileStore,
        time_to_live: timedelta,
    ) -> None:
        """Take what is needed.

        Args:
            inputs: Reads requests.
            load_engine: Gives the engines.
            executor: Its one thread owns the engines' device.
            files: Where artifacts go.
            time_to_live: How long they are kept.
        """
        self._inputs = inputs
        self._load_engine = load_engine
        self._executor = executor
        self._files = files
        self._time_to_live = time_to_live

    async def objects(
        self, request: ObjectsRequest, task: JobTask, progress: JobProgress
    ) -> ObjectsResult:
        """Reconstruct objects and store the files.

        Args:
            request: The accepted request, with its image and masks in it.
            task: The attempt, which names the files.
            progress: Hears how far the work is.

        Raises:
            MaskwireError: As the engine and the stores raise.
            JobCancelled: As `progress` raised it.
        """
        caller, started = _caller(task), time.perf_counter()
        progress.report("read", 0.0)
        image = await self._inputs.image(request.image, caller)
        scene, _ = await self._inputs.objects(request, image, caller)
        engine = await self._engine(request.model, ObjectEngine, progress)  # type: ignore[type-abstract]
        built = await self._executor.run(lambda: engine.reconstruct(scene, _scaled(progress)))
        boxes = tuple(_tight_box(scene, index) for index in range(len(scene.masks)))
        details = ResultDetails(
            model=engine.description.name,
            checkpoint_digest=engine.description.checkpoint_digest,
            seed=request.seed,
            image=image.info,
            boxes=boxes,
        )
        artifacts = await self._store(object_artifacts(built.value, details), task, progress)
        return ObjectsResult(
            objects=tuple(
                PlacedObject(one.pose, box)
                for one, box in zip(built.value.objects, boxes, strict=True)
            ),
            artifacts=artifacts,
            camera_pose=built.value.camera_pose,
            is_metric=built.value.is_metric,
            intrinsics=built.value.intrinsics,
            seed=request.seed,
            image=image.info,
            model=engine.description.name,
            checkpoint_digest=engine.description.checkpoint_digest,
            timings=_Stopwatch(started, image.decode_s).timings(built.run_s),
        )

    async def bodies(
        self, request: BodiesRequest, task: JobTask, progress: JobProgress
    ) -> BodiesResult:
        """Reconstruct bodies and store the files; arguments and errors as `objects`."""
        caller, started = _caller(task), time.perf_counter()
        progress.report("read", 0.0)
        image: ReadImage = await self._inputs.image(request.image, caller)
        scene: BodyScene
        scene, _ = await self._inputs.bodies(request, image, caller)
        engine = await self._engine(request.model, BodyEngine, progress)  # type: ignore[type-abstract]
        built = await self._executor.run(lambda: engine.reconstruct(scene, _scaled(progress)))
        details = ResultDetails(
            model=engine.description.name,
            checkpoint_digest=engine.description.checkpoint_digest,
            seed=0,
            image=image.info,
            boxes=tuple(body.box for body in built.value),
            is_metric=request.intrinsics is not None,
        )
        artifacts = await self._store(body_artifacts(built.value, details), task, progress)
        return BodiesResult(
            bodies=built.value,
            artifacts=artifacts,
            is_metric=request.intrinsics is not None,
            image=image.info,
            model=engine.description.name,
            checkpoint_digest=engine.description.checkpoint_digest,
            timings=_Stopwatch(started, image.decode_s).timings(built.run_s),
        )

    async def _engine(self, name: str | None, kind: type[Engine], progress: JobProgress) -> Engine:
        assert name is not None, "admission names the engine"
        progress.report("load", _READ)
        engine = (await self._executor.run(lambda: self._load_engine(name))).value
        if not isinstance(engine, kind):
            raise MaskwireError(
                ErrorCode.MODEL_NOT_FOUND, f"model: {name!r} is no {kind.__name__}", resource=name
            )
        return engine

    async def _store(
        self, files: Iterator[ArtifactFile], task: JobTask, progress: JobProgress
    ) -> tuple[Artifact, ...]:
        """Store the files of an attempt, each under a name of its own, one in memory at a time."""
        caller = _caller(task)
        await self._remove_earlier(task, caller)
        artifacts: list[Artifact] = []
        try:
            while True:
                progress.report("files", _BUILT + (1 - _BUILT) * _approach(len(artifacts)))
                made = (await self._executor.run(lambda: next(files, None))).value
                if made is None:
                    return tuple(artifacts)
                stored = await self._put(made, task, caller, len(artifacts))
                artifacts.append(Artifact(made.kind, stored, made.index))
        except BaseException:
            for artifact in artifacts:
                with suppress(MaskwireError):
                    await self._files.delete(caller, artifact.file.name)
            raise

    async def _put(
        self, made: ArtifactFile, task: JobTask, caller: Caller, index: int
    ) -> StoredFile:
        return await self._files.put(
            caller,
            made.data,
            content_type=made.content_type,
            file_name=made.file_name,
            time_to_live=self._time_to_live,
            file_id=_file_id(task, task.attempt, index),
        )

    async def _remove_earlier(self, task: JobTask, caller: Caller) -> None:
        """Remove what killed attempts left: they store in order, so that the first gap ends it."""
        for attempt in range(1, task.attempt):
            for index in range(_MOST_ARTIFACTS):
                try:
                    name = FILE_NAME_PREFIX + _file_id(task, attempt, index)
                    await self._files.delete(caller, name)
                except MaskwireError:
                    break


def _file_id(task: JobTask, attempt: int, index: int) -> str:
    """Return the identifier of a file of an attempt: no two attempts write the same one."""
    content = f"{task.key.tenant}\0{task.key.job_id}\0{attempt}\0{index}"
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _caller(task: JobTask) -> Caller:
    return Caller(task.key.tenant, task.request_id)


def _scaled(progress: JobProgress) -> StageReport:
    """Return a report for an engine, whose work is the middle of the whole."""

    def report(stage: str, fraction: float) -> None:
        progress.report(stage, _READ + (_BUILT - _READ) * min(max(fraction, 0.0), 1.0))

    return report


def _approach(count: int) -> float:
    """Return a fraction that grows with every file, however many there will be."""
    return count / (count + 3)


def _tight_box(scene: ObjectScene, index: int) -> Box:
    rows, columns = (np.flatnonzero(scene.masks[index].any(axis=axis)) for axis in (1, 0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
