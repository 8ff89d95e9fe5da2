"""`maskwire jobs` and `maskwire reconstruct` against scripted jobs: what they print and leave."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from maskwire.v1 import (
    geometry_pb2,
    image_pb2,
    job_service_pb2,
    mask_pb2,
    processing_pb2,
    realtime_pb2,
    reconstruction_pb2,
    segmentation_pb2,
    video_pb2,
)
from tests.support.scripted_jobs import JOB, LOST, Fails, Files, Jobs, event, job, serving_jobs

Answer = job_service_pb2.GetJobResultResponse
Run = Callable[..., tuple[int, str, str]]

METHOD = "maskwire.v1.ReconstructionService/ReconstructObjects"
INFO = processing_pb2.ProcessingInfo(
    models=[processing_pb2.ModelReference(model="inflate")],
    image=image_pb2.ImageInfo(
        size=geometry_pb2.ImageSize(width_px=64, height_px=48), content_type="image/png"
    ),
)


@pytest.fixture
def run_at(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command while a scripted server serves; return its exit code, output and messages."""

    async def call(jobs: Jobs, *arguments: object, files: Files | None = None):
        async with serving_jobs(jobs, files) as address:
            monkeypatch.setenv("MASKWIRE_SERVER", address)
            return await asyncio.to_thread(run, *arguments)

    return call


def standing(state: str = "SUCCEEDED", **fields: Any):
    made = job(state, method=METHOD, stage="mesh", fraction=0.5, attempt=1, **fields)
    made.create_time.FromSeconds(1_700_000_000)
    made.start_time.FromSeconds(1_700_000_001)
    if state != "RUNNING":
        made.end_time.FromMilliseconds(1_700_000_003_500)
    return made


async def test_jobs_are_listed(run_at) -> None:
    listed = [standing(), standing("RUNNING", name="jobs/2")]
    jobs = Jobs(pages={"": job_service_pb2.ListJobsResponse(jobs=listed)})
    code, output, _ = await run_at(
        jobs, "jobs", "list", "--state", "running", "--state", "succeeded"
    )
    assert code == 0
    for text in (JOB, "ReconstructObjects", "succeeded", "running mesh 50%", "2.5"):
        assert text in output
    assert len(jobs.requests[0].states) == 2
    code, output, _ = await run_at(jobs, "jobs", "list", "--json")
    first = json.loads(output)[0]
    assert (first["name"], first["state"], first["fraction"]) == (JOB, "succeeded", 0.5)
    assert first["end_time"] == "2023-11-14T22:13:23.500+00:00"


async def test_no_jobs(run_at) -> None:
    jobs = Jobs(pages={"": job_service_pb2.ListJobsResponse()})
    assert (await run_at(jobs, "jobs", "list"))[1].strip() == "no jobs"


async def test_a_job_is_shown(run_at) -> None:
    failed = standing("FAILED")
    failed.error.code, failed.error.message = 3, "the mask is empty"
    failed.webhook.state, failed.webhook.attempts = 2, 4
    code, output, _ = await run_at(Jobs(standing=failed), "jobs", "get", JOB)
    assert code == 0
    assert "status INVALID_ARGUMENT, message the mask is empty" in output
    assert "state delivered, attempts 4" in output
    # The last part of the name is enough.
    jobs = Jobs(standing=failed)
    _, output, _ = await run_at(jobs, "jobs", "get", JOB.removeprefix("jobs/"), "--json")
    assert json.loads(output)["error"]["message"] == "the mask is empty"
    assert jobs.requests[0].name == JOB


