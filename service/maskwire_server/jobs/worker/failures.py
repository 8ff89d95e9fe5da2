"""Which failures of an attempt another attempt may not have."""

from __future__ import annotations

from ...domain.errors import ErrorCode, MaskwireError
from ...domain.jobs.calls import AttemptFailed
from ...domain.jobs.job import JobFailure

_RETRYABLE = frozenset(
    {
        ErrorCode.OVERLOADED,
        ErrorCode.STORAGE_UNAVAILABLE,
        ErrorCode.MODEL_UNAVAILABLE,
        ErrorCode.JOBS_UNAVAILABLE,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.WORKER_LOST,
    }
)


def is_retryable(code: ErrorCode) -> bool:
    """Return whether what failed may be there at the next attempt."""
    return code in _RETRYABLE


def failed(error: MaskwireError) -> AttemptFailed:
    """Return the end of an attempt that failed with an error of the domain."""
    return AttemptFailed(JobFailure(error.code, error.message), is_retryable(error.code))
