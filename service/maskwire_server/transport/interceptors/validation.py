"""Checks every request message against the contract's rules before the servicer sees it."""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.message import Message

from ..calls import Call
from ..validation import RequestValidator
from .pipeline import Interceptor


class ValidationInterceptor(Interceptor):
    """Refuses requests that break a rule with `INVALID_ARGUMENT`."""

    def __init__(self, validator: RequestValidator, exempt_paths: Collection[str] = ()) -> None:
        """Take the validator and the methods that check their messages themselves.

        Args:
            validator: The rules.
            exempt_paths: Paths of streams that answer a bad message in-band and live on.
        """
        self._validator = validator
        self._exempt_paths = frozenset(exempt_paths)

    def request_received(self, call: Call, request: Message, size_bytes: int) -> None:
        """Check the message."""
        if call.method.path not in self._exempt_paths:
            self._validator.check(request, size_bytes)
