"""What following a job consists of, without doing it: which streams, which pauses, which events.

Each policy is a generator that yields steps and is sent what they gave, or has their exception
thrown in; `_job_runner` and `_async_job_runner` carry the steps out, one by waiting and one by
awaiting. So the two clients cannot differ in what they decide.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from maskwire.v1 import (
    file_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    reconstruction_pb2_grpc,
)

from . import errors
from ._calls import Pause
from ._file_messages import Download
from ._frame_file import FrameFile
from ._job_messages import job_description, job_event
from ._reconnection import Reconnection
from .errors import MaskwireError
from .jobs import Job, JobEvent, JobState
from .results import StoredFile
from .sessions import Reconnect
from .videos import VideoFrame

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a method with a request.

    Attributes:
        stub: Class of the service's stub.
        method: Name of the method.
        request: The request.
    """

    stub: Any
    method: str
    request: Message


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a stream of answers, in place of the one before; target 0 is the client's own."""

    call: Call
    target_index: int


@dataclass(frozen=True, slots=True)
class Read:
    """Wait for the stream's next message: it is sent in, or None at the stream's end."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Make a call with one answer: it is sent in."""

    call: Call
    target_index: int


@dataclass(frozen=True, slots=True)
class Deliver(Generic[ItemT]):
    """Give the caller an item before going on."""

    item: ItemT


FollowSteps: TypeAlias = Generator[Open | Read | Ask | Pause | Deliver[ItemT], Any, Any]
"""A policy in progress; its return value is for whoever carries it out to the end."""


def reconstruction_call(queued: job_service_pb2.QueuedCall, webhook_url: str | None) -> Call:
    """Return the call that submits a reconstruction and streams its events."""
    objects = queued.WhichOneof("request") == "reconstruct_objects"
    request = queued.reconstruct_objects if objects else queued.reconstruct_bodies
    if webhook_url is not None:
        request.webhook.url = webhook_url
    method = "ReconstructObjects" if objects else "ReconstructBodies"
    return Call(reconstruction_pb2_grpc.ReconstructionServiceStub, method, request)


