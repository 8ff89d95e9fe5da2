"""Requests of every method, made from the descriptors: a new method needs no line here.

What the rules ask for is chosen by the names of fields; a field that nobody told about here gets a
small value of its type, which may or may not be valid.
"""

from __future__ import annotations

import io
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from PIL import Image

from tests.support.contract_methods import methods

WIDTH, HEIGHT = 48, 32
_MAX_DEPTH = 8
_REPEATED = 2


def picture(file_format: str = "PNG") -> bytes:
    """A small noisy picture as a file."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


_PICTURE = picture()

_STRINGS: Mapping[str, Callable[[random.Random], str]] = {
    "digest": lambda rng: f"sha256:{rng.randbytes(32).hex()}",
    "upload_id": lambda rng: str(uuid.UUID(bytes=rng.randbytes(16), version=4)),
    "request_id": lambda rng: str(uuid.UUID(bytes=rng.randbytes(16), version=4)),
    "uri": lambda rng: rng.choice(["files/none", "data:image/png;base64,AAAA", "https://[::1]/"]),
    "url": lambda rng: "https://localhost:1/hook",
    "content_type": lambda rng: "image/png",
    "model": lambda rng: rng.choice(["", "", "maskwire-nano", "none"]),
    "segmentation_model": lambda rng: "",
    "page_token": lambda rng: rng.choice(["", "AAAA"]),
    "text": lambda rng: rng.choice(["a dog", "red car"]),
}
_SIZES = {"width_px": WIDTH, "height_px": HEIGHT, "rows": 4, "columns": 6, "size_bytes": 64}
_REALS = (float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3.4e38, -1.0, 1e9)
_EXTREMES: Mapping[int, tuple[Any, ...]] = {
    FieldDescriptor.TYPE_FLOAT: _REALS,
    FieldDescriptor.TYPE_DOUBLE: (*_REALS, 1e308, 5e-324),
    FieldDescriptor.TYPE_UINT32: (0, 1, 2**31, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 1, 2**63, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: (0, -1, 2**31 - 1, -(2**31)),
    FieldDescriptor.TYPE_INT64: (0, -1, 2**63 - 1, -(2**63), 315_576_000_000, 253_402_300_800),
    FieldDescriptor.TYPE_ENUM: (0, -1, 99, 2**31 - 1),
    FieldDescriptor.TYPE_STRING: ("", "\0", "\N{REPLACEMENT CHARACTER}" * 300, "../../etc/passwd"),
    FieldDescriptor.TYPE_BYTES: (b"", b"\0", b"\xff" * 999),
}
_LOW, _HIGH = {"x_min", "y_min"}, {"x_max", "y_max", "width", "height"}


def request_type(method: MethodDescriptor) -> type[Message]:
    """Return the class of a method's requests."""
    return message_factory.GetMessageClass(method.input_type)


def filled(kind: type[Message], rng: random.Random, evil: float = 0.0) -> Message:
    """Return a message whose fields are set, one member of each oneof.

    Args:
        kind: Class of the message.
        rng: Decides.
        evil: Which part of the numbers is an extreme one, 0 to 1.
    """
    message = kind()
    _fill(message, message.DESCRIPTOR, rng, evil, 0)
    return message


def valid_requests(each: int = 12) -> list[Message]:
    """Return some requests of every method."""
    rng = random.Random(0)
    return [filled(request_type(method), rng) for method in methods() for _ in range(each)]


def _fill(message: Message, descriptor: Any, rng: random.Random, evil: float, depth: int) -> None:
    chosen = {
        rng.choice(oneof.fields).name for oneof in descriptor.oneofs if not _is_optional(oneof)
    }
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if oneof is not None and not _is_optional(oneof) and field.name not in chosen:
            continue
        if not _is_needed(field) and rng.random() < 0.6:
            continue
        if field.message_type is not None:
            if depth >= _MAX_DEPTH or field.message_type.GetOptions().map_entry:
                continue
            if field.is_repeated:
                for _ in range(rng.randint(1, _REPEATED)):
                    inner = getattr(message, field.name).add()
                    _fill(inner, field.message_type, rng, evil, depth + 1)
            else:
                inner = getattr(message, field.name)
                inner.SetInParent()
                _fill(inner, field.message_type, rng, evil, depth + 1)
        elif field.is_repeated:
            values = [_value(field, rng, evil) for _ in range(8)]
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, _value(field, rng, evil))


def _is_optional(oneof: Any) -> bool:
    return len(oneof.fields) == 1 and oneof.name.startswith("_")


def _is_needed(field: FieldDescriptor) -> bool:
    """Whether a request is seldom valid without the field."""
    named = field.name in {
        "image",
        "video",
        "prompts",
        "call",
        "digest",
        "content_type",
        "sequence",
    }
    return named or field.name in {*_SIZES, *_STRINGS} or field.containing_oneof is not None


def _value(field: FieldDescriptor, rng: random.Random, evil: float) -> Any:
    if evil and field.type in _EXTREMES and rng.random() < evil:
        return rng.choice(_EXTREMES[field.type])
    return _scalar(field, rng)


def _scalar(field: Any, rng: random.Random) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _string(field, rng)
        case FieldDescriptor.TYPE_BYTES:
            return _bytes(field, rng)
        case FieldDescriptor.TYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            return rng.choice([value.number for value in field.enum_type.values])
        case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
            if field.name in _LOW:
                return rng.uniform(0, 10)
            return rng.uniform(12, 30) if field.name in _HIGH else rng.uniform(0.1, 1)
        case _:
            return _SIZES.get(field.name) or rng.randint(1, 4)


def _string(field: Any, rng: random.Random) -> str:
    if field.name == "name":
        is_job = "Job" in field.containing_type.name
        return f"{'jobs' if is_job else 'files'}/{rng.randrange(4)}"
    make = _STRINGS.get(field.name)
    return make(rng) if make else rng.choice(["", "x"])


def _bytes(field: Any, rng: random.Random) -> bytes:
    match field.containing_type.name, field.name:
        case "ImageSource", _:
            return _PICTURE
        case "CocoRle", _:
            return b"PP1"
        case "MaskLogits", _:
            return np.full(24, 3, np.float32).tobytes()
        case _:
            return rng.randbytes(rng.randint(1, 64))
