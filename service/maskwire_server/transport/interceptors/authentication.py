"""Finds out who calls, before anything of the request is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from google.protobuf.message import Message

from ...domain.identity import AccessControl, Credentials, Scope
from ...domain.segmentation import Caller
from ..calls import Call, current_caller
from .pipeline import Interceptor, Proceed

AUTHORIZATION_KEY = "authorization"
"""Metadata key of an API key or a token, after `Bearer `."""
API_KEY_KEY = "x-api-key"
"""Metadata key of an API key on its own, for clients that cannot set the other."""

SCOPE_OF_SERVICE: Mapping[str, Scope] = {
    "maskwire.v1.SegmentationService": Scope.SEGMENTATION,
    "maskwire.v1.ModelService": Scope.MODELS,
    "maskwire.v1.RealtimeService": Scope.REALTIME,
    "maskwire.v1.VideoService": Scope.VIDEO,
    "maskwire.v1.FileService": Scope.FILES,
    "maskwire.v1.JobService": Scope.JOBS,
    "maskwire.v1.ReconstructionService": Scope.RECONSTRUCTION,
}
"""What a caller needs for each service."""

_BEARER = "bearer "


class AuthenticationInterceptor(Interceptor):
    """Sets the caller, or refuses with UNAUTHENTICATED or PERMISSION_DENIED.

    A stream may outlive its credentials: so each of its messages asks again, and one whose key was
    revoked ends with its next message, in whichever direction.
    """

    def __init__(self, access: AccessControl) -> None:
        self._access = access

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Identify the caller and check the scope."""
        identity = self._access.identify(_credentials(call))
        caller = Caller(identity.tenant, call.request_id, identity.scopes)
        scope = SCOPE_OF_SERVICE.get(call.method.service)
        if scope is not None:
            caller.require(scope)
        # Each call runs in a task, and so in a context, of its own: nothing needs undoing.
        current_caller.set(caller)
        if identity.tenant:
            structlog.contextvars.bind_contextvars(tenant=identity.tenant, caller=identity.name)
        return await proceed()

    def request_received(self, call: Call, request: Message, size_bytes: int) -> None:
        """Ask again for a message of a stream."""
        if call.method.streams_requests:
            self._access.identify(_credentials(call))

    def response_made(self, call: Call, response: Message) -> None:
        """Ask again for a message of a stream."""
        if call.method.streams_responses:
            self._access.identify(_credentials(call))


def _credentials(call: Call) -> Credentials:
    sent = call.metadata(AUTHORIZATION_KEY)
    if sent is not None:
        # Without the word the whole is the secret: it will hardly be valid, and is not let through.
        secret = sent[len(_BEARER) :] if sent.lower().startswith(_BEARER) else sent
    else:
        secret = call.metadata(API_KEY_KEY) or ""
    names = call.context.auth_context().get("x509_common_name", ())
    name = bytes(next(iter(names), b"")).decode(errors="replace")
    return Credentials(secret.strip(), name)
