"""Each interceptor around real handlers of all four kinds of RPC, over a real connection."""

# ruff: noqa: N802  # the methods carry the contract's names
# Servicers that lack methods, which then are unimplemented, are what is tested here.
# mypy: disable-error-code="abstract"

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from maskwire.v1 import (
    model_pb2,
    model_pb2_grpc,
)
from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.identity import OPEN_ACCESS
from maskwire_server.transport.calls import current_caller
from maskwire_server.transport.errors import INTERNAL_MESSAGE
from maskwire_server.transport.interceptors.access_log import AccessLogInterceptor
from maskwire_server.transport.interceptors.authentication import AuthenticationInterceptor
from maskwire_server.transport.interceptors.deadlines import DeadlineInterceptor
from maskwire_server.transport.interceptors.error_translation import ErrorInterceptor
from maskwire_server.transport.interceptors.metrics import MetricsInterceptor
from maskwire_server.transport.interceptors.request_id import RequestIdInterceptor
from maskwire_server.transport.interceptors.validation import ValidationInterceptor
from maskwire_server.transport.validation import RequestValidator
from tests.support.four_kinds import (
    KINDS,
    Recorder,
    Services,
    fail,
    finish,
    pairs,
    start,
)
from tests.support.grpc_serving import detail, reason, serving

LIMIT_S = 1.0
"""Of a call's time: enough for the servicer to begin, wherever this process is held up."""


def silent(kind: str) -> bool:
    """Whether the servicer below fails before it reads a stream of that kind."""
    return kind == "bidi_stream"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_domain_error_becomes_its_status(kind):
    async def refuse():
        raise MaskwireError(ErrorCode.MODEL_NOT_FOUND, "no such model", resource="m")

    interceptors = [RequestIdInterceptor(), ErrorInterceptor()]
    async with serving(interceptors, *pairs(Services(refuse))) as channel:
        call = start(channel, kind, metadata=(("x-request-id", "id-1"),), silent=silent(kind))
        error = await fail(call, kind)
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such model")
    assert reason(error) == "MODEL_NOT_FOUND"
    assert detail(error, error_details_pb2.RequestInfo).request_id == "id-1"
    assert dict(error.trailing_metadata())["x-request-id"] == "id-1"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unexpected_error_is_logged_and_tells_the_caller_nothing(kind, caplog):
    async def break_down():
        raise ValueError("a secret path /etc/shadow")

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    interceptors = [RequestIdInterceptor(), ErrorInterceptor()]
    try:
        with caplog.at_level(logging.ERROR):
            async with serving(interceptors, *pairs(Services(break_down))) as channel:
                call = start(
                    channel, kind, metadata=(("x-request-id", "id-2"),), silent=silent(kind)
                )
                error = await fail(call, kind)
    finally:
        structlog.reset_defaults()
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)
    assert "secret" not in str(rpc_status.from_call(error))
    assert "a secret path" in caplog.text
    assert '"request_id": "id-2"' in caplog.text
    assert "Traceback" in caplog.text


async def test_a_servicer_that_aborts_itself_is_left_alone():
    class Aborting(model_pb2_grpc.ModelServiceServicer):
        async def GetModel(self, request, context):
            await context.abort(grpc.StatusCode.DATA_LOSS, "its own words")

    recorder = Recorder()
    pair = (model_pb2_grpc.add_ModelServiceServicer_to_server, Aborting())
    async with serving([MetricsInterceptor(recorder), ErrorInterceptor()], pair) as channel:
        error = await fail(start(channel, "unary"), "unary")
        assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "its own words")
        assert await recorder.codes("unary") == {"DATA_LOSS": 1}
        assert not recorder.errors


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_id_comes_back_whether_sent_or_made(kind):
    async with serving([RequestIdInterceptor()], *pairs(Services())) as channel:
        for sent in ("abc-1.2:3_4", None, "white space", "x" * 129, "semi;colon"):
            metadata = () if sent is None else (("x-request-id", sent),)
            call = start(channel, kind, metadata=metadata)
            await finish(call, kind)
            got = dict(await call.trailing_metadata())["x-request-id"]
            assert (got == sent) == (sent == "abc-1.2:3_4")
            assert 0 < len(got) <= 128
            if kind in ("server_stream", "bidi_stream"):
                assert dict(await call.initial_metadata())["x-request-id"] == got


async def test_the_caller_of_each_concurrent_call_is_its_own():
    seen = []

    class Listening(model_pb2_grpc.ModelServiceServicer):
        async def GetModel(self, request, context):
            before = current_caller.get().request_id
            await asyncio.sleep(0)
            seen.append((request.name, before, current_caller.get().request_id))
            return model_pb2.GetModelResponse()

    pair = (model_pb2_grpc.add_ModelServiceServicer_to_server, Listening())
    interceptors = [RequestIdInterceptor(), AuthenticationInterceptor(OPEN_ACCESS)]
    async with serving(interceptors, pair) as channel:
        stub = model_pb2_grpc.ModelServiceStub(channel)
        names = [f"id-{n}" for n in range(50)]
        await asyncio.gather(
            *(
                stub.GetModel(
                    model_pb2.GetModelRequest(name=name), metadata=(("x-request-id", name),)
                )
                for name in names
            )
        )
    assert sorted(seen) == sorted((name, name, name) for name in names)


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_and_messages_are_counted(kind):
    recorder = Recorder()
    interceptors = [MetricsInterceptor(recorder), ErrorInterceptor()]
    async with serving(interceptors, *pairs(Services())) as channel:
        await finish(start(channel, kind), kind)
        assert await recorder.codes(kind) == {"OK": 1}
    received = {"unary": 1, "server_stream": 1, "client_stream": 2, "bidi_stream": 2}
    sent = {"unary": 1, "server_stream": 3, "client_stream": 1, "bidi_stream": 2}
    assert recorder.messages("received", kind) == received[kind]
    assert recorder.messages("sent", kind) == sent[kind]


