"""All live sessions of a server: who may open one, how many there are, and how they end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from ..errors import ErrorCode, MaskwireError, invalid_field
from ..executor import BoundedExecutor
from ..image_access import ImageAccess
from ..models import ModelRegistry
from ..observer import Observer
from ..quotas import InUse, QuotaLimit
from ..segmentation import Caller
from .costs import StateLimits
from .messages import BadRequest, SessionRequest, SessionResponse, SessionStarted, StartSession
from .session import LiveSession, QueueLimits, SessionTimes
from .state import SessionState

_RETRY_AFTER = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What bounds live sessions; each is a setting of the group `sessions`.

    Attributes:
        max_sessions: Most sessions at a time.
        max_sessions_per_tenant: Most sessions of one tenant at a time.
        max_objects: Most objects of a session at a time.
        max_held_frames: Most frames before the latest that prompts may refer to.
        max_prompts: Most prompts in a request.
        max_seed_bytes: Most bytes of frames and masks in a seed.
        times: How long sessions last.
        queues: What may wait in one session.
    """

    max_sessions: int
    max_sessions_per_tenant: int
    max_objects: int
    max_held_frames: int
    max_prompts: int
    max_seed_bytes: int
    times: SessionTimes
    queues: QueueLimits


@dataclass(slots=True)
class _Drain:
    end_s: float
    error: MaskwireError


class SessionService:
    """Runs live sessions on the served models; used on one event loop."""

    def __init__(
        self,
        models: ModelRegistry,
        images: ImageAccess,
        pixel_executor: BoundedExecutor,
        observer: Observer,
        limits: SessionLimits,
    ) -> None:
        self._models = models
        self._images = images
        self._pixels = pixel_executor
        self._observer = observer
        self._limits = limits
        observer.sessions_limited(limits.max_sessions)
        self._open = 0
        self._of_tenants = InUse(QuotaLimit.SESSIONS, "live sessions")
        self._live: set[LiveSession] = set()
        self._drain: _Drain | None = None

    async def run(
        self, requests: AsyncIterator[SessionRequest], caller: Caller
    ) -> AsyncGenerator[SessionResponse, None]:
        """Run one session: yields what it says, in order, until it ends.

        Args:
            requests: What the client says; the first must start the session.
            caller: Who opens it.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` where the first request is no config, `OVERLOADED`
                and `QUOTA_EXCEEDED` past the limits on sessions, `MODEL_NOT_FOUND`,
                `UNSUPPORTED_BY_MODEL`, `SEED_REFUSED`, `DEADLINE_EXCEEDED` for an idle session,
                `SESSION_OVER` at the end of its lease, `SHUTTING_DOWN` when the server stops.
        """
        with self._admitted(caller):
            first = await self._first(requests)
            if first is None:
                return
            assert isinstance(first.content, StartSession)
            state = self._state(first.content, caller)
            try:
                if first.content.snapshot is not None:
                    await state.resume(first.content.snapshot)
                session = self._session(first, state)
                with self._watched(session):
                    async with aclosing(session.responses(requests)) as responses:
                        async for response in responses:
                            self._report()
                            yield response
            finally:
                await asyncio.shield(state.reset())

    def begin_drain(self, grace_s: float) -> None:
        """Refuse new sessions, tell those that run to move, and end them after `grace_s`."""
        error = MaskwireError(
            ErrorCode.SHUTTING_DOWN, "the server is shutting down; resume the session elsewhere"
        )
        self._drain = _Drain(asyncio.get_running_loop().time() + grace_s, error)
        for session in self._live:
            session.leave(grace_s, error)

    @contextmanager
    def _admitted(self, caller: Caller) -> Iterator[None]:
        if self._drain is not None:
            raise self._drain.error
        limits = self._limits
        with self._of_tenants.one_more(caller.tenant, limits.max_sessions_per_tenant):
            if self._open >= limits.max_sessions:
                self._observer.overload_refused("sessions")
                raise MaskwireError(
                    ErrorCode.OVERLOADED,
                    f"the server has its limit of {limits.max_sessions} live sessions",
                    retry_after=_RETRY_AFTER,
                    resource="sessions",
                )
            self._open += 1
            try:
                yield
            finally:
                self._open -= 1

    async def _first(self, requests: AsyncIterator[SessionRequest]) -> SessionRequest | None:
        """Return the first request; None where the client ended before it said anything."""

        async def read() -> SessionRequest | None:
            return await anext(requests, None)

        reading = asyncio.create_task(read())
        try:
            await asyncio.wait([reading], timeout=self._limits.times.idle_timeout_s)
            if not reading.done():
                raise MaskwireError(
                    ErrorCode.DEADLINE_EXCEEDED, "the session's config did not come"
                )
            first = reading.result()
        finally:
            reading.cancel()
        if first is None or isinstance(first.content, StartSession):
            return first
        if isinstance(first.content, BadRequest):
            raise first.content.error
        raise invalid_field("config", "the first request of a stream must be a config")

    def _state(self, start: StartSession, caller: Caller) -> SessionState:
        config, limits = start.config, self._limits
        model = self._models.resolve(config.model)
        return SessionState(
            model,
            config,
            StateLimits(
                max_objects=min(config.max_objects or limits.max_objects, limits.max_objects),
                held_frames=min(config.held_frames, limits.max_held_frames),
                max_prompts=limits.max_prompts,
                max_seed_bytes=limits.max_seed_bytes,
            ),
            caller,
            models=self._models,
            images=self._images,
            pixels=self._pixels,
            observer=self._observer,
        )

    def _session(self, first: SessionRequest, state: SessionState) -> LiveSession:
        assert isinstance(first.content, StartSession)
        times = self._limits.times
        started = SessionStarted(
            session_id=secrets.token_hex(8),
            model=state.model.name,
            checkpoint_digest=state.model.checkpoint_digest,
            resumed_object_ids=state.object_ids,
            max_objects=state.limits.max_objects,
            held_frames=state.limits.held_frames,
            idle_timeout_s=times.idle_timeout_s,
            lease_s=times.lease_s,
        )
        return LiveSession(
            started,
            first.content.config,
            state,
            first.sequence,
            times=times,
            queues=self._limits.queues,
            observer=self._observer,
        )

    @contextmanager
    def _watched(self, session: LiveSession) -> Iterator[None]:
        began_s = time.perf_counter()
        self._live.add(session)
        if self._drain is not None:
            left_s = self._drain.end_s - asyncio.get_running_loop().time()
            session.leave(max(left_s, 0.0), self._drain.error)
        self._report()
        try:
            yield
        finally:
            self._live.discard(session)
            self._report()
            self._observer.session_ended(session.end_reason, time.perf_counter() - began_s)

    def _report(self) -> None:
        size_bytes = sum(session.size_bytes for session in self._live)
        self._observer.sessions_changed(len(self._live), size_bytes)
