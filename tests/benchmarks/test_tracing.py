"""What tracing costs a unary call: off, on, with nothing sampled, with a collector that is gone.

Four servers of the embedded default answer the same cached image in turn, so that the model's part
is small and the machine's drift meets all alike. No time is a pass or a failure.
"""

from __future__ import annotations

import contextvars
import timeit
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwire_client import Client, Point, encode_image
from tests.benchmarks.measuring import measure_in_turn, report
from tests.support.made_spans import made_spans
from tests.support.server_process import server_process
from tests.support.trace_collector import collecting

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

ROUNDS = 200
OFF, ON, UNSAMPLED, GONE = "off", "on", "on, none sampled", "on, no collector"
REPETITIONS = 20_000


def _call(client: Client, image: bytes, _: int) -> None:
    assert client.segment(image, points=[Point(40, 30)]).masks


def test_what_tracing_costs_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pixels = np.full((60, 80, 3), 30, dtype=np.uint8)
    pixels[15:45, 20:60] = 200
    image = encode_image(pixels)
    with ExitStack() as held:
        collector = held.enter_context(collecting())
        tracings: dict[str, dict[str, Any]] = {
            OFF: {},
            ON: {"enabled": True, "endpoint": collector.endpoint},
            UNSAMPLED: {"enabled": True, "endpoint": collector.endpoint, "sample_ratio": 0.0},
            GONE: {"enabled": True, "endpoint": "http://127.0.0.1:1"},
        }
        calls = {}
        for number, (name, tracing) in enumerate(tracings.items()):
            folder = tmp_path / str(number)
            folder.mkdir()
            server = held.enter_context(server_process(folder, tracing=tracing))
            client = held.enter_context(Client(server.address))
            calls[name] = partial(_call, client, image)
        measured = measure_in_turn(calls, rounds=ROUNDS, warm_up=10)
        spans = collector.wait_until(lambda some: len(some) >= ROUNDS)
    base = measured[OFF].p50_ms
    notes = {f"{name}, more": f"{measured[name].p50_ms - base:+.3f} ms" for name in measured}
    report("SegmentImage, image cached", measured, {**notes, "spans received": str(len(spans))})


def test_what_a_span_and_a_context_cost() -> None:
    made = made_spans()
    context = contextvars.copy_context

    def stage() -> None:
        made.metrics.stage_finished("encode", "m", 0.001, 1.0)

    def in_context() -> None:
        context().run(int)

    with made.spans.call("s", "m", "id", lasts=True, headers={}):
        counted = timeit.timeit(stage, number=REPETITIONS) / REPETITIONS
    made = made_spans(max_spans=10 * REPETITIONS)
    with made.spans.call("s", "m", "id", lasts=False, headers={}):
        spanned = timeit.timeit(stage, number=REPETITIONS) / REPETITIONS
    copied = timeit.timeit(in_context, number=REPETITIONS) / REPETITIONS
    print(
        f"\na report alone {counted * 1e6:.2f} us, with its span {spanned * 1e6:.2f} us; "
        f"a copied context {copied * 1e6:.2f} us"
    )
