"""Decoding of untrusted video files into RGB pictures, in either direction and bounded memory.

PyAV does the work on a file that is at hand: no address is ever opened. A file is looked through
once without decoding, for the time of each frame and for the keyframes, so that a frame has the
same number whichever way it is reached. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, Never

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import ErrorCode, MaskwireError, invalid_field, too_large
from ..geometry import ImageSize
from .format import VideoFormat, gif_size, identify_video, is_cut_off
from .index import FrameIndex
from .opened import OpenedVideo, PictureStream, VideoLimits, VideoPicture
from .requests import VideoInfo

__all__ = ["PictureStream", "VideoLimits", "VideoPicture", "VideoReader"]

_DEMUXERS = {VideoFormat.MP4: "mov", VideoFormat.WEBM: "matroska", VideoFormat.GIF: "gif"}
_CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "mpeg4", "vp8", "vp9", "gif"})
_RGB_BYTES = 3
_MICROSECONDS = 1_000_000
_HASH_BLOCK_BYTES = 1 << 20


class VideoReader(OpenedVideo):
    """An open video that is decoded in this process."""

    def __init__(self, file: BinaryIO, limits: VideoLimits, *, field: str = "video.data") -> None:
        """Open a video, check it against the limits and look it through.

        Args:
            file: The encoded video, seekable; the reader closes it.
            limits: What it may be at most, checked from its header as far as that tells.
            field: Path of the video in the request, for errors.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` where it is no MP4, WebM or GIF video, or not one
                frame of it can be decoded; `PAYLOAD_TOO_LARGE` where a limit is exceeded.
        """
        self.field = field
        self._limits = limits
        self._file = file
        self._lock = threading.Lock()
        self._is_closed = False
        self._check_bytes(file.seek(0, os.SEEK_END))
        self._format = identify_video(file, field=field)
        self._is_cut_off = is_cut_off(file, self._format)
        self._digest = _digest(file)
        self._container, self._stream = self._open()  # from here on the file is the container's
        try:
            self._check_header()
            self._index = self._look_through()
            first = self._first_frame()
        except BaseException:
            self._container.close()
            raise
        self._stored_size = ImageSize(first.width, first.height)
        self._quarter_turns = round(first.rotation / 90) % 4
        self.info = self._describe()

    @property
    def readable_frames(self) -> int:
        """Frames that are there to be decoded."""
        return len(self._index.times)

    @property
    def is_whole(self) -> bool:
        """Whether all of the file is there; what is there may still turn out to be broken."""
        return self._index.is_whole and not self._is_cut_off

    def pictures(self, order: range) -> PictureStream:
        """Return frames; as the interface says."""
        return _Pictures(self, self._descending(order) if order.step < 0 else self._up(order))

    def close(self) -> None:
        """Free everything; waits for a read that is under way."""
        with self._lock:
            self._is_closed = True
            self._container.close()
            self._file.close()

    def run_locked(self, work: Iterator[VideoPicture | None], until_s: float) -> Any:
        """Do some of `work`: up to the next picture, or until a time is reached."""
        with self._lock:
            if self._is_closed:
                return _END
            for picture in work:
                if picture is not None or time.perf_counter() >= until_s:
                    return picture
        return _END

    def _open(self) -> tuple[InputContainer, VideoStream]:
        if self._format is VideoFormat.GIF:  # a frame of it is decoded as soon as it is opened
            self._check_size(gif_size(self._file))
        self._file.seek(0)
        try:
            container = av.open(
                self._file,
                "r",
                format=_DEMUXERS[self._format],
                # Streams may change their size after what the header said.
                options={"max_pixels": str(self._limits.max_pixels)},
                io_open=_refuse_to_open,
            )
        # Whatever a parser trips over is the file's fault: also memory that it asks for in vain, by
        # lengths that the file states.
        except Exception as error:
            raise invalid_field(self.field, self._malformed()) from error
        if not container.streams.video:
            container.close()
            rule = self._malformed() if self._is_cut_off else "must hold a video stream"
            raise invalid_field(self.field, rule)
        return container, container.streams.video[0]

    def _check_bytes(self, size_bytes: int) -> None:
        if size_bytes == 0:
            raise invalid_field(self.field, "must not be empty")
        if size_bytes > self._limits.max_bytes:
            raise too_large(
                self.field, f"{size_bytes} bytes exceed the limit of {self._limits.max_bytes}"
            )

    def _check_header(self) -> None:
        # The stubs promise a codec; a stream of an unknown one has none.
        codec: av.VideoCodecContext | None = self._stream.codec_context
        if codec is None or codec.name not in _CODECS:
            raise invalid_field(
                self.field, "must be encoded as H.264, H.265, AV1, VP8, VP9, MPEG-4 or GIF"
            )
        codec.options = {"max_pixels": str(self._limits.max_pixels)}
        codec.thread_count = 1  # what runs side by side is for the executor to decide
        self._check_size(ImageSize(codec.width, codec.height))
        self._check_frames(self._stream.frames)
        duration_s = (self._container.duration or 0) / _MICROSECONDS
        if duration_s > self._limits.max_duration_s:
            raise too_large(
                self.field,
                f"{duration_s:.1f} s exceed the limit of {self._limits.max_duration_s:g} s",
            )

    def _check_size(self, size: ImageSize) -> None:
        width, height = size.width_px, size.height_px
        if width < 1 or height < 1:  # also where the decoder has refused what its limit forbids
            most = f"with frames of at most {self._limits.max_pixels} pixels"
            raise invalid_field(self.field, f"{self._malformed()}, {most}")
        if max(width, height) > self._limits.max_side_px:
            limit = self._limits.max_side_px
            raise too_large(
                self.field, f"{width} x {height} pixels exceed the limit of {limit} px a side"
            )
        if size.pixels > self._limits.max_pixels:
            limit = self._limits.max_pixels
            raise too_large(
                self.field,
                f"{width} x {height} = {size.pixels} pixels a frame exceed the limit of {limit}",
            )

    def _check_frames(self, count: int) -> None:
        if count > self._limits.max_frames:
            raise too_large(self.field, f"its frames exceed the limit of {self._limits.max_frames}")

    def _malformed(self) -> str:
        name = {VideoFormat.MP4: "an MP4", VideoFormat.WEBM: "a WebM", VideoFormat.GIF: "a GIF"}
        if self._is_cut_off:
            return f"must be {name[self._format]} video that is all there: it is cut off"
        return f"must be {name[self._format]} video that is well formed"

    def _look_through(self) -> FrameIndex:
        index = FrameIndex.of(
            self._container, self._stream, self._limits.max_frames, is_cut_off=self._is_cut_off
        )
        if index is None:
            raise invalid_field(self.field, self._malformed())
        self._check_frames(len(index.times))
        return index

    def _first_frame(self) -> VideoFrame:
        try:
            for _, frame in self._decode(0, 0):
                self._check_size(ImageSize(frame.width, frame.height))
                return frame
        except MaskwireError as error:
            if error.code is not ErrorCode.DATA_LOSS:
                raise
        raise invalid_field(self.field, "must hold a frame that can be decoded")

    def _describe(self) -> VideoInfo:
        count = self.readable_frames if self.is_whole else self._stream.frames or None
        times = self._index.times
        base = float(self._stream.time_base or 0)
        duration_s = (self._container.duration or 0) / _MICROSECONDS
        duration_s = duration_s or float(times[-1] - times[0]) * base
        rate = float(self._stream.average_rate or 0)
        if not rate and duration_s:
            rate = self.readable_frames / duration_s
        width, height = self._stored_size.width_px, self._stored_size.height_px
        if self._quarter_turns % 2:
            width, height = height, width
        return VideoInfo(ImageSize(width, height), count, rate, duration_s, self._digest)

    def _up(self, order: range) -> Iterator[VideoPicture | None]:
        """Yield the pictures in `order`, which counts up, and None for each step between them."""
        if order:
            for index, frame in self._decode(order[0], order[-1]):
                yield self._picture(index, frame) if index in order else None

    def _descending(self, order: range) -> Iterator[VideoPicture | None]:
        """Yield the pictures in `order`, which counts down, stretch by stretch."""
        wanted = order[::-1]
        picture_bytes = _RGB_BYTES * self._stored_size.pixels
        held_most = max(1, self._limits.reverse_buffer_bytes // picture_bytes)
        while wanted:
            keyframe = int(self._index.keyframes[self._index.keyframe_at(wanted[-1])])
            after_keyframe = -((wanted.start - keyframe) // wanted.step)
            first = max(0, len(wanted) - held_most, after_keyframe)
            held: list[VideoPicture] = []
            for picture in self._up(wanted[first:]):
                held += [] if picture is None else [picture]
                yield None
            while held:
                yield held.pop()
            wanted = wanted[:first]

    def _decode(self, first: int, last: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield the frames from the keyframe before `first` up to `last` with their numbers.

        Raises:
            MaskwireError: `DATA_LOSS` after the last frame before a place that is broken.
        """
        keyframe = self._index.keyframe_at(first)
        newest = int(self._index.keyframes[keyframe]) - 1
        for frames, error in self._steps(int(self._index.seek_times[keyframe])):
            for frame in frames:
                index = self._index.number(frame.pts)
                if index is None or index <= newest:
                    continue
                if error is not None and index > newest + 1:
                    break
                newest = index
                if index <= last:
                    yield index, frame
                if index >= last:
                    return
            if error is not None:
                missing = max(first, newest + 1)
                raise MaskwireError(
                    ErrorCode.DATA_LOSS, f"{self.field}: frame {missing} cannot be decoded"
                ) from error

    def _steps(self, start: int) -> Iterator[tuple[list[VideoFrame], Exception | None]]:
        """Yield what each packet gives from a decoding time on, and an error where that ends."""
        try:
            self._container.seek(start, stream=self._stream)
            for packet in self._container.demux(self._stream):
                yield self._frames_of(packet)
        except av.FFmpegError as error:
            yield self._waiting_frames(), error

    def _frames_of(self, packet: av.Packet[Any]) -> tuple[list[VideoFrame], Exception | None]:
        """Decode a packet; where that fails, return what waited to be shown, and the error."""
        if packet.is_corrupt:
            return self._waiting_frames(), av.InvalidDataError(0, "corrupt packet")
        try:
            frames: list[VideoFrame] = packet.decode()
        except av.FFmpegError as error:
            return self._waiting_frames(), error
        whole = list(itertools.takewhile(lambda frame: not frame.is_corrupt, frames))
        return whole, None if len(whole) == len(frames) else av.InvalidDataError(0, "corrupt frame")

    def _waiting_frames(self) -> list[VideoFrame]:
        """Return the frames that are decoded and wait to be shown in their turn."""
        try:
            return self._stream.decode(None)
        except av.FFmpegError:
            return []

    def _picture(self, index: int, frame: VideoFrame) -> VideoPicture:
        width, height = self._stored_size.width_px, self._stored_size.height_px
        # Another thread for colours would be waited for anyhow, and children may have none.
        pixels = frame.to_ndarray(format="rgb24", width=width, height=height, threads=1)
        upright = np.rot90(pixels, self._quarter_turns)
        since_start = int(self._index.times[index] - self._index.times[0])
        time_s = since_start * float(self._stream.time_base or 0)
        return VideoPicture(index, time_s, np.ascontiguousarray(upright, dtype=np.uint8))


_END = object()


class _Pictures(PictureStream):
    """Frames on their way out of a `VideoReader`."""

    def __init__(self, reader: VideoReader, work: Iterator[VideoPicture | None]) -> None:
        self._reader = reader
        self._work = work
        self.is_at_end = False

    def read(self, patience_s: float) -> VideoPicture | None:
        """Return the next frame; as the interface says."""
        read = self._reader.run_locked(self._work, time.perf_counter() + patience_s)
        self.is_at_end = read is _END
        return None if read is _END else read


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> Never:
    """Stand in for what opens the files that a file refers to."""
    raise PermissionError("a video must hold everything that it shows")


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(_HASH_BLOCK_BYTES):
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"
