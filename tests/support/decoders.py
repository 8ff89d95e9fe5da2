"""Decoders for tests, and files for them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from maskwire_server.decoders.child import ChildLimits
from maskwire_server.decoders.pool import DecoderPool, PoolLimits
from maskwire_server.observability.metrics import Metrics

POOL_LIMITS = PoolLimits(
    processes=2,
    child=ChildLimits(memory_bytes=512 * 2**20, cpu_seconds=20.0),
    timeout_s=30.0,
    recycle_after=1000,
    kept=1,
    max_file_bytes=2**22,
    max_pixels=2**24,
)


@contextmanager
def decoder_pool(metrics: Metrics | None = None, **changes: Any) -> Iterator[DecoderPool]:
    """Run a pool with these limits changed."""
    pool = DecoderPool(replace(POOL_LIMITS, **changes), metrics or Metrics())
    try:
        yield pool
    finally:
        pool.close()


def picture(width: int = 64, height: int = 40, mode: str = "RGB") -> Image.Image:
    """A smooth picture."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8)).convert(mode)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The file of a picture."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()
