"""Tokens of pages of jobs, the same in every backend: where the page before ended.

Jobs are listed by when they were accepted, newest first, and those of one instant by identifier.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from ..domain.errors import invalid_field
from ..domain.jobs.job import Job

_TOKEN = re.compile(r"([0-9]{1,18})-([0-9a-f]{32})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Place = tuple[int, str]
"""Where a job is in the order of jobs: microseconds since 1970, and the identifier."""


def microseconds(time: datetime) -> int:
    """Return a time as whole microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def place(job: Job) -> Place:
    """Return where a job is in the order of jobs; newer ones are greater."""
    return microseconds(job.create_time), job.key.job_id


def token_after(last: Job) -> str:
    """Return the token of the page after one that ends with a job."""
    return "{}-{}".format(*place(last))


def place_before(token: str) -> Place | None:
    """Return the place that a page's jobs are all before; None for the first page.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a token that no page gave.
    """
    if not token:
        return None
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise invalid_field("page_token", "is not one that a page of jobs gave")
    return int(match[1]), match[2]
