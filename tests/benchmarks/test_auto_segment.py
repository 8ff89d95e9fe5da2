"""Automatic segmentation: time and masks beside upstream's own generator, and nano's time alone.

Both run in this process, upstream first, on the same weights, picture and settings. A random
network's logits are faint and its masks reach across the picture, so the thresholds are low and no
box drops another: a few hundred masks survive. No time is ever a pass or a failure.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import cv2
import pytest
import skimage.data
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from maskwire_server.domain.auto_segmentation.proposals import ProposalCriteria
from maskwire_server.domain.auto_segmentation.requests import (
    AutoSegmentOptions,
    AutoSegmentRequest,
    AutoSegmentResult,
)
from maskwire_server.domain.engine import ModelSpecification, SegmentationEngine
from maskwire_server.domain.segmentation import Caller, InlineImage
from maskwire_server.engines.nano import NanoEngineFactory
from maskwire_server.engines.sam2 import Sam2EngineFactory
from tests.support.auto_segmentation import (
    as_png,
    auto_segmentation,
    bitmaps_of,
    matched_iou,
    upstream_bitmaps,
    upstream_generator,
)
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.sam2_upstream import upstream_predictor

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

SIDE_PX = 1024
NANO_ROUNDS = 3


def settings(points_per_side: int, pred_iou_thresh: float, stability: float) -> AutoSegmentOptions:
    return AutoSegmentOptions(
        points_per_side=points_per_side,
        criteria=ProposalCriteria(True, pred_iou_thresh, stability, 0.005),
        box_nms_thresh=1.0,
        crop_nms_thresh=1.0,
        min_mask_region_area=0,
    )


def picture() -> NDArray[Any]:
    return cv2.resize(skimage.data.astronaut(), (SIDE_PX, SIDE_PX))


def run(engine: SegmentationEngine, options: AutoSegmentOptions) -> tuple[AutoSegmentResult, float]:
    request = AutoSegmentRequest(InlineImage(as_png(picture())), options=options)
    with auto_segmentation(engine) as service:
        started = time.perf_counter()
        result = asyncio.run(service.segment(request, Caller("", "")))
        return result, time.perf_counter() - started


@pytest.mark.parametrize(
    ("network", "options"),
    [("small", settings(32, 0.5, 0.78)), ("tiny", settings(8, 0.48, 0.8))],
    ids=["small-32", "tiny-8"],
)
def test_beside_upstream(request: pytest.FixtureRequest, network: str, options: AutoSegmentOptions):
    fixture = "small_sam2" if network == "small" else "official_tiny_sam2"
    files: Sam2Files = request.getfixturevalue(fixture)
    predictor = upstream_predictor(files)
    started = time.perf_counter()
    theirs = upstream_bitmaps(upstream_generator(predictor, options), picture(), options)
    their_s = time.perf_counter() - started
    engine = Sam2EngineFactory().load(
        ModelSpecification("m", "sam2", files.checkpoint, config=files.config, device="cpu")
    )
    result, our_s = run(engine, options)
    engine.close()
    matched = matched_iou(bitmaps_of(result.masks), theirs)

    encode_s, prompt_s = result.timings.encode_s or 0.0, result.timings.prompt_s
    table = Table("", "seconds", "masks", title=f"{network}, {options.points_per_side} a side")
    table.add_row("upstream's generator", f"{their_s:.1f}", str(len(theirs)))
    table.add_row("AutoSegment", f"{our_s:.1f}", str(len(result.masks)))
    table.add_row("  of it the image encoder", f"{encode_s:.1f}", "")
    table.add_row("  of it the mask decoder", f"{prompt_s:.1f}", "")
    table.add_row("  of it full resolution", f"{result.timings.postprocess_s:.1f}", "")
    show(table, f"{their_s / our_s:.1f} times as fast; matched IoU {matched:.4f}")
    assert matched >= 0.99


def test_nano_on_a_photograph_of_1024_px():
    engine = NanoEngineFactory().load(ModelSpecification("maskwire-nano", "nano", device="cpu"))
    table = Table(
        "round", "seconds", "of it the network", "masks", title="nano, 32 a side, 1024 px"
    )
    for number in range(NANO_ROUNDS):
        result, seconds = run(engine, AutoSegmentOptions())
        network_s = f"{result.timings.prompt_s:.1f}"
        table.add_row(str(number + 1), f"{seconds:.1f}", network_s, str(len(result.masks)))
        assert result.masks
    show(table, "no mask of nano has a counterpart upstream")


def show(table: Table, note: str) -> None:
    console = Console(width=100, highlight=False)
    console.print()
    console.print(table)
    load = os.getloadavg()[0]
    console.print(f"  {note} (load average of the machine {load:.1f})")
