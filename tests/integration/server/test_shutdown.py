"""SIGTERM while clients keep calling: what was taken is answered, and the process ends well."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maskwire.v1 import segmentation_pb2_grpc
from tests.integration.server.conftest import small_model_settings
from tests.integration.server.test_services import segment_request
from tests.support.server_process import server_process

CLIENTS = 8
GRACE_S = 30.0


def test_sigterm_under_load_loses_no_call_that_was_taken(tmp_path, small_sam2):
    """Every call ends OK or was refused with UNAVAILABLE; the process exits 0 within the grace."""
    outcomes: Counter[grpc.StatusCode] = Counter()
    details: set[str] = set()
    lock = threading.Lock()
    answered = threading.Semaphore(0)
    stopping = threading.Event()

    def keep_calling(number: int, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
            request = segment_request(number)
            while True:
                try:
                    stub.SegmentImage(request, timeout=GRACE_S)
                    code = grpc.StatusCode.OK
                except grpc.RpcError as error:
                    code = error.code()
                    with lock:
                        details.add(f"{code.name}: {error.details()}")
                with lock:
                    outcomes[code] += 1
                answered.release()
                if code is not grpc.StatusCode.OK and stopping.is_set():
                    return

    settings = small_model_settings(small_sam2)
    grpc_settings = {"drain_notice_s": 0.2, "shutdown_grace_s": GRACE_S}
    with server_process(tmp_path, models=settings, grpc=grpc_settings) as server:
        clients = [
            threading.Thread(target=keep_calling, args=(number, server.address))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for _ in range(2 * CLIENTS):
            answered.acquire()
        assert set(outcomes) == {grpc.StatusCode.OK}
        stopping.set()
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        exit_code = server.wait()
        took_s = time.monotonic() - began
        for client in clients:
            client.join()
    assert exit_code == 0, "\n".join(server.log)
    assert took_s < GRACE_S
    assert set(outcomes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}, details
    assert outcomes[grpc.StatusCode.OK] >= 2 * CLIENTS
    assert not any("Traceback" in line for line in server.log), "\n".join(server.log)


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    with (
        server_process(tmp_path, grpc={"drain_notice_s": 600.0}) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        statuses = health.Watch(health_pb2.HealthCheckRequest(), timeout=GRACE_S)
        assert next(statuses).status == health_pb2.HealthCheckResponse.SERVING
        server.signal(signal.SIGTERM)
        assert next(statuses).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.signal(signal.SIGINT)
        assert server.wait() == 128 + signal.SIGINT
