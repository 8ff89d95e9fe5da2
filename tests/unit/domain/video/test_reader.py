"""Reading of untrusted video files: every format, both directions, limits, broken files."""

from __future__ import annotations

import io
import struct
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.video.reader import VideoLimits, VideoPicture, VideoReader
from tests.support import videos
from tests.support.videos import LIMITS, squares_video

COUNT = 30
FILES = {
    "H.264 in MP4": lambda: squares_video(COUNT),
    "H.264 with many keyframes": lambda: squares_video(COUNT, keyframe_every=3),
    "H.264 with keyframes only": lambda: squares_video(COUNT, keyframe_every=1),
    "H.264 in fragments": lambda: squares_video(
        COUNT, container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "MPEG-4": lambda: squares_video(COUNT, codec="mpeg4"),
    "VP9": lambda: squares_video(COUNT, "webm", codec="libvpx-vp9"),
    "VP8": lambda: squares_video(COUNT, "webm", codec="libvpx"),
    "GIF": lambda: squares_video(COUNT, "gif", codec="gif"),
}


def opened(data: bytes, limits: VideoLimits = LIMITS) -> VideoReader:
    return VideoReader(io.BytesIO(data), limits)


def read(reader: VideoReader, order: range) -> list[VideoPicture]:
    stream = reader.pictures(order)
    pictures = []
    while not stream.is_at_end:
        picture = stream.read(patience_s=1.0)
        if picture is not None:
            pictures.append(picture)
    return pictures


def indices(pictures: list[VideoPicture]) -> list[int]:
    return [picture.index for picture in pictures]


@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_the_same_whichever_way_it_is_reached(name):
    reader = opened(FILES[name]())
    assert reader.is_whole
    assert reader.info.frame_count == reader.readable_frames == COUNT
    assert reader.info.size == ImageSize(videos.WIDTH, videos.HEIGHT)
    assert reader.info.frames_per_second == pytest.approx(25)
    assert reader.info.duration_s == pytest.approx(1.2, abs=0.05)
    forward = read(reader, range(COUNT))
    assert indices(forward) == list(range(COUNT))
    assert [videos.left_edge(one.pixels) for one in forward] == [
        pytest.approx(videos.STEP * index, abs=1) for index in range(COUNT)
    ]
    assert [one.time_s for one in forward] == pytest.approx([0.04 * n for n in range(COUNT)])
    for order in (range(29, -1, -1), range(17, 2, -4), range(13, 30, 5), range(29, 28, -1)):
        again = read(reader, order)
        assert indices(again) == list(order)
        for picture in again:
            assert np.array_equal(picture.pixels, forward[picture.index].pixels)
    reader.close()


def test_a_hidden_frame_has_no_number():
    shown = squares_video(COUNT, "webm", codec="libvpx")
    reader = opened(videos.with_hidden_frame(shown, 12))
    assert reader.info.frame_count == COUNT - 1
    forward = read(reader, range(COUNT - 1))
    assert indices(forward) == list(range(COUNT - 1))
    assert videos.left_edge(forward[12].pixels) == pytest.approx(videos.STEP * 13, abs=1)
    assert indices(read(reader, range(COUNT - 2, -1, -1))) == list(range(COUNT - 2, -1, -1))


def test_frames_keep_their_own_times():
    times_ms = [0, 40, 160, 200, 1000, 1040]
    data = videos.encode_video([videos.picture(index) for index in range(6)], times_ms=times_ms)
    pictures = read(opened(data), range(6))
    assert [one.time_s for one in pictures] == pytest.approx([ms / 1000 for ms in times_ms])


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_frames_are_turned_upright(turns):
    reader = opened(videos.turned(squares_video(3), turns))
    [first, *_] = read(reader, range(3))
    expected = np.rot90(videos.picture(0), -turns)
    assert np.array_equal(first.pixels, expected)
    assert reader.info.size == ImageSize(expected.shape[1], expected.shape[0])


def test_going_backward_holds_no_more_than_the_buffer(monkeypatch):
    made: list[weakref.ref[NDArray[np.uint8]]] = []

    def noted(reader: VideoReader, *of_frame: Any) -> VideoPicture:
        picture = make(reader, *of_frame)
        made.append(weakref.ref(picture.pixels))
        return picture

    make = VideoReader._picture
    monkeypatch.setattr(VideoReader, "_picture", noted)
    data = squares_video(COUNT, keyframe_every=COUNT)
    frame_bytes = 3 * videos.WIDTH * videos.HEIGHT
    reader = opened(data, replace(LIMITS, reverse_buffer_bytes=5 * frame_bytes))
    stream = reader.pictures(range(COUNT - 1, -1, -1))
    held = []
    while not stream.is_at_end:
        stream.read(patience_s=0.0)
        held.append(sum(one() is not None for one in made))
    assert len(made) == COUNT
    assert max(held) == 5


def test_a_read_ends_when_its_time_is_over():
    stream = opened(squares_video(COUNT, keyframe_every=COUNT)).pictures(range(COUNT - 1, COUNT))
    steps = 0
    while not stream.is_at_end:
        steps += stream.read(patience_s=0.0) is None
    assert steps > COUNT // 2


def test_a_closed_reader_gives_nothing_more():
    reader = opened(squares_video(3))
    stream = reader.pictures(range(3))
    assert stream.read(patience_s=1.0) is not None
    reader.close()
    assert stream.read(patience_s=1.0) is None
    assert stream.is_at_end


def refused(data: bytes, limits: VideoLimits = LIMITS) -> MaskwireError:
    with pytest.raises(MaskwireError) as raised:
        opened(data, limits)
    assert [violation.field for violation in raised.value.violations] == ["video.data"]
    return raised.value


def large(container: str, codec: str) -> bytes:
    return videos.encode_video([np.zeros((1200, 1600, 3), np.uint8)], container, codec)


def gif_header(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b";"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "empty"),
        (b"not a video at all" * 20, "MP4, WebM or GIF"),
        (b"\x1a\x45\xdf\xa3\x01\x00\x00\x00\x00\x00\x00\x13\x42\x82\x84webm" + b"\0" * 99, "WebM"),
        (b"\x00\x00\x00\x18ftypisom" + b"\0" * 200, "MP4"),
        (gif_header(10, 10), "a frame that can be decoded"),
        (squares_video(3)[:-200], "cut off"),
        (videos.squares_video(3, codec="mjpeg"), "encoded as"),
        (large("webm", "libvpx-vp9"), "at most 1048576 pixels"),
    ],
)
def test_what_is_no_video_is_refused(data, rule):
    error = refused(data)
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert rule in error.message


