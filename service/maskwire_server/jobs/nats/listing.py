"""Pages of jobs, newest first, out of records in any order."""

from __future__ import annotations

import heapq
import re
from collections.abc import AsyncIterable
from datetime import UTC, datetime, timedelta

from ...domain.errors import invalid_field
from ...domain.jobs.job import Job, JobFilter, JobPage
from .journal import Entry

_Age = tuple[int, str]
"""How jobs are ordered: microseconds since 1970 at which they were made, then identifier."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOKEN = re.compile(r"([0-9]{1,18})-([0-9a-f]{1,64})")


async def newest_page(
    entries: AsyncIterable[Entry], wanted: JobFilter, page_size: int, page_token: str
) -> JobPage:
    """Return a page; holds no more jobs than it has, and one.

    Raises:
        MaskwireError: `INVALID_ARGUMENT` for a page token that no page gave.
    """
    before = _age_of_token(page_token)
    oldest_first: list[_Age] = []
    kept: dict[_Age, Job] = {}
    async for entry in entries:
        age = _age(entry.job)
        if age in kept or not wanted.takes(entry.job) or (before is not None and age >= before):
            continue
        kept[age] = entry.job
        heapq.heappush(oldest_first, age)
        if len(kept) > page_size + 1:
            del kept[heapq.heappop(oldest_first)]
    jobs = tuple(kept[age] for age in sorted(kept, reverse=True)[:page_size])
    token = _token(jobs[-1]) if len(kept) > page_size else ""
    return JobPage(jobs, token)


def _age(job: Job) -> _Age:
    return (job.create_time - _EPOCH) // timedelta(microseconds=1), job.key.job_id


def _token(job: Job) -> str:
    microseconds, job_id = _age(job)
    return f"{microseconds}-{job_id}"


def _age_of_token(token: str) -> _Age | None:
    if not token:
        return None
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise invalid_field("page_token", "is not one that a page of jobs gave")
    return int(match[1]), match[2]
