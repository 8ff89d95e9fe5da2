"""Interceptors that limit load, around real handlers of RPCs, over a real connection."""

# Servicers that lack methods, which then are unimplemented, are what is tested here.
# mypy: disable-error-code="abstract"

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from maskwire.v1 import segmentation_pb2_grpc
from maskwire_server.domain.fair_door import FairDoor
from maskwire_server.domain.fair_queue import current_share
from maskwire_server.domain.identity import OPEN_ACCESS
from maskwire_server.domain.quotas import CallAllowance, CallQuotas, TenantQuota, TenantQuotas
from maskwire_server.observability.metrics import Metrics
from maskwire_server.quotas.token_buckets import TokenBuckets
from maskwire_server.transport.interceptors.admission import AdmissionInterceptor
from maskwire_server.transport.interceptors.authentication import AuthenticationInterceptor
from maskwire_server.transport.interceptors.error_translation import ErrorInterceptor
from maskwire_server.transport.interceptors.metrics import MetricsInterceptor
from maskwire_server.transport.interceptors.quotas import QuotaInterceptor
from tests.support.four_kinds import (
    KINDS,
    Recorder,
    Services,
    fail,
    finish,
    pairs,
    raw_call,
    start,
)
from tests.support.grpc_serving import detail, reason, serving


async def test_calls_over_the_limit_are_refused_before_their_request_is_read():
    begun, release = asyncio.Event(), asyncio.Event()

    async def hold():
        begun.set()
        await release.wait()

    class Refusals(Metrics):
        def __init__(self):
            self.refused = []

        def overload_refused(self, executor):
            self.refused.append(executor)

    observer, recorder = Refusals(), Recorder()
    admission = AdmissionInterceptor(1, observer)
    interceptors = [MetricsInterceptor(recorder), ErrorInterceptor(), admission]
    async with serving(interceptors, *pairs(Services(hold))) as channel:
        held = asyncio.ensure_future(finish(start(channel, "unary"), "unary"))
        await begun.wait()
        for kind in KINDS:
            error = await fail(start(channel, kind, silent=True), kind)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason(error) == "OVERLOADED"
            assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        assert recorder.messages("received", "unary") == 1
        release.set()
        await held
        await finish(start(channel, "unary"), "unary")
    assert len(observer.refused) == len(KINDS)
    assert recorder.errors == {"overloaded": len(KINDS)}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_count_of_calls_survives_cancellation_at_any_moment(kind):
    async def take_a_while():
        for _ in range(20):
            await asyncio.sleep(0)

    admission = AdmissionInterceptor(100, Metrics())
    async with serving([ErrorInterceptor(), admission], *pairs(Services(take_a_while))) as channel:

        async def cancelled_after(turns: int) -> None:
            call = start(channel, kind)
            answer = asyncio.ensure_future(finish(call, kind))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(answer, return_exceptions=True)

        for turns in range(60):
            await cancelled_after(turns)
        await finish(start(channel, kind), kind)
        await admission.wait_until_idle()
        assert admission.in_flight == 0


async def test_once_closed_new_calls_are_refused_and_those_in_flight_end():
    begun, release = asyncio.Event(), asyncio.Event()

    async def hold():
        begun.set()
        await release.wait()

    admission = AdmissionInterceptor(10, Metrics())
    async with serving([ErrorInterceptor(), admission], *pairs(Services(hold))) as channel:
        held = asyncio.ensure_future(finish(start(channel, "unary"), "unary"))
        await begun.wait()
        admission.close()
        assert admission.closed.is_set()
        error = await fail(start(channel, "unary"), "unary")
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(error) == "SHUTTING_DOWN"
        release.set()
        assert len(await held) == 1
        await admission.wait_until_idle()


def _quotas(**quota: Any) -> QuotaInterceptor:
    return QuotaInterceptor(CallQuotas(TenantQuotas(TenantQuota(**quota)), TokenBuckets()))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_over_the_rate_is_refused_with_the_limit_and_when_to_come_back(kind):
    recorder = Recorder()
    interceptors = [
        MetricsInterceptor(recorder),
        ErrorInterceptor(),
        AuthenticationInterceptor(OPEN_ACCESS),
        _quotas(calls=CallAllowance(calls_per_minute=1, burst=1)),
    ]
    async with serving(interceptors, *pairs(Services())) as channel:
        await finish(start(channel, kind), kind)
        error = await fail(start(channel, kind, silent=True), kind)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(error) == "QUOTA_EXCEEDED"
    assert detail(error, error_details_pb2.RetryInfo).retry_delay.seconds >= 50
    [violation] = detail(error, error_details_pb2.QuotaFailure).violations
    assert (violation.subject, violation.quota_id, violation.quota_value) == (
        "tenant:anonymous",
        "quotas.calls_per_minute",
        1,
    )
    await recorder.codes(kind, calls=2)
    assert recorder.quotas == {"quotas.calls_per_minute": 1}
    # The request of the refused call was not even read.
    assert recorder.messages("received", kind) == {"client_stream": 2, "bidi_stream": 2}.get(
        kind, 1
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_and_streams_count_for_as_long_as_they_last(kind):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold():
        begun.set()
        await go_on.wait()

    interceptors = [
        ErrorInterceptor(),
        AuthenticationInterceptor(OPEN_ACCESS),
        _quotas(concurrent_calls=1),
    ]
    async with serving(interceptors, *pairs(Services(hold))) as channel:
        first = asyncio.ensure_future(finish(start(channel, kind), kind))
        await begun.wait()
        error = await fail(start(channel, "unary"), "unary")
        [violation] = detail(error, error_details_pb2.QuotaFailure).violations
        assert violation.quota_id == "quotas.concurrent_calls"
        go_on.set()
        await first
        assert await finish(start(channel, "unary"), "unary")


async def test_work_is_for_the_account_of_the_calls_tenant():
    seen = []

    async def look():
        seen.append(current_share.get())

    interceptors = [AuthenticationInterceptor(OPEN_ACCESS), _quotas(weight=2.5)]
    async with serving(interceptors, *pairs(Services(look))) as channel:
        await finish(start(channel, "unary"), "unary")
    assert [(one.tenant, one.weight) for one in seen] == [("", 2.5)]


async def test_only_calls_to_devices_pass_the_door():
    door = FairDoor("device_calls", 1, Metrics())
    interceptors = [ErrorInterceptor(), AdmissionInterceptor(10, Metrics(), door)]
    segmenting = (
        segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server,
        segmentation_pb2_grpc.SegmentationServiceServicer(),
    )
    path = "/maskwire.v1.SegmentationService/SegmentImage"
    async with serving(interceptors, segmenting, *pairs(Services())) as channel:
        # Nothing implements it here, which shows that it was let in.
        for is_full, expected in ((False, "UNIMPLEMENTED"), (True, "OVERLOADED")):
            with door.enter() if is_full else nullcontext(), pytest.raises(grpc.RpcError) as end:
                await raw_call(channel, path, b"")
            assert reason(end.value) == expected
        with door.enter():
            assert await finish(start(channel, "unary"), "unary")
