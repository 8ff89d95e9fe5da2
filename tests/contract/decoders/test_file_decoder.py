"""What every decoder of files does: the same values, the same refusals, wherever it runs."""

from __future__ import annotations

import io
import tempfile
from typing import Any, cast

import numpy as np
import pytest
from PIL import ExifTags, Image

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.file_decoder import MaskFile
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.images import ImageLimits, decode_image
from maskwire_server.domain.mask_encodings import decode_png, encode_png
from maskwire_server.domain.reconstruction.geometry import Intrinsics
from maskwire_server.domain.reconstruction.point_maps import read_depth_map, read_point_map
from maskwire_server.domain.video.opened import OpenedVideo, VideoPicture
from maskwire_server.domain.video.reader import VideoReader
from tests.support.decoders import picture, saved
from tests.support.videos import LIMITS as VIDEO_LIMITS
from tests.support.videos import av1_video, cut_in_data, index_first, scrambled, squares_video

LIMITS = ImageLimits(max_bytes=2_000_000, max_pixels=4_000_000, max_side_px=4_000)
SIZE = ImageSize(width_px=6, height_px=5)
CAMERA = Intrinsics(10.0, 11.0, 3.0, 2.5)


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


IMAGES = {
    **{name: saved(picture(), name) for name in ("JPEG", "PNG", "WEBP", "GIF", "AVIF")},
    "grey JPEG": saved(picture(mode="L"), "JPEG"),
    "CMYK JPEG": saved(picture(mode="CMYK"), "JPEG"),
    "progressive JPEG": saved(picture(900, 700), "JPEG", progressive=True),
    "turned JPEG": saved(picture(), "JPEG", exif=_exif(6)),
    "PNG with transparency": saved(picture(mode="RGBA"), "PNG"),
    "16-bit PNG": saved(Image.fromarray(np.full((9, 7), 40_000, np.uint16)), "PNG"),
    "palette PNG": saved(picture(mode="P"), "PNG"),
    "large AVIF": saved(picture(1400, 1100), "AVIF", speed=10),
    "large WebP": saved(picture(1400, 1100), "WEBP"),
}
BROKEN_IMAGES = {
    "empty": b"",
    "no image": b"hello, world",
    "cut-off JPEG": IMAGES["progressive JPEG"][:3000],
    "cut-off PNG": IMAGES["PNG"][:-30],
    "cut-off AVIF": IMAGES["AVIF"][:200],
    "too many pixels": saved(Image.new("1", (3000, 3000)), "PNG"),
    "too many bytes": IMAGES["JPEG"] + bytes(LIMITS.max_bytes),
}


def _array(values: Any, *, is_packed: bool) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if is_packed else np.save)(file, values)
    return file.getvalue()


POINTS = np.random.default_rng(0).uniform(1, 2, (5, 6, 3)).astype(np.float32)


def _refusal(act: Any) -> MaskwireError:
    with pytest.raises(MaskwireError) as caught:
        act()
    return caught.value


@pytest.mark.parametrize("name", IMAGES)
def test_images_have_the_pixels_that_the_plain_decoder_finds(decoder, name):
    pixels = decoder.image(IMAGES[name], LIMITS)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, decode_image(IMAGES[name], LIMITS))


@pytest.mark.parametrize("name", BROKEN_IMAGES)
def test_images_are_refused_in_the_same_words(decoder, name):
    refused = _refusal(lambda: decoder.image(BROKEN_IMAGES[name], LIMITS, field="frame.image"))
    expected = _refusal(lambda: decode_image(BROKEN_IMAGES[name], LIMITS, field="frame.image"))
    assert (refused.code, refused.message) == (expected.code, expected.message)
    assert refused.violations == expected.violations


