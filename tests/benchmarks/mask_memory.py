"""A child process that finishes and draws many large masks and prints its peak memory as JSON.

Run as `python -m tests.benchmarks.mask_memory ENCODING STYLE...`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence

import cv2
import numpy as np

from maskwire_server.domain.engine import MaskCandidate, ObjectPrediction
from maskwire_server.domain.finishing import finish_masks
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.masks import MaskEncoding
from maskwire_server.domain.postprocessing import PostprocessOptions
from maskwire_server.domain.renderings import RenderingRequest, RenderingStyle, draw
from maskwire_server.domain.segmentation import MaskOptions

MASKS = 100
SIZE = ImageSize(width_px=4032, height_px=4032)


def large_predictions(count: int, size: ImageSize) -> list[ObjectPrediction]:
    """Return masks of blotches that cover half of the image: more than objects ever do."""
    random = np.random.default_rng(1)
    predictions = []
    for number in range(1, count + 1):
        noise = random.normal(size=(256, 256)).astype(np.float32)
        logits = cv2.GaussianBlur(noise, (0, 0), 8) * 40
        candidate = MaskCandidate(
            MaskLogits(np.asarray(logits, np.float32), Box.covering(size)), float(random.random())
        )
        predictions.append(ObjectPrediction(number, (candidate,)))
    return predictions


def main(arguments: Sequence[str]) -> None:
    """Finish the masks in an encoding, then make pictures of the styles, counting their bytes."""
    encoding, *styles = arguments
    predictions = large_predictions(MASKS, SIZE)
    pixels = np.zeros((SIZE.height_px, SIZE.width_px, 3), dtype=np.uint8)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    finished = finish_masks(
        predictions,
        SIZE,
        MaskOptions(encoding=MaskEncoding(encoding)),
        PostprocessOptions(max_hole_area_px=100, min_region_area_px=100, max_overlap_iou=0.9),
        keep_drawables=True,
        budget_bytes=2**29,
    )
    finished_s = time.perf_counter() - started
    requests = [RenderingRequest(RenderingStyle(style)) for style in styles]
    picture_bytes = 0
    for picture in draw(requests, SIZE, pixels, finished.drawables):
        assert isinstance(picture.content, bytes)
        picture_bytes += len(picture.content)
    figures = {
        "masks": len(finished.masks),
        "packed_mb": sum(one.mask.bits.nbytes for one in finished.drawables) / 1e6,
        "before_mb": before_kb / 1e3,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "finished_s": finished_s,
        "drawn_s": time.perf_counter() - started - finished_s,
        "picture_mb": picture_bytes / 1e6,
    }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