class JobFollower:
    """One job: how far its events were delivered, how it ended, and how to go on after a loss.

    Args:
        submission: The call that submits the job; None for a job that has its name.
        job_name: The job; empty before it is submitted.
        after_sequence: The event before the first one that is wanted.
        reconnect: What to do when the connection is lost.
        overload_retries: Most attempts to submit it after a full server's first refusal.

    Attributes:
        job_name: The job; empty until it is accepted.
        last_sequence: The last event that was delivered.
        state: How the job stands, as far as events told.
        job: The job at its end, where the server told it.
    """

    def __init__(
        self,
        submission: Call | None,
        *,
        job_name: str = "",
        after_sequence: int = 0,
        reconnect: Reconnect | None,
        overload_retries: int = 0,
    ) -> None:
        self.job_name = job_name
        self.last_sequence = after_sequence
        self.state = JobState.UNSPECIFIED
        self.job: Job | None = None
        self._submission = submission
        self._result: Message | None = None
        self._reconnection = Reconnection(reconnect)
        self._overloads_left = overload_retries

    def events(self) -> FollowSteps[JobEvent | None]:
        """Deliver the job's events until it is done, and None once when it is accepted.

        Raises:
            MaskwireError: The job was not accepted, or no server answers for too long.
            InternalError: Events are missing, or come again.
        """
        while not self.state.is_done:
            try:
                yield Open(self._opening(), self._reconnection.target_index)
                yield from self._read()
            except MaskwireError as error:
                if not self.state.is_done:
                    yield self._pause_after(error)

    def result(self) -> FollowSteps[Any]:
        """Return what the job made, once it is done.

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            MaskwireError: No server answers for too long, or the result is gone.
        """
        if self.state is JobState.CANCELLED:
            raise errors.JobCancelled(self.job_name)
        if self.state is JobState.FAILED:
            if self.job is None:
                request = job_service_pb2.GetJobRequest(name=self.job_name)
                self.job = job_description((yield from self._ask("GetJob", request)).job)
            raise errors.JobFailed(self.job_name, self.job.error or _UNKNOWN_CAUSE)
        if self._result is None:
            wanted = job_service_pb2.GetJobResultRequest(name=self.job_name)
            answer = yield from self._ask("GetJobResult", wanted)
            self._result = getattr(answer, answer.WhichOneof("result") or "", None)
        if self._result is None:
            raise errors.InternalError(f"the server does not say what {self.job_name} made")
        return self._result

    def _opening(self) -> Call:
        """Return the call to open: the submission, again and again, until the job has a name."""
        if self._submission is not None and not self.job_name:
            return self._submission
        request = job_service_pb2.WatchJobRequest(
            name=self.job_name, after_sequence=self.last_sequence
        )
        return Call(job_service_pb2_grpc.JobServiceStub, "WatchJob", request)

    def _read(self) -> FollowSteps[JobEvent | None]:
        while (message := (yield Read())) is not None:
            self._reconnection.succeed()
            match message.WhichOneof("message"):
                case "event":
                    yield Deliver(self._event(job_event(message.event)))
                case "job" if isinstance(message, job_service_pb2.WatchJobResponse):
                    self.job = job_description(message.job)
                    self.state = self.job.state
                case "job":
                    self.job_name = message.job
                    yield Deliver(None)
                case "result":
                    self._result = message.result
                    self.state = JobState.SUCCEEDED
        if not self.state.is_done:
            raise errors.Unavailable(
                "the server ended the stream before the job was done", status="UNAVAILABLE"
            )

    def _event(self, event: JobEvent) -> JobEvent:
        expected = self.last_sequence + 1
        if event.sequence != expected:
            what = "again" if event.sequence < expected else f"before event {expected}"
            raise errors.InternalError(
                f"the server sent event {event.sequence} of {self.job_name} {what}",
                status="INTERNAL",
                reason=_OUT_OF_ORDER,
            )
        self.last_sequence = event.sequence
        self.state = event.state
        return event

    def _ask(self, method: str, request: Message) -> FollowSteps[Any]:
        call = Call(job_service_pb2_grpc.JobServiceStub, method, request)
        while True:
            try:
                answer = yield Ask(call, self._reconnection.target_index)
            except MaskwireError as error:
                yield self._pause_after(error)
            else:
                self._reconnection.succeed()
                return answer

    def _pause_after(self, error: MaskwireError) -> Pause:
        if isinstance(error, errors.ResourceExhausted) and not self.job_name:
            if self._overloads_left == 0:
                raise error
            self._overloads_left -= 1
        return pause_after(error, self._reconnection)


def frame_steps(
    file: StoredFile, frames: FrameFile, reconnect: Reconnect | None
) -> FollowSteps[VideoFrame]:
    """Deliver the frames of a stored file while it is downloaded; a broken download goes on.

    Raises:
        DataLoss: The bytes are not those of the file, or not frames.
        MaskwireError: The download failed.
    """
    download, reconnection = Download(frames), Reconnection(reconnect)
    while True:
        try:
            request = download.request(file.name)
            call = Call(file_pb2_grpc.FileServiceStub, "DownloadFile", request)
            yield Open(call, reconnection.target_index)
            while (answer := (yield Read())) is not None:
                reconnection.succeed()
                download.take(answer)
                for frame in frames.complete():
                    yield Deliver(frame)
        except MaskwireError as error:
            yield pause_after(error, reconnection)
        else:
            download.finished()
            frames.finish()
            return


def pause_after(error: MaskwireError, reconnection: Reconnection) -> Pause:
    """Return the pause before the attempt that is due after an error.

    Raises:
        MaskwireError: The error itself, where another attempt is of no use or not allowed.
    """
    if reconnection.is_exhausted or not _passes(error):
        raise error
    reconnection.begin()
    asked_s = error.retry_after.total_seconds() if error.retry_after is not None else 0.0
    return Pause(max(asked_s, reconnection.pause_s))


def _passes(error: MaskwireError) -> bool:
    """Whether an error may be gone at the next attempt, here or at another target."""
    if isinstance(error, errors.ResourceExhausted):
        return error.retry_after is not None
    # What cuts a connection between client and server has no reason of the server's.
    is_foreign = isinstance(error, errors.InternalError) and not error.reason
    return is_foreign or isinstance(error, errors.Unavailable | errors.Cancelled)


_OUT_OF_ORDER = "EVENTS_OUT_OF_ORDER"
_UNKNOWN_CAUSE = errors.InternalError("the server does not say why", status="UNKNOWN")