async def test_a_watch_prints_every_event_once(run_at) -> None:
    queued = event(4, "QUEUED", "", queue_position=2)
    running = event(5, fraction=0.25, log_line="[1/4] solving")
    running.elapsed.FromMilliseconds(1500)
    jobs = Jobs(
        watches=[[queued, running, LOST], [event(6, "SUCCEEDED", fraction=1), job()]],
        standing=standing(),
    )
    code, output, _ = await run_at(jobs, "jobs", "watch", JOB, "--after", "3")
    assert code == 0
    assert output.splitlines() == [
        "   4     0.0 s    0%  queued, 2 before it",
        "   5     1.5 s   25%  mesh  [1/4] solving",
        "   6     0.0 s  100%  succeeded",
    ]
    jobs.requests.clear()
    _, output, _ = await run_at(jobs, "jobs", "watch", JOB, "--after", "3", "--json")
    assert [json.loads(line)["sequence"] for line in output.splitlines()] == [4, 5, 6]


async def test_a_watched_job_that_fails_or_is_cancelled_says_so(run_at) -> None:
    failed = standing("FAILED")
    failed.error.code, failed.error.message = 3, "the mask is empty"
    jobs = Jobs(watches=[[event(1, "FAILED"), failed]], standing=failed)
    code, _, messages = await run_at(jobs, "jobs", "watch", JOB)
    assert (code, "the mask is empty" in messages) == (3, True)
    cancelled = standing("CANCELLED")
    jobs = Jobs(watches=[[event(1, "CANCELLED"), cancelled]], standing=cancelled)
    code, _, messages = await run_at(jobs, "jobs", "watch", JOB)
    assert (code, f"{JOB} was cancelled" in messages) == (9, True)


async def test_an_unknown_job(run_at) -> None:
    missing = Fails(grpc.StatusCode.NOT_FOUND, "no such job", "JOB_NOT_FOUND")
    code, _, messages = await run_at(Jobs(watches=[[missing]]), "jobs", "watch", "jobs/9")
    assert (code, "no such job" in messages) == (4, True)


async def test_a_job_is_cancelled(run_at) -> None:
    jobs = Jobs(standing=standing("RUNNING"))
    code, output, _ = await run_at(jobs, "jobs", "cancel", JOB)
    assert (code, output.strip()) == (0, f"{JOB} is running; it will be cancelled")
    code, output, _ = await run_at(Jobs(standing=standing("CANCELLED")), "jobs", "cancel", JOB)
    assert (code, output.strip()) == (0, f"{JOB} is cancelled")


def reconstruction(files: Files) -> reconstruction_pb2.ReconstructObjectsResult:
    placed = reconstruction_pb2.ReconstructedObject(
        scale=geometry_pb2.Vector3(x=0.25, y=0.25, z=0.25),
        rotation=geometry_pb2.Quaternion(w=1),
        translation=geometry_pb2.Vector3(x=1, y=-2, z=3.25),
    )
    kinds = reconstruction_pb2.ArtifactKind
    mesh = reconstruction_pb2.Artifact(
        kind=kinds.ARTIFACT_KIND_OBJECT_MESH, index=0, file=files.stored("files/0", "object-0.glb")
    )
    table = reconstruction_pb2.Artifact(
        kind=kinds.ARTIFACT_KIND_TURNTABLE, file=files.stored("files/1", "turntable.png")
    )
    return reconstruction_pb2.ReconstructObjectsResult(
        objects=[placed], artifacts=[mesh, table], is_metric=True, seed=3, info=INFO
    )


FILES = {"files/0": b"m" * 250_000, "files/1": b"p" * 2_500}
IMAGE = b"an encoded image"
CAMERA = ["--fx", "1", "--fy", "1", "--cx", "1", "--cy", "1"]


async def test_reconstruct_leaves_files_and_says_where_objects_are(run_at, tmp_path: Path) -> None:
    image, out = tmp_path / "a.png", tmp_path / "out"
    image.write_bytes(IMAGE)
    files = Files(FILES)
    play = [JOB, event(1, "QUEUED"), event(2), event(3, "SUCCEEDED"), reconstruction(files)]
    jobs = Jobs(submissions=[play])
    arguments = ["--box", "1,2,3,4", "--seed", "3", "--model", "inflate", "--out", out]
    code, output, _ = await run_at(jobs, "reconstruct", image, *arguments, files=files)
    assert code == 0
    for text in ("size (m)", "0.25", "1, -2, 3.25", "0, 0, 0, 1", "object mesh", "0.2 MB"):
        assert text in output
    for text in (str(out / "turntable.png"), "2.5 kB", "inflate", "64 x 48 px"):
        assert text in output
    assert (out / "object-0.glb").read_bytes() == FILES["files/0"]
    (request,) = jobs.requests
    assert (request.image.data, request.seed, request.model) == (IMAGE, 3, "inflate")
    assert request.prompts[0].box.box.y_max == 4


