"""Where the frames of a video file are, from one look at its packets without decoding them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """The frames in display order.

    Attributes:
        times: Presentation time of each frame in units of the stream, int64, rising.
        keyframes: Numbers of the frames that decoding can start at, rising; the first is 0.
        seek_times: For each keyframe the decoding time, by which files are searched.
        is_whole: Whether every packet could be read.
    """

    times: NDArray[np.int64]
    keyframes: NDArray[np.int64]
    seek_times: NDArray[np.int64]
    is_whole: bool

    @classmethod
    def of(
        cls, container: InputContainer, stream: VideoStream, max_frames: int, *, is_cut_off: bool
    ) -> Self | None:
        """Look through a file; None where it holds no frame.

        Reads up to one frame more than `max_frames`. Where packets cannot be read any more, only
        frames count that none of the missing ones can come before; the last packet of a file that
        is cut off counts as cut off too.
        """
        times: list[int] = []
        keyframes: dict[int, int] = {}
        newest, is_whole = 0, True
        try:
            for packet in container.demux(stream):
                shown = packet.pts if packet.pts is not None else packet.dts
                if packet.size == 0 or shown is None or _is_hidden(packet):
                    continue
                if packet.is_corrupt:
                    is_whole = False
                    break
                times.append(shown)
                newest = shown if packet.dts is None else packet.dts
                if packet.is_keyframe:
                    keyframes[shown] = newest
                if len(times) > max_frames:
                    break
        except av.FFmpegError:
            is_whole = False
        if is_cut_off and is_whole and len(times) > 1:
            times.pop()
            newest, is_whole = times[-1], False
        if not times:
            return None
        return cls._sorted(times, keyframes, None if is_whole else newest)

    @classmethod
    def _sorted(cls, times: list[int], keyframes: dict[int, int], broken_at: int | None) -> Self:
        ordered = np.unique(np.array(times, dtype=np.int64))
        if broken_at is not None:  # frames stored after the break may belong before it
            certain = int(np.searchsorted(ordered, broken_at, side="right"))
            ordered = ordered[: max(1, certain)]
        starts = {key: keyframes[key] for key in sorted(keyframes) if key <= ordered[-1]}
        first = int(ordered[0])
        if first not in starts:
            starts = {first: first, **starts}
        return cls(
            times=ordered,
            keyframes=np.searchsorted(ordered, list(starts)),
            seek_times=np.array(list(starts.values()), dtype=np.int64),
            is_whole=broken_at is None,
        )

    def keyframe_at(self, number: int) -> int:
        """Return which keyframe is the last one up to a frame."""
        return int(np.searchsorted(self.keyframes, number, side="right")) - 1

    def number(self, time: int | None) -> int | None:
        """Return the number of the frame with a presentation time; None where there is none."""
        if time is None:
            return None
        at = int(np.searchsorted(self.times, time))
        return at if at < len(self.times) and int(self.times[at]) == time else None


def _is_hidden(packet: av.Packet[Any]) -> bool:
    """Whether a packet holds nothing to be shown.

    So it is for what an edit list cuts away, and for VP8's alternate reference frames: bit 4 of
    their first byte is not set.
    """
    if packet.is_discard:
        return True
    is_vp8 = packet.stream.codec_context.name == "vp8"
    return is_vp8 and not memoryview(packet)[0] >> 4 & 1
