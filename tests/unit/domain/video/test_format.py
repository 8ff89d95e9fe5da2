"""Which format a file has and whether it is all there."""

from __future__ import annotations

import io

import pytest

from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.video.format import VideoFormat, gif_size, identify_video, is_cut_off
from tests.support.videos import HEIGHT, WIDTH, index_first, squares_video

FILES = {
    VideoFormat.MP4: squares_video(4),
    VideoFormat.WEBM: squares_video(4, "webm", codec="libvpx-vp9"),
    VideoFormat.GIF: squares_video(4, "gif", codec="gif"),
}


@pytest.mark.parametrize("video_format", VideoFormat)
def test_a_file_is_known_by_its_signature_and_by_its_end(video_format):
    data = FILES[video_format]
    assert identify_video(io.BytesIO(data), field="video.data") is video_format
    assert not is_cut_off(io.BytesIO(data), video_format)
    for missing in (1, 50, len(data) // 2):
        assert is_cut_off(io.BytesIO(data[:-missing]), video_format), missing


def test_padding_after_a_gif_is_no_harm():
    data = FILES[VideoFormat.GIF] + b"\0" * 8
    assert not is_cut_off(io.BytesIO(data), VideoFormat.GIF)


def test_an_mp4_box_may_reach_to_the_end_whatever_its_length_says():
    data = bytearray(index_first(FILES[VideoFormat.MP4]))
    at = data.find(b"mdat") - 4
    data[at : at + 4] = bytes(4)
    assert not is_cut_off(io.BytesIO(data[:-10]), VideoFormat.MP4)


def test_an_mp4_box_may_have_a_long_length():
    data = b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x01mdat" + (20).to_bytes(8, "big") + b"1234"
    assert not is_cut_off(io.BytesIO(data), VideoFormat.MP4)
    assert is_cut_off(io.BytesIO(data[:-1]), VideoFormat.MP4)


def test_a_live_webm_does_not_say_how_long_it_is():
    data = bytearray(FILES[VideoFormat.WEBM])
    at = data.find(b"\x18\x53\x80\x67") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7
    assert not is_cut_off(io.BytesIO(data[:-10]), VideoFormat.WEBM)


def test_a_matroska_file_that_is_no_webm_is_not_taken():
    data = FILES[VideoFormat.WEBM].replace(b"webm", b"mkv!", 1)
    with pytest.raises(MaskwireError, match=r"video\.data: must be an MP4, WebM or GIF"):
        identify_video(io.BytesIO(data), field="video.data")


def test_a_gif_states_its_size():
    assert gif_size(io.BytesIO(FILES[VideoFormat.GIF])) == ImageSize(WIDTH, HEIGHT)
    assert gif_size(io.BytesIO(b"GIF89a\x05")) == ImageSize(5, 0)