async def test_reconstruct_prints_json(run_at, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(IMAGE)
    files = Files(FILES)
    jobs = Jobs(submissions=[[JOB, event(1, "SUCCEEDED"), reconstruction(files)]])
    _, output, _ = await run_at(
        jobs, "reconstruct", image, "--out", tmp_path / "out", "--json", files=files
    )
    document = json.loads(output)
    assert (document["job"], document["is_metric"], document["seed"]) == (JOB, True, 3)
    assert document["objects"][0]["translation"] == [1, -2, 3.25]
    assert [one["kind"] for one in document["files"]] == ["object_mesh", "turntable"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mask", "IMAGE", "--point", "1,2"], "--mask shows the objects themselves"),
        (["--pointmap", "a", "--depth", "b", *CAMERA], "exclude"),
        (["--depth", "b"], "--depth, --fx, --fy, --cx and --cy belong together"),
        (["--fx", "1"], "--fx, --fy, --cx and --cy belong together"),
        (["--pointmap", "absent.npy"], "absent.npy"),
    ],
)
async def test_options_that_do_not_go_together(run_at, tmp_path, arguments, message) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(IMAGE)
    given = [image if argument == "IMAGE" else argument for argument in arguments]
    jobs = Jobs()
    code, _, messages = await run_at(jobs, "reconstruct", image, *given)
    assert code == 2
    assert message in messages
    assert jobs.requests == []


async def test_a_job_that_fails_ends_reconstruct_with_its_exit_code(run_at, tmp_path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(IMAGE)
    failed = standing("FAILED")
    failed.error.code, failed.error.message = 3, "the mask is empty"
    jobs = Jobs(submissions=[[JOB, event(1, "FAILED")]], standing=failed)
    code, _, messages = await run_at(jobs, "reconstruct", image, "--out", tmp_path / "out")
    assert code == 3
    assert "the mask is empty" in messages
    assert "goes on" not in messages
    assert not (tmp_path / "out").exists()


async def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(tmp_path: Path) -> None:
    class Endless(Jobs):
        async def ReconstructObjects(self, request, context):  # noqa: N802
            yield reconstruction_pb2.ReconstructObjectsResponse(job=JOB)
            started = event(1, log_line="solving")
            yield reconstruction_pb2.ReconstructObjectsResponse(event=started)
            await asyncio.Event().wait()

    image, jobs = tmp_path / "a.png", Endless()
    image.write_bytes(IMAGE)
    async with serving_jobs(jobs) as address:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "maskwire_client.cli"),
            *("reconstruct", str(image), "--server", address),
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        while b"solving" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, messages = await process.communicate()
    assert process.returncode == 130
    text = messages.decode()
    assert f"{JOB} goes on without this program." in text
    assert f"maskwire jobs watch {JOB} --after 1 --server {address}" in text
    assert f"maskwire jobs result {JOB} --out DIR --server {address}" in text
    assert jobs.of(job_service_pb2.CancelJobRequest) == []


async def test_the_result_of_a_reconstruction_is_collected(run_at, tmp_path: Path) -> None:
    files = Files(FILES)
    jobs = Jobs(results=[Answer(reconstruct_objects=reconstruction(files))])
    arguments = ("jobs", "result", JOB, "--out", tmp_path)
    code, output, _ = await run_at(jobs, *arguments, files=files)
    assert code == 0
    assert "turntable.png" in output
    assert (tmp_path / "turntable.png").read_bytes() == FILES["files/1"]
    _, output, _ = await run_at(jobs, *arguments, "--json", files=files)
    assert json.loads(output)["files"][1]["path"] == str(tmp_path / "turntable.png")
    assert [offset for _, offset in files.downloads] == [0, 0]


