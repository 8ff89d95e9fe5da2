"""What runs as a job, and the interface of whatever runs it.

A queued call travels as bytes that only its transport can read: the domain decides whether it is
accepted and what must be put into it first, so that it can run later and elsewhere.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Protocol

from ..masks import EncodedMask
from .job import JobFailure, JobKey


@dataclass(frozen=True, slots=True)
class JobTask:
    """A call as a worker gets it.

    Attributes:
        key: The job.
        attempt: Which attempt this is, from 1.
        method: The call.
        request_id: The caller's identifier of the request.
        payload: The request.
        trace_context: Name of the attempt's trace; empty where there is none.
    """

    key: JobKey
    attempt: int
    method: str
    request_id: str
    payload: bytes
    trace_context: str = ""


@dataclass(frozen=True, slots=True)
class CallContent:
    """What is put into a call before it is queued, in place of what it referred to.

    Attributes:
        model: Name of the model or engine that is to serve it.
        image: The encoded image; None leaves the source as it is.
        masks: The objects' masks, in place of masks and prompts; None leaves both as they are.
        geometry: The bytes of the point map or the depth map; None leaves the source as it is.
    """

    model: str
    image: bytes | None = None
    masks: tuple[EncodedMask, ...] | None = None
    geometry: bytes | None = None


class QueuedMessage(Protocol):
    """A request as its transport carries it."""

    @property
    def method(self) -> str:
        """The call."""

    @property
    def digest(self) -> str:
        """`sha256:` digest of the request as it was sent."""

    def payload(self, content: CallContent) -> bytes:
        """Return the request for a worker, with content put into it."""


class JobCancelled(Exception):
    """The job that a runner works on was cancelled; raised by `JobProgress` to end the work."""


class JobProgress(Protocol):
    """What running work says about how far it is; may be called from any thread, and never blocks.

    Saying nothing for longer than the stall limit is being stuck.
    """

    def report(self, stage: str, fraction: float, log_line: str = "") -> None:
        """Tell the stage that runs and how much of the whole work is done, 0 to 1.

        Raises:
            JobCancelled: The work is to end now.
        """


class CallRunner(abc.ABC):
    """Runs queued calls."""

    @abc.abstractmethod
    async def run(self, task: JobTask, progress: JobProgress) -> bytes:
        """Run a call and return its result, as its transport reads it.

        Raises:
            MaskwireError: Why the call fails.
            JobCancelled: As `progress` raised it.
        """


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """The end of an attempt that failed.

    Attributes:
        failure: Why.
        is_retryable: Whether another attempt may succeed: the worker died or stalled, or something
            that it needs was not available.
    """

    failure: JobFailure
    is_retryable: bool


@dataclass(frozen=True, slots=True)
class AttemptCancelled:
    """The end of an attempt that stopped because the job was cancelled."""


@dataclass(frozen=True, slots=True)
class AttemptHandedBack:
    """The end of an attempt whose worker stops: others may take the job at once."""
