"""What masks and pictures cost: run lengths beside pycocotools, pictures, and peak memory.

All in one run, in turn; no time is ever a pass or a failure. Memory is one: a hundred masks of
4032² must stay within 1.5 GB.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco
from skimage import data

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.overlay import OverlayOptions, render_contours, render_overlay
from maskwire_server.domain.packed_masks import PackedMask
from maskwire_server.domain.pictures import PictureFormat, encode_picture
from maskwire_server.domain.rle import encode_rle
from tests.benchmarks.mask_memory import MASKS, large_predictions
from tests.benchmarks.measuring import Percentiles, measure_in_turn, report

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

MAX_PEAK_MB = 1500


def blotches(side: int, count: int = 4) -> list[np.ndarray]:
    size = ImageSize(side, side)
    predictions = large_predictions(count, size)
    return [one.candidates[0].logits.to_bitmap(size) for one in predictions]


def discs(side: int, count: int = 4) -> list[np.ndarray]:
    bitmaps = []
    for number in range(count):
        bitmap = np.zeros((side, side), dtype=np.uint8)
        cv2.circle(bitmap, (side // 2 + number, side // 2), side * (number + 1) // 12, 1, -1)
        bitmaps.append(bitmap.astype(np.bool_))
    return bitmaps


def call_one(function: Callable[[Any], object], items: list[Any], number: int) -> object:
    return function(items[number % len(items)])


def encode_with_pycocotools(bitmap: np.ndarray) -> object:
    return coco.encode(np.asfortranarray(bitmap.view(np.uint8)))


@pytest.mark.parametrize("side", [256, 1024, 4032])
def test_run_lengths_beside_pycocotools(side):
    rows: dict[str, Percentiles] = {}
    notes: dict[str, str] = {}
    for kind, bitmaps in (("object", discs(side)), ("blotches", blotches(side))):
        columns = [np.asfortranarray(bitmap.view(np.uint8)) for bitmap in bitmaps]
        ours, theirs = f"{kind}: encode_rle", f"{kind}: pycocotools"
        given = f"{kind}: pycocotools, given a column-major copy"
        for bitmap, copy in zip(bitmaps, columns, strict=True):
            assert encode_rle(bitmap) == coco.encode(copy)["counts"]
        rows |= measure_in_turn(
            {
                ours: partial(call_one, encode_rle, bitmaps),
                theirs: partial(call_one, encode_with_pycocotools, bitmaps),
                given: partial(call_one, coco.encode, columns),
            },
            rounds=40,
            warm_up=4,
        )
        notes[f"{kind}, ours / pycocotools"] = f"{rows[ours].p50_ms / rows[theirs].p50_ms:.2f}"
        notes[f"{kind}, ours / with the copy"] = f"{rows[ours].p50_ms / rows[given].p50_ms:.2f}"
    report(f"COCO run lengths of {side} x {side} masks", rows, notes)


def test_pictures_of_a_megapixel():
    pixels = cv2.resize(data.astronaut(), (1024, 1024), interpolation=cv2.INTER_CUBIC)
    masks = {number: PackedMask.pack(one) for number, one in enumerate(discs(1024), start=1)}
    overlay = render_overlay(pixels, masks, OverlayOptions())
    bgr = cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR)
    plain = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    calls = {
        "overlay, drawn": lambda _: render_overlay(pixels, masks, OverlayOptions()),
        "outlines, drawn": lambda _: render_contours(pixels, masks),
        "PNG": lambda _: encode_picture(overlay, PictureFormat.PNG),
        "PNG, OpenCV's own level 1": lambda _: cv2.imencode(".png", bgr, plain),
        "JPEG 90": lambda _: encode_picture(overlay, PictureFormat.JPEG),
        "WebP 90": lambda _: encode_picture(overlay, PictureFormat.WEBP),
    }
    sizes = {
        "PNG": len(encode_picture(overlay, PictureFormat.PNG)),
        "PNG, OpenCV's own level 1": len(cv2.imencode(".png", bgr, plain)[1]),
        "JPEG 90": len(encode_picture(overlay, PictureFormat.JPEG)),
        "WebP 90": len(encode_picture(overlay, PictureFormat.WEBP)),
    }
    notes = {f"{name}, bytes": str(size) for name, size in sizes.items()}
    report(
        "Pictures of 1024 x 1024 with four masks",
        measure_in_turn(calls, rounds=15, warm_up=2),
        notes,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("coco_rle", "overlay", "label_map", "coco_json"),
        ("polygons", "contours", "cutout", "individual_masks"),
    ],
)
def test_memory_of_a_hundred_large_masks(arguments):
    command = [sys.executable, "-m", "tests.benchmarks.mask_memory", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(output)
    notes = {name: f"{value:.1f}" for name, value in figures.items()}
    report(f"{MASKS} masks of 4032 x 4032: {' '.join(arguments)}", {}, notes)
    assert figures["masks"] == MASKS
    assert figures["peak_mb"] < MAX_PEAK_MB
