"""gRPC-Web as a browser speaks it: HTTP/1.1, and the preflight that comes before it."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maskwire.v1 import (
    geometry_pb2,
    image_pb2,
    model_pb2,
    model_pb2_grpc,
    prompt_pb2,
    segmentation_pb2,
)
from tests.integration.envoy.conftest import picture
from tests.support.envoy_process import Envoy

SEGMENT_IMAGE = "/maskwire.v1.SegmentationService/SegmentImage"
ORIGIN = "http://localhost:3000"
TRAILERS = 0x80


@pytest.fixture
def connection(envoy: Envoy) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection(envoy.address, timeout=60)
    yield opened
    opened.close()


def request_message(image: bytes) -> bytes:
    click = prompt_pb2.PointPrompt(
        point=geometry_pb2.Point(x=60, y=50), label=prompt_pb2.POINT_LABEL_FOREGROUND
    )
    return segmentation_pb2.SegmentImageRequest(
        image=image_pb2.ImageSource(data=image), prompts=[prompt_pb2.Prompt(point=click)]
    ).SerializeToString()


def framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    while body:
        flag, length = struct.unpack_from(">BI", body)
        yield flag, body[5 : 5 + length]
        body = body[5 + length :]


def call(
    connection: http.client.HTTPConnection, message: bytes
) -> tuple[http.client.HTTPResponse, list[tuple[int, bytes]]]:
    headers = {
        "content-type": "application/grpc-web+proto",
        "x-grpc-web": "1",
        "origin": ORIGIN,
    }
    connection.request("POST", SEGMENT_IMAGE, framed(message), headers)
    response = connection.getresponse()
    return response, list(frames(response.read()))


def test_a_page_gets_masks(connection: http.client.HTTPConnection) -> None:
    response, received = call(connection, request_message(picture(5000)))
    assert response.status == 200
    assert response.getheader("content-type") == "application/grpc-web+proto"
    assert response.getheader("access-control-allow-origin") == ORIGIN
    (first_flag, message), (last_flag, trailers) = received
    assert (first_flag, last_flag) == (0, TRAILERS)
    assert b"grpc-status:0" in trailers
    answer = segmentation_pb2.SegmentImageResponse.FromString(message)
    assert (answer.info.image.size.width_px, answer.info.image.size.height_px) == (128, 96)
    (mask,) = answer.masks
    assert 1500 < mask.area_px < 4000


def test_a_page_gets_the_reason_of_a_failure(connection: http.client.HTTPConnection) -> None:
    response, received = call(connection, b"")
    if received:
        ((flag, trailers),) = received
        assert flag == TRAILERS
        assert b"grpc-status:3" in trailers
    else:
        assert response.getheader("grpc-status") == "3"
    exposed = response.getheader("access-control-expose-headers") or ""
    assert "grpc-status-details-bin" in exposed


@pytest.mark.parametrize(("origin", "allowed"), [(ORIGIN, ORIGIN), ("https://evil.test", None)])
def test_preflight(
    connection: http.client.HTTPConnection, origin: str, allowed: str | None
) -> None:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-grpc-web,maskwire-image-digest",
    }
    connection.request("OPTIONS", SEGMENT_IMAGE, headers=headers)
    response = connection.getresponse()
    response.read()
    assert response.getheader("access-control-allow-origin") == allowed
    if allowed is not None:
        assert response.status == 200
        assert "POST" in (response.getheader("access-control-allow-methods") or "")
        for header in headers["access-control-request-headers"].split(","):
            assert header in (response.getheader("access-control-allow-headers") or "")


def test_what_is_not_the_service_is_not_passed_on(
    connection: http.client.HTTPConnection, envoy: Envoy
) -> None:
    for path in ("/", "/grpc.channelz.v1.Channelz/GetServers", "/maskwire.v1%2fx", "/stats"):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status in (400, 404), path


def test_health_is_that_of_the_balancer_not_of_one_server(envoy: Envoy) -> None:
    with grpc.insecure_channel(envoy.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="maskwire.v1.SegmentationService")
        assert stub.Check(request, timeout=30).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as raised:
            next(stub.Watch(request, timeout=30))
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_monitoring_shows_metrics_and_nothing_else(envoy: Envoy) -> None:
    opened = http.client.HTTPConnection(envoy.monitoring, timeout=30)
    answers = {}
    for method, path in (
        ("GET", "/ready"),
        ("GET", "/stats/prometheus"),
        ("POST", "/quitquitquit"),
        ("GET", "/config_dump"),
        ("POST", "/ready"),
    ):
        opened.request(method, path)
        response = opened.getresponse()
        answers[method, path] = (response.status, response.read())
    opened.close()
    assert answers["GET", "/ready"][0] == 200
    status, page = answers["GET", "/stats/prometheus"]
    assert status == 200
    assert b"envoy_cluster_membership_healthy" in page
    assert [status for status, _ in list(answers.values())[2:]] == [404] * 3


def test_the_access_log_is_json_without_secrets(envoy: Envoy) -> None:
    identifier = "a-call-of-this-test"
    metadata = (("x-request-id", identifier), ("cookie", "a-secret"))
    with grpc.insecure_channel(envoy.address) as channel:
        models: Any = model_pb2_grpc.ModelServiceStub(channel)
        models.ListModels(model_pb2.ListModelsRequest(), metadata=metadata, timeout=120)
    line = envoy.logged(identifier)
    assert line["method"] == "/maskwire.v1.ModelService/ListModels"
    assert line["grpc_status"] == "OK"
    assert "secret" not in json.dumps(line)
