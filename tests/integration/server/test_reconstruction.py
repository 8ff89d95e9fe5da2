"""`ReconstructionService` and `JobService` on a running server with the embedded backend."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from maskwire.v1 import (
    file_pb2,
    file_pb2_grpc,
    geometry_pb2,
    image_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    prompt_pb2,
    reconstruction_pb2,
    reconstruction_pb2_grpc,
)
from tests.support.grpc_serving import detail, reason
from tests.support.job_calls import (
    DEADLINE_S,
    HEIGHT,
    WIDTH,
    Followed,
    ObjectsRequest,
    check_events,
    disc,
    follow,
    new_request_id,
    objects_request,
    picture,
)
from tests.support.metrics_page import scraped
from tests.support.server_process import ServerProcess, server_process

MEMORY_SLACK_BYTES = 128 * 2**20
INTRINSICS = geometry_pb2.CameraIntrinsics(
    focal_length_x_px=80, focal_length_y_px=80, principal_point_x_px=48, principal_point_y_px=32
)


@pytest.fixture(scope="module")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("jobs")
    with server_process(folder, models={"cpu_threads": 1}) as process:
        yield process


@pytest.fixture
def channel(job_server: ServerProcess) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(job_server.address, options=options) as connected:
        yield connected


@pytest.fixture
def reconstruction(channel: grpc.Channel) -> Any:
    return reconstruction_pb2_grpc.ReconstructionServiceStub(channel)


@pytest.fixture
def jobs(channel: grpc.Channel) -> Any:
    return job_service_pb2_grpc.JobServiceStub(channel)


def run(stub: Any, request: ObjectsRequest) -> Followed:
    return follow(stub.ReconstructObjects(request, timeout=DEADLINE_S))


def download(channel: grpc.Channel, file: file_pb2.StoredFile) -> bytes:
    stub = file_pb2_grpc.FileServiceStub(channel)
    request = file_pb2.DownloadFileRequest(name=file.name)
    data = b"".join(message.chunk for message in stub.DownloadFile(request, timeout=DEADLINE_S))
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == file.digest
    return data


def sphere_points(radius: float = 0.5, depth: float = 3.0) -> np.ndarray:
    """A point map of a sphere before a plane, as the camera of INTRINSICS sees them."""
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    rays = np.stack([(columns - 48) / 80, (rows - 32) / 80, np.ones_like(rows)], axis=-1)
    squared = (rays**2).sum(-1)
    root = depth**2 - squared * (depth**2 - radius**2)
    hit = root > 0
    distance = np.where(hit, (depth - np.sqrt(np.maximum(root, 0))) / squared, 4.0)
    return (rays * distance[..., None]).astype(np.float32)


def as_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_two_objects_become_files_that_can_be_fetched(
    reconstruction: Any, channel: grpc.Channel
) -> None:
    masks = [disc(30, 32, 18), disc(70, 30, 14)]
    followed = run(reconstruction, objects_request(masks, seed=11))
    check_events(followed.events)
    fractions = [event.fraction for event in followed.events]
    assert fractions == sorted(fractions)
    assert {"read", "files"} < {event.stage for event in followed.events}
    result = followed.result
    assert [one.index for one in result.objects] == [0, 1]
    assert (result.seed, result.is_metric) == (11, False)
    assert list(result.camera_pose) == list(np.eye(4).reshape(-1))
    kinds = [(artifact.kind, artifact.HasField("index")) for artifact in result.artifacts]
    assert (reconstruction_pb2.ARTIFACT_KIND_SCENE_MESH, False) in kinds
    assert kinds.count((reconstruction_pb2.ARTIFACT_KIND_OBJECT_MESH, True)) == 2
    assert kinds.count((reconstruction_pb2.ARTIFACT_KIND_OBJECT_SPLATS, True)) == 2
    files = {artifact.file.file_name: artifact.file for artifact in result.artifacts}
    (archive,) = (name for name in files if name.endswith(".zip"))
    with zipfile.ZipFile(io.BytesIO(download(channel, files[archive]))) as unpacked:
        for name in set(files) - {archive}:
            assert unpacked.read(name) == download(channel, files[name]), name
    metadata = json.loads(download(channel, files["metadata.json"]))
    assert metadata["seed"] == 11


def test_the_same_request_gives_the_same_job_and_another_one_is_refused(
    reconstruction: Any, jobs: Any
) -> None:
    request = objects_request([disc(48, 32, 20)])
    first, second = run(reconstruction, request), run(reconstruction, request)
    assert (first.name, first.result) == (second.name, second.result)
    assert second.events == first.events
    by_job = jobs.SubmitJob(
        job_service_pb2.SubmitJobRequest(
            request_id=request.request_id,
            call=job_service_pb2.QueuedCall(reconstruct_objects=request),
        ),
        timeout=DEADLINE_S,
    ).job
    assert by_job.name == first.name
    request.seed = 99
    with pytest.raises(grpc.RpcError) as refused:
        run(reconstruction, request)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason(refused.value) == "REQUEST_ID_REUSED"


def test_the_same_seed_gives_the_same_files(reconstruction: Any) -> None:
    def digests(seed: int) -> dict[str, str]:
        result = run(reconstruction, objects_request([disc(40, 30, 20)], seed=seed)).result
        kept = {reconstruction_pb2.ARTIFACT_KIND_METADATA, reconstruction_pb2.ARTIFACT_KIND_ARCHIVE}
        return {a.file.file_name: a.file.digest for a in result.artifacts if a.kind not in kept}

    assert digests(4) == digests(4)
    assert digests(4) != digests(5)


def test_prompts_are_segmented_first_and_the_whole_image_is_the_default(
    reconstruction: Any,
) -> None:
    box = prompt_pb2.BoxPrompt(box=geometry_pb2.Box(x_min=20, y_min=10, x_max=70, y_max=50))
    prompted = objects_request(prompts=[prompt_pb2.Prompt(box=box)])
    assert len(run(reconstruction, prompted).result.objects) == 1
    whole = run(reconstruction, objects_request()).result.objects[0].box
    assert (whole.x_min, whole.y_min, whole.x_max, whole.y_max) == (0, 0, WIDTH, HEIGHT)


@pytest.mark.parametrize("form", ["point_map", "depth_map"])
def test_known_points_make_the_result_metric(reconstruction: Any, form: str) -> None:
    points = sphere_points()
    if form == "point_map":
        geometry: Any = reconstruction_pb2.PointMap(data=as_npy(points))
    else:
        data = as_npy(points[..., 2])
        geometry = reconstruction_pb2.DepthMap(data=data, intrinsics=INTRINSICS)
    result = run(reconstruction, objects_request([disc(48, 32, 13)], **{form: geometry})).result
    assert result.is_metric
    (placed,) = result.objects
    # The front of a sphere of 1 m across whose nearest point is 2.5 m away.
    assert 0.9 < placed.scale.x < 1.05
    assert 2.5 < placed.translation.z < 3.2
    assert abs(placed.translation.x) < 0.05


def test_a_point_map_may_be_an_uploaded_file(reconstruction: Any, channel: grpc.Channel) -> None:
    data = as_npy(sphere_points())
    description = file_pb2.UploadDescription(
        upload_id=new_request_id(),
        content_type="application/octet-stream",
        size_bytes=len(data),
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
    )
    stored = file_pb2_grpc.FileServiceStub(channel).UploadFile(
        iter(
            [
                file_pb2.UploadFileRequest(description=description),
                file_pb2.UploadFileRequest(chunk=data),
            ]
        ),
        timeout=DEADLINE_S,
    )
    point_map = reconstruction_pb2.PointMap(uri=stored.file.name)
    request = objects_request([disc(48, 32, 13)], point_map=point_map)
    assert run(reconstruction, request).result.is_metric


def test_watching_resumes_after_any_sequence(reconstruction: Any, jobs: Any) -> None:
    followed = run(reconstruction, objects_request([disc(48, 32, 20)]))
    for after in range(len(followed.events) + 2):
        request = job_service_pb2.WatchJobRequest(name=followed.name, after_sequence=after)
        *events, last = jobs.WatchJob(request, timeout=DEADLINE_S)
        assert [message.event for message in events] == followed.events[after:]
        assert last.job.state == job_pb2.JOB_STATE_SUCCEEDED
    result = jobs.GetJobResult(job_service_pb2.GetJobResultRequest(name=followed.name))
    assert result.reconstruct_objects == followed.result


def test_jobs_are_listed_newest_first_and_by_filter(reconstruction: Any, jobs: Any) -> None:
    names = [run(reconstruction, objects_request([disc(48, 32, 9 + n)])).name for n in range(3)]
    request = job_service_pb2.ListJobsRequest(page_size=2)
    first = jobs.ListJobs(request)
    assert [job.name for job in first.jobs] == names[:0:-1]
    request.page_token = first.next_page_token
    assert jobs.ListJobs(request).jobs[0].name == names[0]
    failed = job_service_pb2.ListJobsRequest(states=[job_pb2.JOB_STATE_FAILED])
    assert not {job.name for job in jobs.ListJobs(failed).jobs} & set(names)
    with pytest.raises(grpc.RpcError) as refused:
        jobs.ListJobs(job_service_pb2.ListJobsRequest(page_token="nonsense"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_job_that_is_done_cannot_be_cancelled_and_unknown_ones_are_not_found(
    reconstruction: Any, jobs: Any
) -> None:
    name = run(reconstruction, objects_request([disc(48, 32, 20)])).name
    cancelled = jobs.CancelJob(job_service_pb2.CancelJobRequest(name=name)).job
    assert cancelled.state == job_pb2.JOB_STATE_SUCCEEDED
    unknown = "jobs/" + "0" * 32
    for call in (
        lambda: jobs.GetJob(job_service_pb2.GetJobRequest(name=unknown)),
        lambda: jobs.CancelJob(job_service_pb2.CancelJobRequest(name=unknown)),
        lambda: jobs.GetJobResult(job_service_pb2.GetJobResultRequest(name=unknown)),
        lambda: list(jobs.WatchJob(job_service_pb2.WatchJobRequest(name=unknown))),
    ):
        with pytest.raises(grpc.RpcError) as missing:
            call()
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND


def test_what_no_engine_here_does_is_refused_by_name(reconstruction: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        run(reconstruction, objects_request(model="sam3d-objects"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert "inflate" in (refused.value.details() or "")
    bodies = reconstruction_pb2.ReconstructBodiesRequest(
        request_id=new_request_id(), image=image_pb2.ImageSource(data=picture())
    )
    with pytest.raises(grpc.RpcError) as refused:
        list(reconstruction.ReconstructBodies(bodies, timeout=DEADLINE_S))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_webhook_is_refused_where_none_are_sent(reconstruction: Any) -> None:
    webhook = job_pb2.Webhook(url="https://receiver.example/hook")
    with pytest.raises(grpc.RpcError) as refused:
        run(reconstruction, objects_request([disc(48, 32, 9)], webhook=webhook))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def npy_header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    padded = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode()


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        header = npy_header("(6000, 7000, 3)")
        archive.writestr("points.npy", header + bytes(500 * 2**20))
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


def with_point_map(data: bytes) -> Callable[[ObjectsRequest], None]:
    def change(request: ObjectsRequest) -> None:
        request.point_map.data = data

    return change


def with_mask(mask: np.ndarray) -> Callable[[ObjectsRequest], None]:
    def change(request: ObjectsRequest) -> None:
        del request.masks[:]
        request.masks.extend(objects_request([mask]).masks)

    return change


def with_small_points(request: ObjectsRequest) -> None:
    request.point_map.data = as_npy(sphere_points()[: HEIGHT // 2])


def with_both(request: ObjectsRequest) -> None:
    request.prompts.add().point.point.x = 4


def with_bad_id(request: ObjectsRequest) -> None:
    request.request_id = "not a uuid"


def with_no_image(request: ObjectsRequest) -> None:
    request.image.data = b"no image"


def with_outside_prompt(request: ObjectsRequest) -> None:
    del request.masks[:]
    request.prompts.add().point.point.x = 4000


EMPTY = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
BAD_INPUT: dict[str, tuple[Callable[[ObjectsRequest], None], str]] = {
    "NPZ bomb": (with_point_map(bomb()), "point_map.data"),
    "pickled NPY": (with_point_map(pickled()), "point_map.data"),
    "4 TB header": (with_point_map(npy_header("(1000000, 1000000, 1)")), "point_map.data"),
    "wrong shape": (with_point_map(as_npy(np.zeros((HEIGHT, WIDTH), "f4"))), "point_map.data"),
    "another size": (with_small_points, "point_map.data"),
    "all NaN": (with_point_map(as_npy(np.full((HEIGHT, WIDTH, 3), np.nan))), "point_map.data"),
    "two arrays": (with_point_map(npz(a=sphere_points(), b=EMPTY)), "point_map.data"),
    "no array file": (with_point_map(b"PK\x03\x04 and no more"), "point_map.data"),
    "mask of another size": (with_mask(EMPTY[:-1] | True), "masks[0].coco_rle.size"),
    "mask without area": (with_mask(EMPTY), "masks[0]"),
    "masks and prompts": (with_both, ""),
    "no UUID": (with_bad_id, "request_id"),
    "no image": (with_no_image, "image.data"),
    "prompt outside": (with_outside_prompt, "prompts[0].point.point"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_by_field_and_nothing_is_queued(
    reconstruction: Any, jobs: Any, job_server: ServerProcess, name: str
) -> None:
    change, field = BAD_INPUT[name]
    request = objects_request([disc(48, 32, 13)])
    change(request)
    resident = "process_resident_memory_bytes"
    before = scraped(job_server.metrics_port, resident)
    with pytest.raises(grpc.RpcError) as refused:
        run(reconstruction, request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    violations = detail(refused.value, error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == [field]
    assert scraped(job_server.metrics_port, resident) - before < MEMORY_SLACK_BYTES
    found = jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=1000)).jobs
    assert request.request_id not in {job.request_id for job in found}
