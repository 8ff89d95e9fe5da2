"""Pictures on their way to the caller: inline or stored, never too many bytes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.packed_masks import DrawableMask, PackedMask
from maskwire_server.domain.picture_delivery import PictureLimits, PictureMaker
from maskwire_server.domain.renderings import Delivery, RenderingRequest, RenderingStyle
from maskwire_server.domain.segmentation import Caller
from maskwire_server.observability.metrics import Metrics

SIZE = ImageSize(width_px=64, height_px=48)
CALLER = Caller("tenant", "request")
BLACK_WHITE = RenderingRequest(RenderingStyle.BLACK_WHITE)
INDIVIDUAL = RenderingRequest(RenderingStyle.INDIVIDUAL_MASKS)


def masks(count=3):
    random = np.random.default_rng(0)
    return [
        DrawableMask(number, number + 1, PackedMask.pack(random.random((48, 64)) < 0.5))
        for number in range(count)
    ]


@pytest.fixture
def pixels() -> Iterator[BoundedExecutor]:
    executor = BoundedExecutor("pixels", 1, 16, Metrics())
    yield executor
    executor.close()


def maker(pixels, inline=10**6, stored=10**6):
    return PictureMaker(pixels, None, PictureLimits(inline, stored))


async def test_pictures_come_with_what_they_took(pixels):
    made = await maker(pixels).make(
        [BLACK_WHITE, INDIVIDUAL], Delivery.INLINE, SIZE, None, masks(), CALLER
    )
    assert [picture.mask_index for picture in made.pictures] == [None, 0, 1, 2]
    assert all(isinstance(picture.content, bytes) for picture in made.pictures)
    assert timedelta(seconds=made.run_s) > timedelta(0)


async def test_the_limit_counts_all_pictures_together_and_drawing_stops_at_it(pixels):
    whole = await maker(pixels).make([INDIVIDUAL], Delivery.INLINE, SIZE, None, masks(), CALLER)
    total = sum(len(picture.content) for picture in whole.pictures)
    exactly = maker(pixels, inline=total)
    await exactly.make([INDIVIDUAL], Delivery.INLINE, SIZE, None, masks(), CALLER)
    with pytest.raises(MaskwireError) as caught:
        await maker(pixels, inline=total - 1).make(
            [INDIVIDUAL], Delivery.INLINE, SIZE, None, masks(1000), CALLER
        )
    assert caught.value.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert caught.value.violations[0].field == "renderings"
    assert "DELIVERY_STORED_FILE" in caught.value.message


async def test_stored_files_are_refused_where_nothing_is_stored(pixels):
    with pytest.raises(MaskwireError, match="delivery: this server stores no files") as caught:
        await maker(pixels).make([BLACK_WHITE], Delivery.STORED_FILE, SIZE, None, masks(), CALLER)
    assert caught.value.code is ErrorCode.SOURCE_DISABLED
    maker(pixels).check(Delivery.INLINE)
