"""Opening a video for somebody who may be gone by the time it is open."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import pytest

from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.file_decoder import InProcessDecoder
from maskwire_server.domain.video.opened import OpenedVideo, VideoLimits
from maskwire_server.domain.video.opening import VideoOpening
from tests.support.videos import LIMITS, squares_video


class WaitingDecoder(InProcessDecoder):
    """Opens a video when it is told to, and keeps it."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.video: OpenedVideo | None = None

    def open_video(self, file: BinaryIO, limits: VideoLimits, *, field: str) -> OpenedVideo:
        self.begun.set()
        assert self.may_end.wait(30)
        self.video = super().open_video(file, limits, field=field)
        return self.video


def is_closed(video: OpenedVideo | None) -> bool:
    assert video is not None
    return video.pictures(range(3)).read(1.0) is None


def test_a_video_that_is_wanted_stays_open():
    opening = VideoOpening(InProcessDecoder(), io.BytesIO(squares_video(3)), LIMITS, "video.data")
    video = opening.run()
    assert not is_closed(video)
    assert opening.abandon() is video
    video.close()


def test_a_file_is_closed_whose_turn_never_comes():
    file = io.BytesIO(squares_video(3))
    assert VideoOpening(InProcessDecoder(), file, LIMITS, "video.data").abandon() is None
    assert file.closed


def test_a_file_that_is_no_video_is_closed():
    file = io.BytesIO(b"no video")
    with pytest.raises(MaskwireError):
        VideoOpening(InProcessDecoder(), file, LIMITS, "video.data").run()
    assert file.closed


def test_a_video_is_closed_that_nobody_waits_for_any_more():
    decoder = WaitingDecoder()
    opening = VideoOpening(decoder, io.BytesIO(squares_video(3)), LIMITS, "video.data")
    with ThreadPoolExecutor(1) as thread:
        opened = thread.submit(opening.run)
        decoder.begun.wait()
        assert opening.abandon() is None
        decoder.may_end.set()
        opened.result()
    assert is_closed(decoder.video)
