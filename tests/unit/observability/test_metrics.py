from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
import urllib.request

import pytest
from prometheus_client import generate_latest

from maskwire_server.observability.metrics import Metrics
from maskwire_server.observability.metrics_server import MetricsServer
from tests.support.exercised_metrics import exercised_metrics


def test_reports_appear_under_the_names_of_the_field():
    value = exercised_metrics().registry.get_sample_value
    method = {
        "grpc_type": "unary",
        "grpc_service": "maskwire.v1.SegmentationService",
        "grpc_method": "SegmentImage",
    }
    assert value("grpc_server_started_total", method) == 1
    assert value("grpc_server_handled_total", {**method, "grpc_code": "OK"}) == 1
    assert value("grpc_server_handling_seconds_sum", method) == 0.012
    assert value("grpc_server_msg_received_total", method) == 1
    assert value("grpc_server_msg_sent_total", method) == 1
    for code in ("overloaded", "storage_unavailable"):
        assert value("maskwire_errors_total", {"code": code}) == 1
    encode = {"stage": "encode", "model": "maskwire-nano"}
    assert value("maskwire_stage_seconds_count", encode) == 1
    assert value("maskwire_queue_seconds_count", {"executor": "cuda:0"}) == 1
    assert value("maskwire_executor_busy_seconds_total", {"executor": "cuda:0"}) == 0.25
    assert value("maskwire_queue_depth", {"executor": "cuda:0"}) == 3
    assert value("maskwire_executor_running", {"executor": "cuda:0"}) == 1
    assert value("maskwire_overload_refused_total", {"executor": "cuda:0"}) == 1
    for result in ("hit", "miss"):
        lookups = {"cache": "embedding", "result": result}
        assert value("maskwire_cache_lookups_total", lookups) == 1
    assert value("maskwire_cache_bytes", {"cache": "embedding"}) == 1024
    assert value("maskwire_cache_entries", {"cache": "embedding"}) == 2
    assert value("maskwire_decode_batch_objects_sum", {"model": "maskwire-nano"}) == 5
    assert value("maskwire_sessions_limit") == 64
    assert value("maskwire_job_workers", {"queue": "segmentation"}) == 1
    assert value("maskwire_job_wait_seconds_sum", {"queue": "segmentation"}) == 0.4
    assert value("maskwire_files_last_sweep_timestamp_seconds") == pytest.approx(
        time.time(), abs=60
    )
    assert value("maskwire_ready", {"role": "server"}) == 1
    for kind, size_bytes in (("used", 60 * 2**30), ("limit", 80 * 2**30)):
        memory = {"device": "cuda:0", "kind": kind}
        assert value("maskwire_device_memory_bytes", memory) == size_bytes
    assert value("maskwire_build_info", {"version": "1.2.3"}) == 1


def test_a_device_that_fails_leaves_the_rest_of_the_page_as_it_is():
    def fail() -> tuple[int, int]:
        raise RuntimeError("the device is gone")

    metrics = exercised_metrics()
    metrics.device_found("cuda:1", fail)
    value = metrics.registry.get_sample_value
    gone, there = ({"device": device, "kind": "used"} for device in ("cuda:1", "cuda:0"))
    assert math.isnan(value("maskwire_device_memory_bytes", gone) or 0.0)
    assert value("maskwire_device_memory_bytes", there) == 60 * 2**30


def test_what_alerts_count_begins_at_zero():
    value = Metrics().registry.get_sample_value
    assert value("maskwire_errors_total", {"code": "internal"}) == 0
    assert value("maskwire_webhooks_total", {"outcome": "gave_up"}) == 0
    assert value("maskwire_job_child_restarts_total", {"reason": "died"}) == 0


def test_two_services_in_one_process_share_nothing():
    first, second = Metrics(), Metrics()
    first.overload_refused("cpu")
    name = "maskwire_overload_refused_total"
    assert second.registry.get_sample_value(name, {"executor": "cpu"}) is None


def test_the_endpoint_serves_the_page_on_a_free_port_until_stopped():
    server = MetricsServer(exercised_metrics(), "127.0.0.1", 0)
    server.start()
    try:
        assert server.port > 0
        url = f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            assert b"grpc_server_handled_total" in page.read()
    finally:
        server.stop()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=10)
    server.stop()


def test_a_taken_port_is_an_error():
    first = MetricsServer(Metrics(), "127.0.0.1", 0)
    first.start()
    try:
        second = MetricsServer(Metrics(), "127.0.0.1", first.port)
        with pytest.raises(OSError, match="port taken"):
            second.start()
    finally:
        first.stop()


def test_promtool_accepts_the_page():
    promtool = shutil.which("promtool")
    if promtool is None:
        assert not os.environ.get("CI"), "promtool must be installed in CI"
        pytest.skip("promtool is not installed (Debian package prometheus)")
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(exercised_metrics().registry),
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
