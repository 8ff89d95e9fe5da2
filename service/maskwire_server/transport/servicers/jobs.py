"""`maskwire.v1.JobService` over the domain's service of the same name."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from maskwire.v1 import job_service_pb2, job_service_pb2_grpc

from ...domain.jobs.service import JobService, JobStatus
from ...domain.queued_calls import CallAdmission
from ..calls import ServicerContext, current_caller
from ..converters.jobs import (
    DEFAULT_PAGE_SIZE,
    job_filter_from_proto,
    job_to_proto,
    watch_message_to_proto,
)
from ..converters.queued_calls import submission_from_proto


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """Watches and steers durable jobs."""

    def __init__(self, jobs: JobService, admission: CallAdmission) -> None:
        self._jobs = jobs
        self._admission = admission

    async def SubmitJob(  # noqa: N802  # the contract's name
        self, request: job_service_pb2.SubmitJobRequest, context: ServicerContext
    ) -> job_service_pb2.SubmitJobResponse:
        """Queue a call."""
        caller = current_caller.get()
        submission, call = submission_from_proto(request)
        job = await self._jobs.submit(
            submission, lambda: self._admission.admit(call, caller), caller
        )
        return job_service_pb2.SubmitJobResponse(job=job_to_proto(await self._jobs.status(job)))

    async def GetJob(  # noqa: N802  # the contract's name
        self, request: job_service_pb2.GetJobRequest, context: ServicerContext
    ) -> job_service_pb2.GetJobResponse:
        """Tell how a job stands."""
        status = await self._jobs.get(current_caller.get(), request.name)
        return job_service_pb2.GetJobResponse(job=job_to_proto(status))

    async def ListJobs(  # noqa: N802  # the contract's name
        self, request: job_service_pb2.ListJobsRequest, context: ServicerContext
    ) -> job_service_pb2.ListJobsResponse:
        """List the caller's jobs."""
        page = await self._jobs.list(
            current_caller.get(),
            job_filter_from_proto(request),
            page_size=request.page_size if request.HasField("page_size") else DEFAULT_PAGE_SIZE,
            page_token=request.page_token,
        )
        jobs = [job_to_proto(JobStatus(job, 0)) for job in page.jobs]
        return job_service_pb2.ListJobsResponse(jobs=jobs, next_page_token=page.next_page_token)

    async def WatchJob(  # noqa: N802  # the contract's name
        self, request: job_service_pb2.WatchJobRequest, context: ServicerContext
    ) -> AsyncGenerator[job_service_pb2.WatchJobResponse, None]:
        """Send a job's events, and the job once it is done."""
        watching = self._jobs.watch(current_caller.get(), request.name, request.after_sequence)
        async with aclosing(watching) as messages:
            async for message in messages:
                yield watch_message_to_proto(message)

    async def CancelJob(  # noqa: N802  # the contract's name
        self, request: job_service_pb2.CancelJobRequest, context: ServicerContext
    ) -> job_service_pb2.CancelJobResponse:
        """Cancel a job."""
        status = await self._jobs.cancel(current_caller.get(), request.name)
        return job_service_pb2.CancelJobResponse(job=job_to_proto(status))

    async def GetJobResult(  # noqa: N802  # the contract's name
        self, request: job_service_pb2.GetJobResultRequest, context: ServicerContext
    ) -> job_service_pb2.GetJobResultResponse:
        """Tell what a job made."""
        result = await self._jobs.result(current_caller.get(), request.name)
        return job_service_pb2.GetJobResultResponse.FromString(result)
