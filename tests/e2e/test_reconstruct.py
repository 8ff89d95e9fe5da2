"""Both clients and the command line against a real server: reconstruction as durable jobs."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from maskwire_client import (
    ArtifactKind,
    AutoSegmentCall,
    AutoSegmentOptions,
    Box,
    CameraIntrinsics,
    JobState,
    Reconnect,
    SegmentCall,
    TrackVideoCall,
    errors,
)
from maskwire_client._maps import INLINE_BYTES
from tests.support.both_clients import connect
from tests.support.job_calls import disc
from tests.support.ports import free_port
from tests.support.server_process import ServerProcess, server_process
from tests.support.videos import squares_video

__all__ = ["connect"]

Run = Callable[..., tuple[int, str, str]]

WIDTH, HEIGHT = 96, 64
MASKS = [disc(30, 32, 18), disc(70, 32, 12)]
LEASE_S = 1.5
"""Of a server that is killed: the next one waits for it to pass."""


def picture() -> np.ndarray:
    """Two discs, red and blue, on grey."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    pixels[MASKS[0]], pixels[MASKS[1]] = (200, 40, 30), (40, 60, 210)
    return pixels


@pytest.fixture(scope="module")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("jobs")) as process:
        yield process


def started(folder: Path, port: int = 0, **jobs: float):
    """Run a server over the jobs and files of a folder."""
    return server_process(
        folder,
        grpc={"port": port},
        models={"cpu_threads": 1},
        jobs={"database": str(folder / "jobs.sqlite"), **jobs},
    )


async def test_objects_of_masks_with_their_files(connect, job_server, tmp_path) -> None:
    async with connect(job_server.address) as client:
        reconstruction = await client.reconstruct_objects(picture(), masks=MASKS, seed=5)
        events = [event async for event in reconstruction]
        result = await reconstruction.result()
        paths = await result.save(tmp_path / "out")
        job = await client.job(reconstruction.job_name)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [events[0].state, events[-1].state] == [JobState.QUEUED, JobState.SUCCEEDED]
    assert (job.state, job.last_event_sequence) == (JobState.SUCCEEDED, len(events))
    assert (len(result.objects), result.seed, result.is_metric) == (2, 5, False)
    assert result.objects[0].box == Box(12, 14, 48, 50)
    assert np.linalg.norm(result.objects[0].rotation) == pytest.approx(1)
    # The red disc is left of the middle, the blue one right of it.
    assert result.objects[0].translation[0] < 0 < result.objects[1].translation[0]
    assert {one.kind for one in result.artifacts} == set(ArtifactKind) - {ArtifactKind.UNSPECIFIED}
    assert [path.stat().st_size for path in paths] == [
        one.file.size_bytes for one in result.artifacts
    ]
    mesh = next(
        path
        for path, one in zip(paths, result.artifacts, strict=True)
        if one.kind is ArtifactKind.OBJECT_MESH and one.index == 0
    )
    loaded = trimesh.load_mesh(mesh)
    loaded.merge_vertices(merge_tex=True, merge_norm=True)
    assert loaded.is_watertight


