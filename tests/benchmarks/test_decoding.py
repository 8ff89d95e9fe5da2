"""What decoding in child processes costs beside decoding in place, and what a child takes.

No time is a pass or a failure.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from maskwire_server.decoders.pool import DecoderPool
from maskwire_server.domain.file_decoder import FileDecoder, InProcessDecoder, MaskFile
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.images import ImageLimits
from maskwire_server.domain.mask_encodings import encode_png
from tests.benchmarks.measuring import measure_in_turn, report
from tests.support.decoders import decoder_pool, picture, saved

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

SIZES = {"640 x 480": (640, 480), "1024 x 1024": (1024, 1024), "4000 x 3000": (4000, 3000)}
ROUNDS = {"640 x 480": 200, "1024 x 1024": 200, "4000 x 3000": 20}


def photograph(width: int, height: int) -> bytes:
    """A JPEG with about as much detail as a photograph."""
    pixels = np.asarray(picture(width, height)).astype(np.int16)
    noise = np.random.default_rng(0).integers(-20, 20, pixels.shape)
    return saved(Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)), "JPEG")


def decode(decoder: FileDecoder, data: bytes, _: int) -> NDArray[np.uint8]:
    return decoder.image(data, ImageLimits())


def proportional_kilobytes(pid: int) -> int:
    """Memory of a process, what it shares with others by its part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("the kernel does not tell")


@pytest.mark.parametrize("size", SIZES)
def test_decoding_in_a_child(size):
    data = photograph(*SIZES[size])
    with decoder_pool(processes=1) as pool:
        decoders = {"in place": InProcessDecoder(), "in a child": pool.of_tenant("")}
        calls = {name: partial(decode, one, data) for name, one in decoders.items()}
        report(f"JPEG of {size}", measure_in_turn(calls, rounds=ROUNDS[size], warm_up=5), {})


def masks(decoder: FileDecoder, files: list[MaskFile], _: int) -> list[NDArray[np.bool_]]:
    return decoder.masks(files, ImageSize(1024, 1024))


@pytest.mark.parametrize("count", [1, 16])
def test_masks_in_a_child(count):
    y, x = np.mgrid[:1024, :1024]
    disc = (x - 500) ** 2 + (y - 480) ** 2 < 300**2
    files = [MaskFile(encode_png(disc, bit_depth=1), "mask")] * count
    with decoder_pool(processes=1) as pool:
        decoders = {"in place": InProcessDecoder(), "in a child": pool.of_tenant("")}
        calls = {name: partial(masks, one, files) for name, one in decoders.items()}
        report(f"{count} masks of 1024 x 1024", measure_in_turn(calls, rounds=60, warm_up=5), {})


def of_next_tenant(pool: DecoderPool, data: bytes, number: int) -> NDArray[np.uint8]:
    return pool.of_tenant(str(number % 3)).image(data, ImageLimits())


def test_tenants_in_turn():
    """Three tenants: with a child for each, with one child fewer, and with shared children."""
    data = photograph(1024, 1024)
    with (
        decoder_pool(processes=1, kept=3) as kept,
        decoder_pool(processes=1, kept=2) as too_few,
        decoder_pool(processes=1, is_shared=True) as shared,
    ):
        pools = {"a child for each": kept, "a new child each time": too_few, "shared": shared}
        calls = {name: partial(of_next_tenant, pool, data) for name, pool in pools.items()}
        report("tenants in turn", measure_in_turn(calls, rounds=60, warm_up=6), {})


def test_starting_and_memory():
    data = photograph(1024, 1024)
    with decoder_pool(processes=1, recycle_after=1) as pool:
        started = time.perf_counter()
        pool.of_tenant("").image(data, ImageLimits())
        print(f"first picture, libraries loaded: {time.perf_counter() - started:.2f} s")
        calls = {"in a child of its own": partial(decode, pool.of_tenant(""), data)}
        report("one child a picture", measure_in_turn(calls, rounds=50, warm_up=2), {})
    with decoder_pool(processes=1) as pool:
        pool.of_tenant("").image(data, ImageLimits())
        print(_memory(pool))


def _memory(pool: DecoderPool) -> str:
    (child,) = pool._idle
    assert pool._nursery._process is not None
    nursery = proportional_kilobytes(pool._nursery._process.pid)
    return f"a child {proportional_kilobytes(child.pid)} kB, what it is forked from {nursery} kB"
