"""A second pass through the service, on an engine whose objects are colours."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from maskwire_server.domain.engine import ImageEmbedding, MaskCandidate, ObjectPrediction
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.geometry import Box, ImageSize, Point
from maskwire_server.domain.image_access import ImageAccess
from maskwire_server.domain.images import ImageLimits
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.masks import decode_mask
from maskwire_server.domain.models import ModelRegistry, ServedModel
from maskwire_server.domain.picture_delivery import PictureLimits, PictureMaker
from maskwire_server.domain.postprocessing import PostprocessOptions
from maskwire_server.domain.prompts import ObjectPrompts, PointPrompt, Prompt, TextPrompt
from maskwire_server.domain.segmentation import (
    Caller,
    ImageDigest,
    InlineImage,
    MaskOptions,
    ScoreKind,
    SegmentRequest,
)
from maskwire_server.domain.segmentation_service import SegmentationService
from maskwire_server.observability.metrics import Metrics
from tests.support.colour_engine import ColourEmbedding
from tests.support.concept_engine import COLOURS, ConceptColourEngine

CALLER = Caller("tenant", "request")
SIZE = ImageSize(width_px=640, height_px=480)
SQUARES = {"red": Box(60, 60, 131, 131), "green": Box(400, 300, 467, 367)}
REFINE = PostprocessOptions(refine=True)
CELLS = 40


class CoarseEngine(ConceptColourEngine):
    """Colours on a grid of 40 x 40 cells over whatever it is shown, as real networks answer.

    Attributes:
        shown: Sizes of the pictures that were encoded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[int, int]] = []

    def encode(self, pixels: NDArray[np.uint8]) -> ColourEmbedding:
        self.shown.append((pixels.shape[1], pixels.shape[0]))
        return super().encode(pixels)

    def decode(
        self, embedding: ImageEmbedding, objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> list[ObjectPrediction]:
        answers = super().decode(embedding, objects, multimask=multimask)
        score = 0.6 if len(self.shown) > 1 else 0.9
        return [
            replace(
                answer,
                candidates=tuple(
                    MaskCandidate(_coarse(one.logits), one.predicted_iou * score)
                    for one in answer.candidates
                ),
            )
            for answer in answers
        ]


def _coarse(logits: MaskLogits) -> MaskLogits:
    return MaskLogits(logits.resample(logits.window, CELLS, CELLS), logits.window)


def picture() -> bytes:
    pixels = np.zeros((SIZE.height_px, SIZE.width_px, 3), np.uint8)
    for colour, box in SQUARES.items():
        rows, columns = slice(int(box.y_min), int(box.y_max)), slice(int(box.x_min), int(box.x_max))
        pixels[rows, columns] = COLOURS[colour]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def click(colour: str, object_id: int = 1) -> Prompt:
    box = SQUARES[colour]
    return Prompt(PointPrompt(Point(box.x_min + 35, box.y_min + 35)), object_id, "prompts[0]")


def request(*prompts: Prompt, **changes) -> SegmentRequest:
    asked = prompts or (click("red"),)
    return replace(SegmentRequest(InlineImage(picture()), asked, postprocess=REFINE), **changes)


@pytest.fixture
def engine() -> CoarseEngine:
    return CoarseEngine()


@pytest.fixture
def service(engine: CoarseEngine) -> Iterator[SegmentationService]:
    metrics = Metrics()
    device, pixels = (BoundedExecutor(name, 1, 8, metrics) for name in ("cpu", "pixels"))
    images = ImageAccess(
        pixels,
        ImageLimits(),
        metrics,
        embedding_budget_bytes=10**8,
        image_budget_bytes=10**7,
    )
    yield SegmentationService(
        ModelRegistry([ServedModel(engine, device, is_default=True)]),
        images,
        pixels,
        PictureMaker(pixels, None, PictureLimits(10**7, 10**7)),
        metrics,
        max_prompts=16,
        mask_budget_bytes=10**6,
        max_refined_masks=2,
    )
    device.close()
    pixels.close()


def bitmap_of(mask) -> NDArray[np.bool_]:
    return decode_mask(mask.encoded, SIZE)


def truth(colour: str) -> NDArray[np.bool_]:
    box, bitmap = SQUARES[colour], np.zeros((SIZE.height_px, SIZE.width_px), np.bool_)
    bitmap[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = True
    return bitmap


def wrong_pixels(mask, colour: str) -> int:
    return int((bitmap_of(mask) ^ truth(colour)).sum())


async def test_a_window_gives_a_finer_mask_and_its_own_score(service, engine):
    coarse = (await service.segment(request(postprocess=PostprocessOptions()), CALLER)).masks[0]
    fine = (await service.segment(request(), CALLER)).masks[0]
    assert wrong_pixels(fine, "red") < 0.5 * wrong_pixels(coarse, "red")
    assert (coarse.is_refined, fine.is_refined) == (False, True)
    assert fine.score == pytest.approx(0.9 * 0.6)
    (width, height) = engine.shown[-1]
    assert max(width, height) <= 200
    assert engine.decoded[-1][0].points.tolist() != engine.decoded[0][0].points.tolist()


async def test_it_is_off_by_default(service, engine):
    answer = await service.segment(request(postprocess=PostprocessOptions()), CALLER)
    assert len(engine.shown) == 1
    assert not answer.masks[0].is_refined


async def test_windows_are_not_kept_and_their_time_counts(service, engine):
    first = await service.segment(request(), CALLER)
    again = await service.segment(request(image=ImageDigest(first.image.digest)), CALLER)
    assert len(engine.shown) == 3, "the image once, its window for each request"
    assert again.embedding_cached
    assert again.timings.encode_s is not None
    assert again.masks == first.masks


async def test_alternatives_are_ranked_by_what_they_became(service):
    options = MaskOptions(return_multiple_masks=True)
    masks = (await service.segment(request(mask_options=options), CALLER)).masks
    assert [mask.alternative for mask in masks] == [0, 1]
    assert masks[0].score > masks[1].score
    # All that is not red reaches too far for a window.
    assert sorted(mask.is_refined for mask in masks) == [False, True]


async def test_objects_beyond_the_limit_stay_as_they_were(service):
    prompts = tuple(click(colour, number) for number, colour in enumerate(("red", "green", "red")))
    prompts = tuple(replace(one, object_id=number + 1) for number, one in enumerate(prompts))
    masks = (await service.segment(request(*prompts), CALLER)).masks
    assert [mask.is_refined for mask in masks].count(True) == 2
    assert len(masks) == 3


async def test_a_window_is_reduced_like_the_image(service, engine):
    await service.segment(request(inference_size_px=96), CALLER)
    assert engine.shown[0] == (96, 72)
    assert max(engine.shown[1]) == 96


async def test_instances_of_a_text_keep_their_confidence(service, engine):
    text = Prompt(TextPrompt("green"), None, "prompts[0]")
    (mask,) = (await service.segment(request(text), CALLER)).masks
    assert mask.is_refined
    assert mask.score_kind is ScoreKind.CONCEPT_CONFIDENCE
    assert mask.text == "green"
    assert engine.decoded[-1][0].box is not None
    assert engine.decoded[-1][0].mask is not None


async def test_points_that_refine_an_instance_are_asked_again(service, engine):
    text, point = Prompt(TextPrompt("green"), None, "prompts[0]"), click("green")
    await service.segment(request(text, replace(point, object_id=None)), CALLER)
    window_of = engine.decoded[-1][0]
    assert len(window_of.points) == 1
    assert window_of.mask is not None