async def test_a_point_map_that_is_uploaded_first_makes_it_metric(connect, job_server) -> None:
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    rays = np.dstack([(columns - 48) / 80, (rows - 32) / 80, np.ones_like(columns)])
    points = np.where(MASKS[0][..., None], 2.0, 3.0) * rays
    large = np.full((INLINE_BYTES // 8 // HEIGHT // 3 + 1) * HEIGHT * 3, np.nan)
    async with connect(job_server.address) as client:
        reconstruction = await client.reconstruct_objects(
            picture(), masks=MASKS[:1], point_map=points
        )
        result = await reconstruction.result()
        file = await client.upload(_npy(points))
        again = await client.reconstruct_objects(picture(), masks=MASKS[:1], point_map=file)
        other = await again.result()
        # One that is too large for the image goes up as a file, and is refused by its shape.
        with pytest.raises(errors.InvalidArgument, match="point_map"):
            await client.reconstruct_objects(
                picture(), masks=MASKS[:1], point_map=large.reshape(-1, HEIGHT, 3)
            )
    assert result.is_metric
    # The front is where the points are, and the middle behind it.
    assert 2.0 < result.objects[0].translation[2] < 2.9
    np.testing.assert_array_equal(result.objects[0].transform, other.objects[0].transform)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


async def test_a_depth_map_with_its_camera(connect, job_server) -> None:
    camera = CameraIntrinsics(80, 80, 48, 32)
    depth = np.where(MASKS[0], 1.5, 4.0).astype(np.float32)
    async with connect(job_server.address) as client:
        reconstruction = await client.reconstruct_objects(
            picture(), masks=MASKS[:1], depth_map=depth, intrinsics=camera
        )
        result = await reconstruction.result()
    assert result.is_metric
    assert result.intrinsics == camera
    assert 1.5 < result.objects[0].translation[2] < 2.2


async def test_the_same_request_is_the_same_job(connect, job_server) -> None:
    identifier = "0b8f3a9e-6d56-4df0-9a63-0f5bb9f2e7c1"
    async with connect(job_server.address) as client:
        first = await client.reconstruct_objects(picture(), masks=MASKS, request_id=identifier)
        second = await client.reconstruct_objects(picture(), masks=MASKS, request_id=identifier)
        assert first.job_name == second.job_name
        with pytest.raises(errors.AlreadyExists):
            await client.reconstruct_objects(picture(), seed=1, request_id=identifier)
        watch = client.watch_job(first.job_name)
        sequences = [[one.sequence async for one in stream] for stream in (first, second, watch)]
        assert sequences[0] == sequences[1] == sequences[2]
        names = [job.name for job in await client.jobs(states=[JobState.SUCCEEDED])]
        assert names.count(first.job_name) == 1


async def test_a_job_is_cancelled(connect, job_server) -> None:
    async with connect(job_server.address) as client:
        reconstruction = await client.reconstruct_objects(picture(), masks=MASKS)
        await reconstruction.cancel()
        with pytest.raises(errors.JobCancelled):
            await reconstruction.result()
        assert (await client.job(reconstruction.job_name)).state is JobState.CANCELLED


async def test_segmentation_and_tracking_are_queued(connect, job_server) -> None:
    async with connect(job_server.address) as client:
        calls = [
            SegmentCall(picture(), boxes=[(12, 14, 48, 50)]),
            AutoSegmentCall(picture(), options=AutoSegmentOptions(points_per_side=2)),
            TrackVideoCall(squares_video(5), boxes=[(12, 14, 48, 50)]),
        ]
        jobs = [await client.submit_job(call) for call in calls]
        segmented, automatic, tracked = [await client.watch_job(job.name).result() for job in jobs]
        direct = await client.segment(picture(), boxes=[(12, 14, 48, 50)])
        frames = [frame async for frame in tracked.frames()]
    np.testing.assert_array_equal(segmented.masks[0].bitmap, direct.masks[0].bitmap)
    assert automatic.image.size.width_px == WIDTH
    assert [frame.frame_index for frame in frames] == list(range(5))
    assert frames[4].masks[0].bitmap.shape[1] == tracked.video.size.width_px


async def follow_over_a_kill(connect, folder: Path, second_port: int | None) -> None:
    """Kill a server while a client follows a job; start another one over the same files."""
    port = free_port()
    with ExitStack() as servers:
        first = await asyncio.to_thread(
            servers.enter_context, started(folder, port, lease_s=LEASE_S)
        )
        next_port = second_port or port
        other = (f"127.0.0.1:{next_port}",) if next_port != port else ()
        reconnect = Reconnect(
            targets=other, max_attempts=200, initial_backoff_s=0.1, max_backoff_s=1.0
        )
        async with connect(first.address) as client:
            reconstruction = await client.reconstruct_objects(
                picture(), masks=MASKS, reconnect=reconnect
            )
            events = []
            async for event in reconstruction:
                events.append(event)
                if event.state is JobState.RUNNING and first.process.poll() is None:
                    first.process.kill()
                    await asyncio.to_thread(first.process.wait)
                    await asyncio.to_thread(servers.enter_context, started(folder, next_port))
            result = await reconstruction.result()
            await reconstruction.close()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].state is JobState.SUCCEEDED
    assert events[-1].attempt > 1
    assert len(result.objects) == 2


async def test_a_client_goes_on_at_another_server_after_a_kill(connect, tmp_path) -> None:
    await follow_over_a_kill(connect, tmp_path, free_port())


@pytest.mark.robustness
async def test_a_client_goes_on_at_the_same_address_after_a_kill(connect, tmp_path) -> None:
    await follow_over_a_kill(connect, tmp_path, None)


def test_the_command_line_reconstructs(run: Run, job_server, tmp_path: Path) -> None:
    image, mask, out = tmp_path / "a.png", tmp_path / "mask.png", tmp_path / "out"
    Image.fromarray(picture()).save(image)
    Image.fromarray(MASKS[0]).save(mask)
    server = ("--server", job_server.address)
    code, output, messages = run(
        "reconstruct", image, "--mask", mask, "--out", out, "--json", *server
    )
    assert code == 0, messages
    document = json.loads(output)
    assert len(document["objects"]) == 1
    for file in document["files"]:
        assert Path(file["path"]).stat().st_size == file["size_bytes"]
    suffixes = {Path(file["path"]).suffix for file in document["files"]}
    assert suffixes == {".glb", ".ply", ".json", ".png", ".zip"}

    code, output, _ = run("jobs", "watch", document["job"], *server)
    assert code == 0
    assert output.splitlines()[-1].endswith("succeeded")
    code, output, _ = run("jobs", "list", "--json", *server)
    assert document["job"] in [job["name"] for job in json.loads(output)]
    code, output, _ = run("jobs", "result", document["job"], "--out", tmp_path / "two", *server)
    assert code == 0
    assert (tmp_path / "two" / "metadata.json").exists()
