"""No file of a caller is decoded in the server itself: who calls what decodes is a short list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[3] / "service" / "maskwire_server"

DECODERS = {
    "decode_image": {"domain/images.py", "domain/file_decoder.py"},
    "decode_png": {"domain/mask_encodings.py", "domain/masks.py", "domain/file_decoder.py"},
    "decode_mask": {"domain/masks.py", "domain/mask_reading.py"},
    "read_point_map": {"domain/reconstruction/point_maps.py", "domain/file_decoder.py"},
    "read_depth_map": {"domain/reconstruction/point_maps.py", "domain/file_decoder.py"},
    "VideoReader": {"domain/video/reader.py", "domain/file_decoder.py"},
    "InProcessDecoder": {"domain/file_decoder.py", "decoders/child.py"},
}
"""What decodes files, and the modules that may name it: children, and where there are none."""

LIBRARIES = {
    "PngImageFile": {"domain/images.py", "domain/mask_encodings.py"}
    | {"domain/reconstruction/point_maps.py"},
    "imdecode": {"domain/images.py"},
    "imread": set(),
    "VideoCapture": set(),
}
"""The same of libraries."""


def names(path: Path) -> Iterator[str]:
    """Yield the names that a module's code uses."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name


@pytest.mark.parametrize("decoder", DECODERS | LIBRARIES)
def test_decoders_are_called_where_they_may_be(decoder: str):
    found = {
        path.relative_to(SERVICE).as_posix()
        for path in SERVICE.rglob("*.py")
        if decoder in names(path)
    }
    allowed = (DECODERS | LIBRARIES)[decoder]
    assert found <= allowed
    assert found or not allowed, "it has another name by now"
