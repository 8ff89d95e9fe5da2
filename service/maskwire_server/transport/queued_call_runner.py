"""Runs queued calls in a worker: parse, one domain call, serialise, as servicers do."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import IO

from google.protobuf import proto

from maskwire.v1 import job_service_pb2, video_pb2

from ..domain.auto_segmentation.requests import AutoSegmentRequest, PointsDone
from ..domain.auto_segmentation.service import AutoSegmentationService
from ..domain.executor import BoundedExecutor
from ..domain.files.store import MAX_CHUNK_BYTES, FileStore
from ..domain.jobs.calls import CallRunner, JobProgress, JobTask
from ..domain.models import ModelRegistry
from ..domain.queued_calls import QueuedRequest
from ..domain.reconstruction.requests import BodiesRequest, ObjectsRequest
from ..domain.reconstruction.run import ReconstructionRunner
from ..domain.segmentation import Caller, SegmentRequest
from ..domain.segmentation_service import SegmentationService
from ..domain.video.requests import TrackedFrame, TrackProgress, TrackSummary, TrackVideoRequest
from ..domain.video.requests import VideoInfo as DomainVideoInfo
from ..domain.video.service import VideoService
from .converters.auto_segmentation import auto_segment_result_to_proto
from .converters.files import stored_file_to_proto
from .converters.queued_calls import queued_request_from_proto
from .converters.reconstruction import bodies_result_to_proto, objects_result_to_proto
from .converters.segmentation import segment_result_to_proto
from .converters.video import track_summary_to_proto, tracked_frame_to_proto, video_info_to_proto

_FRAMES_FILE_NAME = "frames.binpb"
_FRAMES_FILE_TYPE = "application/x-protobuf"

_Response = job_service_pb2.GetJobResultResponse


@dataclass(frozen=True, slots=True)
class SegmentationServices:
    """What serves the calls of the queue `segmentation`."""

    models: ModelRegistry
    segmentation: SegmentationService
    auto_segmentation: AutoSegmentationService
    videos: VideoService


SegmentationLoader = Callable[[], Awaitable[SegmentationServices]]
"""Returns the services, whose models it loads at the first use; raises `MODEL_UNAVAILABLE`."""


class QueuedCallRunner(CallRunner):
    """Runs every kind of queued call on the domain's services."""

    def __init__(
        self,
        load_segmentation: SegmentationLoader,
        reconstruction: ReconstructionRunner,
        files: FileStore,
        executor: BoundedExecutor,
        time_to_live: timedelta,
    ) -> None:
        """Take what is needed.

        Args:
            load_segmentation: Gives the services for segmentation.
            reconstruction: Runs reconstructions.
            files: Where the frames of tracked videos go.
            executor: Writes them.
            time_to_live: How long they are kept.
        """
        self._load_segmentation = load_segmentation
        self._reconstruction = reconstruction
        self._files = files
        self._executor = executor
        self._time_to_live = time_to_live

    async def run(self, task: JobTask, progress: JobProgress) -> bytes:
        """Run a call; as the interface says."""
        call = job_service_pb2.QueuedCall.FromString(task.payload)
        response = await self._run(queued_request_from_proto(call), task, progress)
        return response.SerializeToString()

    async def _run(
        self, request: QueuedRequest, task: JobTask, progress: JobProgress
    ) -> job_service_pb2.GetJobResultResponse:
        match request:
            case ObjectsRequest():
                objects = await self._reconstruction.objects(request, task, progress)
                message = objects_result_to_proto(objects, task.request_id)
                return _Response(reconstruct_objects=message)
            case BodiesRequest():
                bodies = await self._reconstruction.bodies(request, task, progress)
                return _Response(reconstruct_bodies=bodies_result_to_proto(bodies, task.request_id))
            case SegmentRequest():
                return await self._segment(request, task, progress)
            case AutoSegmentRequest():
                return await self._auto_segment(request, task, progress)
            case TrackVideoRequest():
                return await self._track(request, task, progress)

    async def _segment(
        self, request: SegmentRequest, task: JobTask, progress: JobProgress
    ) -> job_service_pb2.GetJobResultResponse:
        services = await self._services(progress)
        progress.report("segment", 0.1)
        result = await services.segmentation.segment(request, _caller(task))
        return _Response(segment_image=segment_result_to_proto(result, task.request_id))

    async def _auto_segment(
        self, request: AutoSegmentRequest, task: JobTask, progress: JobProgress
    ) -> job_service_pb2.GetJobResultResponse:
        services = await self._services(progress)
        progress.report("segment", 0.1)

        def told(points: PointsDone) -> None:
            progress.report("segment", 0.1 + 0.8 * points.done / points.total)

        result = await services.auto_segmentation.segment(request, _caller(task), told)
        return _Response(auto_segment=auto_segment_result_to_proto(result, task.request_id))

    async def _track(
        self, request: TrackVideoRequest, task: JobTask, progress: JobProgress
    ) -> job_service_pb2.GetJobResultResponse:
        services = await self._services(progress)
        progress.report("track", 0.1)
        result = job_service_pb2.TrackVideoJobResult()
        opened = await self._executor.run(tempfile.TemporaryFile)
        with opened.value as frames:
            async with aclosing(services.videos.track(request, _caller(task))) as events:
                async for event in events:
                    progress.report("track", 0.1 + 0.8 * _fraction(event.progress))
                    match event.content:
                        case DomainVideoInfo():
                            result.video.CopyFrom(video_info_to_proto(event.content))
                        case TrackedFrame():
                            frame = tracked_frame_to_proto(event.content)
                            await self._executor.run(partial(_append, frame, frames))
                        case TrackSummary():
                            summary = track_summary_to_proto(event.content, task.request_id)
                            result.summary.CopyFrom(summary)
            progress.report("files", 0.95)
            stored = await self._files.put(
                _caller(task),
                self._chunks(frames),
                content_type=_FRAMES_FILE_TYPE,
                file_name=_FRAMES_FILE_NAME,
                time_to_live=self._time_to_live,
            )
        result.frames.CopyFrom(stored_file_to_proto(stored))
        return _Response(track_video=result)

    async def _services(self, progress: JobProgress) -> SegmentationServices:
        progress.report("load", 0.0)
        return await self._load_segmentation()

    async def _chunks(self, file: IO[bytes]) -> AsyncIterator[bytes]:
        await self._executor.run(lambda: file.seek(0))
        while chunk := (await self._executor.run(lambda: file.read(MAX_CHUNK_BYTES))).value:
            yield chunk


def _append(frame: video_pb2.VideoFrameResult, file: IO[bytes]) -> None:
    # protobuf's own function takes io.BytesIO only in its annotations.
    proto.serialize_length_prefixed(frame, file)  # type: ignore[arg-type]


def _fraction(progress: TrackProgress) -> float:
    total = progress.frames_total
    return min(progress.frames_done / total, 1.0) if total else 0.0


def _caller(task: JobTask) -> Caller:
    return Caller(task.key.tenant, task.request_id)
