"""What a call consists of, without doing it: which attempts, after which pauses, by which deadline.

Each policy is a generator that yields `Attempt` and `Pause` and is sent an attempt's response, or
has its exception thrown in; the clients only carry the steps out, one by waiting and one by
awaiting. So the two cannot differ in what they decide.
"""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from google.protobuf.message import Message

from maskwire.v1 import segmentation_pb2

from . import _requests
from .errors import ImageNotFound, ResourceExhausted
from .images import EncodedImage, ImageReference

_ResponseT = TypeVar("_ResponseT", bound=Message)

PROBE_FROM_BYTES = 256 * 1024
"""An image that this client has not sent before is asked for by digest only from this size on.

The probe costs one round trip when it misses, and saves upload and decoding when it hits. Measured
on one machine with a PNG of 1.4 MB: a miss costs 2 ms; the call with the bytes takes 198 ms where
the server does not know the image, the call by digest 69 ms. At 100 Mbit/s this many bytes take as
long as a round trip of 21 ms; below, there is little to save.
"""

MAX_KNOWN_DIGESTS = 4096

IMAGE_DIGEST_KEY = "maskwire-image-digest"
"""Metadata key of the digest of the image that a call is about, for balancers before the servers.

One that hashes on it sends all calls about an image to the server that holds its embedding. Servers
do not look at it.
"""

Metadata: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send the request now; give up after `timeout_s` (None: never).

    Attributes:
        timeout_s: Seconds that the attempt may take.
        metadata: Sent besides what every call of the client has.
    """

    timeout_s: float | None
    metadata: Metadata = ()


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before the next step."""

    seconds: float


Steps: TypeAlias = Generator[Attempt | Pause, _ResponseT | None, _ResponseT]
"""A call in progress."""


class Deadline:
    """The moment by which a call, all its attempts and pauses included, must be over."""

    def __init__(self, timeout_s: float | None) -> None:
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    def remaining_s(self) -> float | None:
        """Return the seconds that are left, at least 0; None without a deadline."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def allows(self, seconds: float) -> bool:
        """Return whether so much time is left."""
        remaining = self.remaining_s()
        return remaining is None or seconds < remaining


class KnownDigests:
    """Digests of images that the server has lately been sent by this client; safe among threads.

    Bounded: the least recently used of 4096 goes first. An entry that is wrong costs one round
    trip, no more.
    """

    def __init__(self, capacity: int = MAX_KNOWN_DIGESTS) -> None:
        self._capacity = capacity
        self._digests: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, digest: str) -> None:
        """Note that the server holds an image now."""
        with self._lock:
            self._digests[digest] = None
            self._digests.move_to_end(digest)
            if len(self._digests) > self._capacity:
                self._digests.popitem(last=False)

    def discard(self, digest: str) -> None:
        """Note that the server does not hold an image."""
        with self._lock:
            self._digests.pop(digest, None)

    def __contains__(self, digest: str) -> bool:
        """Return whether the server is thought to hold an image."""
        with self._lock:
            return digest in self._digests


def image_metadata(image: EncodedImage | ImageReference) -> Metadata:
    """Return the metadata of a call about one image; nothing where its digest is not known."""
    if isinstance(image, EncodedImage):
        return ((IMAGE_DIGEST_KEY, image.digest),)
    return ((IMAGE_DIGEST_KEY, image.address),) if image.is_digest else ()


def call_steps(
    deadline: Deadline, overload_retries: int, metadata: Metadata = ()
) -> Steps[_ResponseT]:
    """Attempt a call; where the server is full and says when to come back, wait and attempt again.

    Args:
        deadline: Pauses that would end after it are not begun: the refusal is raised instead.
        overload_retries: Most attempts after the first.
        metadata: Sent with each attempt.
    """
    for retries_left in range(overload_retries, -1, -1):
        try:
            return _response((yield Attempt(deadline.remaining_s(), metadata)))
        except ResourceExhausted as error:
            if error.retry_after is None or retries_left == 0:
                raise
            # Spread, so that callers refused together do not come back together.
            pause_s = error.retry_after.total_seconds() * random.uniform(1.0, 1.25)
            if not deadline.allows(pause_s):
                raise
        yield Pause(pause_s)
    raise AssertionError("the last attempt returns or raises")


def segment_steps(
    request: segmentation_pb2.SegmentImageRequest | segmentation_pb2.AutoSegmentRequest,
    image: EncodedImage | ImageReference,
    known: KnownDigests | None,
    deadline: Deadline,
    overload_retries: int,
) -> Steps[_ResponseT]:
    """Segment an image, sending its digest first and its bytes only where those are missing.

    Args:
        request: The request; its image is filled in, before each attempt.
        image: The image.
        known: What the server holds; None sends the bytes at once.
        deadline: Of the call with all its attempts.
        overload_retries: As for `call_steps`.
    """
    metadata = image_metadata(image)
    if isinstance(image, ImageReference):
        request.image.CopyFrom(_requests.reference_source(image))
        return (yield from call_steps(deadline, overload_retries, metadata))
    if known is not None and (image.digest in known or len(image.data) >= PROBE_FROM_BYTES):
        request.image.CopyFrom(_requests.digest_source(image))
        try:
            response: _ResponseT = yield from call_steps(deadline, overload_retries, metadata)
        except ImageNotFound:
            known.discard(image.digest)
        else:
            known.add(image.digest)
            return response
    request.image.CopyFrom(_requests.bytes_source(image))
    response = yield from call_steps(deadline, overload_retries, metadata)
    if known is not None:
        known.add(image.digest)
    return response


def _response(sent: _ResponseT | None) -> _ResponseT:
    assert sent is not None, "an attempt is answered with its response"
    return sent
