"""Small videos made in memory, exact to the pixel where the codec allows it, and ways to harm them.

In frame `i` a square of one colour stands at x = `2 * i` on a ground of another; both are known.
"""

from __future__ import annotations

import io
import itertools
import struct
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray

from maskwire_server.domain.video.reader import VideoLimits

WIDTH, HEIGHT = 96, 64
SQUARE = (220, 40, 40)
SECOND = (40, 60, 220)
GROUND = (90, 160, 90)
SIDE = 16
TOP, SECOND_TOP = 8, 40
STEP = 2

LIMITS = VideoLimits(
    max_bytes=1 << 24,
    max_pixels=1 << 20,
    max_side_px=2048,
    max_frames=1000,
    max_duration_s=600.0,
    reverse_buffer_bytes=3 * WIDTH * HEIGHT * 7,
)

_PIXEL_FORMATS = {"libx264rgb": "rgb24", "gif": "rgb8", "mjpeg": "yuvj420p"}
_CLOCKS = {"mp4": 1000, "webm": 1000, "gif": 100}


def picture(index: int, *, second: bool = True) -> NDArray[np.uint8]:
    """Frame `index`: the squares move by `STEP`, the second one only where it is wanted."""
    pixels = np.full((HEIGHT, WIDTH, 3), GROUND, dtype=np.uint8)
    pixels[TOP : TOP + SIDE, STEP * index : STEP * index + SIDE] = SQUARE
    if second:
        pixels[SECOND_TOP : SECOND_TOP + SIDE, STEP * index : STEP * index + SIDE] = SECOND
    return pixels


def left_edge(pixels: NDArray[np.uint8]) -> int:
    """Where the square begins in a decoded frame, which may be a little off in colour."""
    row = pixels[TOP + SIDE // 2].astype(int)
    reddish = row[:, 0] - row[:, 1] > 90
    return int(np.flatnonzero(reddish)[0])


def encode_video(
    frames: Sequence[NDArray[np.uint8]],
    container: str = "mp4",
    codec: str = "libx264rgb",
    *,
    keyframe_every: int = 10,
    times_ms: Sequence[int] | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> bytes:
    """Encode frames, 25 a second where their times are not given; libx264rgb loses nothing."""
    pixel_format = _PIXEL_FORMATS.get(codec, "yuv420p")
    lossless = {"crf": "0"} if codec == "libx264rgb" else {}
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=container_options or {}) as output:
        stream = cast(
            av.VideoStream,
            output.add_stream(codec, rate=25, options={**lossless, **(codec_options or {})}),
        )
        stream.width, stream.height = frames[0].shape[1], frames[0].shape[0]
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = keyframe_every
        clock = _CLOCKS[container]
        stream.codec_context.time_base = Fraction(1, clock)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=pixel_format)
            time_ms = 40 * index if times_ms is None else times_ms[index]
            frame.pts, frame.time_base = time_ms * clock // 1000, Fraction(1, clock)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def squares_video(count: int = 30, container: str = "mp4", **options: Any) -> bytes:
    """The video of this module."""
    return encode_video([picture(index) for index in range(count)], container, **options)


@cache
def av1_video(count: int) -> bytes:
    """The video of this module as AV1.

    Encoded in a process of its own: SVT-AV1 gives whoever calls it as root real-time priority for
    good, and all that it starts from then on.
    """
    program = (
        "import sys; from tests.support.videos import squares_video; "
        f"sys.stdout.buffer.write(squares_video({count}, 'webm', codec='libsvtav1'))"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    return done.stdout


def index_first(mp4: bytes) -> bytes:
    """Move an MP4's index before its data, so that a file that is cut off can still be opened."""
    boxes = dict[bytes, bytes]()
    offset = 0
    while offset < len(mp4):
        length = int.from_bytes(mp4[offset : offset + 4], "big")
        boxes[mp4[offset + 4 : offset + 8]] = mp4[offset : offset + length]
        offset += length
    index = bytearray(boxes[b"moov"])
    at = index.find(b"stco") + 8
    count = int.from_bytes(index[at : at + 4], "big")
    new_start = len(boxes[b"ftyp"]) + len(index)
    shift = new_start - mp4.find(boxes[b"mdat"])
    for entry in range(at + 4, at + 4 + 4 * count, 4):
        moved = int.from_bytes(index[entry : entry + 4], "big") + shift
        index[entry : entry + 4] = moved.to_bytes(4, "big")
    return boxes[b"ftyp"] + bytes(index) + boxes[b"mdat"]


def turned(mp4: bytes, quarter_turns: int) -> bytes:
    """Say in an MP4's header that its frames are to be turned clockwise to be upright."""
    turns: Any = ((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))
    a, b, c, d = (value << 16 for value in turns[quarter_turns % 4])
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    at = mp4.find(b"tkhd") + 4 + 40
    return mp4[:at] + matrix + mp4[at + len(matrix) :]


def with_hidden_frame(webm: bytes, packet: int) -> bytes:
    """Hide a frame of a VP8 video: it is decoded, and others build on it, but it is not shown."""
    with av.open(io.BytesIO(webm), "r") as container:
        hidden = bytes(next(itertools.islice(container.demux(), packet, None)))
    at = webm.find(hidden)
    return webm[:at] + bytes([webm[at] & ~0x10]) + webm[at + 1 :]


def cut_in_data(mp4: bytes, share: float) -> bytes:
    """Keep so much of what comes after the first `mdat`."""
    start = mp4.find(b"mdat")
    return mp4[: start + round((len(mp4) - start) * share)]


def scrambled(data: bytes, start: int, count: int = 60) -> bytes:
    """Overwrite some bytes with noise."""
    noise = np.random.default_rng(0).bytes(count)
    return data[:start] + noise + data[start + count :]
