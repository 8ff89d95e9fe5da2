"""Malformed files of every kind that the service reads, made from a seed: nothing is stored.

Each is a whole file that was cut off, changed, spliced with another, given lying headers, or made
to unpack to far more than it is.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from tests.support.videos import picture as video_frame
from tests.support.videos import squares_video

WIDTH, HEIGHT = 48, 32


@dataclass(frozen=True, slots=True)
class MalformedFile:
    """A file, most likely malformed.

    Attributes:
        kind: `image`, `mask` (a PNG, mostly of the images' size), `map` or `video`.
        name: What it was and what was done to it.
        data: The file.
    """

    kind: str
    name: str
    data: bytes


def malformed_files(seed: int, count: int) -> Iterator[MalformedFile]:
    """Yield files; the made-up bombs first, then changed ones of every kind in turn."""
    rng = random.Random(seed)
    for kind, name, data in _bombs():
        yield MalformedFile(kind, name, data)
        count -= 1
    names = sorted(_whole_files())
    for number in range(max(0, count)):
        name = names[number % len(names)]
        kind, data = _whole_files()[name]
        how = rng.choice(sorted(_CHANGES))
        yield MalformedFile(kind, f"{name}, {how}", _CHANGES[how](data, rng))


@cache
def _whole_files() -> Mapping[str, tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    made: dict[str, tuple[str, bytes]] = {}
    image = Image.fromarray(pixels)
    for name in ("JPEG", "PNG", "WEBP", "GIF", "AVIF"):
        made[name] = "image", _saved(image, name)
    made["progressive JPEG"] = "image", _saved(image, "JPEG", progressive=True)
    made["lossless WebP"] = "image", _saved(image, "WEBP", lossless=True)
    frames = [Image.fromarray(video_frame(index)) for index in range(3)]
    for name in ("GIF", "WEBP", "PNG"):
        moving = _saved(frames[0], name, save_all=True, append_images=frames[1:])
        made[f"moving {name}"] = "image", moving
    for mode in ("1", "L", "P", "RGBA", "I;16"):
        made[f"mask PNG of mode {mode}"] = "mask", _saved(_mask(mode), "PNG")
    points = rng.uniform(1, 2, (HEIGHT, WIDTH, 3)).astype(np.float32)
    made["NPY"] = "map", _array(points, np.save)
    made["NPZ"] = "map", _array(points, np.savez)
    made["packed NPZ"] = "map", _array(points, np.savez_compressed)
    made["MP4"] = "video", squares_video(6)
    made["fragmented MP4"] = (
        "video",
        squares_video(6, container_options={"movflags": "frag_keyframe+empty_moov"}),
    )
    made["MPEG-4"] = "video", squares_video(6, codec="mpeg4")
    made["VP9"] = "video", squares_video(6, "webm", codec="libvpx-vp9")
    made["VP8"] = "video", squares_video(6, "webm", codec="libvpx")
    made["GIF video"] = "video", squares_video(6, "gif", codec="gif")
    return made


def _bombs() -> list[tuple[str, str, bytes]]:
    """Files that claim, or unpack to, far more than they are."""
    made = [
        ("image", "PNG of 60,000 x 60,000 pixels", _png(60_000, 60_000, b"\0" * 1000)),
        ("image", "PNG that unpacks to 64 MB", _png(8, 8, bytes(2**26))),
        ("image", "PNG of no pixels", _png(0, 0, b"")),
        ("image", "PNG with 16 MB of text", _png(8, 8, bytes(200), _text_chunk(2**24))),
        ("image", "JPEG of 65,535 x 65,535 pixels", _jpeg_of_size(65_535, 65_535)),
        ("image", "JPEG with 3,000 scans", _whole_files()["JPEG"][1] + b"\xff\xda" * 3000),
        ("image", "PNG that is a zip too", _png(8, 8, bytes(200)) + _zip(b"x" * 99)),
        ("image", "JPEG that is a page too", _whole_files()["JPEG"][1] + b"<script>x</script>"),
        ("image", "AVIF box of 4 GB", struct.pack(">I", 2**32 - 1) + b"ftypavif" + bytes(64)),
        ("mask", "mask that unpacks to 64 MB", _png(WIDTH, HEIGHT, bytes(2**26))),
        ("mask", "mask with 16 MB of text", _png(WIDTH, HEIGHT, b"", _text_chunk(2**24))),
        ("mask", "mask of 60,000 x 60,000 pixels", _png(60_000, 60_000, bytes(1000))),
        ("mask", "mask of 100,000 chunks", _png(WIDTH, HEIGHT, b"", _chunk(b"ruBb", b"") * 10**5)),
        ("map", "NPY of 4 TB", _npy_header("(1000000, 1000000, 1)", "<f4")),
        ("map", "NPY of objects", _array(np.full((2, 2), None, object), np.save)),
        ("map", "NPY whose header runs code", _npy_header("__import__('os').abort()", "<f4")),
        ("map", "NPY with a header of 60 KB", _npy_header("(" + "1," * 30_000 + ")", "<f4")),
        ("map", "NPZ that unpacks to 256 MB", _zip(_npy_header("(32, 48, 3)") + bytes(2**28))),
        ("map", "NPZ with a pickle", _zip(b"cos\nsystem\n(S'true'\ntR.")),
        ("map", "NPZ within an NPZ", _zip(_zip(_zip(bytes(2**20))))),
        ("map", "NPZ of many members", _zip(*[b"x"] * 5000)),
        ("video", "MP4 box of 16 EB", b"\0\0\0\x18ftypisom" + bytes(12) + _long_box(b"moov")),
        ("video", "MP4 boxes within each other", _nested_boxes(3000)),
        ("video", "WebM of endless size", b"\x1a\x45\xdf\xa3" + b"\x01" + b"\xff" * 7 + bytes(99)),
        ("video", "GIF of 65,535 x 65,535 pixels", b"GIF89a" + b"\xff" * 4 + b"\xf7" + bytes(900)),
    ]
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    made.append(("video", "a playlist of local files", playlist))
    return made


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 12)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_in_head(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        changed[rng.randrange(min(len(changed), 64))] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
    return bytes(changed)


def _extreme_number(data: bytes, rng: random.Random) -> bytes:
    number = rng.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1))
    packed = struct.pack(rng.choice((">I", "<I")), number)
    at = rng.randrange(max(1, len(data) - 4))
    return data[:at] + packed + data[at + 4 :]


def _splice(data: bytes, rng: random.Random) -> bytes:
    _, other = _whole_files()[rng.choice(sorted(_whole_files()))]
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.randint(1, 200)]
    return data[:start] + piece * rng.randint(2, 400) + data[start:]


def _drop(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 64) :]


def _noise_after_head(data: bytes, rng: random.Random) -> bytes:
    kept = rng.randint(4, 40)
    return data[:kept] + rng.randbytes(rng.randint(0, 4000))


_CHANGES: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "cut off": _cut,
    "bits flipped": _flip,
    "bytes of its head changed": _flip_in_head,
    "an extreme number in it": _extreme_number,
    "spliced with another": _splice,
    "a piece repeated": _repeat,
    "a piece missing": _drop,
    "noise after its head": _noise_after_head,
}


def _saved(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def _mask(mode: str) -> Image.Image:
    bitmap = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.5
    if mode == "I;16":
        return Image.fromarray(bitmap * np.uint16(2**16 - 1))
    return Image.fromarray(bitmap.astype(np.uint8) * 255).convert(mode)


def _array(values: Any, save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, values)
    return file.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _text_chunk(size: int) -> bytes:
    return _chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(size)))


def _png(width: int, height: int, raw: bytes, extra: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = _chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + extra + pixels + _chunk(b"IEND", b"")


def _jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(_whole_files()["JPEG"][1])
    at = data.find(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _npy_header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 65_535)) + text


def _zip(*members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(members):
            archive.writestr(f"arr_{number}.npy", data)
    return file.getvalue()


def _long_box(kind: bytes) -> bytes:
    return struct.pack(">I", 1) + kind + struct.pack(">Q", 2**63 - 1) + bytes(64)


def _nested_boxes(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = struct.pack(">I", len(body) + 8) + b"moov" + body
    return b"\0\0\0\x18ftypisom" + bytes(12) + body
