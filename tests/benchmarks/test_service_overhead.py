"""What the service adds on top of the model: SegmentImage beside the bare library, in one run.

The bare library runs in this process, the service in one of its own, in turn on the same machine;
no time is ever a pass or a failure. The assertions say only that both did the same work.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from maskwire_client import Client, Point, SegmentationResult
from tests.benchmarks.echo_server import METHOD
from tests.benchmarks.measuring import Percentiles, measure_in_turn, report, summarize
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.sam2_upstream import upstream_predictor
from tests.support.server_process import server_process

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

CLICK = (400.0, 300.0)
CACHED_CALLS = 200


@dataclass(frozen=True, slots=True)
class _Photographs:
    """The same photograph again and again, each time with another pixel and so another digest."""

    side: int

    def pixels(self, number: int) -> NDArray[np.uint8]:
        from skimage import data

        photograph = Image.fromarray(data.astronaut()).resize((self.side, self.side))
        pixels = np.array(photograph)
        pixels[0, :8, 0] = [(number >> bit & 1) * 255 for bit in range(8)]
        return pixels

    def jpeg(self, number: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(self.pixels(number)).save(file, "JPEG", quality=90)
        return file.getvalue()


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


@pytest.mark.parametrize("name", ["small-512", "official-tiny-1024"])
def test_sam2_overhead(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, echo: Any
) -> None:
    """Compare SegmentImage with SAM2ImagePredictor on the same checkpoint."""
    fixture, rounds = {
        "small-512": ("small_sam2", 40),
        "official-tiny-1024": ("official_tiny_sam2", 12),
    }[name]
    files: Sam2Files = request.getfixturevalue(fixture)
    predictor = upstream_predictor(files)
    photographs = _Photographs(1024)
    total = rounds + 2
    jpegs = [photographs.jpeg(number) for number in range(total)]
    decoded = [_decode(jpeg) for jpeg in jpegs]

    def predict() -> NDArray[np.float32]:
        masks, _, _ = predictor.predict(
            point_coords=np.array([CLICK]), point_labels=np.array([1]), multimask_output=False
        )
        return np.asarray(masks[0])

    def bare(number: int) -> NDArray[np.float32]:
        predictor.set_image(decoded[number])
        return predict()

    def bare_with_jpeg(number: int) -> NDArray[np.float32]:
        predictor.set_image(_decode(jpegs[number]))
        return predict()

    models = {
        "serve": [
            {
                "name": name,
                "engine": "sam2",
                "config": str(files.config),
                "checkpoint": str(files.checkpoint),
            }
        ]
    }
    with (
        server_process(tmp_path, models=models) as server,
        Client(server.address, digest_first=False) as client,
        Client(server.address) as caching_client,
    ):

        def segment(number: int) -> SegmentationResult:
            return client.segment(jpegs[number], points=[Point(*CLICK)])

        rows = measure_in_turn(
            {
                "bare: set_image + predict": bare,
                "bare, from JPEG": bare_with_jpeg,
                "SegmentImage, cold": segment,
            },
            rounds=rounds,
            warm_up=2,
        )
        last = total - 1
        bare(last)
        expected = predict() > 0
        cached_rows, server_prompt = _measure_cached(
            lambda: caching_client.segment(jpegs[last], points=[Point(*CLICK)]), predict, expected
        )
        rows |= cached_rows
    rows |= _measure_echo(echo, jpegs[0])
    _report(name, rows, server_prompt)


def test_nano_overhead(tmp_path: Path, echo: Any) -> None:
    """Compare SegmentImage with the nano engine called directly."""
    from maskwire_server.domain.engine import ModelSpecification
    from maskwire_server.domain.geometry import ImageSize
    from maskwire_server.domain.prompts import ObjectPrompts
    from maskwire_server.engines.registry import load_engine

    engine = load_engine(ModelSpecification(name="maskwire-nano", engine="nano"))
    prompts = ObjectPrompts(
        1, np.array([CLICK], dtype=np.float32), np.array([True]), box=None, mask=None
    )
    rounds = 60
    photographs = _Photographs(1024)
    jpegs = [photographs.jpeg(number) for number in range(rounds + 2)]
    decoded = [_decode(jpeg) for jpeg in jpegs]
    size = ImageSize(1024, 1024)

    def predict(embedding: Any) -> NDArray[np.bool_]:
        (answer,) = engine.decode(embedding, [prompts], multimask=False)
        best = max(answer.candidates, key=lambda candidate: candidate.predicted_iou)
        return best.logits.to_bitmap(size)

    last = engine.encode(decoded[-1])
    with (
        server_process(tmp_path) as server,
        Client(server.address, digest_first=False) as client,
        Client(server.address) as caching_client,
    ):
        rows = measure_in_turn(
            {
                "bare: set_image + predict": lambda number: predict(engine.encode(decoded[number])),
                "bare, from JPEG": lambda number: predict(engine.encode(_decode(jpegs[number]))),
                "SegmentImage, cold": lambda number: client.segment(
                    jpegs[number], points=[Point(*CLICK)]
                ),
            },
            rounds=rounds,
            warm_up=2,
        )
        cached_rows, server_prompt = _measure_cached(
            lambda: caching_client.segment(jpegs[-1], points=[Point(*CLICK)]),
            lambda: predict(last),
            predict(last),
        )
        rows |= cached_rows
    rows |= _measure_echo(echo, jpegs[0])
    _report("maskwire-nano", rows, server_prompt)


def _measure_cached(
    segment: Any, predict: Any, expected: NDArray[np.bool_]
) -> tuple[dict[str, Percentiles], Percentiles]:
    result = segment()
    assert result.info.embedding_cached
    assert np.mean(result.masks[0].bitmap == expected) > 0.999
    prompt_seconds: list[float] = []

    def cached(_: int) -> None:
        timings = segment().info.timings
        assert timings.prompt is not None
        prompt_seconds.append(timings.prompt.total_seconds())

    rows = measure_in_turn(
        {"bare: predict alone": lambda _: predict(), "SegmentImage, cached": cached},
        rounds=CACHED_CALLS,
        warm_up=5,
    )
    return rows, summarize(prompt_seconds[5:])


def _measure_echo(echo: Any, jpeg: bytes) -> dict[str, Percentiles]:
    kilobytes = len(jpeg) // 1024
    return measure_in_turn(
        {
            "gRPC echo, 1 KiB": lambda _: echo(bytes(1024)),
            f"gRPC echo, {kilobytes} KiB (the JPEG)": lambda _: echo(jpeg),
        },
        rounds=300,
        warm_up=20,
    )


def _report(name: str, rows: dict[str, Percentiles], server_prompt: Percentiles) -> None:
    bare = rows["bare: set_image + predict"].p50_ms
    from_jpeg = rows["bare, from JPEG"].p50_ms
    cold = rows["SegmentImage, cold"].p50_ms
    predict = rows["bare: predict alone"].p50_ms
    cached = rows["SegmentImage, cached"].p50_ms
    report(
        f"{name}: one click on a 1024 x 1024 JPEG",
        {**rows, "decoder alone, inside the service": server_prompt},
        {
            "cold / bare": f"{cold / bare:.3f} ({cold - bare:+.2f} ms)",
            "cold / bare from JPEG": f"{cold / from_jpeg:.3f} ({cold - from_jpeg:+.2f} ms)",
            "cached / bare predict": f"{cached / predict:.3f} ({cached - predict:+.2f} ms)",
            "cached beyond the decoder": f"{cached - server_prompt.p50_ms:+.2f} ms",
        },
    )


def _decode(jpeg: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
