"""Who calls: identities, what they may call, and what tells them apart.

How credentials are kept and checked (files of API keys, JSON Web Tokens, certificates) lives in
`identity/`; how they travel is the transport's matter.
"""

from __future__ import annotations

import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ErrorCode, MaskwireError

_TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Scope(enum.StrEnum):
    """A family of calls that an identity may make; one for each service of the contract."""

    SEGMENTATION = "segmentation"
    MODELS = "models"
    REALTIME = "realtime"
    VIDEO = "video"
    FILES = "files"
    JOBS = "jobs"
    RECONSTRUCTION = "reconstruction"


ALL_SCOPES = frozenset(Scope)
"""What an identity without restrictions may call."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who makes a call, as its credentials say.

    Attributes:
        tenant: Owner of everything that the call leaves behind; empty for anonymous callers.
        name: Which credentials they were (a key's identifier, a token's subject, a certificate's
            name), for logs; never secret.
        scopes: What it may call.
    """

    tenant: str
    name: str
    scopes: frozenset[Scope] = ALL_SCOPES


ANONYMOUS = Identity(tenant="", name="anonymous")
"""Who calls without credentials, where that is allowed."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What a call brought to say who makes it; `repr` shows none of it.

    Attributes:
        secret: An API key or a token, as the caller sent it; empty where there was none.
        certificate_name: Common name of the client's certificate, which the TLS handshake has
            verified; empty where there was none.
    """

    secret: str = ""
    certificate_name: str = ""


class Authenticator(ABC):
    """Recognises one kind of credentials."""

    @abstractmethod
    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Return whose credentials they are, or None where they are of another kind.

        Called for every call and for every message of a stream, on the event loop: it is quick and
        blocks on nothing. What was valid a moment ago and is revoked now is not valid.

        Raises:
            MaskwireError: `UNAUTHENTICATED`: they are of this kind but not valid (any more). The
                message says nothing that helps to guess.
        """


class AccessControl:
    """Decides who a caller is, by every kind of credentials that this server knows."""

    def __init__(
        self, authenticators: Sequence[Authenticator], *, is_anonymous_allowed: bool
    ) -> None:
        self._authenticators = tuple(authenticators)
        self._is_anonymous_allowed = is_anonymous_allowed

    def identify(self, credentials: Credentials) -> Identity:
        """Return who calls.

        Credentials that are wrong are refused even where nobody needs any: whoever sends them
        believes to be somebody.

        Raises:
            MaskwireError: `UNAUTHENTICATED`.
        """
        for authenticator in self._authenticators:
            identity = authenticator.authenticate(credentials)
            if identity is not None:
                return identity
        if credentials.secret:
            raise unauthenticated("the credentials are not valid")
        if not self._is_anonymous_allowed:
            raise unauthenticated("this server needs credentials: an API key or a token")
        return ANONYMOUS


OPEN_ACCESS = AccessControl((), is_anonymous_allowed=True)
"""Lets everybody in as the anonymous tenant: for servers that only this machine reaches."""


def unauthenticated(message: str) -> MaskwireError:
    """Return the error for credentials that are missing or not valid."""
    return MaskwireError(ErrorCode.UNAUTHENTICATED, message)


def is_tenant_name(text: str) -> bool:
    """Whether a text may be the name of a tenant: lower-case letters, digits, `.`, `_`, `-`."""
    return _TENANT.fullmatch(text) is not None
