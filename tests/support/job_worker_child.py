"""A child of a job worker whose calls are scripts: each request says what happens to it.

A request is JSON: `steps`, done in order, and `result_bytes`. A step has `do` and may have
`attempts`, the attempts that it applies to. It runs as `python -m tests.support.job_worker_child`.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.jobs.calls import CallRunner, JobProgress, JobTask
from maskwire_server.jobs.worker import connection_of, serve_child

CHILD_ARGV = (sys.executable, "-m", "tests.support.job_worker_child")


def script(*steps: dict[str, Any], result_bytes: int = 0) -> bytes:
    """Return a request."""
    return json.dumps({"steps": steps, "result_bytes": result_bytes}).encode()


def work(stage: str, seconds: float, **options: Any) -> dict[str, Any]:
    """Return a step that takes time and reports progress every 20 ms."""
    return {"do": "work", "stage": stage, "seconds": seconds, **options}


def result_of(task_attempt: int, payload: bytes) -> bytes:
    """Return what a request's result is."""
    request = json.loads(payload)
    head = json.dumps({"attempt": task_attempt, "pid": os.getpid()}).encode()
    return head.ljust(request["result_bytes"], b" ")


class ScriptedRunner(CallRunner):
    """Does what requests say, on a thread."""

    async def run(self, task: JobTask, progress: JobProgress) -> bytes:
        """Run a request; as the interface says."""
        steps = json.loads(task.payload)["steps"]
        chosen = [one for one in steps if task.attempt in one.get("attempts", [task.attempt])]
        for number, step in enumerate(chosen):
            await asyncio.to_thread(_do, step, progress, number / len(chosen))
        return result_of(task.attempt, task.payload)


def _do(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    actions = {
        "allocate": _allocate,
        "exit": _exit,
        "fail": _fail,
        "log": _log,
        "print": _print,
        "raise": _raise,
        "signal": _signal,
        "spawn": _spawn,
        "stuck": _stuck,
        "until": _until,
        "work": _work,
    }
    actions[step["do"]](step, progress, fraction)


def _work(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    ends = time.monotonic() + step["seconds"]
    while True:
        progress.report(step["stage"], fraction, step.get("log_line", ""))
        if time.monotonic() >= ends:
            return
        threading.Event().wait(min(0.02, step["seconds"]))


def _until(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    """Work until a file appears; leave a mark first that it has begun."""
    Path(step["began"]).write_text(str(os.getpid()))
    while not Path(step["file"]).exists():
        progress.report("until", fraction)
        threading.Event().wait(0.02)


def _log(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    for number in range(step["lines"]):
        progress.report("log", fraction, f"line {number} " + "x" * step.get("characters", 0))


def _print(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    for number in range(step["lines"]):
        print(f"printed line {number} of {step['lines']}", flush=number % 1000 == 0)
    sys.stdout.flush()


def _signal(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    print("about to die", flush=True)
    progress.report("dying", fraction)
    threading.Event().wait(0.05)
    os.kill(os.getpid(), signal.Signals[step["signal"]])
    threading.Event().wait()


def _exit(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    os._exit(step["code"])


def _raise(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    raise RuntimeError("the secret detail")


def _fail(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    raise MaskwireError(ErrorCode[step["code"]], step["message"])


def _stuck(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    """Sit in native code; with `holds_lock` no other thread of the process runs meanwhile."""
    progress.report("stuck", fraction)
    threading.Event().wait(0.05)  # for the report to leave
    Path(step["began"]).write_text(str(os.getpid()))
    library = ctypes.PyDLL(None) if step.get("holds_lock") else ctypes.CDLL(None)
    library.sleep(1000)


def _allocate(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    progress.report("allocate", fraction)
    held = bytearray(step["bytes"])
    held[-1] = 1


def _spawn(step: dict[str, Any], progress: JobProgress, fraction: float) -> None:
    """Start a process that outlives this one unless somebody ends it, and note which."""
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)"], {}
    )
    Path(step["file"]).write_text(str(pid))


@asynccontextmanager
async def _make_runner(configuration: bytes) -> AsyncIterator[CallRunner]:
    if configuration == b"broken":
        raise MaskwireError(ErrorCode.MODEL_UNAVAILABLE, "no weights")
    if configuration == b"unforeseen":
        raise ValueError("the secret detail")
    yield ScriptedRunner()


if __name__ == "__main__":
    serve_child(connection_of(sys.argv), _make_runner)
