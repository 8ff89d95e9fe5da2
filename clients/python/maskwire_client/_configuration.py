"""What both clients are configured with, and what follows from it for each call."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

from ._calls import Deadline, KnownDigests
from ._channel import ChannelOptions, Tls, channel_options

REQUEST_ID_KEY = "x-request-id"
AUTHORIZATION_KEY = "authorization"
DEFAULT_TIMEOUT_S = 60.0
DEFAULT_MAX_MESSAGE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Configuration:
    """The arguments of `Client` and `AsyncClient`; documented there."""

    target: str
    tls: Tls | None
    metadata: tuple[tuple[str, str], ...] = field(repr=False)
    timeout_s: float
    digests: KnownDigests | None
    overload_retries: int
    options: ChannelOptions

    def deadline(self, timeout_s: float | None) -> Deadline:
        """Return the deadline of a call that starts now; None means the client's default."""
        chosen = self.timeout_s if timeout_s is None else timeout_s
        return Deadline(None if math.isinf(chosen) else chosen)

    def call_metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call."""
        return (*self.metadata, (REQUEST_ID_KEY, request_id))


def configure(
    target: str,
    *,
    tls: Tls | None,
    api_key: str | None,
    metadata: Mapping[str, str] | None,
    timeout_s: float,
    digest_first: bool,
    retry_attempts: int,
    overload_retries: int,
    max_message_bytes: int,
) -> Configuration:
    """Check the arguments of a client.

    Raises:
        ValueError: A number is out of its range, the target is empty, or the key is none.
    """
    if not target:
        raise ValueError("the target is empty; it is host:port")
    if not timeout_s > 0:
        raise ValueError(f"timeout_s must be greater than 0, not {timeout_s}")
    if overload_retries < 0:
        raise ValueError(f"overload_retries must be at least 0, not {overload_retries}")
    return Configuration(
        target=target,
        tls=tls,
        metadata=_call_metadata(metadata or {}, api_key),
        timeout_s=timeout_s,
        digests=KnownDigests() if digest_first else None,
        overload_retries=overload_retries,
        options=channel_options(
            retry_attempts=retry_attempts,
            max_message_bytes=max_message_bytes,
            tls=tls,
            user_agent=f"maskwire-python/{_version()}",
        ),
    )


def _call_metadata(given: Mapping[str, str], api_key: str | None) -> tuple[tuple[str, str], ...]:
    sent = tuple((key.lower(), value) for key, value in given.items())
    if api_key is None:
        return sent
    if not api_key.isascii() or not api_key.isprintable() or not api_key:
        raise ValueError("the API key is empty or has characters that no key has")
    return (*sent, (AUTHORIZATION_KEY, f"Bearer {api_key}"))


def new_request_id() -> str:
    """Return an identifier for a call that brought none."""
    return str(uuid.uuid4())


def _version() -> str:
    return metadata.version("maskwire")
