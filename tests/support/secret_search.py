"""Looks for secrets in what a program shows: as they are, encoded, and in parts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote

_LEAST_PART = 12
"""A part of a secret of so many characters gives it away."""


def spellings(secret: str) -> set[str]:
    """Return what gives a secret away: itself, its parts, its usual encodings."""
    data = secret.encode()
    found = {secret, quote(secret, safe=""), data.hex(), json.dumps(secret)[1:-1]}
    for position in range(0, len(secret) - _LEAST_PART, _LEAST_PART):
        found.add(secret[position : position + _LEAST_PART])
    for shift in range(3):
        # In the middle of something encoded a text has one of three forms; its edges depend on
        # what is beside it.
        whole = base64.b64encode(b"x" * shift + data)
        middle = whole[4 * bool(shift) : len(whole) - 4].decode()
        found |= {middle, middle.replace("+", "-").replace("/", "_")}
    return {one for one in found if len(one) >= min(_LEAST_PART, len(secret)) - 4}


def leaks(secrets: Mapping[str, str], exposed: Mapping[str, str]) -> Iterator[str]:
    """Yield which secret is in which of the texts, and where."""
    for name, secret in secrets.items():
        for place, text in exposed.items():
            for spelling in sorted(spellings(secret), key=len, reverse=True):
                position = text.find(spelling)
                if position >= 0:
                    around = text[max(0, position - 80) : position + len(spelling) + 40]
                    yield f"{name} in {place}: ...{around}..."
                    break
