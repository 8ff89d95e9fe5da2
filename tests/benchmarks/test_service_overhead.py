"""What the service adds on top of the model: SegmentImage beside the bare library, in one run.

The bare library runs in this process, the service in one of its own, in turn on the same machine;
no time is ever a pass or a failure. The assertions say only that both did the same work.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from maskwire_client import Client, Point
from maskwire_server.domain.engine import ImageEmbedding, ModelSpecification
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.registry import load_engine
from tests.benchmarks.echo_server import METHOD
from tests.benchmarks.measuring import Percentiles, measure_in_turn, report, summarize
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.sam2_upstream import upstream_predictor
from tests.support.server_process import server_process

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

CLICK = (400.0, 300.0)
CACHED_CALLS = 200
WARM_UP = 3

BARE = "bare: set_image + predict"
BARE_FROM_JPEG = "bare, from JPEG"
COLD = "SegmentImage, cold"
BARE_PREDICT = "bare: predict alone"
CACHED = "SegmentImage, cached"
# In a tight loop every cache and core is warm; between other calls an echo finds them as they do.
ECHO_BETWEEN = "gRPC echo, 1 KiB, between the calls"


class _Bare(Protocol):
    """A model called directly: encode one image, then predict from `CLICK`."""

    def encode(self, pixels: NDArray[np.uint8]) -> None:
        """Encode an image; the next predictions are about it."""

    def predict(self) -> NDArray[np.bool_]:
        """Return the mask at the image's resolution."""


class _BareSam2:
    """Upstream's own predictor."""

    def __init__(self, files: Sam2Files) -> None:
        self._predictor = upstream_predictor(files)

    def encode(self, pixels: NDArray[np.uint8]) -> None:
        self._predictor.set_image(pixels)

    def predict(self) -> NDArray[np.bool_]:
        masks, _, _ = self._predictor.predict(
            point_coords=np.array([CLICK]), point_labels=np.array([1]), multimask_output=False
        )
        return np.asarray(masks[0] > 0)


class _BareNano:
    """The nano engine without a service around it."""

    def __init__(self) -> None:
        self._engine = load_engine(ModelSpecification(name="maskwire-nano", engine="nano"))
        click = np.array([CLICK], dtype=np.float32)
        self._prompts = ObjectPrompts(1, click, np.array([True]), box=None, mask=None)
        self._embedding: ImageEmbedding | None = None

    def encode(self, pixels: NDArray[np.uint8]) -> None:
        self._embedding = self._engine.encode(pixels)

    def predict(self) -> NDArray[np.bool_]:
        assert self._embedding is not None
        (answer,) = self._engine.decode(self._embedding, [self._prompts], multimask=False)
        best = max(answer.candidates, key=lambda candidate: candidate.predicted_iou)
        return best.logits.to_bitmap(self._embedding.image_size)


