"""What groups of settings have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer

_USER_INFORMATION = re.compile(r"(?<=://)[^/@\s,]*(?=@)")


def without_credentials(addresses: str | None) -> str | None:
    """Return URLs, separated by commas, with whatever stands before their `@` hidden."""
    return None if addresses is None else _USER_INFORMATION.sub("**********", addresses)


Address = Annotated[str, PlainSerializer(without_credentials, when_used="json")]
"""A URL that may name a user and a password, which are not shown; `None` may stand for it."""


class SettingGroup(BaseModel):
    """A group of settings: frozen, without unknown fields, each documented by its docstring.

    What is shown of one, by `repr`, by errors and by `maskwire config`, has no secret in it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show what `maskwire config` shows."""
        yield from self.model_dump(mode="json").items()
