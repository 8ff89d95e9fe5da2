"""A real gRPC server whose jobs a test writes down: streams of events that break as it says."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    reconstruction_pb2,
    reconstruction_pb2_grpc,
)
from tests.support.scripted_server import refuse

JOB = "jobs/0123456789abcdef"
_CHUNK_BYTES = 1000


@dataclass(frozen=True)
class Fails:
    """The end of a stream with a status."""

    code: grpc.StatusCode
    message: str = "no"
    reason: str = ""


LOST = Fails(grpc.StatusCode.UNAVAILABLE, "connection lost")


def event(
    sequence: int, state: str = "RUNNING", stage: str = "mesh", **fields: Any
) -> job_pb2.JobEvent:
    return job_pb2.JobEvent(
        sequence=sequence,
        attempt=1,
        state=job_pb2.JobState.Value(f"JOB_STATE_{state}"),
        stage=stage,
        **fields,
    )


def job(state: str = "SUCCEEDED", name: str = JOB, **fields: Any) -> job_pb2.Job:
    return job_pb2.Job(name=name, state=job_pb2.JobState.Value(f"JOB_STATE_{state}"), **fields)


@dataclass
class Jobs(
    job_service_pb2_grpc.JobServiceServicer, reconstruction_pb2_grpc.ReconstructionServiceServicer
):
    """Plays the next of `submissions` for each reconstruction, of `watches` for each watch.

    A play is a list of messages: a job's name, events, jobs and results, and at the end maybe how
    the stream fails; the last play of a list is played for ever.

    Attributes:
        submissions: What streams of reconstructions send.
        watches: What streams of `WatchJob` send.
        pages: What `ListJobs` answers, by page token.
        standing: What `GetJob`, `SubmitJob` and `CancelJob` answer.
        results: What `GetJobResult` answers in turn.
        requests: What came, in order.
        metadata: Metadata of each call, in order.
    """

    submissions: list[list[Any]] = field(default_factory=list)
    watches: list[list[Any]] = field(default_factory=list)
    pages: dict[str, job_service_pb2.ListJobsResponse] = field(default_factory=dict)
    standing: job_pb2.Job = field(default_factory=job)
    results: list[Any] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: type) -> list[Any]:
        """Return the requests of one kind that came."""
        return [request for request in self.requests if isinstance(request, kind)]

    async def ReconstructObjects(self, request, context):  # noqa: N802
        kind = reconstruction_pb2.ReconstructObjectsResponse
        async for message in self._play(self.submissions, request, context):
            yield _submitted(kind, message)

    async def ReconstructBodies(self, request, context):  # noqa: N802
        kind = reconstruction_pb2.ReconstructBodiesResponse
        async for message in self._play(self.submissions, request, context):
            yield _submitted(kind, message)

    async def WatchJob(self, request, context):  # noqa: N802
        async for message in self._play(self.watches, request, context):
            if isinstance(message, job_pb2.Job):
                yield job_service_pb2.WatchJobResponse(job=message)
            else:
                yield job_service_pb2.WatchJobResponse(event=message)

    async def SubmitJob(self, request, context):  # noqa: N802
        self._note(request, context)
        return job_service_pb2.SubmitJobResponse(job=self.standing)

    async def GetJob(self, request, context):  # noqa: N802
        self._note(request, context)
        return job_service_pb2.GetJobResponse(job=self.standing)

    async def CancelJob(self, request, context):  # noqa: N802
        self._note(request, context)
        return job_service_pb2.CancelJobResponse(job=self.standing)

    async def ListJobs(self, request, context):  # noqa: N802
        self._note(request, context)
        return self.pages[request.page_token]

    async def GetJobResult(self, request, context):  # noqa: N802
        number = len(self.of(type(request)))
        self._note(request, context)
        answer = self.results[min(number, len(self.results) - 1)]
        if isinstance(answer, Fails):
            await refuse(context, answer.code, answer.message, reason=answer.reason)
        return answer

    def _note(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))

    async def _play(
        self, plays: Sequence[Sequence[Any]], request: Any, context: Any
    ) -> AsyncIterator[Any]:
        number = len(self.of(type(request)))
        self._note(request, context)
        for message in plays[min(number, len(plays) - 1)]:
            if isinstance(message, Fails):
                await refuse(context, message.code, message.message, reason=message.reason)
            yield message


def _submitted(kind: Any, message: Any) -> Any:
    if isinstance(message, str):
        return kind(job=message)
    if isinstance(message, job_pb2.JobEvent):
        return kind(event=message)
    return kind(result=message)


@dataclass
class Files(file_pb2_grpc.FileServiceServicer):
    """Holds files by name; sends them in small chunks, and breaks off where it is told to.

    Attributes:
        contents: The files' bytes.
        breaks: After how many bytes each download in turn breaks off.
        lies: Files whose bytes are sent wrong.
        downloads: Name and offset of each download that came.
        uploads: Description of each upload that came.
    """

    contents: dict[str, bytes] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    lies: set[str] = field(default_factory=set)
    downloads: list[tuple[str, int]] = field(default_factory=list)
    uploads: list[file_pb2.UploadDescription] = field(default_factory=list)

    def stored(self, name: str, file_name: str = "") -> file_pb2.StoredFile:
        """Return what a file is."""
        data = self.contents[name]
        return file_pb2.StoredFile(
            name=name,
            file_name=file_name,
            size_bytes=len(data),
            digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        )

    async def DownloadFile(self, request, context):  # noqa: N802
        self.downloads.append((request.name, request.offset_bytes))
        if request.name not in self.contents:
            await refuse(
                context, grpc.StatusCode.NOT_FOUND, "no such file", reason="FILE_NOT_FOUND"
            )
        budget = self.breaks.pop(0) if self.breaks else None
        data = self.contents[request.name][request.offset_bytes :]
        if request.name in self.lies:
            data = bytes(len(data))
        yield file_pb2.DownloadFileResponse(file=self.stored(request.name))
        for start in range(0, len(data), _CHUNK_BYTES):
            if budget is not None and start >= budget:
                await refuse(context, grpc.StatusCode.UNAVAILABLE, "connection lost")
            yield file_pb2.DownloadFileResponse(chunk=data[start : start + _CHUNK_BYTES])

    async def UploadFile(self, requests, context):  # noqa: N802
        await context.send_initial_metadata((("maskwire-upload-accepted", "1"),))
        data = b""
        async for request in requests:
            if request.HasField("description"):
                self.uploads.append(request.description)
            data += request.chunk
        name = f"files/{self.uploads[-1].upload_id}"
        self.contents[name] = data
        return file_pb2.UploadFileResponse(file=self.stored(name))

    async def GetUpload(self, request, context):  # noqa: N802
        await refuse(context, grpc.StatusCode.NOT_FOUND, "no such upload")

    async def GetFile(self, request, context):  # noqa: N802
        raise AssertionError("not called by these tests")

    async def ListFiles(self, request, context):  # noqa: N802
        raise AssertionError("not called by these tests")

    async def DeleteFile(self, request, context):  # noqa: N802
        raise AssertionError("not called by these tests")

    async def CreateDownloadUrl(self, request, context):  # noqa: N802
        raise AssertionError("not called by these tests")


@asynccontextmanager
async def serving_jobs(jobs: Jobs, files: Files | None = None) -> AsyncIterator[str]:
    """Serve scripted jobs (and files) on the loopback interface; give the address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    job_service_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
    reconstruction_pb2_grpc.add_ReconstructionServiceServicer_to_server(jobs, server)
    file_pb2_grpc.add_FileServiceServicer_to_server(files or Files(), server)
    bound = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)
