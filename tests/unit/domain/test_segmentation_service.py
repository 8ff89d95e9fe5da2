"""The order of things for a still image: what is decoded and encoded, and how often."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.geometry import Box, ImageSize, Point
from maskwire_server.domain.image_access import ImageAccess
from maskwire_server.domain.images import ImageLimits, decode_image
from maskwire_server.domain.models import ModelRegistry, ServedModel
from maskwire_server.domain.picture_delivery import DeliveredPictures, PictureLimits, PictureMaker
from maskwire_server.domain.prompts import PointPrompt, Prompt
from maskwire_server.domain.renderings import Delivery, RenderingRequest, RenderingStyle
from maskwire_server.domain.segmentation import Caller, ImageDigest, InlineImage, SegmentRequest
from maskwire_server.domain.segmentation_service import SegmentationService
from maskwire_server.observability.metrics import Metrics
from tests.support.colour_engine import ColourEngine

CALLER = Caller("tenant", "request")
OVERLAY = (RenderingRequest(RenderingStyle.OVERLAY, field="renderings[0]"),)


def picture(width=400, height=300) -> bytes:
    """A red rectangle over the middle half of each side, on black."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = (200, 0, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def request(**changes) -> SegmentRequest:
    prompt = Prompt(PointPrompt(Point(200, 150), True), None, "prompts[0]")
    return replace(SegmentRequest(InlineImage(picture()), (prompt,)), **changes)


@pytest.fixture
def engine() -> ColourEngine:
    return ColourEngine()


@pytest.fixture
def service(engine: ColourEngine) -> Iterator[SegmentationService]:
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
        max_refined_masks=8,
    )
    device.close()
    pixels.close()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes in bytes of the files that were decoded."""
    files: list[int] = []

    def counting(data: bytes, *arguments, **options):
        files.append(len(data))
        return decode_image(data, *arguments, **options)

    monkeypatch.setattr("maskwire_server.domain.file_decoder.decode_image", counting)
    return files


async def test_an_image_that_is_drawn_on_is_decoded_once(service, decoded):
    first = await service.segment(request(renderings=OVERLAY), CALLER)
    assert len(decoded) == 1
    assert not first.embedding_cached
    assert first.timings.decode_s is not None
    again = await service.segment(request(renderings=OVERLAY), CALLER)
    assert len(decoded) == 2
    assert again.embedding_cached
    assert again.timings.decode_s is not None
    assert again.timings.encode_s is None


async def test_pictures_of_masks_alone_need_no_pixels(service, decoded):
    styles = (RenderingStyle.BLACK_WHITE, RenderingStyle.LABEL_MAP, RenderingStyle.COCO_JSON)
    renderings = tuple(RenderingRequest(style) for style in styles)
    first = await service.segment(request(renderings=renderings), CALLER)
    digest = ImageDigest(first.image.digest)
    again = await service.segment(request(image=digest, renderings=renderings), CALLER)
    assert len(decoded) == 1
    assert again.timings.decode_s is None
    assert [one.content for one in again.pictures] == [one.content for one in first.pictures]


async def test_drawing_counts_as_postprocessing(service, monkeypatch):
    async def slow(*_) -> DeliveredPictures:
        return DeliveredPictures((), queue_s=500.0, run_s=1000.0)

    monkeypatch.setattr(PictureMaker, "make", slow)
    timings = (await service.segment(request(renderings=OVERLAY), CALLER)).timings
    assert 1000 < timings.postprocess_s < 1400
    assert 500 < timings.queue_s < 900


async def test_a_smaller_copy_is_an_embedding_of_its_own_in_the_images_own_frame(service, engine):
    own = await service.segment(request(), CALLER)
    small = await service.segment(request(inference_size_px=100), CALLER)
    again = await service.segment(request(inference_size_px=100), CALLER)
    assert engine.encoded == 2
    assert not small.embedding_cached
    assert again.embedding_cached
    assert small.image == own.image
    assert small.image.size == ImageSize(400, 300)
    # Cells of the copy that are red altogether, and with smooth edges some of their neighbours.
    box = small.masks[0].box
    assert own.masks[0].box == Box(100, 75, 300, 225)
    assert box is not None
    assert abs(box.x_min - 100) <= 4
    assert abs(box.y_max - 225) <= 4
    whole = await service.segment(request(inference_size_px=400), CALLER)
    assert whole.masks[0].encoded == own.masks[0].encoded


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"delivery": Delivery.STORED_FILE}, ErrorCode.SOURCE_DISABLED),
        ({"renderings": OVERLAY, "image": ImageDigest("sha256:0")}, ErrorCode.IMAGE_NOT_FOUND),
        ({"renderings": OVERLAY, "image": InlineImage(b"no image")}, ErrorCode.INVALID_ARGUMENT),
    ],
)
async def test_what_cannot_be_served_is_refused_before_the_device_is_troubled(
    service, engine, changes, code
):
    with pytest.raises(MaskwireError) as caught:
        await service.segment(request(**changes), CALLER)
    assert caught.value.code is code
    assert engine.encoded == 0
