"""What is fuzzed: each target takes any bytes, and either refuses them politely or keeps a promise.

A target refuses with a `MaskwireError` about the request; every other exception is a finding.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from PIL import Image

from maskwire.v1 import (
    file_pb2,
    job_service_pb2,
    realtime_pb2,
    reconstruction_pb2,
    segmentation_pb2,
    video_pb2,
)
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.images import ImageLimits, decode_image
from maskwire_server.domain.mask_encodings import decode_png, encode_png
from maskwire_server.domain.polygons import Polygon, bitmap_to_polygons, polygons_to_bitmap
from maskwire_server.domain.reconstruction.geometry import Intrinsics
from maskwire_server.domain.reconstruction.point_maps import read_depth_map, read_point_map
from maskwire_server.domain.rle import decode_rle, encode_rle
from maskwire_server.transport.converters import auto_segmentation as auto_converters
from maskwire_server.transport.converters import files as file_converters
from maskwire_server.transport.converters import jobs as job_converters
from maskwire_server.transport.converters import queued_calls as queued_converters
from maskwire_server.transport.converters import segmentation as segment_converters
from maskwire_server.transport.converters import sessions as session_converters
from maskwire_server.transport.converters import video as video_converters
from maskwire_server.transport.validation import RequestValidator
from tests.robustness.fuzz.valid_requests import filled, valid_requests

REFUSALS = {
    ErrorCode.INVALID_ARGUMENT,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.UNIMPLEMENTED,
    ErrorCode.SEED_REFUSED,
}
_LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=1 << 20, max_side_px=4096)
_MAP_SIZE = ImageSize(width_px=5, height_px=4)
_VALIDATOR = RequestValidator()


@dataclass(frozen=True, slots=True)
class Target:
    """Something to fuzz.

    Attributes:
        run: Takes the bytes; what it raises, other than `MaskwireError`, is a finding.
        seeds: Makes valid inputs to begin from.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]

    def try_out(self, data: bytes) -> bool:
        """Run on one input; return whether it was accepted."""
        try:
            self.run(data)
        except MaskwireError as error:
            if error.code not in REFUSALS:
                raise AssertionError(f"{error.code} blames the server") from error
            return False
        return True


def _sized(data: bytes) -> tuple[ImageSize, bytes]:
    """Take a size of 1 to 256 pixels a side from the first two bytes."""
    head = data[:2].ljust(2, b"\x07")
    return ImageSize(width_px=head[0] + 1, height_px=head[1] + 1), data[2:]


def _run_rle(data: bytes) -> None:
    size, counts = _sized(data)
    bitmap = decode_rle(counts, size)
    assert bitmap.shape == (size.height_px, size.width_px)
    np.testing.assert_array_equal(decode_rle(encode_rle(bitmap), size), bitmap)


def _rle_seeds() -> list[bytes]:
    rng = np.random.default_rng(0)
    bitmaps = [np.zeros((8, 8), np.bool_), np.ones((8, 8), np.bool_), rng.random((40, 9)) > 0.5]
    return [bytes([one.shape[1] - 1, one.shape[0] - 1]) + encode_rle(one) for one in bitmaps]