async def test_a_unary_call_without_a_deadline_gets_the_default():
    services = Services(asyncio.Event().wait)
    interceptors = [ErrorInterceptor(), DeadlineInterceptor(default_s=LIMIT_S, max_s=10)]
    async with serving(interceptors, *pairs(services)) as channel:
        error = await fail(start(channel, "unary"), "unary")
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert f"{LIMIT_S:g} s" in error.details()
        assert services.ended.is_set()


async def test_a_deadline_beyond_the_cap_is_shortened():
    interceptors = [ErrorInterceptor(), DeadlineInterceptor(default_s=600, max_s=LIMIT_S)]
    async with serving(interceptors, *pairs(Services(asyncio.Event().wait))) as channel:
        error = await fail(start(channel, "unary", timeout=600), "unary")
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert f"{LIMIT_S:g} s" in error.details()


@pytest.mark.parametrize("timeout_s", [0.5, 1.0, 1.001, 2.005])
async def test_the_clients_own_deadline_ends_the_servicer(timeout_s):
    """From a second on the client's time is over before the server's, which has it rounded up."""
    services, recorder = Services(asyncio.Event().wait), Recorder()
    interceptors = [MetricsInterceptor(recorder), ErrorInterceptor(), DeadlineInterceptor(60, 600)]
    async with serving(interceptors, *pairs(services)) as channel:
        error = await fail(start(channel, "unary", timeout=timeout_s), "unary")
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await services.ended.wait()
        assert await recorder.codes("unary") == {"DEADLINE_EXCEEDED": 1}


async def test_a_client_that_cancels_early_was_not_out_of_time():
    begun = asyncio.Event()

    async def hang():
        begun.set()
        await asyncio.Event().wait()

    services, recorder = Services(hang), Recorder()
    interceptors = [MetricsInterceptor(recorder), ErrorInterceptor()]
    async with serving(interceptors, *pairs(services)) as channel:
        call = start(channel, "unary", timeout=60)
        await begun.wait()
        call.cancel()
        await services.ended.wait()
        assert await recorder.codes("unary") == {"CANCELLED": 1}


async def test_a_stalled_upload_of_a_unary_request_ends_with_the_deadline():
    async def nothing():
        await asyncio.Event().wait()
        yield b""

    interceptors = [ErrorInterceptor(), DeadlineInterceptor(default_s=LIMIT_S, max_s=10)]
    async with serving(interceptors, *pairs(Services())) as channel:
        stalled: Any = channel.stream_unary("/maskwire.v1.ModelService/GetModel")(nothing())
        error = await fail(stalled, "unary")
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_timeout_of_the_servicers_own_is_no_deadline():
    async def time_out():
        raise TimeoutError("its own")

    interceptors = [ErrorInterceptor(), DeadlineInterceptor(default_s=60, max_s=60)]
    async with serving(interceptors, *pairs(Services(time_out))) as channel:
        error = await fail(start(channel, "unary"), "unary")
        assert error.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("kind", ["server_stream", "client_stream"])
async def test_requests_that_break_a_rule_are_refused(kind):
    interceptors = [ErrorInterceptor(), ValidationInterceptor(RequestValidator())]
    async with serving(interceptors, *pairs(Services())) as channel:
        error = await fail(start(channel, kind), kind)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert detail(error, error_details_pb2.BadRequest).field_violations[0].field


async def test_methods_that_answer_in_band_are_exempt_from_validation():
    path = "/maskwire.v1.RealtimeService/RunSession"
    validator = RequestValidator()
    for exempt, expected in (((), grpc.StatusCode.INVALID_ARGUMENT), ((path,), None)):
        interceptors = [ErrorInterceptor(), ValidationInterceptor(validator, exempt)]
        async with serving(interceptors, *pairs(Services())) as channel:
            if expected is None:
                assert len(await finish(start(channel, "bidi_stream"), "bidi_stream")) == 2
            else:
                call = start(channel, "bidi_stream", messages=1)
                assert (await fail(call, "bidi_stream")).code() is expected


@pytest.mark.parametrize(
    ("code", "level"), [(ErrorCode.INVALID_ARGUMENT, "debug"), (ErrorCode.OVERLOADED, "info")]
)
async def test_each_call_has_one_access_line_at_a_level_that_fits(code, level):
    async def refuse():
        raise MaskwireError(code, "no")

    recorder = Recorder()
    interceptors = [
        MetricsInterceptor(recorder),
        RequestIdInterceptor(),
        AccessLogInterceptor(),
        ErrorInterceptor(),
    ]
    with structlog.testing.capture_logs() as lines:
        async with serving(interceptors, *pairs(Services(refuse))) as channel:
            await fail(start(channel, "unary"), "unary")
            assert len(await recorder.codes("unary")) == 1
    [line] = [line for line in lines if line["event"] == "call"]
    assert line["method"] == "/maskwire.v1.ModelService/GetModel"
    assert line["log_level"] == level
    assert line["code"] in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
    assert line["duration_ms"] >= 0
    assert line["peer"].startswith("ipv4:127.0.0.1")
