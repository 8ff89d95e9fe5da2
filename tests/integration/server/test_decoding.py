"""Decoding in a real server: children end with it, and one that dies costs one request."""

from __future__ import annotations

import io
import os
import select
import signal
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from maskwire.v1 import segmentation_pb2, segmentation_pb2_grpc
from maskwire_server.domain.file_decoder import NOT_WITHIN_LIMITS
from tests.support.metrics_page import scraped
from tests.support.server_process import ServerProcess, server_process

DEADLINE_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with server_process(tmp_path, limits={"pixel_threads": 1}) as running:
        yield running


def _request(seed: int = 0) -> segmentation_pb2.SegmentImageRequest:
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    request = segmentation_pb2.SegmentImageRequest()
    request.image.data = file.getvalue()
    request.prompts.add().point.point.x = 5
    return request


def _segment(
    channel: grpc.Channel, request: segmentation_pb2.SegmentImageRequest
) -> segmentation_pb2.SegmentImageResponse:
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    return stub.SegmentImage(request, timeout=DEADLINE_S)


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found += [int(one) for one in (task / "children").read_text(encoding="ascii").split()]
    return found


def _decoders(server: ServerProcess) -> tuple[int, list[int]]:
    """The process that children are forked from, and they."""
    (nursery,) = [
        pid
        for pid in _children(server.process.pid)
        if b"maskwire_server.decoders.nursery" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return nursery, _children(nursery)


def _wait_until_gone(pids: list[int]) -> None:
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue

        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        ended = poll.poll(20_000)
        os.close(descriptor)
        assert ended, f"process {pid} is still there"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_decoders_end_with_their_server(server, number):
    with grpc.insecure_channel(server.address) as channel:
        _segment(channel, _request())
        nursery, children = _decoders(server)
    assert children
    server.signal(number)
    server.wait()
    _wait_until_gone([nursery, *children])


def test_a_decoder_that_dies_is_replaced(server):
    with grpc.insecure_channel(server.address) as channel:
        _segment(channel, _request())
        _, (first,) = _decoders(server)
        os.kill(first, signal.SIGKILL)
        # Idle or just given the file: either way the next one is served.
        for seed in (1, 2):
            try:
                _segment(channel, _request(seed))
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017
                assert NOT_WITHIN_LIMITS in str(error.details())  # noqa: PT017
        _, (second,) = _decoders(server)
        assert second != first


def _slow_mask(width: int, height: int, chunks: int) -> bytes:
    """A whole mask, and between its parts more empty ones than can be walked through in time."""
    file = io.BytesIO()
    Image.new("1", (width, height), 1).save(file, "PNG")
    whole = file.getvalue()
    empty = bytes(4) + b"ruBb" + zlib.crc32(b"ruBb").to_bytes(4, "big")
    end = whole.index(b"IEND") - 4
    return whole[:end] + empty * chunks + whole[end:]


def _with_masks(*files: bytes) -> segmentation_pb2.SegmentImageRequest:
    request = _request()
    del request.prompts[:]
    for file in files:
        request.prompts.add().mask.encoded.png.data = file
    return request


def test_a_mask_that_stops_its_decoder_costs_its_request_and_not_the_server(tmp_path):
    good, evil = _slow_mask(80, 60, 0), _slow_mask(80, 60, 1_000_000)
    settings: dict[str, Any] = {
        "limits": {"pixel_threads": 1},
        "decoding": {"cpu_seconds": 0.3},
    }
    with (
        server_process(tmp_path, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        assert len(_segment(channel, _with_masks(good, good)).masks) == 2
        _, before = _decoders(server)
        with pytest.raises(grpc.RpcError) as caught:
            _segment(channel, _with_masks(good, evil, good))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        field = "prompts[1].mask.encoded.png.data"
        assert caught.value.details() == f"{field}: {NOT_WITHIN_LIMITS}"
        assert len(_segment(channel, _with_masks(good)).masks) == 1
        _, after = _decoders(server)
        assert not set(before) & set(after), "the child is another one"
        ended = scraped(server.metrics_port, "maskwire_decoder_restarts_total")
    assert ended == 2, "with the others, and alone"


def test_too_little_memory_is_the_requests_fault(tmp_path):
    decoding = {"memory_bytes": 2**26}
    with (
        server_process(tmp_path, decoding=decoding) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        request = _request()
        file = io.BytesIO()
        Image.new("RGB", (5000, 5000)).save(file, "PNG")
        request.image.data = file.getvalue()
        with pytest.raises(grpc.RpcError) as caught:
            _segment(channel, request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == f"image.data: {NOT_WITHIN_LIMITS}"
        assert len(_segment(channel, _request()).masks) == 1