MASK_SIZE = ImageSize(width_px=61, height_px=43)  # no whole number of bytes
BITMAPS = np.random.default_rng(3).random((200, 43, 61)) < 0.4
MASKS = {
    "1 bit": encode_png(BITMAPS[0], bit_depth=1),
    "8 bits": encode_png(BITMAPS[1], bit_depth=8),
    "16 bits": saved(Image.fromarray(BITMAPS[2] * np.uint16(40_000)), "PNG"),
    "colours": saved(picture(61, 43), "PNG"),
    "palette": saved(picture(61, 43, mode="P"), "PNG"),
    "transparency": saved(picture(61, 43, mode="RGBA"), "PNG"),
    "interlaced": saved(picture(61, 43, mode="L"), "PNG", interlace=1),
}
BROKEN_MASKS = {
    "empty": b"",
    "no PNG": saved(picture(61, 43), "JPEG"),
    "cut off": MASKS["8 bits"][:-30],
    "another size": encode_png(BITMAPS[0].T, bit_depth=1),
    "far too large": saved(Image.new("1", (3000, 3000)), "PNG"),
}


def _sent(*files: bytes) -> list[MaskFile]:
    return [
        MaskFile(data, f"prompts[{index}].mask.encoded.png.data")
        for index, data in enumerate(files)
    ]


@pytest.mark.parametrize("name", MASKS)
def test_masks_have_the_pixels_that_the_plain_decoder_finds(decoder, name):
    (mask,) = decoder.masks(_sent(MASKS[name]), MASK_SIZE)
    assert (mask.dtype, mask.flags.c_contiguous) == (np.bool_, True)
    np.testing.assert_array_equal(mask, decode_png(MASKS[name], MASK_SIZE))
    assert set(np.unique(mask.view(np.uint8))) <= {0, 1}, "bytes that are no bools break others"


def test_many_masks_come_in_the_order_of_their_files(decoder):
    """More than one order's worth."""
    files = [encode_png(one, bit_depth=1) for one in BITMAPS]
    found = decoder.masks(_sent(*files), MASK_SIZE)
    np.testing.assert_array_equal(np.array(found), BITMAPS)
    assert decoder.masks([], MASK_SIZE) == []


@pytest.mark.parametrize("name", BROKEN_MASKS)
def test_masks_are_refused_in_the_same_words(decoder, name):
    sent = _sent(MASKS["1 bit"], BROKEN_MASKS[name], b"no PNG either")
    refused = _refusal(lambda: decoder.masks(sent, MASK_SIZE))
    expected = _refusal(
        lambda: decode_png(BROKEN_MASKS[name], MASK_SIZE, field="prompts[1].mask.encoded.png.data")
    )
    assert (refused.code, refused.message) == (expected.code, expected.message)
    assert refused.violations == expected.violations
    assert refused.violations[0].field == "prompts[1].mask.encoded.png.data"


@pytest.mark.parametrize("is_packed", [False, True])
def test_maps_have_the_points_that_the_plain_reader_finds(decoder, is_packed):
    data = _array(POINTS, is_packed=is_packed)
    points = decoder.point_map(data, SIZE, "point_map.data", 10_000)
    np.testing.assert_array_equal(points, read_point_map(data, SIZE, "point_map.data", 10_000))
    depth = _array(POINTS[..., 0], is_packed=is_packed)
    arguments = (depth, SIZE, CAMERA, 0.001, "depth_map.data", 10_000)
    np.testing.assert_array_equal(decoder.depth_map(*arguments), read_depth_map(*arguments))


def test_depth_is_read_from_pictures_too(decoder):
    data = saved(Image.fromarray(np.full((5, 6), 1500, np.uint16)), "PNG")
    points = decoder.depth_map(data, SIZE, CAMERA, 0.001, "depth_map.data", 10_000)
    np.testing.assert_allclose(points[..., 2], 1.5)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        _array(POINTS[1:], is_packed=False),
        _array(POINTS, is_packed=True)[:-9],
        _array(np.full((5, 6, 3), None, object), is_packed=False),
        bytes(20_000),
    ],
    ids=["empty", "another shape", "cut off", "a pickle", "too large"],
)
def test_maps_are_refused_in_the_same_words(decoder, data):
    arguments = (data, SIZE, "point_map.data", 10_000)
    refused = _refusal(lambda: decoder.point_map(*arguments))
    expected = _refusal(lambda: read_point_map(*arguments))
    assert (refused.code, refused.message) == (expected.code, expected.message)


