"""Damaged requests against a real server: each gets an answer that says so, none breaks it.

Every seed is one sequence of requests. `make test` runs the first, `make robustness` the others;
`make robustness PYTEST_ARGS="-k 'answered and 7'"` runs one again.
"""

from __future__ import annotations

import io
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from PIL import Image

from maskwire.v1 import mask_pb2, prompt_pb2, rendering_pb2, segmentation_pb2
from tests.support.server_process import ServerProcess, server_process

REQUESTS_PER_SEED = 150
TIMEOUT_S = 20.0
WIDTH, HEIGHT = 48, 32
METHOD = "/maskwire.v1.SegmentationService/SegmentImage"
EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}
_EVIL_FLOATS = (float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3.4e38, -1.0, 1e9)

seeds = pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.robustness) for seed in range(1, 21))]
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the bundled model in a process of its own."""
    with server_process(tmp_path_factory.mktemp("robustness")) as running:
        yield running


def _picture(file_format: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


def _valid(rng: random.Random) -> segmentation_pb2.SegmentImageRequest:
    request = segmentation_pb2.SegmentImageRequest()
    request.image.data = _picture(rng.choice(["JPEG", "PNG", "WEBP", "GIF", "AVIF"]))
    for _ in range(rng.randint(1, 4)):
        prompt = request.prompts.add()
        if rng.random() < 0.3:
            prompt.object_id = rng.randint(1, 3)
        match rng.randrange(5):
            case 0:
                prompt.point.point.x = rng.uniform(0, WIDTH - 1)
                prompt.point.point.y = rng.uniform(0, HEIGHT - 1)
                prompt.point.label = rng.choice(prompt_pb2.PointLabel.values())
            case 1:
                prompt.box.box.x_max = rng.uniform(1, WIDTH)
                prompt.box.box.y_max = rng.uniform(1, HEIGHT)
            case 2:
                prompt.mask.encoded.coco_rle.size.width_px = WIDTH
                prompt.mask.encoded.coco_rle.size.height_px = HEIGHT
                prompt.mask.encoded.coco_rle.counts = b"PP1"
            case 3:
                logits = prompt.mask.logits
                logits.window.x_min, logits.window.x_max = rng.uniform(-40, 10), rng.uniform(20, 99)
                logits.window.y_min, logits.window.y_max = rng.uniform(-40, 10), rng.uniform(20, 99)
                logits.rows, logits.columns = 4, 6
                logits.values = struct.pack("<24f", *(rng.uniform(-9, 9) for _ in range(24)))
            case _:
                ring = prompt.mask.encoded.polygons.polygons.add().outer
                ring.coordinates.extend([1, 1, WIDTH - 1, 1, WIDTH / 2, HEIGHT - 1])
                prompt.mask.encoded.polygons.size.width_px = WIDTH
                prompt.mask.encoded.polygons.size.height_px = HEIGHT
    request.mask_options.encoding = rng.choice(mask_pb2.MaskEncoding.values())
    if rng.random() < 0.2:
        request.renderings.add(format=rng.choice(rendering_pb2.PictureFormat.values()))
    return request


def _damaged(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        position = rng.randrange(len(damaged))
        match rng.randrange(5):
            case 0:
                damaged[position] ^= 1 << rng.randrange(8)
            case 1:
                damaged[position : position + 4] = struct.pack("<f", rng.choice(_EVIL_FLOATS))
            case 2:
                del damaged[position : position + rng.randint(1, 16)]
            case 3:
                damaged[position:position] = rng.randbytes(rng.randint(1, 16))
            case _:
                other = rng.randrange(len(damaged))
                damaged[position:position] = damaged[other : other + rng.randint(1, 64)]
        if not damaged:
            break
    return bytes(damaged)


def _segmented(call: Callable[..., bytes]) -> segmentation_pb2.SegmentImageResponse:
    """Make a valid call."""
    request = segmentation_pb2.SegmentImageRequest()
    request.image.data = _picture("PNG")
    request.prompts.add().point.point.x = 5
    answer = call(request.SerializeToString(), timeout=TIMEOUT_S)
    return segmentation_pb2.SegmentImageResponse.FromString(answer)


@seeds
def test_damaged_requests_are_answered(seed: int, server: ServerProcess) -> None:
    rng = random.Random(seed)
    codes: Counter[grpc.StatusCode] = Counter()
    with grpc.insecure_channel(server.address) as channel:
        call: Callable[..., bytes] = channel.unary_unary(METHOD)
        digest = _segmented(call).info.image.digest
        for number in range(REQUESTS_PER_SEED):
            request = _valid(rng)
            if rng.random() < 0.7:  # else most of what is damaged is the picture
                request.image.digest = digest
            data = _damaged(request.SerializeToString(), rng)
            try:
                call(data, timeout=TIMEOUT_S)
                code = grpc.StatusCode.OK
            except grpc.RpcError as error:
                code = error.code()
            assert code in EXPECTED, f"request {number} of seed {seed}: {code}"
            codes[code] += 1
        assert len(_segmented(call).masks) == 1
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > REQUESTS_PER_SEED // 10
    assert server.process.poll() is None
