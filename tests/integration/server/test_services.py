"""A running server as its callers and operators meet it."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from maskwire.v1 import (
    mask_pb2,
    model_pb2,
    model_pb2_grpc,
    rendering_pb2,
    segmentation_pb2,
    segmentation_pb2_grpc,
)
from tests.integration.server.conftest import MODEL
from tests.support.metrics_page import metrics_page, scraped

SERVED = (
    "maskwire.v1.FileService",
    "maskwire.v1.ModelService",
    "maskwire.v1.RealtimeService",
    "maskwire.v1.SegmentationService",
    "maskwire.v1.VideoService",
    "maskwire.v1.JobService",
    "maskwire.v1.ReconstructionService",
)
DEADLINE_S = 120.0


def picture(seed: int, width: int = 80, height: int = 60) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def segment_request(seed: int) -> segmentation_pb2.SegmentImageRequest:
    """A request of its own for each seed: image, prompts and options differ."""
    random = np.random.default_rng(seed)
    width, height = int(random.integers(40, 100)), int(random.integers(40, 100))
    request = segmentation_pb2.SegmentImageRequest()
    request.image.data = picture(seed, width, height)
    for _ in range(int(random.integers(1, 4))):
        point = request.prompts.add(object_id=int(random.integers(1, 4))).point
        point.point.x, point.point.y = random.uniform(0, width), random.uniform(0, height)
    if seed % 2:
        box = request.prompts.add(object_id=9).box.box
        box.x_max, box.y_max = width / 2, height / 2
    request.mask_options.return_multiple_masks = seed % 3 == 0
    request.mask_options.include_scores = True
    return request


def test_the_answer_has_what_was_asked_for_and_says_how_it_came_about(channel):
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    request = segment_request(1)
    request.mask_options.include_boxes = True
    request.mask_options.include_logits = True
    request.mask_options.encoding = mask_pb2.MASK_ENCODING_PNG_8BIT
    request.renderings.add(format=rendering_pb2.PICTURE_FORMAT_JPEG)
    response, call = stub.SegmentImage.with_call(
        request, timeout=DEADLINE_S, metadata=(("x-request-id", "mine"),)
    )
    assert dict(call.trailing_metadata())["x-request-id"] == "mine"
    assert response.info.request_id == "mine"
    assert response.info.models[0].model == MODEL
    assert response.info.image.content_type == "image/png"
    assert response.info.timings.total.ToNanoseconds() > 0
    for mask in response.masks:
        assert mask.mask.WhichOneof("encoding") == "png"
        assert mask.HasField("score")
        assert len(mask.logits.values) == mask.logits.rows * mask.logits.columns * 4
        assert mask.HasField("box") == mask.HasField("normalized_box") == (mask.area_px > 0)
    [drawn] = response.pictures
    assert Image.open(io.BytesIO(drawn.content.data)).format == "JPEG"

    again = segmentation_pb2.SegmentImageRequest(prompts=request.prompts)
    again.image.digest = response.info.image.digest
    cached = stub.SegmentImage(again, timeout=DEADLINE_S)
    assert cached.info.embedding_cached
    assert not cached.info.timings.HasField("encode")
    assert not cached.masks[0].HasField("score")
    assert not cached.masks[0].HasField("logits")


def test_logits_of_an_answer_refine_it(channel):
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    request = segment_request(2)
    request.mask_options.include_logits = True
    first = stub.SegmentImage(request, timeout=DEADLINE_S)
    request.prompts.add(object_id=first.masks[0].object_id).mask.logits.CopyFrom(
        first.masks[0].logits
    )
    assert len(stub.SegmentImage(request, timeout=DEADLINE_S).masks) == len(first.masks)


def test_64_concurrent_clients_get_what_each_gets_alone(server):
    requests = [segment_request(1000 + number) for number in range(64)]

    def ask(request: segmentation_pb2.SegmentImageRequest) -> list[bytes]:
        with grpc.insecure_channel(server.address) as own_channel:
            stub = segmentation_pb2_grpc.SegmentationServiceStub(own_channel)
            response = stub.SegmentImage(request, timeout=DEADLINE_S)
        return [mask.SerializeToString(deterministic=True) for mask in response.masks]

    with ThreadPoolExecutor(len(requests)) as clients:
        together = list(clients.map(ask, requests))
    alone = [ask(request) for request in requests]
    assert together == alone
    assert len({masks[0] for masks in alone}) > 32, "the requests must differ for this to mean much"


def test_models_are_listed_and_described(channel):
    stub = model_pb2_grpc.ModelServiceStub(channel)
    [model] = stub.ListModels(model_pb2.ListModelsRequest(), timeout=DEADLINE_S).models
    assert (model.name, model.engine, model.is_default) == (MODEL, "sam2", True)
    assert model_pb2.PROMPT_KIND_POINT in model.prompt_kinds
    assert model_pb2.PROMPT_KIND_TEXT not in model.prompt_kinds
    for name in ("", MODEL):
        got = stub.GetModel(model_pb2.GetModelRequest(name=name), timeout=DEADLINE_S)
        assert got.model == model
    with pytest.raises(grpc.RpcError) as raised:
        stub.GetModel(model_pb2.GetModelRequest(name="other"), timeout=DEADLINE_S)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_answers_for_the_server_and_for_each_service(channel):
    stub: Any = health_pb2_grpc.HealthStub(channel)

    def status(service: str) -> int:
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status

    for service in ("", *SERVED):
        assert status(service) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        status("no.such.Service")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_buf_curl_lists_and_calls_methods_by_reflection(server, tmp_path):
    buf = Path(sys.executable).with_name("buf")

    def curl(*arguments: str, data: str | None = None) -> str:
        finished = subprocess.run(
            [buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments],
            input=data,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    url = f"http://{server.address}"
    assert set(SERVED) <= set(curl("--list-services", url).split())
    assert "SegmentImage" in curl("--list-methods", url)
    request = {
        "image": {"data": base64.b64encode(picture(7)).decode()},
        "prompts": [{"point": {"point": {"x": 40, "y": 30}}}],
    }
    path = f"{url}/maskwire.v1.SegmentationService/SegmentImage"
    response = json.loads(curl("--data", "@-", path, data=json.dumps(request)))
    assert response["masks"][0]["mask"]["cocoRle"]["size"] == {"widthPx": 80, "heightPx": 60}


def test_promtool_accepts_the_metrics_page(server, channel):
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
    stub.SegmentImage(segment_request(3), timeout=DEADLINE_S)
    assert scraped(server.metrics_port, "maskwire_stage_seconds_count", "prompt", MODEL) > 0
    assert scraped(server.metrics_port, "maskwire_ready", "server") == 1
    assert scraped(server.metrics_port, "maskwire_sessions_limit") > 0
    promtool = shutil.which("promtool")
    if promtool is None:
        assert not os.environ.get("CI"), "promtool must be installed in CI"
        pytest.skip("promtool is not installed (Debian package prometheus)")
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=metrics_page(server.metrics_port),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
