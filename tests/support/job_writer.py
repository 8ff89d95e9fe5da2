"""A process that writes jobs into a SQLite file and tells of each write that was acknowledged.

Run as `python -m tests.support.job_writer FOLDER`, until it is killed; with a second argument the
file can only grow to so many bytes until the first failure, which is told of, too.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.jobs.backend import JobBackend
from tests.support.job_backends import append, create, sqlite_store

WRITERS = 4
EVENTS = 4
"""Events of each job in the end."""


def tell(*words: object) -> None:
    # One system call, so that lines of a process that is killed are whole.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def write_jobs(backend: JobBackend, name: str) -> None:
    """Write jobs with their events, one after the other."""
    number = 0
    while True:
        number += 1
        job = await create(backend, request_id=f"{name}-{number}")
        tell("created", job.key.job_id)
        for _ in range(EVENTS - 1):
            job = await append(backend, job)
            tell("appended", job.key.job_id, job.last_event_sequence)


async def write_until_killed(backend: JobBackend) -> None:
    async with asyncio.TaskGroup() as tasks:
        for writer in range(WRITERS):
            tasks.create_task(write_jobs(backend, f"{os.getpid()}-{writer}"))


async def write_until_full(backend: JobBackend, max_bytes: int) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, unlimited[1]))
    try:
        await write_jobs(backend, "full")
    except MaskwireError as error:
        tell("failed", error.code.name)
    depths = await backend.depths()
    tell("reads", *depths)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    tell("created", (await create(backend, request_id="after")).key.job_id)


async def main(folder: Path, *limit: str) -> None:
    async with sqlite_store(folder).opened() as backend:
        if limit:
            await write_until_full(backend, int(limit[0]))
        else:
            await write_until_killed(backend)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
