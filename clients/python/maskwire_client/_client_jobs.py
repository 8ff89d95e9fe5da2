"""The blocking client's calls about jobs: reconstruction, and other calls queued as jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast

import grpc

from maskwire.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from ._artifact_files import ArtifactFile
from ._calls import Deadline
from ._client_files import FileCalls
from ._client_sessions import open_channel
from ._configuration import new_request_id
from ._enums import to_wire
from ._file_messages import MAX_PAGE
from ._frame_file import FrameFile
from ._job_messages import job_description, map_of, queued_call, submit_request
from ._job_results import BodiesResult, FileAccess, JobResult, ObjectsResult, made_by
from ._job_runner import JobRunner
from ._job_steps import Deliver, JobFollower, frame_steps, reconstruction_call
from ._job_watch import JobWatch, Reconstruction
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


class JobCalls(FileCalls):
    """The part of `Client` that makes, watches and steers jobs."""

    def reconstruct_objects(
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
    ) -> Reconstruction[ObjectsResult]:
        """Reconstruct objects in 3D; returns once the job is accepted, and so is durable.

        Iterate over what it returns for the job's events, or ask it for the `result` at once. With
        neither masks nor prompts the whole image is the object. With a point map or a depth map the
        result is metric.

        Args:
            image: Path, encoded bytes, PIL image, uint8 array, URI or digest (`ImageInput`).
            masks: One for each object, of the image's size.
            prompts: Points, boxes, masks and texts to segment the objects by first; not together
                with masks.
            seed: Seed of everything random; the same seed and request give the same result.
            point_map: A 3D point for each pixel in metres in the camera frame, shape (height,
                width, 3), float32 or float64, NaN where there is none (`MapInput`).
            depth_map: A depth for each pixel in metres, shape (height, width), float32 or float64,
                NaN or 0 where there is none; or the path or bytes of a 16-bit PNG.
            intrinsics: The camera of the depth map.
            depth_unit_m: Metres of one step of a PNG's values; None means 0.001.
            model: Name of the reconstruction engine; empty is the server's default.
            segmentation_model: Name of the model for prompts; empty is the server's default.
            webhook_url: `https:` URL to report the end to; None for none.
            reconnect: How to go on where the connection is lost; None: the call fails then.
            timeout_s: Seconds that all of it may take, the job's work included; the job goes on
                after them. None sets no limit.
            request_id: UUID of the request: the same request with the same one is the same job.
                None makes one.

        Raises:
            InvalidArgument: The request breaks a rule.
            AlreadyExists: The request_id was used with another request.
            ResourceExhausted: Too many jobs wait already.
            MaskwireError: The job was not accepted for another reason.
            OSError: A file cannot be read.
            TypeError: An argument is of a kind that is not taken.
            ValueError: An array has the wrong shape, or arguments do not go together.
        """
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
            Reconstruction[ObjectsResult],
            self._reconstruct(call, webhook_url, reconnect, timeout_s, request_id),
        )

    def reconstruct_bodies(
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
    ) -> Reconstruction[BodiesResult]:
        """Reconstruct human bodies in 3D; returns once the job is accepted, and so is durable.

        Args:
            image: As for `reconstruct_objects`.
            boxes: One for each person; with neither boxes nor masks people are detected first.
            masks: One for each person, of the image's size; with boxes, as many as boxes.
            point_map: A point map of the scene to align the bodies to, as for
                `reconstruct_objects`.
            intrinsics: The camera; None means a focal length of the image's diagonal and the centre
                as principal point.
            model: Name of the reconstruction engine; empty is the server's default.
            webhook_url: `https:` URL to report the end to; None for none.
            reconnect: How to go on where the connection is lost; None: the call fails then.
            timeout_s: Seconds that all of it may take; None sets no limit.
            request_id: UUID of the request; None makes one.

        Raises:
            MaskwireError: As `reconstruct_objects`.
            OSError: A file cannot be read.
            TypeError: An argument is of a kind that is not taken.
            ValueError: An array has the wrong shape.
        """
        call = ReconstructBodiesCall(
            image,
            boxes=boxes,
            masks=masks,
            point_map=point_map,
            intrinsics=intrinsics,
            model=model,
        )
        return cast(
            Reconstruction[BodiesResult],
            self._reconstruct(call, webhook_url, reconnect, timeout_s, request_id),
        )

    def submit_job(
        self,
        call: JobCall,
        *,
        webhook_url: str | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Job:
        """Queue a call as a job: `submit_job(TrackVideoCall("a.mp4", points=[...]))`.

        Args:
            call: The call, with the arguments that the client's own method takes.
            webhook_url: `https:` URL to report the end to; None for none.
            timeout_s: Seconds until it must be accepted; None is the client's default.
            request_id: UUID of the request: the same request with the same one is the same job.
                None makes one.

        Raises:
            MaskwireError: The job was not accepted; as `reconstruct_objects`.
            OSError: A file cannot be read.
            TypeError: An argument is of a kind that is not taken.
            ValueError: An array has the wrong shape, or a number cannot be sent.
        """
        identifier = request_id or new_request_id()
        request = submit_request(call, self._sent_map(call, identifier), identifier, webhook_url)
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        return job_description(self._call(stub.SubmitJob, request, timeout_s, identifier).job)

    def job(
        self, name: str, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Job:
        """Tell how a job stands.

        Args:
            name: The job, `jobs/...`.
            timeout_s: Seconds that this call may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            JobNotFound: There is none of that name.
            MaskwireError: The call failed otherwise.
        """
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        request = job_service_pb2.GetJobRequest(name=name)
        return job_description(self._call(stub.GetJob, request, timeout_s, request_id).job)

    def jobs(
        self,
        *,
        states: Sequence[JobState] = (),
        method: str = "",
        limit: int = 100,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> tuple[Job, ...]:
        """List the caller's jobs, newest first.

        Args:
            states: Only jobs in one of these states; none means all.
            method: Only jobs of this method, for example `maskwire.v1.VideoService/TrackVideo`;
                empty means all.
            limit: Most jobs to list.
            timeout_s: Seconds that each page may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            MaskwireError: The call failed.
        """
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        found: list[Job] = []
        request = job_service_pb2.ListJobsRequest(
            states=[to_wire(job_pb2.JobState, state) for state in states], method=method
        )
        while len(found) < limit:
            request.page_size = min(limit - len(found), MAX_PAGE)
            page = self._call(stub.ListJobs, request, timeout_s, request_id)
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
    ) -> JobWatch[JobResult]:
        """Watch a job from anywhere: iterate over its events, those of the past too.

        Args:
            name: The job, `jobs/...`.
            after_sequence: The last event that is known already; 0 for none.
            reconnect: How to go on where the connection is lost; None: the watch fails then.
            timeout_s: Seconds that all of it may take; None sets no limit.
            request_id: Identifier for the server's logs; None makes one.
        """
        follower = JobFollower(
            None, job_name=name, after_sequence=after_sequence, reconnect=reconnect
        )
        identifier = request_id or new_request_id()
        runner = self._runner(identifier, reconnect, timeout_s)
        return JobWatch(follower, runner, self._made_by, self.cancel_job)

    def cancel_job(
        self, name: str, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> Job:
        """Cancel a job, which takes effect within 2 s or at the next stage; return how it stands.

        Cancelling a job that is done changes nothing.

        Args:
            name: The job, `jobs/...`.
            timeout_s: Seconds that this call may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            JobNotFound: There is none of that name.
            MaskwireError: The call failed otherwise.
        """
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        request = job_service_pb2.CancelJobRequest(name=name)
        return job_description(self._call(stub.CancelJob, request, timeout_s, request_id).job)

    def job_result(
        self, name: str, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> JobResult:
        """Return what a job that succeeded made; what it is depends on the call that was queued.

        Args:
            name: The job, `jobs/...`.
            timeout_s: Seconds that this call may take; None is the client's default.
            request_id: Identifier for the server's logs; None makes one.

        Raises:
            JobNotFound: There is none of that name.
            FailedPrecondition: It is not done, or it failed or was cancelled.
            MaskwireError: The call failed otherwise.
        """
        stub = job_service_pb2_grpc.JobServiceStub(self._channel)
        request = job_service_pb2.GetJobResultRequest(name=name)
        answer = self._call(stub.GetJobResult, request, timeout_s, request_id)
        return self._made_by(getattr(answer, answer.WhichOneof("result") or "", None))

    def _reconstruct(
        self,
        call: ReconstructObjectsCall | ReconstructBodiesCall,
        webhook_url: str | None,
        reconnect: Reconnect | None,
        timeout_s: float | None,
        request_id: str | None,
    ) -> Reconstruction[Any]:
        """Submit a reconstruction and return it once it is accepted."""
        identifier = request_id or new_request_id()
        runner = self._runner(identifier, reconnect, timeout_s)
        queued = queued_call(call, self._sent_map(call, identifier), identifier)
        follower = JobFollower(
            reconstruction_call(queued, webhook_url),
            reconnect=reconnect,
            overload_retries=self._configuration.overload_retries,
        )
        watch: Reconstruction[Any] = Reconstruction(
            follower, runner, self._made_by, self.cancel_job
        )
        try:
            return watch.begin()
        except BaseException:
            watch.close()
            raise

    def _sent_map(self, call: JobCall, request_id: str) -> MapSource | None:
        """Return the map of a call, uploaded where it is large.

        The upload has the request's identifier, so that the same request names the same file.
        """
        source = map_of(call)
        if source is None or source.content is None or not source.is_large:
            return source
        file = self.upload(
            source.content, time_to_live=MAP_TIME_TO_LIVE, upload_id=request_id, timeout_s=None
        )
        return MapSource(uri=file.name)

    def _runner(
        self, request_id: str, reconnect: Reconnect | None, timeout_s: float | None
    ) -> JobRunner[Any]:
        targets = reconnect.targets if reconnect is not None else ()
        channels: TargetChannels[grpc.Channel] = TargetChannels(
            self._channel, targets, lambda target: open_channel(self._configuration, target)
        )
        metadata = self._configuration.call_metadata(request_id)
        return JobRunner(channels, request_id, metadata, Deadline(timeout_s))

    def _made_by(self, message: Any) -> JobResult:
        return made_by(message, FileAccess(self._save_file, self._frames))

    def _save_file(self, file: ArtifactFile, timeout_s: float | None) -> None:
        """Download a file, going on with what is there of it."""
        if file.is_there():
            return
        partial = file.open()
        try:
            described = self._download(file.file.name, partial.download, timeout_s, None)
            partial.complete(described)
        except DataLoss:
            partial.discard()
            if not partial.is_resumed:
                raise
            # What lay there was of another file.
            self._save_file(file, timeout_s)
        finally:
            partial.close()

    def _frames(
        self, file: StoredFile, video: VideoInfo, timeout_s: float | None
    ) -> Iterator[VideoFrame]:
        runner = self._runner(new_request_id(), JOB_RECONNECT, timeout_s)
        steps = frame_steps(file, FrameFile(video), JOB_RECONNECT)
        try:
            while isinstance(step := runner.advance(steps), Deliver):
                yield step.item
        finally:
            runner.close()
