"""One decoding child as the server sees it: its socket, its shared memory, its end.

Pixels are read from the shared memory file with one `pread` into an array of the server's own, and
never mapped: a child can neither change them afterwards nor shrink the file beneath the server.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import messages
from .child import ChildLimits
from .nursery_handle import NurseryHandle, NurseryLostError

_START_S = 30.0


class ChildLostError(Exception):
    """A child crashed, took too long or said something that it should not.

    Attributes:
        reason: `crashed`, `memory`, `time` or `nonsense`.
    """

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


class ChildHandle:
    """A running child; used by one thread at a time.

    Attributes:
        tenant: Whose files it decodes.
        files: How many it was given.
        taken_bytes: The most values that it wrote for an order.
    """

    def __init__(
        self, nursery: NurseryHandle, memory_size: int, limits: ChildLimits, *files: int
    ) -> None:
        """Start a child.

        Args:
            nursery: What forks it.
            memory_size: Bytes of shared memory; only what is used takes any.
            limits: What it may use.
            files: Descriptors that it gets beside its own, which the caller closes.

        Raises:
            NurseryLostError: None can be started.
        """
        self.tenant = ""
        self.files = self.taken_bytes = 0
        self._nursery = nursery
        self._memory = _sealed_memory(memory_size)
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                descriptors = (theirs.fileno(), self._memory, *files)
                self.pid = nursery.start_child(descriptors, limits)
            self.is_filtered = bool(self._receive(_START_S).get("is_filtered"))
        except BaseException as error:
            self._connection.close()
            os.close(self._memory)
            if isinstance(error, ChildLostError):
                raise NurseryLostError(f"a decoder did not start: {error}") from error
            raise

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended, as far as can be told without asking it, and keeps quiet."""
        try:
            self._connection.settimeout(0)
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # it is gone, or answers before it is asked

    def ask(self, order: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Have an order carried out and return the answer.

        Raises:
            MaskwireError: What the child says of the file.
            ChildLostError: It is of no more use; `end` it.
        """
        try:
            self._connection.send(messages.encode(order))
        except OSError as error:
            raise ChildLostError("crashed", str(error)) from error
        answer = self._receive(timeout_s)
        if "error" in answer:
            try:
                about_file = messages.error_from_fields(answer["error"])
            except ValueError as nonsense:
                raise ChildLostError("nonsense") from nonsense
            raise about_file
        if "failed" in answer:
            is_memory = answer["failed"] == "memory"
            text = str(answer.get("text", ""))[:500]
            raise ChildLostError("memory" if is_memory else "crashed", text)
        return answer

    def put(self, *files: bytes) -> None:
        """Write files to the beginning of the shared memory, one after the other."""
        place = 0
        for data in files:
            self.files += 1
            with memoryview(data) as view:
                end = place + len(data)
                while place < end:
                    place += os.pwrite(self._memory, view[place - end :], place)

    def take(self, values: NDArray[Any], offset: int) -> None:
        """Fill an array with what lies at a place in the shared memory."""
        view = values.reshape(-1).view(np.uint8).data
        self.taken_bytes = max(self.taken_bytes, len(view))
        read = 0
        while read < len(view):
            count = os.preadv(self._memory, [view[read:]], offset + read)
            if count == 0:
                raise ChildLostError("nonsense", "values beyond the shared memory")
            read += count

    def end(self) -> int | None:
        """End it and free everything; return its exit status as far as it is known."""
        self._connection.close()
        os.close(self._memory)
        return self._nursery.end_child(self.pid)

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        try:
            self._connection.settimeout(timeout_s)
            answer = messages.receive(self._connection)
        except TimeoutError as error:
            raise ChildLostError("time", f"no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise ChildLostError("crashed", str(error)) from error
        except ValueError as error:
            raise ChildLostError("nonsense", str(error)) from error
        if answer is None:
            raise ChildLostError("crashed")
        return answer


def _sealed_memory(size: int) -> int:
    """Return the descriptor of anonymous memory whose size nobody can change any more."""
    memory = os.memfd_create("maskwire-decoder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, size)
    seals = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    return memory
