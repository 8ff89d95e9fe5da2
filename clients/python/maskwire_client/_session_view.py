"""What is the same for both kinds of sessions: what can be seen of them without waiting."""

from __future__ import annotations

from datetime import timedelta

from maskwire.v1 import realtime_pb2

from . import errors
from ._session_core import SessionCore
from .results import ModelReference
from .sessions import DrainNotice, Heartbeat, SessionSeed, SessionSummary


class SessionView:
    """The properties of a session; what the server says is what the latest connection's says."""

    def __init__(self, core: SessionCore) -> None:
        self._core = core

    @property
    def session_id(self) -> str:
        """Identifier of the session, as in the server's logs."""
        return self._started.session_id

    @property
    def model(self) -> ModelReference:
        """The model that serves it."""
        model = self._started.model
        return ModelReference(model=model.model, checkpoint_digest=model.checkpoint_digest)

    @property
    def resumed_object_ids(self) -> tuple[int, ...]:
        """Objects that the seed brought back."""
        return tuple(self._started.resumed_object_ids)

    @property
    def max_objects(self) -> int:
        """Most objects at a time."""
        return self._started.max_objects

    @property
    def held_frames(self) -> int:
        """Frames before the latest one that prompts may refer to."""
        return self._started.held_frames

    @property
    def idle_timeout_s(self) -> float:
        """The session ends when the client says nothing for so many seconds."""
        return self._started.idle_timeout.ToTimedelta() / timedelta(seconds=1)

    @property
    def lease_s(self) -> float:
        """The server ends the session so many seconds after it started, with a notice before."""
        return self._started.lease.ToTimedelta() / timedelta(seconds=1)

    @property
    def object_ids(self) -> frozenset[int]:
        """Objects of the session, as of the latest answer."""
        return self._core.object_ids

    @property
    def heartbeat(self) -> Heartbeat | None:
        """What the server last said about its counts; None before a first heartbeat."""
        return self._core.heartbeat

    @property
    def drain_notice(self) -> DrainNotice | None:
        """Set when the server is about to end the session; one that reconnects acts by itself."""
        return self._core.drain_notice

    @property
    def latest_seed(self) -> SessionSeed | None:
        """The newest seed that came, asked for or not; it outlives the session's failure."""
        return self._core.seed

    @property
    def summary(self) -> SessionSummary | None:
        """How the session went; None until it has ended."""
        return self._core.summary

    @property
    def _started(self) -> realtime_pb2.SessionStarted:
        if self._core.started is None:
            raise RuntimeError("the session is not open (yet)")
        return self._core.started


def too_late(purpose: str) -> errors.DeadlineExceeded:
    """Return the error for a wait that took too long."""
    messages = {
        "open": "the session was not opened in time",
        "answer": "no answer came in time; the request may still be carried out",
        "send": "nothing could be sent in time: the server is slow, or results are not collected",
    }
    return errors.DeadlineExceeded(messages[purpose], status="DEADLINE_EXCEEDED")