async def test_people_are_shown_too(run_at, tmp_path: Path) -> None:
    body = reconstruction_pb2.ReconstructedBody(
        focal_length_px=700,
        camera_translation=geometry_pb2.Vector3(z=3),
        keypoints=[
            reconstruction_pb2.Keypoint(
                keypoint=reconstruction_pb2.BODY_KEYPOINT_NOSE,
                image_position=geometry_pb2.Point(x=5, y=6),
            )
        ],
        alignment=reconstruction_pb2.SceneAlignment(scale_factor=1.25),
    )
    result = reconstruction_pb2.ReconstructBodiesResult(bodies=[body], info=INFO)
    jobs = Jobs(results=[Answer(reconstruct_bodies=result)])
    _, output, _ = await run_at(jobs, "jobs", "result", JOB, "--out", tmp_path)
    for text in ("0, 0, 3", "700", "x 1.250", "camera assumed"):
        assert text in output
    _, output, _ = await run_at(jobs, "jobs", "result", JOB, "--out", tmp_path, "--json")
    assert json.loads(output)["bodies"][0]["keypoints"]["nose"]["image"] == [5, 6]


async def test_the_result_of_a_segmentation_is_masks(run_at, tmp_path: Path) -> None:
    size = geometry_pb2.ImageSize(width_px=4, height_px=2)
    rle = mask_pb2.CocoRleCounts(size=size, counts=[2, 3, 3])
    mask = mask_pb2.Mask(object_id=5, area_px=3, mask=mask_pb2.EncodedMask(coco_rle_counts=rle))
    answer = segmentation_pb2.SegmentImageResponse(masks=[mask], info=INFO)
    stored, inline = answer.pictures.add(), answer.pictures.add()
    files = Files(FILES)
    stored.content.file_name = "overlay.png"
    stored.content.file.CopyFrom(files.stored("files/1"))
    inline.content.file_name, inline.content.data = "crops.png", b"crops"
    jobs = Jobs(results=[Answer(segment_image=answer)])
    code, output, _ = await run_at(jobs, "jobs", "result", JOB, "--out", tmp_path, files=files)
    assert code == 0
    assert str(tmp_path / "masks.json") in output
    assert json.loads((tmp_path / "masks.json").read_text())["annotations"][0]["object_id"] == 5
    assert (tmp_path / "overlay.png").read_bytes() == FILES["files/1"]
    assert (tmp_path / "crops.png").read_bytes() == b"crops"


async def test_the_result_of_a_tracked_video_is_masks(run_at, tmp_path: Path) -> None:
    mask = realtime_pb2.TrackedMask(
        mask=mask_pb2.Mask(object_id=1), state=realtime_pb2.OBJECT_STATE_LOST
    )
    frame = video_pb2.VideoFrameResult(frame_index=7, masks=[mask]).SerializeToString()
    files = Files({"files/0": bytes([len(frame)]) + frame, "files/1": b"mp4"})
    result = job_service_pb2.TrackVideoJobResult(frames=files.stored("files/0"))
    result.video.size.width_px, result.video.size.height_px = 4, 2
    result.summary.overlay_video.file.CopyFrom(files.stored("files/1"))
    jobs = Jobs(results=[Answer(track_video=result)])
    code, _, _ = await run_at(jobs, "jobs", "result", JOB, "--out", tmp_path, files=files)
    assert code == 0
    document = json.loads((tmp_path / "masks.json").read_text())
    assert [image["frame_index"] for image in document["images"]] == [7]
    assert document["annotations"][0]["state"] == "lost"
    assert (tmp_path / "overlay.mp4").read_bytes() == b"mp4"
