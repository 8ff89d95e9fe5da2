"""The nursery as the server sees it: started, asked for children, replaced where it is gone."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from . import messages
from .child import ChildLimits

_ANSWER_S = 30.0  # the first answer comes after its imports, 0.4 s on an idle core
_END_S = 5.0
# It has no environment of the server's, so that this is told to it by an argument.
_BYTE_CODE = ("-B",) if sys.dont_write_bytecode else ()
_ARGV = (sys.executable, "-P", *_BYTE_CODE, "-m", "maskwire_server.decoders.nursery")
_ENVIRONMENT = {
    # OpenBLAS would start a thread for each core as numpy is loaded.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # A buffer that is freed stays for the next picture. Otherwise the kernel zeroes every page of
    # both buffers again each time: 1,500 faults and 3.5 ms more for 1024 x 1024 pixels.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(32 * 2**20),
}


class NurseryLostError(Exception):
    """The nursery does not answer, or can start nothing."""


class NurseryHandle:
    """Starts the nursery when it is needed; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def prepare(self) -> None:
        """Start the nursery, where there is none; does not wait until it is ready."""
        with self._lock:
            self._connect()

    def start_child(self, descriptors: Sequence[int], limits: ChildLimits) -> int:
        """Fork a child that has copies of descriptors; return its process identifier.

        Raises:
            NurseryLostError: There is none to be had now.
        """
        order = {
            "do": "start",
            "memory_bytes": limits.memory_bytes,
            "cpu_seconds": limits.cpu_seconds,
        }
        answer = self._ask(order, descriptors)
        if not isinstance(answer.get("pid"), int):
            raise NurseryLostError(f"no child can be started: {answer.get('failed')}")
        return int(answer["pid"])

    def end_child(self, pid: int) -> int | None:
        """End a child; return its exit status, negative for a signal, None where nobody knows."""
        try:
            return int(self._ask({"do": "end", "pid": pid}, ())["status"])
        except NurseryLostError:  # its children are gone with it
            return None

    def close(self) -> None:
        """End the nursery with all children."""
        with self._lock:
            self._drop()

    def _ask(self, order: messages.Fields, descriptors: Sequence[int]) -> dict[str, Any]:
        with self._lock:
            control = self._connect()
            try:
                socket.send_fds(control, [messages.encode(order)], list(descriptors))
                answer = messages.receive(control)
            except (OSError, ValueError) as error:
                self._drop()
                raise NurseryLostError(str(error)) from error
            if answer is None:
                self._drop()
                raise NurseryLostError("the process that starts decoders has ended")
            return answer

    def _connect(self) -> socket.socket:
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(
                (*_ARGV, str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise NurseryLostError(str(error)) from error
        finally:
            theirs.close()
        ours.settimeout(_ANSWER_S)
        self._control = ours
        return ours

    def _drop(self) -> None:
        if self._control is None or self._process is None:
            return
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._process.kill()  # nothing where it has ended
        self._process.wait()
        self._control = self._process = None