@pytest.mark.parametrize(
    ("data", "limits", "rule"),
    [
        (squares_video(3), replace(LIMITS, max_bytes=100), "bytes"),
        (squares_video(3), replace(LIMITS, max_frames=2), "frames"),
        (squares_video(3, "webm", codec="libvpx"), replace(LIMITS, max_frames=2), "frames"),
        (squares_video(30), replace(LIMITS, max_duration_s=1.0), "s exceed"),
        (squares_video(3), replace(LIMITS, max_pixels=6000), "pixels a frame"),
        (squares_video(3), replace(LIMITS, max_side_px=95), "95 px a side"),
        (gif_header(60_000, 60_000), LIMITS, "60000 x 60000"),
        (large("mp4", "libx264rgb"), LIMITS, "1600 x 1200"),
    ],
)
def test_limits_are_checked_before_anything_is_decoded(data, limits, rule):
    error = refused(data, limits)
    assert error.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert rule in error.message


CUT_OFF = {
    "MP4 with its index first": lambda: videos.cut_in_data(
        videos.index_first(squares_video(COUNT)), 0.6
    ),
    "fragments": lambda: videos.cut_in_data(FILES["H.264 in fragments"](), 0.6),
    "VP9": lambda: FILES["VP9"]()[: -len(FILES["VP9"]()) // 3],
    "GIF": lambda: FILES["GIF"]()[: -len(FILES["GIF"]()) // 3],
}


def numbers_to_the_break(
    reader: VideoReader, order: range, *, checked: bool = False
) -> tuple[list[int], MaskwireError | None]:
    """The frames that can be read, and what ended them, if anything did."""
    stream = reader.pictures(order)
    found = []
    try:
        while not stream.is_at_end:
            picture = stream.read(patience_s=1.0)
            if picture is not None:
                found.append(picture.index)
                if checked:
                    expected = videos.STEP * picture.index
                    assert videos.left_edge(picture.pixels) == pytest.approx(expected, abs=1)
    except MaskwireError as error:
        return found, error
    return found, None


def read_to_the_break(reader: VideoReader, order: range) -> tuple[list[int], MaskwireError | None]:
    """The same, with a look at every frame."""
    return numbers_to_the_break(reader, order, checked=True)


@pytest.mark.parametrize("name", CUT_OFF)
def test_a_file_that_is_cut_off_gives_what_is_there(name):
    reader = opened(CUT_OFF[name]())
    assert not reader.is_whole
    assert 3 < reader.readable_frames < COUNT
    found, _ = read_to_the_break(reader, range(COUNT))
    assert found == list(range(len(found)))
    assert reader.readable_frames - 3 <= len(found) <= reader.readable_frames
    if name == "MP4 with its index first":
        assert reader.info.frame_count == COUNT


def test_an_index_first_is_as_good_as_an_index_last():
    whole = opened(videos.index_first(squares_video(COUNT)))
    assert whole.is_whole
    assert indices(read(whole, range(COUNT))) == list(range(COUNT))


def broken_in_the_middle() -> bytes:
    data = squares_video(COUNT, keyframe_every=10)
    return videos.scrambled(data, data.find(b"mdat") + len(data) * 2 // 5)


def test_a_broken_file_gives_the_frames_before_the_break_and_says_where_it_is():
    found, error = read_to_the_break(opened(broken_in_the_middle()), range(COUNT))
    assert 3 < len(found) < COUNT
    assert found == list(range(len(found)))
    assert error is not None
    assert error.code is ErrorCode.DATA_LOSS
    assert f"frame {len(found)} cannot be decoded" in error.message


def test_going_backward_ends_at_the_break():
    found, error = read_to_the_break(opened(broken_in_the_middle()), range(COUNT - 1, -1, -1))
    assert 3 < len(found) < COUNT
    assert found == list(range(COUNT - 1, COUNT - 1 - len(found), -1))
    assert error is not None
    assert error.code is ErrorCode.DATA_LOSS


@pytest.mark.parametrize("name", ["H.264 in MP4", "H.264 in fragments", "VP9", "GIF"])
def test_whatever_is_wrong_with_a_file_only_errors_for_the_caller_come_of_it(name):
    whole, random = FILES[name](), np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 3):
            data[at : at + 8] = random.bytes(8)
        try:
            reader = opened(bytes(data))
            for order in (range(COUNT), range(COUNT - 1, -1, -1)):
                found, error = numbers_to_the_break(reader, order)
                assert found == sorted(found, reverse=order.step < 0)
                outcomes.add(error is None or error.code)
            reader.close()
        except MaskwireError as error:
            outcomes.add(error.code)
    assert outcomes <= {
        True,
        ErrorCode.DATA_LOSS,
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.PAYLOAD_TOO_LARGE,
    }
    assert len(outcomes) > 1
