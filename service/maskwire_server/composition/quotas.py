"""Builds what counts and limits the use of each tenant, as the settings say."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta

from ..domain.observer import Observer
from ..domain.quotas import CallAllowance, CallQuotas, CallRate, TenantQuota, TenantQuotas
from ..quotas.token_buckets import TokenBuckets
from ..settings import QuotaSettings, Settings, SettingsError, TenantQuotaSettings

_BURST_S = 10
"""Where no burst is set, the bucket holds what the rate gives in so many seconds."""


def tenant_quotas(settings: Settings) -> TenantQuotas:
    """Return what each tenant may use."""
    usual = settings.quotas
    special = {name: _quota(usual, one) for name, one in usual.tenants.items()}
    return TenantQuotas(_quota(usual, TenantQuotaSettings()), special)


def build_call_quotas(
    settings: Settings, observer: Observer, resources: AsyncExitStack
) -> CallQuotas:
    """Build what decides whether a call is one too many; what must be closed goes on `resources`.

    Raises:
        SettingsError: A store is set and the extra `quotas` is not installed, or its URL is none.
    """
    rate = _rate(settings.quotas, observer)
    resources.push_async_callback(rate.close)
    return CallQuotas(tenant_quotas(settings), rate)


def _rate(settings: QuotaSettings, observer: Observer) -> CallRate:
    alone = TokenBuckets()
    if settings.store is None:
        return alone
    # An extra of its own: a single server needs no store and no client of one.
    try:
        from ..quotas.shared_windows import SharedWindows
    except ModuleNotFoundError as error:
        raise SettingsError(
            "quotas.store needs packages that are not installed: pip install 'maskwire[quotas]'"
        ) from error
    timeout = timedelta(seconds=settings.store_timeout_s)
    return SharedWindows(settings.store, timeout, alone, observer)


def _quota(usual: QuotaSettings, own: TenantQuotaSettings) -> TenantQuota:
    def chosen(name: str) -> int:
        value = getattr(own, name)
        return int(getattr(usual, name) if value is None else value)

    per_minute = chosen("calls_per_minute")
    # A tenant with a rate of its own does not have the others' burst.
    burst = own.burst or (usual.burst if own.calls_per_minute is None else 0)
    calls = None
    if per_minute:
        calls = CallAllowance(per_minute, burst or max(1, per_minute * _BURST_S // 60))
    return TenantQuota(
        calls=calls,
        concurrent_calls=chosen("concurrent_calls") or None,
        concurrent_uploads=chosen("concurrent_uploads") or None,
        unfinished_jobs=chosen("unfinished_jobs") or None,
        weight=usual.weight if own.weight is None else own.weight,
    )
