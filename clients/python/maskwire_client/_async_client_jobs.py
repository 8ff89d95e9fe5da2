"""The asyncio client's calls about jobs; `_client_jobs` with `await`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar, cast

import grpc

from maskwire.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from ._artifact_files import ArtifactFile
from ._async_client_files import AsyncFileCalls
from ._async_client_sessions import open_channel
from ._async_job_results import (
    AsyncBodiesResult,
    AsyncFileAccess,
    AsyncJobResult,
    AsyncObjectsResult,
    made_by,
)
from ._async_job_runner import AsyncJobRunner
from ._async_job_watch import AsyncJobWatch, AsyncReconstruction
from ._calls import Deadline
from ._configuration import new_request_id
from ._enums import to_wire
from ._file_messages import MAX_PAGE
from ._frame_file import FrameFile
from ._job_messages import job_description, map_of, queued_call, submit_request
from ._job_steps import Deliver, JobFollower, frame_steps, reconstruction_call
from ._maps import MAP_TIME_TO_LIVE, MapSource
from ._targets import TargetChannels
from .errors import DataLoss
from .images import ImageInput
from .jobs import JOB_RECONNECT, Job, JobCall, JobState
from .prompts import BoxLike, PromptLike
from .reconstruction import (
    CameraIntrinsics,
    MapInput,
    ObjectMask,
    ReconstructBodiesCall,
    ReconstructObjectsCall,
)
from .results import StoredFile
from .sessions import Reconnect
from .videos import VideoFrame, VideoInfo

_ResultT = TypeVar("_ResultT")


class AsyncJobCalls(AsyncFileCalls):
    """The part of `AsyncClient` that makes, watches and steers jobs."""

    async def reconstruct_objects(
        self,
        image: ImageInput,
        *,
        masks: Sequence[ObjectMask] = (),
        prompts: Sequence[PromptLike] = (),
        seed: int = 0,
        point_map: MapInput | None = None,
        depth_map: MapInput | None = None,
        intrinsics: CameraIntrinsics | None = None,
        depth_unit_m: float | None = None,
        model: str = "",
        segmentation_model: str = "",
        webhook_url: str | None = None,
        reconnect: Reconnect | None = JOB_RECONNECT,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> AsyncReconstruction[AsyncObjectsResult]:
        """Reconstruct objects in 3D; as `Client.reconstruct_objects`."""
        call = ReconstructObjectsCall(
            image,
            masks=masks,
            prompts=prompts,
            seed=seed,
            point_map=point_map,
            depth_map=depth_map,
            intrinsics=intrinsics,
            depth_unit_m=depth_unit_m,
            model=model,
            segmentation_model=segmentation_model,
        )
        return cast(
            AsyncReconstruction[AsyncObjectsResult],
            await self._reconstruct(call, webhook_url, reconnect, timeout_s, request_id),
        )

    async def reconstruct_bodies(
        self,
        image: ImageInput,
        *,
        boxes: Sequence[BoxLike] = (),
        masks: Sequence[ObjectMask] = (),
        point_map: MapInput | None = None,
        intrinsics: CameraIntrinsics | None = None,
        model: str = "",
        webhook_url: str | None = None,
        reconnect: Reconnect | None = JOB_RECONNECT,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> AsyncReconstruction[AsyncBodiesResult]:
        """Reconstruct human bodies in 3D; as `Client.reconstruct_bodies`."""
        call = ReconstructBodiesCall(
            image,
            boxes=boxes,
            masks=masks,
            point_map=point_map,
            intrinsics=intrinsics,
            model=model,
        )
        return cast(
            AsyncReconstruction[AsyncBodiesResult],
            await self._reconstruct(call, webhook_url, reconnect, timeout_s, request_id),
        )

    async def submit_job(
        self,
        call: JobCall,
        *,
        webhook_url: str | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Job:
        """Queue a call as a job; as `Client.submit_job`."""
        identifier = request_id or new_request_id()
        source = await self._sent_map(call, identifier)
        request = await asyncio.to_thread(submit_request, call, source, identifier, webhook_url)
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        return job_description(
            (await self._call(stub.SubmitJob, request, timeout_s, identifier)).job
        )

    async def job(
        self, name: str, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Job:
        """Tell how a job stands; as `Client.job`."""
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        request = job_service_pb2.GetJobRequest(name=name)
        return job_description((await self._call(stub.GetJob, request, timeout_s, request_id)).job)

    async def jobs(
        self,
        *,
        states: Sequence[JobState] = (),
        method: str = "",
        limit: int = 100,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> tuple[Job, ...]:
        """List the caller's jobs, newest first; as `Client.jobs`."""
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        found: list[Job] = []
        request = job_service_pb2.ListJobsRequest(
            states=[to_wire(job_pb2.JobState, state) for state in states], method=method
        )
        while len(found) < limit:
            request.page_size = min(limit - len(found), MAX_PAGE)
            page = await self._call(stub.ListJobs, request, timeout_s, request_id)
            found += [job_description(job) for job in page.jobs]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        return tuple(found)

    def watch_job(
        self,
        name: str,
        *,
        after_sequence: int = 0,
        reconnect: Reconnect | None = JOB_RECONNECT,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> AsyncJobWatch[AsyncJobResult]:
        """Watch a job from anywhere; as `Client.watch_job`."""
        follower = JobFollower(
            None, job_name=name, after_sequence=after_sequence, reconnect=reconnect
        )
        identifier = request_id or new_request_id()
        runner = self._runner(identifier, reconnect, timeout_s)
        return AsyncJobWatch(follower, runner, self._made_by, self.cancel_job)

    async def cancel_job(
        self, name: str, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Job:
        """Cancel a job; as `Client.cancel_job`."""
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        request = job_service_pb2.CancelJobRequest(name=name)
        return job_description(
            (await self._call(stub.CancelJob, request, timeout_s, request_id)).job
        )

    async def job_result(
        self, name: str, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> AsyncJobResult:
        """Return what a job that succeeded made; as `Client.job_result`."""
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        request = job_service_pb2.GetJobResultRequest(name=name)
        answer = await self._call(stub.GetJobResult, request, timeout_s, request_id)
        return self._made_by(getattr(answer, answer.WhichOneof("result") or "", None))

    async def _reconstruct(
        self,
        call: ReconstructObjectsCall | ReconstructBodiesCall,
        webhook_url: str | None,
        reconnect: Reconnect | None,
        timeout_s: float | None,
        request_id: str | None,
    ) -> AsyncReconstruction[Any]:
        """Submit a reconstruction and return it once it is accepted."""
        identifier = request_id or new_request_id()
        runner = self._runner(identifier, reconnect, timeout_s)
        source = await self._sent_map(call, identifier)
        queued = await asyncio.to_thread(queued_call, call, source, identifier)
        follower = JobFollower(
            reconstruction_call(queued, webhook_url),
            reconnect=reconnect,
            overload_retries=self._configuration.overload_retries,
        )
        watch: AsyncReconstruction[Any] = AsyncReconstruction(
            follower, runner, self._made_by, self.cancel_job
        )
        try:
            return await watch.begin()
        except BaseException:
            await watch.close()
            raise

    async def _sent_map(self, call: JobCall, request_id: str) -> MapSource | None:
        """Return the map of a call, uploaded where it is large.

        The upload has the request's identifier, so that the same request names the same file.
        """
        source = await asyncio.to_thread(map_of, call)
        if source is None or source.content is None or not source.is_large:
            return source
        file = await self.upload(
            source.content, time_to_live=MAP_TIME_TO_LIVE, upload_id=request_id, timeout_s=None
        )
        return MapSource(uri=file.name)

    def _runner(
        self, request_id: str, reconnect: Reconnect | None, timeout_s: float | None
    ) -> AsyncJobRunner[Any]:
        targets = reconnect.targets if reconnect is not None else ()
        channels: TargetChannels[grpc.aio.Channel] = TargetChannels(
            self._channel, targets, lambda target: open_channel(self._configuration, target)
        )
        metadata = self._configuration.call_metadata(request_id)
        return AsyncJobRunner(channels, request_id, metadata, Deadline(timeout_s))

    def _made_by(self, message: Any) -> AsyncJobResult:
        return made_by(message, AsyncFileAccess(self._save_file, self._frames))

    async def _save_file(self, file: ArtifactFile, timeout_s: float | None) -> None:
        """Download a file, going on with what is there of it."""
        if await asyncio.to_thread(file.is_there):
            return
        partial = await asyncio.to_thread(file.open)
        try:
            described = await self._download(file.file.name, partial.download, timeout_s, None)
            await asyncio.to_thread(partial.complete, described)
        except DataLoss:
            await asyncio.to_thread(partial.discard)
            if not partial.is_resumed:
                raise
            # What lay there was of another file.
            await self._save_file(file, timeout_s)
        finally:
            await asyncio.to_thread(partial.close)

    async def _frames(
        self, file: StoredFile, video: VideoInfo, timeout_s: float | None
    ) -> AsyncIterator[VideoFrame]:
        runner = self._runner(new_request_id(), JOB_RECONNECT, timeout_s)
        steps = frame_steps(file, FrameFile(video), JOB_RECONNECT)
        try:
            while isinstance(step := await runner.advance(steps), Deliver):
                yield step.item
        finally:
            await runner.close()
