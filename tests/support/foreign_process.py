"""Servers of others in processes of their own: to be frozen, killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import pytest

_START_TIMEOUT_S = 30.0


def program_of(names: Sequence[str], untested: str) -> str:
    """Return the first of these programs on the path; skip the test where there is none.

    In CI that fails it. The first name is that of the Debian package; `untested` is what was not
    tested then.
    """
    for name in names:
        if program := shutil.which(name):
            return program
    assert not os.environ.get("CI"), f"{names[0]} must be installed in CI"
    pytest.skip(f"{untested}: there is no {names[0]} on the path (Debian package {names[0]})")


class ForeignProcess(ABC):
    """A server that says in its output when it is ready."""

    ready_line: str
    """Part of the line that says so."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @abstractmethod
    def arguments(self) -> list[str]:
        """Return the arguments of the program, which are asked for at every start."""

    def start(self) -> None:
        """Start it and return once it takes connections."""
        self._process = subprocess.Popen(
            [self._program, *self.arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, ready))
        self._reader.start()
        if not ready.wait(_START_TIMEOUT_S) or self._process.poll() is not None:
            self.kill()
            raise RuntimeError(f"{self._program} did not start")

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it neither answer nor notice anything, until `thaw`."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        # The signal is on its way until every thread has stopped.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if self.ready_line in line:
                    ready.set()
        ready.set()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: int) -> None:
        if self._process is None or self._reader is None:
            return
        self._process.send_signal(number)
        self._process.wait()
        self._reader.join()
        self._process = None
