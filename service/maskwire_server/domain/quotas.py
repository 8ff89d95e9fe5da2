"""What each tenant may use, and the refusals beyond it.

Sessions and stored bytes are counted where they are kept (`sessions/service.py`, the file store);
their refusals are made here too, so that all look alike. How the rate of calls is counted, for this
server or for a cluster, is decided in `quotas/`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from .errors import ErrorCode, MaskwireError, QuotaViolation

_RETRY_AFTER = timedelta(seconds=1)
"""When a tenant may find a place free that one of its own calls or streams has now."""


class QuotaLimit(enum.StrEnum):
    """Every limit of a tenant, by the setting that has it."""

    CALLS_PER_MINUTE = "quotas.calls_per_minute"
    CONCURRENT_CALLS = "quotas.concurrent_calls"
    CONCURRENT_UPLOADS = "quotas.concurrent_uploads"
    UNFINISHED_JOBS = "quotas.unfinished_jobs"
    SESSIONS = "sessions.max_sessions_per_tenant"
    STORED_BYTES = "storage.max_tenant_bytes"


@dataclass(frozen=True, slots=True)
class CallAllowance:
    """A token bucket: it fills at a rate, and each call takes a token.

    Attributes:
        calls_per_minute: The rate, at least 1.
        burst: Tokens that the full bucket holds, at least 1.
    """

    calls_per_minute: int
    burst: int

    def __post_init__(self) -> None:
        if min(self.calls_per_minute, self.burst) < 1:
            raise ValueError(f"{self} allows no call")


@dataclass(frozen=True, slots=True)
class TenantQuota:
    """What one tenant may use; None means as much as there is.

    Attributes:
        calls: How often it may call.
        concurrent_calls: Calls and streams at a time, on one server.
        concurrent_uploads: Uploads at a time, on one server.
        unfinished_jobs: Jobs that wait or run at a time.
        weight: Its share of devices beside other tenants that want more than there is.
    """

    calls: CallAllowance | None = None
    concurrent_calls: int | None = None
    concurrent_uploads: int | None = None
    unfinished_jobs: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TenantQuotas:
    """The quotas of all tenants.

    Attributes:
        usual: What a tenant may use that is not named.
        special: What tenants may use that are.
    """

    usual: TenantQuota = TenantQuota()
    special: Mapping[str, TenantQuota] = field(default_factory=dict)

    def of(self, tenant: str) -> TenantQuota:
        """Return what a tenant may use."""
        return self.special.get(tenant, self.usual)


UNLIMITED = TenantQuotas()
"""Everybody may use what there is."""


class CallRate(ABC):
    """Counts how often tenants call."""

    @abstractmethod
    async def take(self, tenant: str, allowance: CallAllowance) -> timedelta | None:
        """Count one call of a tenant; or return when it may try again, where it has no more.

        Quick, and never an error: a counter that cannot be reached counts as well as it can.
        """

    async def close(self) -> None:
        """Let go of what the counter holds."""
        return


class InUse:
    """Counts what each tenant has of one thing at a time; used on one event loop."""

    def __init__(self, limit: QuotaLimit, what: str) -> None:
        """Take the limit that this counts for, and what it counts, in the plural."""
        self._limit = limit
        self._what = what
        self._count: Counter[str] = Counter()

    @contextmanager
    def one_more(self, tenant: str, most: int | None) -> Iterator[None]:
        """Count one more while the context lasts.

        Raises:
            MaskwireError: `QUOTA_EXCEEDED` where the tenant has `most` already.
        """
        if most is not None and self._count[tenant] >= most:
            raise quota_exceeded(
                self._limit,
                tenant,
                most,
                f"the tenant has its limit of {most} {self._what} at a time ({self._limit})",
                retry_after=_RETRY_AFTER,
            )
        self._count[tenant] += 1
        try:
            yield
        finally:
            self._count[tenant] -= 1
            if not self._count[tenant]:
                del self._count[tenant]


class CallQuotas:
    """Decides whether a tenant's call is one too many."""

    def __init__(self, quotas: TenantQuotas, rate: CallRate) -> None:
        self._quotas = quotas
        self._rate = rate
        self._in_flight = InUse(QuotaLimit.CONCURRENT_CALLS, "calls and streams")

    def of(self, tenant: str) -> TenantQuota:
        """Return what a tenant may use."""
        return self._quotas.of(tenant)

    @asynccontextmanager
    async def call(self, tenant: str) -> AsyncIterator[None]:
        """Count a call while the context lasts.

        Raises:
            MaskwireError: `QUOTA_EXCEEDED`, with when to try again.
        """
        quota = self._quotas.of(tenant)
        with self._in_flight.one_more(tenant, quota.concurrent_calls):
            if quota.calls is not None:
                await self._take(tenant, quota.calls)
            yield

    async def _take(self, tenant: str, allowance: CallAllowance) -> None:
        pause = await self._rate.take(tenant, allowance)
        if pause is not None:
            most = allowance.calls_per_minute
            raise quota_exceeded(
                QuotaLimit.CALLS_PER_MINUTE,
                tenant,
                most,
                f"the tenant may make {most} calls a minute, {allowance.burst} of them at once "
                f"({QuotaLimit.CALLS_PER_MINUTE})",
                retry_after=pause,
            )


def quota_exceeded(
    limit: QuotaLimit,
    tenant: str,
    most: int,
    message: str,
    retry_after: timedelta | None = None,
) -> MaskwireError:
    """Make the error of a tenant that has what it may have.

    Args:
        limit: Which limit it is.
        tenant: Whose.
        most: What it allows.
        message: Text for the caller; names the limit.
        retry_after: When trying again makes sense; None where waiting alone does not help.
    """
    return MaskwireError(
        ErrorCode.QUOTA_EXCEEDED,
        message,
        retry_after=retry_after,
        quota=QuotaViolation(limit=limit.value, tenant=tenant, most=most),
    )
