"""A process with one worker, which tests stop, freeze and kill: JSON settings are its argument.

`crash_in_commit` names a file: where it is not, the process makes it and dies between the upload of
a result and its commit. `hold_commit` names two: before a commit the first is made and the second
waited for. `max_file_bytes` is a full disk: no file grows beyond it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from maskwire_server.domain.jobs.job import Job
from maskwire_server.domain.jobs.ledger import AttemptOutcome, Claim, JobLedger
from maskwire_server.jobs.worker import JobWorkers, KeepingTimes, WorkerLimits, WorkerSetup
from maskwire_server.observability.logging import configure_logging
from maskwire_server.observability.metrics import Metrics
from maskwire_server.settings import LoggingSettings
from tests.support.job_backends import RULES, utc_now
from tests.support.job_worker_child import CHILD_ARGV
from tests.support.job_worker_world import QUEUE, Place, appeared, contents_in


class FaultyLedger(JobLedger):
    """A ledger that fails where the settings say."""

    def __init__(self, settings: dict[str, Any], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._settings = settings

    async def commit(self, claim: Claim, outcome: AttemptOutcome) -> Job:
        """Commit, unless the process dies before it."""
        if crash := self._settings.get("crash_in_commit"):
            _crash_once(Path(crash))
        if hold := self._settings.get("hold_commit"):
            await asyncio.to_thread(Path(hold[0]).write_text, "holding")
            await appeared(Path(hold[1]))
        return await super().commit(claim, outcome)


def _crash_once(mark: Path) -> None:
    if not mark.exists():
        mark.write_text("crashed")
        os._exit(1)


async def _main(settings: dict[str, Any]) -> None:
    if "max_file_bytes" in settings:
        most = settings["max_file_bytes"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    lease_s = settings["lease_s"]
    place = Place(settings["kind"], settings["address"], settings["prefix"])
    backend = place.backend(lease_s, settings.get("busy_timeout_s", 10.0))
    await backend.open()
    metrics = Metrics()
    ledger = FaultyLedger(settings, backend, RULES, utc_now, metrics)
    times = KeepingTimes(
        lease_s, settings.get("stall_timeout_s", 30.0), settings.get("cancel_grace_s", 0.5)
    )
    limits = WorkerLimits(times, 300.0, 0, settings.get("event_interval_s", 0.05), 64 * 2**20)
    with contents_in(Path(settings["contents"])) as contents:
        setup = WorkerSetup(1, (QUEUE,), CHILD_ARGV, limits)
        workers = JobWorkers(ledger, contents, metrics, setup)
        workers.start()
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        print("ready", flush=True)
        await stopping.wait()
        await workers.stop(settings.get("grace_s", 0.0))
    await backend.close()


if __name__ == "__main__":
    configure_logging(LoggingSettings(level="debug"), sys.stderr)
    asyncio.run(_main(json.loads(sys.argv[1])))
