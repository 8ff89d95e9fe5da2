"""Traces of a real client, server and worker, each a process, as a collector gets them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.server_process import server_process
from tests.support.trace_collector import SeenSpan, TraceCollector, collecting
from tests.support.worker_process import events, worker_process

# Server, worker and the worker's child each load torch.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[3]
SEGMENT = "maskwire.v1.SegmentationService/SegmentImage"
SESSION = "maskwire.v1.RealtimeService/RunSession"
STAGES = {"queue", "decode", "encode", "prompt", "postprocess"}


@dataclass(frozen=True)
class World:
    """What the application did, and what the collector and the logs have of it."""

    collector: TraceCollector
    traces: dict[str, str]
    worker_log: list[dict[str, Any]]
    server_log: list[dict[str, Any]]

    def trace(self, name: str) -> list[SeenSpan]:
        """Return the spans of something that the application did."""
        return self.collector.trace(self.traces[name])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server without workers, a worker and an application: all have done their work and ended."""
    folder = tmp_path_factory.mktemp("traced")
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        tracing = {"enabled": True, "endpoint": collector.endpoint, "headers": "x-key=secret"}
        settings: dict[str, Any] = {
            "jobs": {"workers": 0},
            "logging": {"format": "json", "level": "debug"},
        }
        with server_process(folder, tracing=tracing, **settings) as server:
            settings_file = folder / "maskwire.toml"
            with worker_process(settings_file, MASKWIRE_JOBS__WORKERS="1") as worker_log:
                traces = _run_application(server.address, collector.endpoint)
        # Nothing is waited for: processes that have ended have sent what they had.
        begun = events(worker_log, "job begun") + events(worker_log, "attempt ended")
        calls = [json.loads(line) for line in server.log if '"event": "call"' in line]
        yield World(collector, traces, begun, calls)


def _run_application(address: str, endpoint: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.traced_client_main", address, endpoint],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    traces: dict[str, str] = json.loads(done.stdout)
    return traces


def only(spans: list[SeenSpan], **wanted: str) -> SeenSpan:
    """Return the one span with these properties."""
    found = [
        one for one in spans if all(getattr(one, key) == value for key, value in wanted.items())
    ]
    assert len(found) == 1, [(one.service, one.kind, one.name) for one in spans]
    return found[0]


@pytest.mark.parametrize("name", ["segment", "asyncio segment"])
def test_one_trace_spans_application_client_server_and_stages(world: World, name: str) -> None:
    spans = world.trace(name)
    application = only(spans, name=name)
    client = only(spans, kind="CLIENT")
    server = only(spans, kind="SERVER")
    assert (client.name, server.name) == (SEGMENT, SEGMENT)
    assert (application.service, client.service) == ("application", "application")
    assert server.service == "maskwire-server"
    assert client.parent_id == application.span_id
    assert server.parent_id == client.span_id
    stages = [one for one in spans if one.parent_id == server.span_id]
    assert {one.name for one in stages} == STAGES
    assert len(spans) == len(stages) + 3
    for one in stages:
        assert server.start_ns <= one.start_ns <= one.end_ns <= server.end_ns
        assert one.status == "UNSET"
    work = [only(stages, name=stage) for stage in ("decode", "encode", "prompt", "postprocess")]
    assert all(one.end_ns <= after.start_ns for one, after in itertools.pairwise(work))
    assert {one.attributes["maskwire.model"] for one in work} == {"maskwire-nano"}
    executors = {one.attributes["maskwire.executor"] for one in stages if one.name == "queue"}
    assert executors == {"cpu", "pixels"}


def test_the_request_id_is_on_both_sides_and_the_trace_in_the_log(world: World) -> None:
    spans = world.trace("segment")
    for kind in ("CLIENT", "SERVER"):
        assert only(spans, kind=kind).attributes["maskwire.request_id"] == "id-of-segment"
    (line,) = [one for one in world.server_log if one["request_id"] == "id-of-segment"]
    assert line["trace_id"] == world.traces["segment"]
    assert line["span_id"] == only(spans, kind="SERVER").span_id


def test_statuses_are_the_clients_errors_but_not_the_servers(world: World) -> None:
    spans = world.trace("bad image")
    client, server = only(spans, kind="CLIENT"), only(spans, kind="SERVER")
    assert (client.status, server.status) == ("ERROR", "UNSET")
    for one in (client, server):
        assert one.attributes["rpc.grpc.status_code"] == 3
        assert one.attributes["error.type"] == "INVALID_ARGUMENT"
    late = only(world.trace("asyncio deadline"), kind="CLIENT")
    assert (late.status, late.attributes["rpc.grpc.status_code"]) == ("ERROR", 4)
    assert late.attributes["maskwire.attempt"] == 1


def test_requests_of_a_session_have_traces_of_their_own(world: World) -> None:
    spans = world.trace("session")
    client, server = only(spans, kind="CLIENT"), only(spans, kind="SERVER")
    assert (client.name, server.name) == (SESSION, SESSION)
    assert server.parent_id == client.span_id
    # A session may last for hours: nothing else is in its trace.
    assert len(spans) == 3
    stream = (server.trace_id, server.span_id)
    linked = [one for one in world.collector.spans if stream in one.links]
    requests = sorted(linked, key=lambda one: one.start_ns)
    frame = ("session frame", {"queue", "decode", "encode", "track", "postprocess"})
    prompts = ("session prompts", {"queue", "prompt", "postprocess"})
    end: tuple[str, set[str]] = ("session control", set())
    for request, (name, stages) in zip(requests, [frame, frame, prompts, end], strict=True):
        assert request.name == name
        assert request.parent_id == ""
        assert request.attributes["maskwire.outcome"] == "answered"
        trace = world.collector.trace(request.trace_id)
        assert {one.name for one in trace} == {name} | stages


def test_a_jobs_attempt_is_in_its_submitters_trace_with_its_stages(world: World) -> None:
    spans = world.trace("job")
    submission = only(spans, kind="SERVER")
    attempt = only(spans, name="job attempt")
    assert submission.name == "maskwire.v1.JobService/SubmitJob"
    assert attempt.parent_id == submission.span_id
    assert (attempt.service, attempt.kind, attempt.status) == (
        "maskwire-worker",
        "CONSUMER",
        "UNSET",
    )
    assert attempt.attributes["maskwire.attempt"] == 1
    assert attempt.attributes["maskwire.outcome"] == "succeeded"
    waited = only([one for one in spans if "maskwire.job" in one.attributes], name="queue")
    assert waited.parent_id == submission.span_id
    inside = [one for one in spans if one.parent_id == attempt.span_id]
    assert {"load", "segment"} <= {one.name for one in inside if one.process == attempt.process}
    # What the child did is sent by the child.
    of_child = [one for one in inside if one.process != attempt.process]
    assert {one.name for one in of_child} >= STAGES
    for one in inside:
        assert attempt.start_ns <= one.start_ns <= one.end_ns <= attempt.end_ns
    assert [one["trace_id"] for one in world.worker_log] == [world.traces["job"]] * 2
    assert {one["span_id"] for one in world.worker_log} == {attempt.span_id}


def test_the_collector_gets_its_headers_and_nothing_of_what_was_sent(world: World) -> None:
    assert {"secret"} == {one["x-key"] for one in world.collector.metadata if "x-key" in one}
    for span in world.collector.spans:
        for value in span.attributes.values():
            assert not isinstance(value, bytes)
            assert len(str(value)) < 100
