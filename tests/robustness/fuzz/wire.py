"""Protobuf messages that were damaged on the wire, whatever type they had."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping

_EVIL_FLOATS = (float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3.4e38, -1.0, 1e9)
_BYTES, _VARINT = 2, 0


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return a message with one to four changes."""
    for _ in range(rng.randint(1, 4)):
        data = _CHANGES[rng.choice(sorted(_CHANGES))](data or b"\x08\x01", rng)
    return data


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(made) + bytes([value])


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _insert(data: bytes, rng: random.Random, piece: bytes) -> bytes:
    at = rng.choice((0, len(data), rng.randrange(len(data) + 1)))
    return data[:at] + piece + data[at:]


def _flip_bit(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _float(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + struct.pack("<f", rng.choice(_EVIL_FLOATS)) + data[at + 4 :]


def _drop(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 16) :]


def _copy(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return _insert(data, rng, data[start : start + rng.randint(1, 64)])


def _wire_type(data: bytes, rng: random.Random) -> bytes:
    """Another type of value under a tag near the beginning of the message."""
    at = rng.randrange(min(len(data), 8))
    return data[:at] + bytes([data[at] & ~7 | rng.randrange(8)]) + data[at + 1 :]


def _huge_varint(data: bytes, rng: random.Random) -> bytes:
    value = rng.choice((b"\xff" * 9 + b"\x01", b"\xff" * 20, b"\x80" * 30 + b"\x01"))
    return _insert(data, rng, _tag(rng.randint(1, 12), _VARINT) + value)


def _nesting(data: bytes, rng: random.Random) -> bytes:
    field, body = rng.randint(1, 6), b""
    for _ in range(rng.choice((50, 150, 3000))):
        body = _tag(field, _BYTES) + _varint(len(body)) + body
    return _insert(data, rng, body)


def _lying_length(data: bytes, rng: random.Random) -> bytes:
    length = rng.choice((2**20, 2**31 - 1, 2**32, 2**63))
    return data + _tag(rng.randint(1, 10), _BYTES) + _varint(length) + b"x"


def _invalid_text(data: bytes, rng: random.Random) -> bytes:
    text = rng.choice((b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"a\0b" * 50))
    return data + _tag(rng.randint(1, 10), _BYTES) + _varint(len(text)) + text


def _many(data: bytes, rng: random.Random) -> bytes:
    """Very many empty members of what may be a list."""
    return data + (_tag(rng.randint(1, 10), _BYTES) + b"\0") * rng.choice((100, 20_000))


def _noise(data: bytes, rng: random.Random) -> bytes:
    return _insert(data, rng, rng.randbytes(rng.randint(1, 64)))


_CHANGES: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "bit": _flip_bit,
    "float": _float,
    "drop": _drop,
    "copy": _copy,
    "wire type": _wire_type,
    "varint": _huge_varint,
    "nesting": _nesting,
    "length": _lying_length,
    "text": _invalid_text,
    "many": _many,
    "noise": _noise,
}
