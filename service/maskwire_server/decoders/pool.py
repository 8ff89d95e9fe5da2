"""Child processes that decode untrusted files: a crash costs one request, and nobody else anything.

A file goes to a child that is free and was no other tenant's; where there is none, a new one is
started, and the one that was idle for longest makes room where there are too many. Children are
replaced after so many files, after a large one, and when they crash or run out of time or memory.
How often they may crash in a second is bounded: past that, callers are told to come again. What is
asked of a child is in `pooled.py`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog

from ..domain.errors import ErrorCode, MaskwireError
from ..domain.file_decoder import FileDecoder, FileDecoders
from ..domain.observer import Observer
from .child import ChildLimits
from .child_handle import ChildHandle, ChildLostError
from .nursery_handle import NurseryHandle, NurseryLostError
from .pooled import PooledDecoder, Room

Value = TypeVar("Value")

_log = structlog.get_logger(__name__)

_MAX_CRASHES_PER_S = 20
_RETRY_AFTER = timedelta(seconds=1)
_RESOURCE = "decoders"
_LARGE_BYTES = 40_000_000
"""A child that has written more is replaced, which frees what it holds; a photograph of 12
megapixels is not so large."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What decoding may use.

    Attributes:
        processes: Children for images, masks and maps; videos have one each beside them.
        child: What each may use.
        timeout_s: Longest time for a file, or for one frame of a video.
        recycle_after: Files after which a child is replaced.
        kept: Children that there are at a time, busy and idle, where that is more than `processes`:
            idle ones wait for the next file of their tenants.
        max_file_bytes: Largest file but a video's.
        max_pixels: Most pixels of an image or map.
        is_shared: Whether a child decodes for one tenant after the other.
    """

    processes: int
    child: ChildLimits
    timeout_s: float
    recycle_after: int
    kept: int
    max_file_bytes: int
    max_pixels: int
    is_shared: bool = False


class DecoderPool(FileDecoders):
    """Has children decode; they are started as they are needed."""

    def __init__(self, limits: PoolLimits, observer: Observer) -> None:
        self._limits = limits
        self._observer = observer
        self._nursery = NurseryHandle()
        self._slots = threading.BoundedSemaphore(limits.processes)
        self._lock = threading.Lock()
        self._idle: list[ChildHandle] = []  # the one that was used last is at the end
        self._busy = 0
        self._crashes: deque[float] = deque(maxlen=_MAX_CRASHES_PER_S)
        self._has_warned = self._is_closed = False
        self.room = Room.of(limits.max_file_bytes, limits.max_pixels)

    @property
    def timeout_s(self) -> float:
        """Longest time for a file, or for one frame of a video."""
        return self._limits.timeout_s

    def prepare(self) -> None:
        """Begin to load what decodes; as the interface says."""
        try:
            self._nursery.prepare()
        except NurseryLostError as error:
            _log.error("decoders cannot be started", error=str(error))

    def close(self) -> None:
        """End all children; as the interface says."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()
        self._nursery.close()

    def of_tenant(self, tenant: str) -> FileDecoder:
        """Return what decodes a tenant's files; as the interface says."""
        return PooledDecoder(self, "" if self._limits.is_shared else tenant)

    def run(self, tenant: str, work: Callable[[ChildHandle], Value]) -> Value:
        """Do work with a child that is free and was no other tenant's.

        Raises:
            MaskwireError: What the work raises; `OVERLOADED` where no child is to be had.
            ChildLostError: The child crashed, was stopped or said nonsense, and is replaced.
        """
        with self._slot():
            child = self._take(tenant)
            try:
                value = work(child)
            except MaskwireError:
                self._give_back(child)
                raise
            except (ChildLostError, ValueError) as error:
                raise self._replaced(child, error) from error
            except BaseException:
                child.end()
                raise
            self._give_back(child)
            return value

    def start_for_video(self, memory_size: int, file: int) -> ChildHandle:
        """Start a child beside the others for one video; `finish_video` ends it.

        Raises:
            MaskwireError: `OVERLOADED` where none is to be had.
        """
        return self._start(memory_size, file)

    def finish_video(self, child: ChildHandle, error: Exception | None) -> None:
        """End a video's child; the error says why, where it is not simply done."""
        if error is not None:
            self._replaced(child, error)
            return
        child.end()
        self._observer.decoder_ended("recycled")

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=self._limits.timeout_s):
            raise self._overloaded()
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
            self._slots.release()

    def _take(self, tenant: str) -> ChildHandle:
        """Return a child that is alive: an idle one of the tenant's, or a new one."""
        while (child := self._idle_of(tenant)) is not None:
            if child.is_alive:
                return child
            self._replaced(child, ChildLostError("crashed", "while it was idle"))
        self._make_room()
        child = self._start(self.room.memory_bytes)
        child.tenant = tenant
        return child

    def _idle_of(self, tenant: str) -> ChildHandle | None:
        with self._lock:
            for index in reversed(range(len(self._idle))):
                if self._idle[index].tenant == tenant:
                    return self._idle.pop(index)
        return None

    def _make_room(self) -> None:
        """End the child that was idle for longest, where there are as many as there may be."""
        most = max(self._limits.processes, self._limits.kept)
        with self._lock:
            if len(self._idle) + self._busy <= most:
                return
            oldest = self._idle.pop(0)
        oldest.end()
        self._observer.decoder_ended("tenant")

    def _start(self, memory_size: int, *files: int) -> ChildHandle:
        with self._lock:
            is_full = len(self._crashes) == _MAX_CRASHES_PER_S
            is_refused = is_full and time.monotonic() - self._crashes[0] < 1
        try:
            if is_refused:
                raise NurseryLostError("too many decoders crashed in the last second")
            child = ChildHandle(self._nursery, memory_size, self._limits.child, *files)
        except NurseryLostError as error:
            _log.error("a decoder cannot be started", error=str(error))
            raise self._overloaded() from error
        if not child.is_filtered and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "this system filters no system calls: decoders are limited by rlimits only"
            )
        return child

    def _give_back(self, child: ChildHandle) -> None:
        if child.files < self._limits.recycle_after and child.taken_bytes < _LARGE_BYTES:
            with self._lock:
                if not self._is_closed:
                    self._idle.append(child)
                    return
        child.end()
        self._observer.decoder_ended("recycled")

    def _replaced(self, child: ChildHandle, error: Exception) -> ChildLostError:
        """End a child that is of no more use; the next file that needs one starts another."""
        with self._lock:
            self._crashes.append(time.monotonic())
        status = child.end()
        lost = error if isinstance(error, ChildLostError) else ChildLostError("nonsense")
        reason = "time" if status == -signal.SIGPROF else lost.reason
        self._observer.decoder_ended(reason)
        _log.warning("a decoder ended", reason=reason, status=status, detail=str(error))
        return lost

    def _overloaded(self) -> MaskwireError:
        self._observer.overload_refused(_RESOURCE)
        return MaskwireError(
            ErrorCode.OVERLOADED,
            "no decoder is to be had now",
            retry_after=_RETRY_AFTER,
            resource=_RESOURCE,
        )
