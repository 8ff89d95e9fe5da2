"""The process that decoding children are forked from, so that a new one costs milliseconds.

Started by a server as `python -m maskwire_server.decoders.nursery DESCRIPTOR`. It loads what
decodes once, never sees a byte of a file, has one thread, and ends with its server, whatever ends
that: the connection then closes. Its children end with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import traceback
import warnings

import cv2
from PIL import AvifImagePlugin

from . import messages
from .child import ChildLimits, run_child

_MAX_DESCRIPTORS = 3
# What decoding imports on its way; children cannot open files any more.
_IMPORTED_LATER = (
    *("PIL.ImageOps", "PIL.ImagePalette", "PIL.TiffImagePlugin"),
    *("av.subtitles.stream", "numpy.ma"),
    *("encodings.ascii", "encodings.cp437", "encodings.latin_1", "encodings.utf_16"),
)


def main() -> None:
    """Serve the server that started this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the server drains and says when
    warnings.simplefilter("ignore")
    for module in _IMPORTED_LATER:
        importlib.import_module(module)
    _use_one_thread()
    gc.freeze()
    _Nursery(socket.socket(fileno=int(sys.argv[-1]))).serve()


def _use_one_thread() -> None:
    """Have nothing start threads: children may not, and the server decides what runs at a time."""
    cv2.setNumThreads(1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


class _Nursery:
    """Forks and ends children as it is told."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: set[int] = set()

    def serve(self) -> None:
        """Carry out orders until the server is gone; then end all children."""
        try:
            while True:
                data, descriptors, _, _ = socket.recv_fds(
                    self._control, messages.MAX_MESSAGE_BYTES, _MAX_DESCRIPTORS
                )
                if not data:
                    return
                order = messages.decode(data)
                if order["do"] == "start":
                    limits = ChildLimits(order["memory_bytes"], order["cpu_seconds"])
                    answer = self._start(descriptors, limits)
                else:
                    answer = self._end(order["pid"])
                self._control.send(messages.encode(answer))
        finally:
            for pid in list(self._children):
                self._end(pid)

    def _start(self, descriptors: list[int], limits: ChildLimits) -> messages.Fields:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            return {"failed": str(error)}
        finally:
            if os.getpid() == parent:
                for descriptor in descriptors:
                    os.close(descriptor)
        if pid == 0:
            _be_child(descriptors, limits, parent)
        self._children.add(pid)
        return {"pid": pid}

    def _end(self, pid: int) -> messages.Fields:
        """End a child, which may have ended by itself; tell how it did."""
        if pid not in self._children:
            return {"status": 0}
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        self._children.discard(pid)
        return {"status": os.waitstatus_to_exitcode(status)}


def _be_child(descriptors: list[int], limits: ChildLimits, parent: int) -> None:
    """Run as a child and end."""
    status = 1
    try:
        connection, memory, *files = descriptors
        run_child(
            socket.socket(fileno=connection), memory, files[0] if files else None, limits, parent
        )
        status = 0
    except BaseException:
        traceback.print_exc()  # seen where the child has not closed the server's log yet
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
