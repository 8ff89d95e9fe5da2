"""A process that watches a job and prints the sequences of its events, until somebody kills it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from maskwire_server.domain.jobs.job import JobKey
from maskwire_server.domain.jobs.ledger import JobLedger
from maskwire_server.observability.logging import configure_logging
from maskwire_server.settings import LoggingSettings
from tests.support.job_backends import RULES, utc_now
from tests.support.job_worker_world import Place


async def _main(settings: dict[str, Any]) -> None:
    backend = Place(settings["kind"], settings["address"], settings["prefix"]).backend(1.0)
    await backend.open()
    key = JobKey(settings["tenant"], settings["job_id"])
    async for event in JobLedger(backend, RULES, utc_now).watch(key, 0):
        print(event.sequence, flush=True)
    await backend.close()


if __name__ == "__main__":
    configure_logging(LoggingSettings(), sys.stderr)
    asyncio.run(_main(json.loads(sys.argv[1])))