def _run_polygons(data: bytes) -> None:
    """Rings of float32 pairs; a NaN in place of x ends a ring, y says whether it was a hole."""
    size, rest = _sized(data)
    points = np.frombuffer(rest[: len(rest) // 8 * 8], dtype="<f4").reshape(-1, 2)
    ends = np.flatnonzero(np.isnan(points[:, 0]))
    rings = np.split(points, ends + 1)
    polygons: list[Polygon] = []
    for ring in rings if len(rings[-1]) else rings[:-1]:
        is_hole = bool(len(ring) and np.isnan(ring[-1, 0]) and ring[-1, 1] > 0)
        kept = ring[:-1] if len(ring) and np.isnan(ring[-1, 0]) else ring
        if is_hole and polygons:
            last = polygons.pop()
            polygons.append(Polygon(last.outer, (*last.holes, kept)))
        else:
            polygons.append(Polygon(kept))
    bitmap = polygons_to_bitmap(polygons, size)
    assert bitmap.shape == (size.height_px, size.width_px)
    again = polygons_to_bitmap(bitmap_to_polygons(bitmap), size)
    np.testing.assert_array_equal(again, bitmap)


def _polygon_seeds() -> list[bytes]:
    square = struct.pack("<8f", 1, 1, 9, 1, 9, 9, 1, 9)
    end, hole = struct.pack("<2f", float("nan"), -1), struct.pack("<2f", float("nan"), 1)
    inner = struct.pack("<6f", 3, 3, 6, 3, 4, 6)
    return [b"\x0f\x0f" + square, b"\x0f\x0f" + square + end + inner + hole + square + end]


def _run_png(data: bytes) -> None:
    size, file = _sized(data)
    bitmap = decode_png(file, size)
    assert bitmap.shape == (size.height_px, size.width_px)
    for depth in (1, 8):
        np.testing.assert_array_equal(decode_png(encode_png(bitmap, bit_depth=depth), size), bitmap)


def _png_seeds() -> list[bytes]:
    bitmap = np.random.default_rng(1).random((6, 7)) > 0.5
    head = bytes([6, 5])
    made = [head + encode_png(bitmap, bit_depth=depth) for depth in (1, 8)]
    grey = (bitmap * 255).astype(np.uint8)
    for mode in ("L", "LA", "RGB", "RGBA", "P", "I;16"):
        image = Image.fromarray(grey).convert("I" if mode == "I;16" else mode)
        made.append(head + _saved(image.convert(mode), "PNG"))
    return made


def _run_images(data: bytes) -> None:
    pixels = decode_image(data, _LIMITS)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


def _image_seeds() -> list[bytes]:
    pixels = np.random.default_rng(2).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    return [_saved(image, name) for name in ("JPEG", "PNG", "WEBP", "GIF", "AVIF")]


def _run_arrays(data: bytes) -> None:
    if data[:1] == b"d":
        camera = Intrinsics(10.0, 10.0, 2.5, 2.0)
        points = read_depth_map(data[1:], _MAP_SIZE, camera, 0.001, "depth", 1 << 16)
    else:
        points = read_point_map(data[1:], _MAP_SIZE, "points", 1 << 16)
    assert points.shape == (4, 5, 3)
    assert points.dtype == np.float32


def _array_seeds() -> list[bytes]:
    points = np.ones((4, 5, 3), np.float32)
    made: list[bytes] = []
    for values, kind in ((points, b"p"), (points[..., 0], b"d"), (points.astype(">f8"), b"p")):
        plain, zipped, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
        np.save(plain, values)
        np.savez(zipped, values)
        np.savez_compressed(packed, values)
        made += [kind + file.getvalue() for file in (plain, zipped, packed)]
    depth = Image.fromarray(np.full((4, 5), 700, np.uint16))
    return [*made, b"d" + _saved(depth, "PNG")]


_CONVERTERS: tuple[tuple[type[Message], Callable[[Any], object]], ...] = (
    (segmentation_pb2.SegmentImageRequest, segment_converters.segment_request_from_proto),
    (segmentation_pb2.AutoSegmentRequest, auto_converters.auto_segment_request_from_proto),
    (video_pb2.TrackVideoRequest, video_converters.track_video_request_from_proto),
    (
        reconstruction_pb2.ReconstructObjectsRequest,
        queued_converters.objects_submission_from_proto,
    ),
    (
        reconstruction_pb2.ReconstructBodiesRequest,
        queued_converters.bodies_submission_from_proto,
    ),
    (job_service_pb2.SubmitJobRequest, queued_converters.submission_from_proto),
    (job_service_pb2.ListJobsRequest, job_converters.job_filter_from_proto),
    (file_pb2.UploadFileRequest, file_converters.upload_message_from_proto),
    (
        file_pb2.CreateDownloadUrlRequest,
        file_converters.url_time_to_live_from_proto,
    ),
    (
        realtime_pb2.RunSessionRequest,
        lambda message: session_converters.session_content_from_proto(message, _VALIDATOR),
    ),
)


def _run_converters(data: bytes) -> None:
    """Convert as servicers do what is valid; the first byte chooses the message.

    The others are the message, or in half of the cases where its random values come from: few of
    the bytes that a fuzzer thinks of are a message at all.
    """
    choice = data[0] if data else 0
    kind, convert = _CONVERTERS[choice % len(_CONVERTERS)]
    if choice & 128:
        message = filled(kind, random.Random(data), evil=0.05)
    else:
        try:
            message = kind.FromString(data[1:])
        except DecodeError:
            return
    _VALIDATOR.check(message, len(data))
    convert(message)


def _converter_seeds() -> list[bytes]:
    requests = valid_requests()
    made = [
        bytes([number]) + request.SerializeToString()
        for number, (kind, _) in enumerate(_CONVERTERS)
        for request in requests
        if isinstance(request, kind)
    ]
    return made + [bytes([128 + number]) for number in range(len(_CONVERTERS))]


def _saved(image: Image.Image, name: str) -> bytes:
    file = io.BytesIO()
    image.save(file, name)
    return file.getvalue()


TARGETS: Mapping[str, Target] = {
    "converters": Target(_run_converters, _converter_seeds),
    "rle": Target(_run_rle, _rle_seeds),
    "polygons": Target(_run_polygons, _polygon_seeds),
    "png": Target(_run_png, _png_seeds),
    "images": Target(_run_images, _image_seeds),
    "arrays": Target(_run_arrays, _array_seeds),
}
