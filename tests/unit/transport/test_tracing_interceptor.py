"""Spans of calls: one for each, with the status that the call ends with."""

# Servicers that lack methods, which then are unimplemented, are what the tests need.
# mypy: disable-error-code="abstract"
from __future__ import annotations

import asyncio

import grpc
import pytest
import structlog
from opentelemetry.trace import SpanKind, StatusCode

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.transport.interceptors.deadlines import DeadlineInterceptor
from maskwire_server.transport.interceptors.error_translation import ErrorInterceptor
from maskwire_server.transport.interceptors.request_id import RequestIdInterceptor
from maskwire_server.transport.interceptors.tracing import TracingInterceptor
from tests.support.four_kinds import KINDS, Services, fail, finish, pairs, raw_call, start
from tests.support.grpc_serving import serving
from tests.support.made_spans import MadeSpans, made_spans

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


def around(made: MadeSpans, *others):
    return [RequestIdInterceptor(), TracingInterceptor(made.spans), ErrorInterceptor(), *others]


async def ended(made: MadeSpans, count: int = 1):
    """Return the spans once so many have ended: a client hears of the end before that."""
    await asyncio.to_thread(made.exporter.wait_for, count)
    return made.all


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_belongs_to_its_callers_trace(kind):
    made = made_spans()
    metadata = (("traceparent", TRACEPARENT), ("x-request-id", "id-1"))
    async with serving(around(made), *pairs(Services())) as channel:
        await finish(start(channel, kind, metadata=metadata), kind)
        (span,) = await ended(made)
    assert span.kind is SpanKind.SERVER
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    assert span.attributes is not None
    assert span.attributes["rpc.system"] == "grpc"
    assert span.name == f"{span.attributes['rpc.service']}/{span.attributes['rpc.method']}"
    assert str(span.attributes["rpc.service"]).startswith("maskwire.v1.")
    assert span.attributes["maskwire.request_id"] == "id-1"
    assert span.attributes["rpc.grpc.status_code"] == 0
    assert span.status.status_code is StatusCode.UNSET


STATUSES = [
    (MaskwireError(ErrorCode.INVALID_ARGUMENT, "secret"), "INVALID_ARGUMENT", False),
    (MaskwireError(ErrorCode.IMAGE_NOT_FOUND, "secret"), "NOT_FOUND", False),
    (MaskwireError(ErrorCode.OVERLOADED, "secret"), "RESOURCE_EXHAUSTED", False),
    (MaskwireError(ErrorCode.SHUTTING_DOWN, "secret"), "UNAVAILABLE", True),
    (MaskwireError(ErrorCode.DATA_LOSS, "secret"), "DATA_LOSS", True),
    (MaskwireError(ErrorCode.UNIMPLEMENTED, "secret"), "UNIMPLEMENTED", True),
    (ValueError("secret"), "INTERNAL", True),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("error", "status", "is_fault"), STATUSES)
async def test_only_the_servers_faults_are_errors_of_its_spans(kind, error, status, is_fault):
    async def act():
        raise error

    made = made_spans()
    async with serving(around(made), *pairs(Services(act))) as channel:
        failed = await fail(start(channel, kind, silent=kind == "bidi_stream"), kind)
        (span,) = await ended(made)
    assert failed.code().name == status
    code = error.code if isinstance(error, MaskwireError) else ErrorCode.INTERNAL
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == failed.code().value[0]
    assert span.attributes["error.type"] == code.name
    assert span.status.status_code is (StatusCode.ERROR if is_fault else StatusCode.UNSET)
    assert "secret" not in str(span.to_json())


async def test_a_cancelled_call_is_no_error_of_the_servers():
    began = asyncio.Event()

    async def act():
        began.set()
        await asyncio.Event().wait()

    made = made_spans()
    async with serving(around(made), *pairs(Services(act))) as channel:
        call = start(channel, "unary")
        await began.wait()
        call.cancel()
        (span,) = await ended(made)
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.CANCELLED.value[0]
    assert span.attributes["error.type"] == "CANCELLED"
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("whose", ["client", "server"])
async def test_a_call_whose_time_is_over_is_an_error(whose):
    async def act():
        await asyncio.Event().wait()

    made = made_spans()
    limit_s = 0.05 if whose == "server" else 600.0
    limits = DeadlineInterceptor(limit_s, 600.0)
    async with serving(around(made, limits), *pairs(Services(act))) as channel:
        call = start(channel, "unary", timeout=0.05 if whose == "client" else None)
        assert (await fail(call, "unary")).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        (span,) = await ended(made)
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == 4
    assert span.status.status_code is StatusCode.ERROR


async def test_paths_that_nobody_serves_do_not_make_names():
    made = made_spans()
    async with serving(around(made), *pairs(Services())) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await raw_call(channel, "/some.where/Else", b"")
        (span,) = await ended(made)
    assert span.name == "unknown/unknown"
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
async def test_a_header_that_names_no_trace_begins_one(header):
    made = made_spans()
    metadata = (("traceparent", header),) if header else ()
    async with serving(around(made), *pairs(Services())) as channel:
        await finish(start(channel, "unary", metadata=metadata), "unary")
        (span,) = await ended(made)
    assert span.parent is None


async def test_the_caller_decides_whether_its_trace_is_recorded():
    for ratio, flags, count in ((0.0, "01", 1), (1.0, "00", 0)):
        made = made_spans(ratio=ratio)
        metadata = (("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-{flags}"),)
        async with serving(around(made), *pairs(Services())) as channel:
            await finish(start(channel, "unary", metadata=metadata), "unary")
            assert len(await ended(made, count)) == count


async def test_reports_and_log_lines_of_concurrent_calls_belong_to_their_own():
    made = made_spans()
    logged = []
    both = asyncio.Barrier(2)

    async def act():
        logged.append(structlog.contextvars.get_contextvars())
        await both.wait()
        made.metrics.stage_finished("encode", "m", 0.01)
        await both.wait()

    async with serving(around(made), *pairs(Services(act))) as channel:
        await asyncio.gather(
            *(finish(start(channel, kind), kind) for kind in ("unary", "server_stream"))
        )
        spans = await ended(made, 4)
    calls = {one.context.span_id: one for one in spans if one.kind is SpanKind.SERVER}
    stages = [one for one in spans if one.name == "encode"]
    assert {one.parent.span_id for one in stages if one.parent} == set(calls)
    assert {one["span_id"] for one in logged} == {f"{one:016x}" for one in calls}
    assert {one["trace_id"] for one in logged} == {
        f"{one.context.trace_id:032x}" for one in calls.values()
    }
