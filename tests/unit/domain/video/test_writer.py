"""Overlay videos, read back."""

from __future__ import annotations

import io

import numpy as np
import pytest

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.packed_masks import PackedMask
from maskwire_server.domain.palette import object_colour
from maskwire_server.domain.video.reader import VideoPicture, VideoReader
from maskwire_server.domain.video.writer import OverlayVideoWriter
from tests.support.videos import LIMITS

TIMES_S = [0.0, 0.04, 0.2, 0.24]


def written(size: ImageSize) -> bytes:
    mask = np.zeros((size.height_px, size.width_px), np.bool_)
    mask[8:40, 8:40] = True
    grey = np.full((size.height_px, size.width_px, 3), 100, np.uint8)
    writer = OverlayVideoWriter(size, 25.0, 1 << 20)
    for index, time_s in enumerate(TIMES_S):
        masks = {2: PackedMask.pack(mask)} if index else {}
        writer.add(VideoPicture(index, time_s, grey), masks)
    data = writer.finish()
    writer.close()
    return data


@pytest.mark.parametrize("size", [ImageSize(96, 64), ImageSize(97, 65)])
def test_frames_are_shown_at_their_own_times_with_their_masks(size):
    reader = VideoReader(io.BytesIO(written(size)), LIMITS)
    assert reader.is_whole
    assert reader.info.frame_count == len(TIMES_S)
    even = ImageSize(size.width_px + size.width_px % 2, size.height_px + size.height_px % 2)
    assert reader.info.size == even
    stream = reader.pictures(range(len(TIMES_S)))
    pictures = [stream.read(patience_s=5.0) for _ in TIMES_S]
    assert [one.time_s for one in pictures if one] == pytest.approx(TIMES_S)
    plain, drawn = (one.pixels[20:28, 20:28].mean(axis=(0, 1)) for one in pictures[:2] if one)
    expected = 0.5 * np.array([100, 100, 100]) + 0.5 * np.array(object_colour(2))
    assert np.abs(plain - 100).max() < 6
    assert np.abs(drawn - expected).max() < 12


def test_a_clock_that_stands_still_is_no_harm():
    grey = np.full((64, 96, 3), 100, np.uint8)
    writer = OverlayVideoWriter(ImageSize(96, 64), 25.0, 1 << 20)
    for index in range(5):
        writer.add(VideoPicture(index, 0.0, grey), {})
    reader = VideoReader(io.BytesIO(writer.finish()), LIMITS)
    writer.close()
    assert reader.info.frame_count == 5


def test_a_video_does_not_outgrow_its_limit():
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    writer = OverlayVideoWriter(ImageSize(96, 64), 25.0, 4000)

    def write() -> None:
        for index in range(200):
            writer.add(VideoPicture(index, index / 25, np.roll(noise, index, axis=0)), {})
        writer.finish()

    with pytest.raises(MaskwireError, match=r"render_overlay: .* 4000 bytes") as raised:
        write()
    assert raised.value.code is ErrorCode.PAYLOAD_TOO_LARGE
    writer.close()


def test_a_video_that_was_begun_can_be_given_up():
    writer = OverlayVideoWriter(ImageSize(96, 64), 25.0, 1 << 20)
    picture = VideoPicture(0, 0.0, np.zeros((64, 96, 3), np.uint8))
    writer.add(picture, {})
    writer.close()
    with pytest.raises(ValueError, match="closed file"):
        writer.finish()
