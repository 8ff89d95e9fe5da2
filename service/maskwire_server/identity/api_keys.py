"""What an API key is: how it is made, written down and recognised.

A key reads `mwk_{id}_{secret}`: eight hexadecimal digits that name it in logs, and 256 random bits
in base 64 for URLs. Only the secret's SHA-256 is kept. (A slow hash protects passwords, which can
be guessed; 256 random bits cannot.)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from ..domain.identity import ALL_SCOPES, Identity, Scope, is_tenant_name

KEY_PREFIX = "mwk_"
"""How every API key begins."""

_ID_BYTES = 4
_SECRET_BYTES = 32
_KEY = re.compile(rf"{KEY_PREFIX}([0-9a-f]{{8}})_([A-Za-z0-9_-]{{43}})")


class ApiKeyRecord(BaseModel):
    """What is kept of an API key.

    Attributes:
        key_id: Its name in logs and commands.
        name: What people call it.
        tenant: Whose it is.
        sha256: SHA-256 of the secret, hexadecimal.
        scopes: What it may call.
        create_time: When it was made.
        expire_time: When it stops being valid; None is never.
        revoke_time: When it was revoked; None where it was not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key_id: str = Field(pattern=r"^[0-9a-f]{8}$")
    name: str = Field(min_length=1, max_length=128)
    tenant: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = ALL_SCOPES
    create_time: AwareDatetime
    expire_time: AwareDatetime | None = None
    revoke_time: AwareDatetime | None = None

    @field_validator("tenant")
    @classmethod
    def _check_tenant(cls, tenant: str) -> str:
        if not is_tenant_name(tenant):
            raise ValueError(
                "a tenant's name is 1 to 63 lower-case letters, digits, '.', '_' and '-', "
                "beginning with a letter or digit"
            )
        return tenant

    @classmethod
    def create(
        cls,
        *,
        name: str,
        tenant: str,
        scopes: frozenset[Scope] = ALL_SCOPES,
        expire_time: datetime | None = None,
        now: datetime,
    ) -> tuple[Self, str]:
        """Make a key; return what is kept of it and the key itself, which is not.

        Raises:
            ValueError: A name or a tenant breaks a rule (pydantic's `ValidationError`).
        """
        key_id = secrets.token_hex(_ID_BYTES)
        secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
        record = cls(
            key_id=key_id,
            name=name,
            tenant=tenant,
            sha256=_digest(secret),
            scopes=scopes,
            create_time=now,
            expire_time=expire_time,
        )
        return record, f"{KEY_PREFIX}{key_id}_{secret}"

    @property
    def identity(self) -> Identity:
        """Who calls with this key."""
        return Identity(self.tenant, self.key_id, self.scopes)

    def status(self, now: datetime) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoke_time is not None:
            return "revoked"
        return "expired" if self.expire_time is not None and now >= self.expire_time else "valid"

    def matches(self, secret: str) -> bool:
        """Whether it is the key's secret; takes the same time whatever is wrong with it."""
        return hmac.compare_digest(_digest(secret), self.sha256)


def split_key(text: str) -> tuple[str, str] | None:
    """Return a key's identifier and secret, or None for what does not have a key's form."""
    found = _KEY.fullmatch(text)
    return None if found is None else (found[1], found[2])


NOBODYS_KEY = ApiKeyRecord(
    key_id="00000000",
    name="nobody",
    tenant="nobody",
    # No text has this digest.
    sha256="0" * 64,
    create_time=datetime(1970, 1, 1, tzinfo=UTC),
)
"""Compared with where no key has the identifier, so that the answer takes as long."""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
