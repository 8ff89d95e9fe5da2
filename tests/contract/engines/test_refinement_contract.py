"""A second pass over masks, whatever network runs inside: what it may change, and what it asks."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from maskwire_server.domain.engine import (
    ImageEmbedding,
    MaskCandidate,
    ObjectPrediction,
    SegmentationEngine,
)
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.image_access import EncodedImage
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.models import ServedModel
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.refinement import ImageToRefine, Refined, Refinement
from maskwire_server.domain.segmentation import ImageInfo
from maskwire_server.observability.metrics import Metrics
from tests.support.engines import Candidate

SIZE = ImageSize(width_px=480, height_px=320)
CENTRE, RADIUS = (300, 120), 50
WINDOW = Box(225.0, 45.0, 375.0, 195.0)
"""What a second pass looks at: a square of 1.5 times the disc."""

Seen = tuple[ImageToRefine, Refinement]


@pytest.fixture(scope="module")
def engine(candidate: Candidate) -> Iterator[SegmentationEngine]:
    loaded = candidate.factory.load(candidate.specification)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def seen(engine: SegmentationEngine) -> Iterator[Seen]:
    """A photograph as the engine sees it; small networks with random weights may say anything."""
    metrics = Metrics()
    device, pixel_executor = (BoundedExecutor(name, 1, 8, metrics) for name in ("cpu", "pixels"))
    size = (SIZE.width_px, SIZE.height_px)
    pixels = cv2.resize(skimage.data.astronaut()[:340], size, interpolation=cv2.INTER_AREA)
    photograph = np.ascontiguousarray(pixels, np.uint8)
    info = ImageInfo("sha256:photograph", SIZE, "image/png")
    encoded = EncodedImage(engine.encode(photograph), info, 0.0, 0.0, 0.0)
    model = ServedModel(engine, device, is_default=True)
    refinement = Refinement(pixel_executor, metrics, max_masks=8, least_agreement=0.0)
    yield ImageToRefine(model, encoded, photograph, None), refinement
    device.close()
    pixel_executor.close()


def disc() -> MaskLogits:
    """A first mask, on a grid of two pixels a cell over the whole image."""
    rows, columns = np.mgrid[1 : SIZE.height_px : 2, 1 : SIZE.width_px : 2]
    distance = np.hypot(columns - CENTRE[0], rows - CENTRE[1])
    return MaskLogits(np.asarray((RADIUS - distance) / 4, np.float32), Box.covering(SIZE))


def said(*points: tuple[float, float, bool]) -> ObjectPrompts:
    return ObjectPrompts(
        object_id=4,
        points=np.array([point[:2] for point in points], np.float32).reshape(-1, 2),
        point_labels=np.array([point[2] for point in points], np.bool_),
        box=None,
        mask=None,
    )


ON, OFF, FAR = (300.5, 120.5, True), (262.5, 100.5, False), (20.5, 20.5, False)


async def second_pass(seen: Seen, prompts: ObjectPrompts | None) -> Refined:
    image, refinement = seen
    first = [ObjectPrediction(4, (MaskCandidate(disc(), 0.5),))]
    return await refinement.refine(image, first, {} if prompts is None else {4: prompts})


def answer(refined: Refined) -> MaskCandidate:
    (prediction,) = refined.predictions
    (candidate,) = prediction.candidates
    return candidate


async def test_the_mask_changes_within_the_window_only(seen: Seen):
    for prompts in (said(ON), said(ON, OFF), None):
        candidate = answer(await second_pass(seen, prompts))
        assert candidate.is_refined
        assert 0 <= candidate.predicted_iou <= 1
        now, before = candidate.logits.to_bitmap(SIZE), disc().to_bitmap(SIZE)
        outside = np.ones_like(now)
        outside[45:195, 225:375] = False
        assert (now[outside] == before[outside]).all()
        assert (now != before).any(), "or nothing was drawn"


async def test_it_is_what_the_engine_says_of_the_window_alone(seen: Seen):
    """The window as a picture of its own, its prompts moved by hand."""
    image, _ = seen
    engine = image.model.engine
    window: NDArray[np.uint8] = np.ascontiguousarray(image.pixels[45:195, 225:375])
    logits = disc()
    inside = ObjectPrompts(
        object_id=1,
        points=np.array([[75.5, 75.5], [37.5, 55.5]], np.float32),
        point_labels=np.array([True, False]),
        box=None,
        mask=MaskLogits(logits.values, Box(-225.0, -45.0, 255.0, 275.0)),
    )
    embedding: ImageEmbedding = engine.encode(window)
    ((expected,),) = (one.candidates for one in engine.decode(embedding, [inside], multimask=False))
    candidate = answer(await second_pass(seen, said(ON, OFF, FAR)))
    shown = np.zeros((SIZE.height_px, SIZE.width_px), np.bool_)
    shown[45:195, 225:375] = expected.logits.to_bitmap(ImageSize(150, 150))
    different = shown ^ candidate.logits.to_bitmap(SIZE)
    # Logits that reach beyond the window are cut off at its edge, in cells of about their size.
    assert different.sum() <= 0.02 * shown.sum()
    assert candidate.predicted_iou == pytest.approx(expected.predicted_iou, abs=1e-5)


async def test_two_passes_are_equal_to_the_bit_and_time_is_counted(seen: Seen):
    once, again = await second_pass(seen, said(ON)), await second_pass(seen, said(ON))
    assert np.array_equal(answer(once).logits.values, answer(again).logits.values)
    assert answer(once).predicted_iou == answer(again).predicted_iou
    assert min(once.encode_s, once.prompt_s, once.pixels_s) > 0


async def test_prompts_in_the_window_matter_and_those_beyond_do_not(seen: Seen):
    plain, negative, far = [
        answer(await second_pass(seen, prompts)).logits.values
        for prompts in (said(ON), said(ON, OFF), said(ON, FAR))
    ]
    assert not np.array_equal(plain, negative)
    assert np.array_equal(plain, far)
