"""What tenants may use: rates, calls at a time, unfinished jobs, and the refusals."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import timedelta

import pytest

from maskwire_server.composition.quotas import tenant_quotas
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.quotas import (
    CallAllowance,
    CallQuotas,
    CallRate,
    InUse,
    QuotaLimit,
    TenantQuota,
    TenantQuotas,
)
from maskwire_server.settings import QuotaSettings, Settings, TenantQuotaSettings


class _Rate(CallRate):
    """Refuses the tenants that it is told to."""

    def __init__(self) -> None:
        self.refused: dict[str, timedelta] = {}
        self.asked: list[str] = []

    async def take(self, tenant: str, allowance: CallAllowance) -> timedelta | None:
        self.asked.append(tenant)
        return self.refused.get(tenant)


def test_what_a_tenant_has_at_a_time_is_limited_by_itself() -> None:
    in_use = InUse(QuotaLimit.CONCURRENT_UPLOADS, "uploads")
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(in_use.one_more("acme", 2))
        stack.enter_context(in_use.one_more("globex", 2))
        with pytest.raises(MaskwireError) as refusal, in_use.one_more("acme", 2):
            pass
        stack.enter_context(in_use.one_more("acme", None))
    assert refusal.value.code is ErrorCode.QUOTA_EXCEEDED
    assert refusal.value.quota is not None
    assert refusal.value.quota.tenant == "acme"
    assert refusal.value.quota.limit == "quotas.concurrent_uploads"
    assert refusal.value.quota.most == 2
    assert refusal.value.retry_after is not None
    with in_use.one_more("acme", 1):
        pass


async def test_a_call_that_is_one_too_many_is_not_counted_for_the_rate() -> None:
    rate = _Rate()
    quota = TenantQuota(calls=CallAllowance(60, 10), concurrent_calls=1)
    quotas = CallQuotas(TenantQuotas(quota), rate)
    async with quotas.call("acme"):
        with pytest.raises(MaskwireError) as refusal:
            async with quotas.call("acme"):
                pass
    assert refusal.value.quota is not None
    assert refusal.value.quota.limit == "quotas.concurrent_calls"
    assert rate.asked == ["acme"]


async def test_a_call_over_the_rate_leaves_no_place_taken() -> None:
    rate = _Rate()
    quota = TenantQuota(calls=CallAllowance(60, 10), concurrent_calls=1)
    quotas = CallQuotas(TenantQuotas(quota), rate)
    rate.refused["acme"] = timedelta(seconds=3)
    for _ in range(2):
        with pytest.raises(MaskwireError, match="60 calls a minute") as refusal:
            async with quotas.call("acme"):
                pass
        assert refusal.value.retry_after == timedelta(seconds=3)
    async with quotas.call("globex"):
        pass


async def test_without_limits_nothing_is_asked() -> None:
    rate = _Rate()
    quotas = CallQuotas(TenantQuotas(), rate)
    async with quotas.call(""):
        await asyncio.sleep(0)
    assert rate.asked == []


def test_settings_of_a_tenant_override_those_of_all() -> None:
    chosen = QuotaSettings(
        calls_per_minute=120,
        burst=5,
        concurrent_calls=8,
        tenants={
            "acme": TenantQuotaSettings(calls_per_minute=600, weight=3),
            "globex": TenantQuotaSettings(concurrent_calls=0, burst=7),
            "trial": TenantQuotaSettings(unfinished_jobs=1),
        },
    )
    quotas = tenant_quotas(Settings(quotas=chosen))
    assert quotas.of("nobody") == TenantQuota(CallAllowance(120, 5), concurrent_calls=8)
    # A rate of its own has a burst of its own: what it gives in ten seconds.
    assert quotas.of("acme") == TenantQuota(CallAllowance(600, 100), concurrent_calls=8, weight=3.0)
    assert quotas.of("globex") == TenantQuota(CallAllowance(120, 7))
    assert quotas.of("trial").unfinished_jobs == 1


def test_without_settings_everything_is_allowed() -> None:
    assert tenant_quotas(Settings()).of("anybody") == TenantQuota()


@pytest.mark.parametrize(("per_minute", "burst"), [(0, 1), (1, 0)])
def test_an_allowance_allows_something(per_minute: int, burst: int) -> None:
    with pytest.raises(ValueError, match="allows no call"):
        CallAllowance(per_minute, burst)
