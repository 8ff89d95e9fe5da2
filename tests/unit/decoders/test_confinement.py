"""What a confined process can still do: compute, and little else. Each try is a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

ATTEMPTS = {
    "sockets": "import socket; socket.socket()",
    "pairs of sockets": "import socket; socket.socketpair()",
    "files": "open('/etc/passwd')",
    "its own memory as a file": "open('/proc/self/mem')",
    "new files": "open('/tmp/maskwire-confined', 'w')",
    "folders": "os.listdir('/')",
    "forks": "os.fork()",
    "programs": "os.execv('/bin/true', ['true'])",
    "threads": "import threading; threading.Thread(target=print).start()",
    "signals to others": "os.kill(os.getppid(), 0)",
    "signals to itself": "os.kill(os.getpid(), 9)",
    "limits of others": "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "limits of its own": "resource.setrlimit(resource.RLIMIT_CPU, (1, 1))",
    "memory files": "os.memfd_create('x')",
    "namespaces": "libc.unshare(0x10000000) == 0 or fail()",
    "tracing": "libc.ptrace(16, os.getppid(), 0, 0) == 0 or fail()",
}
_FRAME = """
import ctypes, os, resource, threading, socket
from maskwire_server.decoders.confinement import confine
libc = ctypes.CDLL(None)
def fail():
    raise PermissionError
assert confine({memory_bytes})
try:
    {attempt}
except (OSError, RuntimeError, MemoryError, ValueError):
    os.write(1, b"refused")
else:
    os.write(1, b"done")
os._exit(0)
"""


def _try(attempt: str, memory_bytes: int = 2**28) -> str:
    program = _FRAME.format(attempt=attempt, memory_bytes=memory_bytes)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_confined_process_is_refused(name):
    assert _try(ATTEMPTS[name]) == "refused"


def test_a_confined_process_computes():
    assert _try("sum(range(10**6)); bytearray(2**26)") == "done"


def test_memory_is_limited_beyond_what_was_there():
    assert _try("bytearray(2**27)", memory_bytes=2**26) == "refused"
