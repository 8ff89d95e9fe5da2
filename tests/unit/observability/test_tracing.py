"""Spans that reports become, and what becomes of them where nobody takes them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from maskwire_server.composition import tracing as composition
from maskwire_server.composition.tracing import build_observing
from maskwire_server.domain.errors import ErrorCode
from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.jobs.job import ContentReference, Job, JobKey, JobState
from maskwire_server.observability.metrics_server import MetricsServer
from maskwire_server.observability.tracing.export import SpanExport, TraceDestination
from maskwire_server.observability.tracing.spans import FAULT_STATUSES, FAULTS
from maskwire_server.settings import Settings, SettingsError
from maskwire_server.transport.errors import STATUS_OF_CODE
from tests.support.made_spans import MadeSpans, made_spans
from tests.support.trace_collector import collecting

CREATED = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB = Job(
    key=JobKey("", "0" * 32),
    method="maskwire.v1.VideoService/TrackVideo",
    queue="segmentation",
    request_id="id-1",
    request_digest="sha256:0",
    payload=ContentReference("key", 1, "sha256:0"),
    state=JobState.RUNNING,
    create_time=CREATED,
    start_time=CREATED + timedelta(seconds=5),
    attempt=1,
)


def call(made: MadeSpans, *, lasts: bool = False):
    return made.spans.call("maskwire.v1.S", "Do", "id-1", lasts=lasts, headers={})


def test_the_servers_faults_are_those_with_such_statuses():
    of_faults = {code for code, status in STATUS_OF_CODE.items() if status.name in FAULT_STATUSES}
    assert of_faults == FAULTS


def test_a_fetch_tells_what_kind_and_how_it_ended_and_nothing_of_where():
    made = made_spans()
    with call(made):
        made.metrics.source_fetched("https", "fetched", 0.25, 1024)
    (span,) = made.named("fetch")
    assert span.attributes == {"maskwire.scheme": "https", "maskwire.outcome": "fetched"}


def test_reports_outside_of_everything_make_no_span():
    made = made_spans()
    made.metrics.stage_finished("encode", "m", 0.1)
    made.metrics.queue_left("cpu", 0.1)
    assert (made.all, made.metrics.trace_context()) == ((), "")


def test_a_span_begins_and_ends_when_the_work_did():
    made = made_spans()
    with call(made):
        now_ns, now_s = time.time_ns(), time.perf_counter()
        made.metrics.stage_finished("decode", "m", 0.25, now_s - 1.0)
    (stage,) = made.named("decode")
    assert stage.start_time is not None
    assert stage.end_time is not None
    assert stage.end_time - stage.start_time == 250_000_000
    assert stage.end_time == pytest.approx(now_ns - 1e9, abs=0.2e9)


def test_a_call_makes_so_many_spans_and_tells_how_many_more_there_were():
    made = made_spans(max_spans=3)
    with call(made):
        for _ in range(10):
            made.metrics.stage_finished("track", "m", 0.1)
    assert len(made.named("track")) == 3
    (server,) = made.named("maskwire.v1.S/Do")
    assert server.attributes is not None
    assert server.attributes["maskwire.spans_left_out"] == 7


def test_requests_of_a_session_are_traced_and_its_stream_only_linked():
    made = made_spans()
    with call(made, lasts=True):
        made.metrics.queue_left("pixels", 0.1)  # of a frame that is read ahead
        received_s = time.perf_counter() - 2.0
        with made.metrics.session_request("frame", 7, received_s) as frame:
            made.metrics.stage_finished("track", "m", 0.1)
            frame.ended("answered")
        with made.metrics.session_request("control", 8, received_s) as refused:
            refused.ended("refused", ErrorCode.OBJECT_NOT_FOUND)
        with made.metrics.session_request("prompts", 9, received_s) as failed:
            failed.ended("refused", ErrorCode.MODEL_UNAVAILABLE)
    (stream,) = made.named("maskwire.v1.S/Do")
    (frame_span,) = made.named("session frame")
    (track,) = made.named("track")
    assert not made.named("queue")
    assert stream.attributes is not None
    assert "maskwire.spans_left_out" not in stream.attributes
    assert frame_span.parent is None
    assert frame_span.context.trace_id != stream.context.trace_id
    assert [one.context.span_id for one in frame_span.links] == [stream.context.span_id]
    assert track.parent is not None
    assert track.parent.span_id == frame_span.context.span_id
    assert frame_span.end_time is not None
    assert frame_span.start_time is not None
    assert frame_span.end_time - frame_span.start_time > 1.9e9
    statuses = {one.name: one.status.status_code for one in made.all}
    assert statuses["session control"] is StatusCode.UNSET
    assert statuses["session prompts"] is StatusCode.ERROR


ENDS = [
    ("succeeded", None, StatusCode.UNSET),
    ("cancelled", None, StatusCode.UNSET),
    ("handed_back", None, StatusCode.UNSET),
    ("failed", ErrorCode.INVALID_ARGUMENT, StatusCode.UNSET),
    ("failed", ErrorCode.INTERNAL, StatusCode.ERROR),
    ("died", ErrorCode.WORKER_LOST, StatusCode.ERROR),
    ("stalled", ErrorCode.WORKER_LOST, StatusCode.ERROR),
    ("lost", None, StatusCode.ERROR),
]


@pytest.mark.parametrize(("how", "code", "status"), ENDS)
def test_an_attempt_is_in_the_submitters_trace(how, code, status):
    made = made_spans()
    with call(made):
        job = replace(JOB, trace_context=made.metrics.trace_context())
    with made.metrics.job_attempt(job) as attempt:
        attempt.stage_begun("load")
        attempt.stage_begun("track")
        attempt.ended(how, code)
    (submission,), (span,) = made.named("maskwire.v1.S/Do"), made.named("job attempt")
    assert span.parent is not None
    assert span.parent.span_id == submission.context.span_id
    assert span.kind is SpanKind.CONSUMER
    assert span.status.status_code is status
    assert span.attributes is not None
    assert span.attributes["maskwire.outcome"] == how
    assert span.attributes.get("error.type") == (None if code is None else code.name)
    load, track = made.named("load")[0], made.named("track")[0]
    assert load.end_time is not None
    assert track.start_time is not None
    assert load.end_time <= track.start_time
    (waited,) = made.named("queue")
    assert waited.end_time is not None
    assert waited.start_time is not None
    assert waited.end_time - waited.start_time == 5_000_000_000


def test_a_later_attempt_waited_for_nothing_and_an_untraced_job_begins_a_trace():
    made = made_spans()
    with call(made):
        job = replace(JOB, attempt=2, trace_context=made.metrics.trace_context())
    for one in (job, JOB):
        with made.metrics.job_attempt(one) as attempt:
            attempt.ended("succeeded")
    assert not made.named("queue")
    parents = [one.parent for one in made.named("job attempt")]
    assert parents[0] is not None
    assert parents[1] is None


def test_work_in_another_process_goes_on_with_the_trace():
    worker, child = made_spans(), made_spans(max_spans=1)
    with worker.metrics.job_attempt(JOB) as attempt:
        context = attempt.context
    with child.metrics.work_elsewhere(context):
        child.metrics.stage_finished("encode", "m", 0.1)
        child.metrics.stage_finished("prompt", "m", 0.1)
    (span,) = worker.named("job attempt")
    (stage,) = child.all
    assert stage.parent is not None
    assert stage.parent.span_id == span.context.span_id
    with child.metrics.work_elsewhere(""):
        child.metrics.stage_finished("encode", "m", 0.1)
        assert "trace_id" not in structlog.contextvars.get_contextvars()
    assert len(child.all) == 1


async def test_threads_see_the_span_and_the_log_context_of_their_caller():
    made = made_spans()
    executor = BoundedExecutor("cpu", 1, 8, made.metrics)
    try:
        with call(made):
            seen = await executor.run(lambda: dict(structlog.contextvars.get_contextvars()))
    finally:
        executor.close()
    (server,), (waited,) = made.named("maskwire.v1.S/Do"), made.named("queue")
    assert waited.parent is not None
    assert waited.parent.span_id == server.context.span_id
    assert seen.value["trace_id"] == f"{server.context.trace_id:032x}"


def test_nothing_is_recorded_where_nothing_is_sampled():
    made = made_spans(ratio=0.0)
    with call(made):
        made.metrics.stage_finished("encode", "m", 0.1)
        flags = int(made.metrics.trace_context().split("-")[3], 16)
        assert flags % 2 == 0
    with made.metrics.job_attempt(JOB) as attempt:
        attempt.stage_begun("load")
    assert made.all == ()


def test_measurements_name_their_trace_to_who_asks_for_openmetrics():
    made = made_spans()
    with call(made):
        made.metrics.stage_finished("encode", "m", 0.003)
        name = made.metrics.trace_context().split("-")[1]
    server = MetricsServer(made.metrics, "127.0.0.1", 0)
    server.start()
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/metrics",
            headers={"Accept": "application/openmetrics-text; version=1.0.0"},
        )
        with urllib.request.urlopen(request, timeout=30) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
    finally:
        server.stop()
    samples = [
        one
        for family in families
        for one in family.samples
        if one.name == "maskwire_stage_seconds_bucket" and one.exemplar
    ]
    assert [one.exemplar.labels for one in samples if one.exemplar] == [{"trace_id": name}]
    assert samples[0].labels["le"] == "0.005"


def destination(endpoint: str, timeout_s: float) -> TraceDestination:
    return TraceDestination(endpoint, {}, timeout_s, 512, 1.0)


def test_spans_that_wait_are_sent_at_the_end():
    with collecting() as collector:
        export = SpanExport(destination(collector.endpoint, 60.0), "maskwire-server", "1.2.3")
        for _ in range(100):
            export.tracer.start_span("work").end()
        export.stop(30.0)
        assert len(collector.spans) == 100
        assert {one.service for one in collector.spans} == {"maskwire-server"}


def test_a_collector_that_does_not_answer_holds_up_nothing_and_is_told_once(caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and never says a word
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        export = SpanExport(destination(endpoint, 0.5), "s", "1")
        told = threading.Event()
        watcher = _Watch(told)
        with structlog.testing.capture_logs([watcher]) as logged:
            for _ in range(5000):
                export.tracer.start_span("work").end()
            assert told.wait(60)
            began_s = time.monotonic()
            export.stop(0.2)
            took_s = time.monotonic() - began_s
    assert took_s < 30  # OpenTelemetry's own limit, of which nothing may be left
    words = [one["event"] for one in logged]
    assert words.count("spans cannot be sent and are dropped") == 1
    assert not caplog.records


class _Watch:
    """Notes that something was logged."""

    def __init__(self, told: threading.Event) -> None:
        self._told = told

    def __call__(self, logger, name, event):
        self._told.set()
        return event


async def test_tracing_that_is_off_imports_nothing_of_opentelemetry():
    program = (
        "import asyncio, sys\n"
        "from contextlib import AsyncExitStack\n"
        "from maskwire_server.composition.tracing import build_observing\n"
        "from maskwire_server.settings import Settings\n"
        "import maskwire_server.transport.server, maskwire_client\n"
        "observing = build_observing(Settings(), 'server', AsyncExitStack())\n"
        "assert observing.tracer is None\n"
        "observing.metrics.stage_finished('encode', 'm', 0.1)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_without_the_packages_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(composition, "_NEEDED", ("opentelemetry_that_is_not_there.sdk",))
    with pytest.raises(SettingsError, match=r"install maskwire\[tracing\]"):
        build_observing(Settings.read(tracing={"enabled": True}), "server", AsyncExitStack())


@pytest.mark.parametrize("headers", ["just-a-secret", "=secret"])
async def test_headers_that_are_none_are_refused_without_telling_them(headers):
    settings = Settings.read(tracing={"enabled": True, "headers": headers})
    with pytest.raises(SettingsError, match=r"tracing\.headers") as raised:
        build_observing(settings, "server", AsyncExitStack())
    assert "secret" not in str(raised.value)
