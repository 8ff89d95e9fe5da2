"""Every row of the bad-input table: the right status with field and rule, and no harm done."""

from __future__ import annotations

import functools
import io
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from PIL import Image

from maskwire.v1 import image_pb2, rendering_pb2, segmentation_pb2, segmentation_pb2_grpc
from tests.support.grpc_serving import detail, reason
from tests.support.metrics_page import scraped

Request = segmentation_pb2.SegmentImageRequest
Change = Callable[[Request], None]

WIDTH, HEIGHT = 96, 64
DEADLINE_S = 60.0
MEMORY_SLACK_BYTES = 96 * 2**20


def encoded_image(file_format: str = "PNG", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


def valid_request() -> Request:
    request = Request()
    request.image.data = encoded_image()
    request.prompts.add().point.point.x = 40.0
    request.prompts[0].point.point.y = 30.0
    return request


def png_header(width: int, height: int) -> bytes:
    """The signature and IHDR chunk of a PNG of 8-bit RGB."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", body)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@functools.cache
def png_bomb() -> bytes:
    """A complete PNG of 13,000 × 13,000 pixels: about 500 kB that decode to 507 MB."""
    side = 13_000
    compressor = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    parts = [compressor.compress(row) for _ in range(side)]
    packed = b"".join([*parts, compressor.flush()])
    return png_header(side, side) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _image(data: Callable[[], bytes]) -> Change:
    def change(request: Request) -> None:
        request.image.data = data()

    return change


def _point(x: float, y: float) -> Change:
    def change(request: Request) -> None:
        request.prompts[0].point.point.x = x
        request.prompts[0].point.point.y = y

    return change


def _box(x_min: float, y_min: float, x_max: float, y_max: float) -> Change:
    def change(request: Request) -> None:
        box = request.prompts.add().box.box
        box.x_min, box.y_min, box.x_max, box.y_max = x_min, y_min, x_max, y_max

    return change


def _label(request: Request) -> None:
    request.prompts[0].point.label = 7  # type: ignore[assignment]  # not a label, on purpose


def _max_masks(count: int) -> Change:
    def change(request: Request) -> None:
        request.mask_options.return_multiple_masks = True
        request.mask_options.max_masks = count

    return change


def _mask_of_another_size(request: Request) -> None:
    rle = request.prompts.add().mask.encoded.coco_rle_counts
    rle.size.width_px, rle.size.height_px = 10, 10
    rle.counts.extend([50, 50])


def _mask_that_covers_too_little(request: Request) -> None:
    rle = request.prompts.add().mask.encoded.coco_rle_counts
    rle.size.width_px, rle.size.height_px = WIDTH, HEIGHT
    rle.counts.extend([50, 50])


def _logits_not_finite(request: Request) -> None:
    logits = request.prompts.add().mask.logits
    logits.rows = logits.columns = 1
    logits.window.x_max, logits.window.y_max = WIDTH, HEIGHT
    logits.values = struct.pack("<f", math.nan)


def _many_points(request: Request) -> None:
    for _ in range(10_000):
        request.prompts.add().point.point.x = 1.0


def _no_prompts(request: Request) -> None:
    del request.prompts[:]


def _unknown_model(request: Request) -> None:
    request.model = "no-such-model"


def _unknown_digest(request: Request) -> None:
    request.image.digest = f"sha256:{'0' * 64}"


def _malformed_digest(request: Request) -> None:
    request.image.digest = "sha256:xyz"


def _web_address(request: Request) -> None:
    request.image.uri = "https://localhost/picture.png"


def _broken_data_uri(request: Request) -> None:
    request.image.uri = "data:image/png;base64,@@@"


def _text(request: Request) -> None:
    request.prompts.add().text.text = "wheel"


def _frame_index(request: Request) -> None:
    request.prompts[0].frame_index = 3


def _inverted_label_map(request: Request) -> None:
    request.renderings.add(style=rendering_pb2.RENDERING_STYLE_LABEL_MAP, invert=True)


def _inference_size(request: Request) -> None:
    request.inference_size_px = 63


REASONS_WITHOUT_FIELD = {
    "MODEL_NOT_FOUND",
    "IMAGE_NOT_FOUND",
    "SOURCE_DISABLED",
    "UNSUPPORTED_BY_MODEL",
}

INVALID = grpc.StatusCode.INVALID_ARGUMENT
ROWS: dict[str, tuple[Change, grpc.StatusCode, str, str]] = {
    "empty image": (_image(bytes), INVALID, "image", "at least 1"),
    "truncated JPEG": (
        _image(lambda: encoded_image("JPEG")[:-400]),
        INVALID,
        "image.data",
        "cut off",
    ),
    "PNG bomb": (_image(png_bomb), INVALID, "image.data", "limit"),
    "60,000 x 60,000 header": (
        _image(lambda: png_header(60_000, 60_000) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")),
        INVALID,
        "image.data",
        "60000",
    ),
    "unknown format": (_image(lambda: b"not a picture" * 9), INVALID, "image.data", "JPEG"),
    "box with x_max < x_min": (_box(9, 1, 3, 5), INVALID, "prompts[1].box.box.x_max", "greater"),
    "box with x_max = x_min": (_box(3, 1, 3, 5), INVALID, "prompts[1].box.box.x_max", "greater"),
    "box beside the image": (_box(200, 1, 300, 5), INVALID, "prompts[1].box", "overlap"),
    "point outside": (_point(WIDTH, 1), INVALID, "prompts[0].point.point", "outside"),
    "point above": (_point(1, -0.5), INVALID, "prompts[0].point.point", "outside"),
    "label 7": (_label, INVALID, "prompts[0].point.label", "defined"),
    "NaN coordinate": (_point(math.nan, 1), INVALID, "prompts[0].point.point.x", "finite"),
    "infinite coordinate": (_point(1, math.inf), INVALID, "prompts[0].point.point.y", "finite"),
    "max_masks 0": (_max_masks(0), INVALID, "mask_options.max_masks", "1"),
    "max_masks 33": (_max_masks(33), INVALID, "mask_options.max_masks", "32"),
    "mask of another size": (_mask_of_another_size, INVALID, "prompts[1].mask.encoded", "64"),
    "mask with too few pixels": (
        _mask_that_covers_too_little,
        INVALID,
        "prompts[1].mask.encoded",
        "6144",
    ),
    "logits that are not finite": (_logits_not_finite, INVALID, "prompts[1].mask.logits", "finite"),
    "10,000 points": (_many_points, INVALID, "prompts", "4096"),
    "no prompts": (_no_prompts, INVALID, "prompts", "1"),
    "unknown model": (_unknown_model, grpc.StatusCode.NOT_FOUND, "", "no-such-model"),
    "unknown digest": (_unknown_digest, grpc.StatusCode.NOT_FOUND, "", "sha256:0000"),
    "malformed digest": (_malformed_digest, INVALID, "image.digest", "sha256"),
    "web address": (_web_address, grpc.StatusCode.FAILED_PRECONDITION, "", "https"),
    "broken data URI": (_broken_data_uri, INVALID, "image.uri", "base64"),
    "text for a visual model": (_text, grpc.StatusCode.FAILED_PRECONDITION, "", "text"),
    "frame index for a still image": (_frame_index, INVALID, "prompts[0].frame_index", "video"),
    "inverted labels": (_inverted_label_map, INVALID, "renderings[0].invert", "inverted"),
    "inference size": (_inference_size, INVALID, "inference_size_px", "64"),
}


@pytest.fixture
def stub(channel: grpc.Channel) -> segmentation_pb2_grpc.SegmentationServiceStub:
    return segmentation_pb2_grpc.SegmentationServiceStub(channel)


def call(stub: segmentation_pb2_grpc.SegmentationServiceStub, request: Request):
    return stub.SegmentImage(request, timeout=DEADLINE_S)


def refused(stub: segmentation_pb2_grpc.SegmentationServiceStub, request: Request):
    with pytest.raises(grpc.RpcError) as raised:
        call(stub, request)
    return raised.value


def assert_serves(stub: segmentation_pb2_grpc.SegmentationServiceStub) -> None:
    response = call(stub, valid_request())
    assert len(response.masks) == 1
    size = response.masks[0].mask.coco_rle.size
    assert (size.width_px, size.height_px) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("row", ROWS)
def test_row(row, stub):
    change, code, field, rule = ROWS[row]
    request = valid_request()
    change(request)
    error = refused(stub, request)
    assert error.code() is code, error.details()
    assert rule in error.details()
    if field:
        violations = detail(error, error_details_pb2.BadRequest).field_violations
        assert any(violation.field.startswith(field) for violation in violations), violations
    else:
        assert reason(error) in REASONS_WITHOUT_FIELD
    assert detail(error, error_details_pb2.RequestInfo).request_id
    assert_serves(stub)


@pytest.mark.parametrize(
    ("change", "kind", "name"),
    [
        (_unknown_model, "model", "no-such-model"),
        (_unknown_digest, "image", f"sha256:{'0' * 64}"),
    ],
)
def test_what_is_not_found_is_named(stub, change, kind, name):
    request = valid_request()
    change(request)
    resource = detail(refused(stub, request), error_details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == (kind, name)


def test_of_two_image_sources_on_the_wire_the_last_counts(channel):
    """A client's library cannot send two: setting one clears the other. Raw bytes can, and then
    protobuf's rule for every oneof holds: the last one counts, the first is never seen."""
    request = valid_request()
    request.image.digest = f"sha256:{'0' * 64}"
    assert request.image.WhichOneof("source") == "digest"
    assert request.image.data == b""

    data = Request(image=image_pb2.ImageSource(data=encoded_image())).SerializeToString()
    unknown = image_pb2.ImageSource(digest=f"sha256:{'0' * 64}")
    digest = Request(image=unknown).SerializeToString()
    prompts = Request(prompts=valid_request().prompts).SerializeToString()
    with pytest.raises(grpc.RpcError) as raised:
        _call_raw(channel, data + digest + prompts)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    response = _call_raw(channel, digest + data + prompts)
    assert len(segmentation_pb2.SegmentImageResponse.FromString(response).masks) == 1


def _call_raw(channel: grpc.Channel, raw: bytes) -> bytes:
    method: Any = channel.unary_unary("/maskwire.v1.SegmentationService/SegmentImage")
    return method(raw, timeout=DEADLINE_S)


def test_a_message_over_the_size_limit(stub):
    request = valid_request()
    request.image.data = bytes(65 * 2**20)
    error = refused(stub, request)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.details()
    assert_serves(stub)


def test_an_expired_deadline(stub):
    with pytest.raises(grpc.RpcError) as raised:
        stub.SegmentImage(valid_request(), timeout=0.0)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert_serves(stub)


def test_clients_that_cancel_in_the_middle(server, stub):
    cancelled_before = calls(server, "handled", "CANCELLED")
    # Where this program stands still, all of them may have been answered before.
    while calls(server, "handled", "CANCELLED") == cancelled_before:
        started, handled = calls(server, "started") + 8, calls(server, "handled") + 8
        pending = []
        for seed in range(8):
            request = valid_request()
            request.image.data = encoded_image(seed=100 + seed)
            pending.append(stub.SegmentImage.future(request))
        while calls(server, "started") < started:
            pass
        for future in pending:
            future.cancel()
        while calls(server, "handled") < handled:
            pass
    assert_serves(stub)
    assert scraped(server.metrics_port, "maskwire_queue_depth", "cpu") == 0


def calls(server, what: str, *labels: str) -> float:
    name = f"grpc_server_{what}_total"
    return scraped(server.metrics_port, name, "SegmentImage", *labels)


def test_memory_returns(server, stub):
    """The whole table over and over: neither the peak nor what stays grows with it."""
    requests = []
    for change, *_ in ROWS.values():
        request = valid_request()
        change(request)
        requests.append(request)

    def one_round() -> None:
        for request in requests:
            refused(stub, request)

    one_round()
    assert_serves(stub)
    before, peak_before = memory_of(server.process.pid)
    for _ in range(10):
        one_round()
    assert_serves(stub)
    after, peak_after = memory_of(server.process.pid)
    assert after - before < MEMORY_SLACK_BYTES
    assert peak_after - peak_before < MEMORY_SLACK_BYTES


def memory_of(pid: int) -> tuple[int, int]:
    """Return the resident memory of a process and its peak, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
