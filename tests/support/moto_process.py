"""An S3 service in a process of its own, on loopback: `moto_server`, where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MOTO_VARIABLE = "MASKWIRE_MOTO_SERVER"
"""Environment variable that names the program, where it is not on the path."""

_STARTED = re.compile(r"Running on (http://127\.0\.0\.1:[0-9]+)")
_START_TIMEOUT_S = 60.0


def moto_program() -> str:
    """Return the program; skip the test where there is none, and fail it in CI."""
    # Its venv is its own, within ours, because it needs another python-dateutil.
    beside = Path(sys.prefix) / "moto" / "bin" / "moto_server"
    named = os.environ.get(MOTO_VARIABLE) or shutil.which("moto_server")
    program = named or (str(beside) if beside.exists() else None)
    if program is None:
        assert not os.environ.get("CI"), "moto_server must be installed in CI"
        pytest.skip(
            "the S3 protocol was not tested: there is no moto_server on the path, in "
            f"{MOTO_VARIABLE} or at {beside} (moto[server] in a venv)"
        )
    return program


@contextmanager
def moto_process(program: str) -> Iterator[str]:
    """Run the service on a free port and yield its address."""
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    address: list[str] = []
    found = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                match = _STARTED.search(line)
                if match and not address:
                    address.append(match[1])
                    found.set()
        found.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert found.wait(_START_TIMEOUT_S), "moto_server did not start in time"
        assert address, f"moto_server ended with {process.wait()}"
        yield address[0]
    finally:
        process.terminate()
        process.wait()
        reader.join()