@pytest.fixture
def echo() -> Iterator[Any]:
    """A call to an echo server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.echo_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield channel.unary_unary(METHOD)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(
    ("name", "fixture", "rounds"),
    [("small-512", "small_sam2", 40), ("official-tiny-1024", "official_tiny_sam2", 12)],
)
def test_sam2_overhead(
    name: str, fixture: str, rounds: int, request: pytest.FixtureRequest, tmp_path: Path, echo: Any
) -> None:
    """Compare SegmentImage with SAM2ImagePredictor on the same checkpoint."""
    files: Sam2Files = request.getfixturevalue(fixture)
    served = {
        "name": name,
        "engine": "sam2",
        "config": str(files.config),
        "checkpoint": str(files.checkpoint),
    }
    _compare(name, _BareSam2(files), served, tmp_path, echo, rounds)


def test_nano_overhead(tmp_path: Path, echo: Any) -> None:
    """Compare SegmentImage with the nano engine called directly."""
    _compare("maskwire-nano", _BareNano(), {"name": "maskwire-nano"}, tmp_path, echo, 60)


def _compare(
    name: str, bare: _Bare, served: dict[str, str], folder: Path, echo: Any, rounds: int
) -> None:
    jpegs = [_jpeg(number) for number in range(rounds + WARM_UP)]
    decoded = [_decode(jpeg) for jpeg in jpegs]

    def bare_call(pixels: NDArray[np.uint8]) -> None:
        bare.encode(pixels)
        bare.predict()

    kilobyte = bytes(1024)
    with (
        server_process(folder, models={"serve": [served]}) as server,
        Client(server.address, digest_first=False) as client,
        Client(server.address) as caching_client,
    ):
        rows = measure_in_turn(
            {
                BARE: lambda number: bare_call(decoded[number]),
                BARE_FROM_JPEG: lambda number: bare_call(_decode(jpegs[number])),
                COLD: lambda number: client.segment(jpegs[number], points=[Point(*CLICK)]),
            },
            rounds=rounds,
            warm_up=WARM_UP,
        )
        bare.encode(decoded[-1])
        cached_rows, decoder = _measure_cached(
            caching_client, jpegs[-1], bare, lambda: echo(kilobyte)
        )
    _report(name, rows | cached_rows | _measure_echo(echo, jpegs[0]), decoder)


def _measure_cached(
    client: Client, jpeg: bytes, bare: _Bare, echo: Callable[[], object]
) -> tuple[dict[str, Percentiles], Percentiles]:
    result = client.segment(jpeg, points=[Point(*CLICK)])
    assert result.info.embedding_cached
    assert np.mean(result.masks[0].bitmap == bare.predict()) > 0.999
    decoder_seconds: list[float] = []

    def cached(_: int) -> None:
        timings = client.segment(jpeg, points=[Point(*CLICK)]).info.timings
        assert timings.prompt is not None
        decoder_seconds.append(timings.prompt.total_seconds())

    rows = measure_in_turn(
        {BARE_PREDICT: lambda _: bare.predict(), CACHED: cached, ECHO_BETWEEN: lambda _: echo()},
        rounds=CACHED_CALLS,
        warm_up=WARM_UP,
    )
    return rows, summarize(decoder_seconds[WARM_UP:])


def _measure_echo(echo: Any, jpeg: bytes) -> dict[str, Percentiles]:
    kilobytes = len(jpeg) // 1024
    return measure_in_turn(
        {
            "gRPC echo, 1 KiB, in a loop": lambda _: echo(bytes(1024)),
            f"gRPC echo, {kilobytes} KiB (the JPEG), in a loop": lambda _: echo(jpeg),
        },
        rounds=300,
        warm_up=20,
    )


def _report(name: str, rows: dict[str, Percentiles], decoder: Percentiles) -> None:
    bare = rows[BARE].p50_ms
    from_jpeg = rows[BARE_FROM_JPEG].p50_ms
    cold = rows[COLD].p50_ms
    predict = rows[BARE_PREDICT].p50_ms
    cached = rows[CACHED].p50_ms
    report(
        f"{name}: one click on a 1024 x 1024 JPEG",
        {**rows, "decoder alone, inside the service": decoder},
        {
            "cold / bare": f"{cold / bare:.3f} ({cold - bare:+.2f} ms)",
            "cold / bare from JPEG": f"{cold / from_jpeg:.3f} ({cold - from_jpeg:+.2f} ms)",
            "cached / bare predict": f"{cached / predict:.3f} ({cached - predict:+.2f} ms)",
            "cached beyond the decoder": f"{cached - decoder.p50_ms:+.2f} ms, of which the gRPC "
            f"floor between calls is {rows[ECHO_BETWEEN].p50_ms:.2f} ms",
        },
    )


def _jpeg(number: int) -> bytes:
    """Return the same photograph with other pixels in a corner, and so with another digest."""
    pixels = np.array(Image.fromarray(data.astronaut()).resize((1024, 1024)))
    pixels[:8, :8] = number
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def _decode(jpeg: bytes) -> NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(jpeg)).convert("RGB"))
