"""A real server in a process of its own, as users run it: `maskwire serve` with a settings file."""

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
from typing import IO, Any

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
_KEPT_LOG_LINES = 2000


class ServerProcess:
    """A running `maskwire serve`; its log is JSON lines, of which the latest are kept.

    Attributes:
        log: These lines, of standard error.
        lines_read: How many there have been; `log_since` takes what this was.
        output: A file with all of standard output.
    """

    def __init__(self, settings_file: Path) -> None:
        environment = {**os.environ, "MASKWIRE_CONFIG": str(settings_file), "PYTHONUNBUFFERED": "1"}
        self.output = settings_file.with_name("stdout.txt")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "maskwire_client.cli", "serve"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.log: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self.lines_read = 0
        self._reading = threading.Condition()
        self.address = ""
        self.metrics_port = 0
        self._listening = threading.Event()
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def wait_until_serving(self) -> None:
        """Return when the server says that it serves; fail with its log when it ends instead."""
        if not self._listening.wait(START_TIMEOUT_S) or not self.address:
            self.process.kill()
            raise AssertionError("the server did not start:\n" + "\n".join(self.log))

    def log_since(self, line: int) -> list[str]:
        """Return the lines after so many; fail when some of them are not kept any more."""
        with self._reading:
            kept, after = list(self.log), self.lines_read - line
        assert after <= len(kept), f"{after - len(kept)} lines are lost"
        return kept[len(kept) - after :]

    def wait_for_line(self, part: str, line: int = 0) -> None:
        """Return once a line with this in it is read, after so many; all before it are read then.

        A server writes of a call before it answers; it is read here only a moment later.
        """
        with self._reading:
            found = self._reading.wait_for(
                lambda: any(part in one for one in self.log_since(line)), STOP_TIMEOUT_S
            )
        assert found, f"{part} is not in the log"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code once the process has ended and its log is read."""
        code = self.process.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)
        return code

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._reading:
                    self.log.append(line.rstrip("\n"))
                    self.lines_read += 1
                    self._reading.notify_all()
                if not self._listening.is_set():
                    self._note(line)
        self._listening.set()

    def _note(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if isinstance(entry, dict) and entry.get("event") == "serving":
            self.address = entry["address"]
            self.metrics_port = entry["metrics_port"] or 0
            self._listening.set()


@contextmanager
def server_process(folder: Path, **settings: dict[str, Any]) -> Iterator[ServerProcess]:
    """Run a server with these groups of settings on free ports; end it with SIGTERM."""
    groups: dict[str, dict[str, Any]] = {
        "grpc": {"port": 0, "drain_notice_s": 0.0},
        "metrics": {"port": 0},
        "logging": {"format": "json"},
        "storage": {"folder": str(folder / "files")},
        "jobs": {"database": str(folder / "jobs.sqlite")},
    }
    for name, values in settings.items():
        groups.setdefault(name, {}).update(values)
    file = folder / "maskwire.toml"
    file.write_text(_as_toml(groups))
    server = ServerProcess(file)
    try:
        server.wait_until_serving()
        yield server
    finally:
        if server.process.poll() is None:
            server.signal(signal.SIGTERM)
        server.wait()


def _as_toml(groups: dict[str, dict[str, Any]]) -> str:
    """Write settings as TOML, whose inline values are JSON's for the types that settings have."""
    lines = []
    for group, values in groups.items():
        lines.append(f"[{group}]")
        tables = {name: value for name, value in values.items() if _is_table_list(value)}
        lines += [f"{name} = {json.dumps(values[name])}" for name in values if name not in tables]
        for name, items in tables.items():
            for item in items:
                lines.append(f"[[{group}.{name}]]")
                lines += [f"{key} = {json.dumps(value)}" for key, value in item.items()]
    return "\n".join(lines) + "\n"


def _is_table_list(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)
