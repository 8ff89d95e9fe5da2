"""A client that speaks just enough HTTP/2 to begin a gRPC call and then to misbehave.

Ordinary clients cannot announce a message and send a byte of it at a time.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_STREAM = 1


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """Write a header as HPACK's literal without indexing, whose texts are short and plain."""
    assert max(len(name), len(value)) < 127
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class SlowCall:
    """One call on a connection of its own, whose request comes as slowly as the test likes.

    Attributes:
        ended: Set when the server has ended the call or the connection.
    """

    def __init__(self, address: str, path: str, *metadata: tuple[str, str]) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self.ended = threading.Event()
        headers = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "600S"),
            *metadata,
        )
        block = b"".join(_literal(name, value) for name, value in headers)
        self._socket.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0) + _frame(_HEADERS, _END_HEADERS, _STREAM, block)
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def announce(self, size_bytes: int) -> None:
        """Say how large the message is that follows."""
        self._send(struct.pack(">BI", 0, size_bytes))

    def trickle(self, interval_s: float) -> None:
        """Send a byte of the message at a time until the server ends the call."""
        while not self.ended.wait(interval_s):
            self._send(b"\0")

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(_frame(_DATA, 0, _STREAM, data))
        except OSError:
            self.ended.set()

    def _read(self) -> None:
        try:
            while (head := self._exactly(9)) is not None:
                size = int.from_bytes(head[:3], "big")
                kind, flags = head[3], head[4]
                payload = self._exactly(size) if size else b""
                if payload is None:
                    break
                if kind in (_SETTINGS, _PING) and not flags & _ACK:
                    self._socket.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
                elif kind in (_RST_STREAM, _GOAWAY) or (
                    kind in (_DATA, _HEADERS) and flags & _END_STREAM
                ):
                    break
        except OSError:
            pass
        self.ended.set()

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                return None
            data += part
        return data
