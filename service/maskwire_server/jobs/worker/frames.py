"""What a worker and its child say to each other: frames over a socket, JSON with bytes behind it.

A frame is the lengths of its two parts, a small JSON object whose `kind` says what it is, and a
body. Nothing here is pickled, so that a child that misbehaves cannot run code in its worker.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

_LENGTHS = struct.Struct("!IQ")
_MAX_HEADER_BYTES = 64 * 2**10

START = "start"
"""To the child, first: its limits; the body is what it makes its runner from."""
TASK = "task"
"""To the child: a call; its body is the request."""
CANCEL = "cancel"
"""To the child: the call in work is to end."""
READY = "ready"
"""From the child: its runner is made."""
PROGRESS = "progress"
"""From the child: how far the call is."""
RESULT = "result"
"""From the child: the call is done; its body is the result."""
FAILURE = "failure"
"""From the child: the call failed."""
CANCELLED = "cancelled"
"""From the child: the call ended because it was cancelled."""


class BrokenFrame(Exception):
    """What came is no frame, or is larger than may be."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message.

    Attributes:
        kind: What it is.
        fields: What JSON can say.
        body: Bytes.
    """

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""

    def head(self) -> bytes:
        """Return all that goes before the body."""
        header = json.dumps({"kind": self.kind, **self.fields}).encode()
        return _LENGTHS.pack(len(header), len(self.body)) + header


async def read_frame(reader: asyncio.StreamReader, max_body_bytes: int) -> Frame | None:
    """Return the next frame, or None where the other side has closed.

    Raises:
        BrokenFrame: The frame is larger than it may be, or none.
    """
    try:
        lengths = await reader.readexactly(_LENGTHS.size)
        header_bytes, body_bytes = _checked(lengths, max_body_bytes)
        header = await reader.readexactly(header_bytes)
        body = await reader.readexactly(body_bytes)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return _frame(header, body)


def receive_frame(connection: socket.socket, max_body_bytes: int) -> Frame | None:
    """Return the next frame, or None where the other side has closed; blocks.

    Raises:
        BrokenFrame: As `read_frame`.
    """
    lengths = _receive(connection, _LENGTHS.size)
    if lengths is None:
        return None
    header_bytes, body_bytes = _checked(lengths, max_body_bytes)
    header = _receive(connection, header_bytes)
    body = None if header is None else _receive(connection, body_bytes)
    return None if header is None or body is None else _frame(header, body)


def send_frame(connection: socket.socket, frame: Frame) -> None:
    """Send a frame; blocks.

    Raises:
        OSError: The other side has closed.
    """
    connection.sendall(frame.head())
    connection.sendall(frame.body)


def _receive(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        try:
            count = connection.recv_into(view)
        except ConnectionError:
            return None
        if not count:
            return None
        view = view[count:]
    return bytes(data)


def _checked(lengths: bytes, max_body_bytes: int) -> tuple[int, int]:
    header_bytes, body_bytes = _LENGTHS.unpack(lengths)
    if header_bytes > _MAX_HEADER_BYTES:
        raise BrokenFrame(f"a header of {header_bytes} bytes")
    if body_bytes > max_body_bytes:
        raise BrokenFrame(f"a body of {body_bytes} bytes, more than {max_body_bytes}")
    return header_bytes, body_bytes


def _frame(header: bytes, body: bytes) -> Frame:
    try:
        fields = json.loads(header)
        kind = fields.pop("kind")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BrokenFrame("a header that cannot be read") from error
    return Frame(str(kind), fields, body)
