"""JSON Web Tokens of an issuer (RFC 7519), checked against its published keys (RFC 7517).

The keys come from a file or from the issuer's address, which the operator names, and are fetched in
the background: a call never waits for them. A token under a key that is not known (yet) is refused
and makes the next look come sooner.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import structlog

from ..domain.identity import (
    ALL_SCOPES,
    Authenticator,
    Credentials,
    Identity,
    Scope,
    is_tenant_name,
    unauthenticated,
)

_log = structlog.get_logger(__name__)

# Symmetric algorithms and `none` are not among them: the published keys would be secrets.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
_MAX_KEY_SET_BYTES = 2**20
_MAX_TOKEN_CHARACTERS = 8192
_MAX_REMEMBERED = 4096
_FETCH_TIMEOUT_S = 10.0
_SOONEST_S = 10.0
_LEEWAY_S = 30.0
_NOT_VALID = "the token is not valid"


class KeySetError(Exception):
    """The issuer's keys cannot be had; the message says why."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What tokens must say.

    Attributes:
        issuer: Their `iss`.
        audience: Among their `aud`.
        key_set: File of the issuer's JSON Web Key Set, or its `https://` address.
        tenant_claim: Claim that names the tenant.
        scope_claim: Claim with the scopes, a list or a text with spaces (RFC 8693); words that are
            no scope of ours are passed over. A token without the claim may call everything.
        refresh_interval: How often the keys are read again.
        ca_file: Certificates to trust for the address instead of the system's.
    """

    issuer: str
    audience: str
    key_set: str
    tenant_claim: str = "tenant"
    scope_claim: str = "scope"
    refresh_interval: timedelta = timedelta(minutes=5)
    ca_file: Path | None = None


class JsonWebTokens(Authenticator):
    """Recognises tokens of one issuer. Made by `open`, ended by `close`."""

    def __init__(self, rules: TokenRules) -> None:
        self._rules = rules
        self._keys: dict[str, jwt.PyJWK] = {}
        # Verified tokens by digest: a signature costs 50 to 100 µs, streams ask at each message.
        self._verified: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()
        self._sooner = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, rules: TokenRules) -> JsonWebTokens:
        """Read the issuer's keys and begin to read them again now and then.

        Raises:
            KeySetError: They cannot be had.
        """
        tokens = cls(rules)
        tokens._keys = await _read_key_set(rules)
        tokens._refreshing = asyncio.create_task(tokens._refresh(), name="json-web-keys")
        return tokens

    async def close(self) -> None:
        """Read the keys no more."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Return whose token it is; as the interface says."""
        token = credentials.secret
        if token.count(".") != 2:
            return None
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise unauthenticated(_NOT_VALID)
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        known = self._verified.get(digest)
        if known is not None and time.time() < known[0]:
            return known[1]
        end_s, identity = self._verify(token)
        self._verified[digest] = (end_s, identity)
        while len(self._verified) > _MAX_REMEMBERED:
            self._verified.popitem(last=False)
        return identity

    def _verify(self, token: str) -> tuple[float, Identity]:
        rules = self._rules
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(str(header.get("kid", "")))
            if key is None:
                self._sooner.set()
                raise unauthenticated(_NOT_VALID)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                issuer=rules.issuer,
                audience=rules.audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("the token is expired") from error
        except jwt.PyJWTError as error:
            raise unauthenticated(_NOT_VALID) from error
        tenant = claims.get(rules.tenant_claim)
        if not isinstance(tenant, str) or not is_tenant_name(tenant):
            raise unauthenticated(f"the token's claim '{rules.tenant_claim}' names no tenant")
        scopes = _scopes(claims.get(rules.scope_claim))
        return float(claims["exp"]), Identity(tenant, str(claims["sub"])[:128], scopes)

    async def _refresh(self) -> None:
        while True:
            # At least so long: tokens under invented keys must not make us ask all the time.
            await asyncio.sleep(min(_SOONEST_S, self._rules.refresh_interval.total_seconds()))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rules.refresh_interval.total_seconds()):
                    await self._sooner.wait()
            self._sooner.clear()
            try:
                keys = await _read_key_set(self._rules)
            except KeySetError as error:
                _log.error("the issuer's keys were not read again", problem=str(error))
                continue
            if keys.keys() != self._keys.keys():
                _log.info("issuer's keys read", keys=sorted(keys))
            # A key that was withdrawn vouches for nothing any more.
            self._keys = keys
            self._verified.clear()


def _scopes(claim: object) -> frozenset[Scope]:
    if claim is None:
        return ALL_SCOPES
    words = claim.split() if isinstance(claim, str) else claim
    if not isinstance(words, list):
        return frozenset()
    return frozenset(scope for scope in Scope if scope.value in words)


async def _read_key_set(rules: TokenRules) -> dict[str, jwt.PyJWK]:
    if rules.key_set.startswith("https://"):
        data = await _fetch(rules.key_set, rules.ca_file)
    else:
        data = await asyncio.to_thread(_read_file, Path(rules.key_set))
    try:
        keys = jwt.PyJWKSet.from_dict(json.loads(data)).keys
    except (ValueError, TypeError, LookupError, AttributeError, jwt.PyJWTError) as error:
        raise KeySetError(f"{rules.key_set} is no JSON Web Key Set: {error}") from error
    named = {key.key_id: key for key in keys if key.key_id and key.algorithm_name in _ALGORITHMS}
    if not named:
        raise KeySetError(f"{rules.key_set} has no key with a name (kid) that is good for tokens")
    return named


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_SET_BYTES)
    except OSError as error:
        raise KeySetError(f"cannot read {path}: {error.strerror}") from error


async def _fetch(url: str, ca_file: Path | None) -> bytes:
    try:
        trusted = ssl.create_default_context(cafile=ca_file)
        timeout = aiohttp.ClientTimeout(total=_FETCH_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, ssl=trusted, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise KeySetError(f"{url} answers {response.status}")
            data = b""
            while (chunk := await response.content.read(2**16)) and len(data) < _MAX_KEY_SET_BYTES:
                data += chunk
            return data
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise KeySetError(f"cannot fetch {url}: {str(error) or type(error).__name__}") from error
