"""`maskwire.v1.RealtimeService` over the domain's live sessions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from maskwire.v1 import realtime_pb2, realtime_pb2_grpc

from ...domain.sessions.service import SessionService
from ..calls import ServicerContext, current_caller
from ..converters.sessions import session_requests_from_proto, session_response_to_proto
from ..validation import RequestValidator


class RealtimeServicer(realtime_pb2_grpc.RealtimeServiceServicer):
    """Runs live sessions."""

    def __init__(self, sessions: SessionService, validator: RequestValidator) -> None:
        self._sessions = sessions
        self._validator = validator

    async def RunSession(  # noqa: N802  # the contract's name
        self,
        request_iterator: AsyncIterator[realtime_pb2.RunSessionRequest],
        context: ServicerContext,
    ) -> AsyncGenerator[realtime_pb2.RunSessionResponse, None]:
        """Run one session."""
        caller = current_caller.get()
        requests = session_requests_from_proto(request_iterator, self._validator)
        async with aclosing(self._sessions.run(requests, caller)) as responses:
            async for response in responses:
                yield session_response_to_proto(response, caller.request_id)
