"""`maskwire.v1.ReconstructionService`: reconstructions are jobs that are followed to their end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from maskwire.v1 import reconstruction_pb2, reconstruction_pb2_grpc

from ...domain.jobs.service import JobMessage, JobService, Submission
from ...domain.queued_calls import CallAdmission, QueuedRequest
from ..calls import ServicerContext, current_caller
from ..converters.jobs import bodies_message_to_proto, objects_message_to_proto
from ..converters.queued_calls import bodies_submission_from_proto, objects_submission_from_proto


class ReconstructionServicer(reconstruction_pb2_grpc.ReconstructionServiceServicer):
    """Makes 3D objects and bodies."""

    def __init__(self, jobs: JobService, admission: CallAdmission) -> None:
        self._jobs = jobs
        self._admission = admission

    async def ReconstructObjects(  # noqa: N802  # the contract's name
        self, request: reconstruction_pb2.ReconstructObjectsRequest, context: ServicerContext
    ) -> AsyncGenerator[reconstruction_pb2.ReconstructObjectsResponse, None]:
        """Reconstruct objects: the job's name, events, the result."""
        async with aclosing(self._follow(*objects_submission_from_proto(request))) as messages:
            async for message in messages:
                yield objects_message_to_proto(message)

    async def ReconstructBodies(  # noqa: N802  # the contract's name
        self, request: reconstruction_pb2.ReconstructBodiesRequest, context: ServicerContext
    ) -> AsyncGenerator[reconstruction_pb2.ReconstructBodiesResponse, None]:
        """Reconstruct bodies: the job's name, events, the result."""
        async with aclosing(self._follow(*bodies_submission_from_proto(request))) as messages:
            async for message in messages:
                yield bodies_message_to_proto(message)

    async def _follow(
        self, submission: Submission, call: QueuedRequest
    ) -> AsyncGenerator[JobMessage, None]:
        caller = current_caller.get()
        job = await self._jobs.submit(
            submission, lambda: self._admission.admit(call, caller), caller
        )
        async with aclosing(self._jobs.follow(job, caller)) as messages:
            async for message in messages:
                yield message