def _read(video: OpenedVideo, order: range) -> list[VideoPicture]:
    stream, pictures = video.pictures(order), []
    while not stream.is_at_end:
        if (one := stream.read(patience_s=1.0)) is not None:
            pictures.append(one)
    return pictures


def _assert_same(found: list[VideoPicture], expected: list[VideoPicture]) -> None:
    assert [one.index for one in found] == [one.index for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.time_s == other.time_s
        np.testing.assert_array_equal(one.pixels, other.pixels)


VIDEOS = {
    "H.264": lambda: squares_video(12),
    "MPEG-4": lambda: squares_video(12, codec="mpeg4"),
    "VP9": lambda: squares_video(12, "webm", codec="libvpx-vp9"),
    "AV1": lambda: av1_video(12),
    "GIF": lambda: squares_video(12, "gif", codec="gif"),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_videos_have_the_frames_that_the_plain_reader_finds(decoder, name):
    data = VIDEOS[name]()
    video = decoder.open_video(io.BytesIO(data), VIDEO_LIMITS, field="video.data")
    expected = VideoReader(io.BytesIO(data), VIDEO_LIMITS)
    assert video.info == expected.info
    assert video.field == "video.data"
    assert (video.readable_frames, video.is_whole) == (12, True)
    for order in (range(12), range(11, -1, -1), range(3, 10, 2)):
        _assert_same(_read(video, order), _read(expected, order))
    video.close()
    expected.close()


def test_a_video_is_read_from_a_file_on_disk(decoder):
    file = cast(Any, tempfile.TemporaryFile())  # noqa: SIM115  # the video closes it
    file.write(squares_video(5))
    video = decoder.open_video(file, VIDEO_LIMITS, field="video.uri")
    assert [one.index for one in _read(video, range(5))] == [0, 1, 2, 3, 4]
    video.close()
    assert file.closed


def test_a_second_stream_of_frames_ends_the_first(decoder):
    video = decoder.open_video(io.BytesIO(squares_video(5)), VIDEO_LIMITS, field="video.data")
    first = video.pictures(range(5))
    while first.read(1.0) is None:
        pass
    assert [one.index for one in _read(video, range(2, 4))] == [2, 3]
    video.close()
    assert video.pictures(range(5)).read(1.0) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no video at all",
        squares_video(5)[:300],
        squares_video(5, "webm", codec="libvpx")[:99],
    ],
    ids=["empty", "no video", "cut-off MP4", "cut-off WebM"],
)
def test_videos_are_refused_in_the_same_words(decoder, data):
    refused = _refusal(
        lambda: decoder.open_video(io.BytesIO(data), VIDEO_LIMITS, field="video.data")
    )
    expected = _refusal(lambda: VideoReader(io.BytesIO(data), VIDEO_LIMITS))
    assert (refused.code, refused.message) == (expected.code, expected.message)


def test_a_broken_video_gives_what_comes_before_the_break(decoder):
    data = cut_in_data(index_first(squares_video(30)), 0.5)
    data = scrambled(data, len(data) - 80)
    found = _until_broken(decoder.open_video(io.BytesIO(data), VIDEO_LIMITS, field="video.data"))
    expected = _until_broken(VideoReader(io.BytesIO(data), VIDEO_LIMITS))
    _assert_same(found[0], expected[0])
    assert found[1] == expected[1]
    assert str(found[1]).startswith(str(ErrorCode.DATA_LOSS))


def _until_broken(video: OpenedVideo) -> tuple[list[VideoPicture], str | None]:
    stream, pictures = video.pictures(range(30)), []
    try:
        while not stream.is_at_end:
            if (one := stream.read(patience_s=1.0)) is not None:
                pictures.append(one)
    except MaskwireError as error:
        return pictures, f"{error.code}: {error.message}"
    finally:
        video.close()
    return pictures, None
