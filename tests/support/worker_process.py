"""A real worker in a process of its own: `maskwire worker` with a settings file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 60.0


@contextmanager
def worker_process(settings_file: Path, **environment: str) -> Iterator[deque[str]]:
    """Run a worker until the end of the block, then end it with SIGTERM; yield its log's lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "maskwire_client.cli", "worker"],
        env={**os.environ, "MASKWIRE_CONFIG": str(settings_file), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log: deque[str] = deque(maxlen=2000)
    working = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                log.append(line.rstrip("\n"))
                if '"event": "working"' in line:
                    working.set()
        working.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert working.wait(_START_TIMEOUT_S), "\n".join(log)
        assert process.poll() is None, "\n".join(log)
        yield log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(_STOP_TIMEOUT_S)
        reader.join(_STOP_TIMEOUT_S)


def events(log: deque[str], name: str) -> list[dict[str, object]]:
    """Return the entries of a JSON log with an event's name."""
    entries = [json.loads(line) for line in log if line.startswith("{")]
    return [one for one in entries if one.get("event") == name]
