from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.jobs.worker.frames import (
    BrokenFrame,
    Frame,
    read_frame,
    receive_frame,
    send_frame,
)

LIMIT = 2**20


def sent_through(data: bytes) -> Frame | None:
    """Return what a blocking reader makes of bytes after which the other side closes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = threading.Thread(target=_send_and_close, args=(theirs, data))
        writer.start()
        try:
            return receive_frame(ours, LIMIT)
        finally:
            writer.join()


def _send_and_close(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.close()


async def read_from(data: bytes) -> Frame | None:
    """Return what the event loop's reader makes of bytes after which the other side closes."""
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await read_frame(reader, LIMIT)


@given(
    kind=st.text(max_size=20),
    fields=st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "kind"),
        st.text(max_size=20) | st.integers() | st.booleans(),
    ),
    body=st.binary(max_size=200),
)
def test_frames_come_out_as_they_went_in(kind, fields, body):
    frame = Frame(kind, fields, body)
    data = frame.head() + body
    assert sent_through(data) == frame
    assert asyncio.run(read_from(data)) == frame


def test_large_bodies_pass_a_socket():
    ours, theirs = socket.socketpair()
    frame = Frame("result", body=os.urandom(LIMIT))
    with ours, theirs:
        writer = threading.Thread(target=send_frame, args=(theirs, frame))
        writer.start()
        assert receive_frame(ours, LIMIT) == frame
        writer.join()


async def test_a_frame_that_is_cut_off_is_the_end():
    data = Frame("result", {"a": 1}, b"12345").head() + b"12345"
    for length in range(len(data)):
        assert await read_from(data[:length]) is None
        assert sent_through(data[:length]) is None


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!IQ", 2**31, 0),
        struct.pack("!IQ", 2, LIMIT + 1) + b"{}",
        struct.pack("!IQ", 2, 0) + b"{}",
        struct.pack("!IQ", 2, 0) + b"[]",
        struct.pack("!IQ", 4, 0) + b"\xff\xfe\xfd\xfc",
        struct.pack("!IQ", 1, 0) + b"{",
    ],
)
async def test_what_is_no_frame_is_refused_before_memory_is_taken_for_it(data):
    with pytest.raises(BrokenFrame):
        await read_from(data)
    with pytest.raises(BrokenFrame):
        sent_through(data)


def test_the_header_is_plain_json():
    head = Frame("progress", {"fraction": 0.5}, b"xy").head()
    header_bytes, body_bytes = struct.unpack("!IQ", head[:12])
    assert json.loads(head[12:]) == {"kind": "progress", "fraction": 0.5}
    assert (header_bytes, body_bytes) == (len(head) - 12, 2)
