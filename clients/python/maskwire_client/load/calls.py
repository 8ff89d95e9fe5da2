"""Makes the call of an arrival, by the public client, and tells how it ended."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .._async_client import AsyncClient
from ..errors import JobFailed, MaskwireError
from ..images import ImageInput
from ..jobs import JobCall, SegmentCall
from ..prompts import Text
from ..reconstruction import ReconstructObjectsCall
from .arrivals import Arrival
from .connections import Attempts, attempts_counted
from .outcomes import OK, Outcome
from .pictures import PicturePool
from .plan import JobForm, Kind, LoadPlan, PromptForm

__all__ = ["Caller"]


@dataclass(slots=True)
class _Progress:
    """What is known of a call while it is made."""

    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    job_name: str = ""


class Caller:
    """Makes calls.

    Args:
        plan: The run.
        pictures: What the calls are about.
        clock: Gives the seconds since the beginning of the run.
    """

    def __init__(self, plan: LoadPlan, pictures: PicturePool, clock: Callable[[], float]) -> None:
        self._plan = plan
        self._pictures = pictures
        self._clock = clock

    async def make(self, arrival: Arrival, client: AsyncClient) -> Outcome:
        """Make the call of an arrival; a call that fails is an outcome, no exception."""
        progress = _Progress()
        code, message = OK, ""
        with attempts_counted() as attempts:
            try:
                await self._call(arrival, client, progress)
            except MaskwireError as error:
                cause = error.cause if isinstance(error, JobFailed) else error
                code, message = cause.status, cause.message
        return self._outcome(arrival, progress, attempts, code, message)

    def _outcome(
        self, arrival: Arrival, progress: _Progress, attempts: Attempts, code: str, message: str
    ) -> Outcome:
        has_given_up = code == "RESOURCE_EXHAUSTED"
        return Outcome(
            kind=arrival.kind,
            due_s=arrival.due_s,
            latency_s=self._clock() - arrival.due_s,
            code=code,
            overload_retries=max(0, attempts.overloads - has_given_up),
            digest_misses=attempts.digest_misses,
            message=message,
            request_id=progress.request_id,
            job_name=progress.job_name,
        )

    async def _call(self, arrival: Arrival, client: AsyncClient, progress: _Progress) -> None:
        """Make the call.

        Raises:
            MaskwireError: It failed.
        """
        image = self._image(arrival)
        match arrival.kind:
            case Kind.SEGMENT:
                await client.segment(
                    image,
                    model=self._plan.model,
                    request_id=progress.request_id,
                    **self._prompts(arrival),
                )
            case Kind.AUTO:
                await client.auto_segment(
                    image, model=self._plan.model, request_id=progress.request_id
                )
            case Kind.JOB:
                await self._run_job(self._job(arrival, image), client, progress)
            case _:
                raise AssertionError(f"{arrival.kind} does not arrive")

    async def _run_job(self, call: JobCall, client: AsyncClient, progress: _Progress) -> None:
        """Submit a job and wait for its result.

        Raises:
            MaskwireError: It failed, or took too long.
        """
        job = await client.submit_job(call, request_id=progress.request_id)
        progress.job_name = job.name
        async with client.watch_job(job.name, timeout_s=self._plan.job_deadline_s) as watch:
            await watch.result()

    def _image(self, arrival: Arrival) -> ImageInput:
        if arrival.is_new:
            return self._pictures.new(arrival.picture, arrival.number)
        return self._pictures.repeated(arrival.picture)

    def _prompts(self, arrival: Arrival) -> dict[str, Any]:
        picture = self._pictures.picture(arrival.picture)
        match arrival.prompt:
            case PromptForm.POINT:
                return {"points": [picture.point]}
            case PromptForm.BOX:
                return {"boxes": [picture.box]}
            case PromptForm.TEXT:
                return {"texts": [Text(self._plan.mix.text)]}

    def _job(self, arrival: Arrival, image: ImageInput) -> JobCall:
        if self._plan.mix.job is JobForm.RECONSTRUCT:
            picture = self._pictures.picture(arrival.picture)
            return ReconstructObjectsCall(
                image, prompts=[picture.box], segmentation_model=self._plan.model
            )
        return SegmentCall(image, model=self._plan.model, **self._prompts(arrival))
