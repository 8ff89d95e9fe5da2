"""Counts each call for its tenant, before anything of the request is read."""

from __future__ import annotations

from typing import Any

from ...domain.fair_queue import Share, current_share
from ...domain.quotas import CallQuotas
from ..calls import Call, current_caller
from .pipeline import Interceptor, Proceed


class QuotaInterceptor(Interceptor):
    """Refuses calls over the tenant's rate or number at a time; says whose the work is.

    A stream is one call for as long as it lasts; its messages are not counted.
    """

    def __init__(self, quotas: CallQuotas) -> None:
        self._quotas = quotas

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """Take the call or raise `QUOTA_EXCEEDED`."""
        tenant = current_caller.get().tenant
        # Each call runs in a task, and so in a context, of its own: nothing needs undoing.
        current_share.set(Share(tenant, self._quotas.of(tenant).weight))
        async with self._quotas.call(tenant):
            return await proceed()
