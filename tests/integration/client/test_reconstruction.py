"""Both clients against a real gRPC server: what reconstructions send, return and save."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from maskwire.v1 import geometry_pb2, job_service_pb2, reconstruction_pb2
from maskwire_client import (
    ArtifactKind,
    BodyKeypoint,
    Box,
    CameraIntrinsics,
    ImageReference,
    Mask,
    MaskPrompt,
    PngMask,
    Point,
    ReconstructObjectsCall,
    ScoreKind,
    Text,
    errors,
)
from maskwire_client._maps import INLINE_BYTES
from tests.support.both_clients import connect
from tests.support.scripted_jobs import JOB, Files, Jobs, event, serving_jobs

__all__ = ["connect"]

IMAGE = b"an encoded image"
BITMAP = np.eye(4, dtype=np.bool_)
CAMERA = CameraIntrinsics(500.0, 510.0, 320.0, 240.0)


def done(result=None) -> list:
    made = result if result is not None else reconstruction_pb2.ReconstructObjectsResult()
    return [JOB, event(1, "SUCCEEDED"), made]


async def sent(connect, call: str = "reconstruct_objects", files: Files | None = None, **arguments):
    """Return the request that a client sends."""
    jobs = Jobs(submissions=[done()])
    if call == "reconstruct_bodies":
        jobs = Jobs(submissions=[done(reconstruction_pb2.ReconstructBodiesResult())])
    async with serving_jobs(jobs, files) as address, connect(address) as client:
        await getattr(client, call)(IMAGE, **arguments)
    return jobs.requests[0]


def read_npy(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)


async def test_masks_are_sent_in_order_in_whatever_form_they_are(connect):
    encoded = PngMask.encode(~BITMAP)
    answer = Mask(
        index=0,
        object_id=1,
        alternative=0,
        area_px=12,
        score=None,
        score_kind=ScoreKind.UNSPECIFIED,
        stability_score=None,
        box=None,
        encoded=encoded,
    )
    request = await sent(connect, masks=[BITMAP, encoded, answer], seed=9, model="inflate")
    assert request.image.data == IMAGE
    assert (request.seed, request.model) == (9, "inflate")
    sent_masks = [PngMask(mask.png.data).decode() for mask in request.masks]
    for mask, expected in zip(sent_masks, [BITMAP, ~BITMAP, ~BITMAP], strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert not request.HasField("point_map")


async def test_prompts_keep_their_order(connect):
    prompts = [Box(1, 2, 3, 4), Point(5, 6), Text("cup"), MaskPrompt(BITMAP)]
    request = await sent(connect, prompts=prompts, segmentation_model="nano")
    kinds = [prompt.WhichOneof("prompt") for prompt in request.prompts]
    assert kinds == ["box", "point", "text", "mask"]
    assert request.segmentation_model == "nano"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
async def test_a_point_map_as_an_array(connect, dtype):
    points = np.arange(24, dtype=dtype).reshape(2, 4, 3)
    request = await sent(connect, point_map=points)
    read = read_npy(request.point_map.data)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, points)


async def test_a_point_map_as_a_file_as_bytes_and_elsewhere(connect, tmp_path):
    file = tmp_path / "points.npz"
    np.savez_compressed(file, points=np.ones((2, 2, 3), np.float32))
    for given in (file, str(file), file.read_bytes()):
        request = await sent(connect, point_map=given)
        assert request.point_map.data == file.read_bytes()
    for given in ("files/1", "s3://bucket/points.npy", ImageReference("files/1")):
        request = await sent(connect, point_map=given)
        address = given if isinstance(given, str) else given.address
        assert request.point_map.uri == address


@pytest.mark.parametrize("as_file", [False, True])
async def test_a_large_map_is_uploaded_first_under_the_requests_identifier(
    connect, tmp_path, as_file
):
    points = np.zeros((INLINE_BYTES // 12, 1, 3), np.float32)
    given: object = points
    if as_file:
        given = file = tmp_path / "points.npy"
        np.save(file, points)
    files = Files()
    request = await sent(connect, files=files, point_map=given)
    assert request.point_map.uri == f"files/{request.request_id}"
    np.testing.assert_array_equal(read_npy(files.contents[request.point_map.uri]), points)
    assert files.uploads[0].time_to_live.ToTimedelta().total_seconds() == 3600


async def test_a_depth_map_goes_with_its_camera(connect):
    depth = np.full((2, 3), 1.5, np.float32)
    request = await sent(connect, depth_map=depth, intrinsics=CAMERA)
    np.testing.assert_array_equal(read_npy(request.depth_map.data), depth)
    assert request.depth_map.intrinsics.focal_length_y_px == 510
    assert not request.depth_map.HasField("depth_unit_m")
    request = await sent(connect, depth_map=b"a PNG", intrinsics=CAMERA, depth_unit_m=0.0002)
    assert request.depth_map.data == b"a PNG"
    assert request.depth_map.depth_unit_m == 0.0002


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"point_map": np.zeros((2, 2), np.float32)}, ValueError),
        ({"point_map": np.zeros((2, 2, 3), np.int32)}, ValueError),
        ({"point_map": b""}, ValueError),
        ({"point_map": 5}, TypeError),
        ({"point_map": Path("absent.npy")}, FileNotFoundError),
        ({"depth_map": np.zeros((2, 2, 3), np.float32), "intrinsics": CAMERA}, ValueError),
        ({"depth_map": np.zeros((2, 2), np.float32)}, ValueError),
        ({"intrinsics": CAMERA}, ValueError),
        ({"depth_unit_m": 0.1}, ValueError),
        ({"point_map": b"1", "depth_map": b"1", "intrinsics": CAMERA}, ValueError),
        ({"masks": [np.zeros((2, 2))]}, ValueError),
        ({"masks": [5]}, TypeError),
        ({"prompts": [(1, 2)]}, TypeError),
        ({"seed": -1}, ValueError),
    ],
)
async def test_arguments_that_cannot_be_sent(connect, arguments, kind):
    async with serving_jobs(jobs := Jobs()) as address, connect(address) as client:
        with pytest.raises(kind):
            await client.reconstruct_objects(IMAGE, **arguments)
        with pytest.raises(kind):
            await client.submit_job(ReconstructObjectsCall(IMAGE, **arguments))
    assert jobs.requests == []


async def test_bodies_take_boxes_masks_camera_and_points(connect):
    request = await sent(
        connect,
        "reconstruct_bodies",
        boxes=[(1, 2, 3, 4), Box(5, 6, 7, 8)],
        masks=[BITMAP, BITMAP],
        intrinsics=CAMERA,
        point_map=np.zeros((2, 2, 3), np.float32),
        webhook_url="https://example.org/hook",
    )
    assert [box.x_min for box in request.boxes] == [1, 5]
    assert len(request.masks) == 2
    assert request.intrinsics.principal_point_x_px == 320
    assert read_npy(request.point_map.data).shape == (2, 2, 3)
    assert request.webhook.url == "https://example.org/hook"


def vector(x: float, y: float, z: float) -> geometry_pb2.Vector3:
    return geometry_pb2.Vector3(x=x, y=y, z=z)


async def test_a_result_of_objects_has_poses_as_arrays(connect):
    half = np.sqrt(0.5)
    placed = reconstruction_pb2.ReconstructedObject(
        index=0,
        scale=vector(1, 2, 3),
        # A quarter turn about z takes x to y and y to -x.
        rotation=geometry_pb2.Quaternion(z=half, w=half),
        translation=vector(10, 20, 30),
        box=geometry_pb2.Box(x_min=1, y_min=2, x_max=3, y_max=4),
    )
    made = reconstruction_pb2.ReconstructObjectsResult(
        objects=[placed],
        camera_pose=np.eye(4).ravel(),
        is_metric=True,
        intrinsics=geometry_pb2.CameraIntrinsics(focal_length_x_px=5),
        seed=3,
    )
    jobs = Jobs(submissions=[done(made)])
    async with serving_jobs(jobs) as address, connect(address) as client:
        result = await (await client.reconstruct_objects(IMAGE)).result()
    (item,) = result.objects
    np.testing.assert_allclose(item.scale, [1, 2, 3])
    np.testing.assert_allclose(item.rotation, [0, 0, half, half])
    np.testing.assert_allclose(item.transform @ [1, 0, 0, 1], [10, 21, 30, 1], atol=1e-12)
    np.testing.assert_allclose(item.transform @ [0, 1, 0, 1], [8, 20, 30, 1], atol=1e-12)
    np.testing.assert_allclose(item.transform @ [0, 0, 1, 1], [10, 20, 33, 1], atol=1e-12)
    assert item.box == Box(1, 2, 3, 4)
    assert (result.is_metric, result.seed, result.intrinsics.focal_length_x_px) == (True, 3, 5)
    np.testing.assert_array_equal(result.camera_pose, np.eye(4))


async def test_a_result_of_bodies_has_keypoints_by_name(connect):
    keypoints = [
        reconstruction_pb2.Keypoint(
            keypoint=reconstruction_pb2.BodyKeypoint.ValueType(number),
            image_position=geometry_pb2.Point(x=number, y=2 * number),
            camera_position=vector(number, 0, 1),
        )
        for number in range(1, 71)
    ]
    body = reconstruction_pb2.ReconstructedBody(
        index=0,
        focal_length_px=700,
        camera_translation=vector(0, 0, 3),
        keypoints=keypoints,
        alignment=reconstruction_pb2.SceneAlignment(scale_factor=2, target_point_count=9),
    )
    made = reconstruction_pb2.ReconstructBodiesResult(bodies=[body], is_metric=True)
    jobs = Jobs(submissions=[done(made)])
    async with serving_jobs(jobs) as address, connect(address) as client:
        result = await (await client.reconstruct_bodies(IMAGE)).result()
    (person,) = result.bodies
    assert person.image_positions.shape == (70, 2)
    assert person.camera_positions.shape == (70, 3)
    np.testing.assert_array_equal(person.keypoint(BodyKeypoint.NOSE).image_position, [1, 2])
    np.testing.assert_array_equal(person.keypoint(BodyKeypoint.NECK).camera_position, [70, 0, 1])
    assert [one.keypoint for one in person.keypoints] == list(BodyKeypoint)
    assert (person.focal_length_px, person.box) == (700, None)
    assert (person.alignment.scale_factor, person.alignment.target_point_count) == (2, 9)


class Shelf:
    """Files of a result, as a scripted server holds them."""

    def __init__(self, *contents: tuple[str, bytes], **options) -> None:
        self.files = Files({f"files/{i}": data for i, (_, data) in enumerate(contents)}, **options)
        kinds = [
            reconstruction_pb2.ARTIFACT_KIND_SCENE_MESH,
            reconstruction_pb2.ARTIFACT_KIND_METADATA,
        ]
        artifacts = [
            reconstruction_pb2.Artifact(
                kind=kinds[i % 2], file=self.files.stored(f"files/{i}", name)
            )
            for i, (name, _) in enumerate(contents)
        ]
        made = reconstruction_pb2.ReconstructObjectsResult(artifacts=artifacts)
        self.jobs = Jobs(results=[job_service_pb2.GetJobResultResponse(reconstruct_objects=made)])

    def serve(self):
        return serving_jobs(self.jobs, self.files)


MESH = bytes(range(256)) * 20


async def test_files_are_saved_under_names_of_their_own(connect, tmp_path):
    shelf = Shelf(("scene.glb", MESH), ("../../scene.glb", b"2"), ("", b"3"), ("..", b"4"))
    async with shelf.serve() as address, connect(address) as client:
        result = await client.job_result(JOB)
        paths = await result.save(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["scene.glb", "scene-2.glb", "scene_mesh", "metadata"]
    assert [path.read_bytes() for path in paths] == [MESH, b"2", b"3", b"4"]
    assert {path.parent for path in paths} == {tmp_path / "new" / "folder"}
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)


async def test_only_some_kinds_are_saved(connect, tmp_path):
    shelf = Shelf(("scene.glb", MESH), ("scene.json", b"{}"))
    async with shelf.serve() as address, connect(address) as client:
        result = await client.job_result(JOB)
        assert [one.kind for one in result.artifacts] == [
            ArtifactKind.SCENE_MESH,
            ArtifactKind.METADATA,
        ]
        paths = await result.save(tmp_path, kinds=[ArtifactKind.METADATA])
    assert [path.name for path in paths] == ["scene.json"]


async def test_a_broken_download_goes_on_by_itself(connect, tmp_path):
    shelf = Shelf(("scene.glb", MESH), breaks=[2000, 1000])
    async with shelf.serve() as address, connect(address, retry_attempts=1) as client:
        (path,) = await (await client.job_result(JOB)).save(tmp_path)
    assert path.read_bytes() == MESH
    assert shelf.files.downloads == [("files/0", 0), ("files/0", 2000), ("files/0", 3000)]


async def test_saving_again_goes_on_where_an_earlier_call_broke_off(connect, tmp_path):
    shelf = Shelf(("scene.glb", MESH), ("scene.json", b"{}"))
    (tmp_path / "scene.glb.part").write_bytes(MESH[:3000])
    async with shelf.serve() as address, connect(address) as client:
        result = await client.job_result(JOB)
        paths = await result.save(tmp_path)
        assert shelf.files.downloads == [("files/0", 3000), ("files/1", 0)]
        assert paths[0].read_bytes() == MESH
        assert await result.save(tmp_path) == paths
        assert len(shelf.files.downloads) == 2
        paths[1].write_bytes(b"[]")
        await result.save(tmp_path)
        assert paths[1].read_bytes() == b"{}"
    assert sorted(tmp_path.iterdir()) == sorted(paths)


async def test_the_part_of_another_file_is_not_kept(connect, tmp_path):
    shelf = Shelf(("scene.glb", MESH))
    (tmp_path / "scene.glb.part").write_bytes(b"x" * 3000)
    async with shelf.serve() as address, connect(address) as client:
        (path,) = await (await client.job_result(JOB)).save(tmp_path)
    assert path.read_bytes() == MESH
    assert shelf.files.downloads == [("files/0", 3000), ("files/0", 0)]


async def test_wrong_bytes_are_refused(connect, tmp_path):
    shelf = Shelf(("scene.glb", MESH), lies={"files/0"})
    async with shelf.serve() as address, connect(address) as client:
        result = await client.job_result(JOB)
        with pytest.raises(errors.DataLoss):
            await result.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_was_replaced_is_refused(connect, tmp_path):
    shelf = Shelf(("scene.glb", MESH))
    async with shelf.serve() as address, connect(address) as client:
        result = await client.job_result(JOB)
        shelf.files.contents["files/0"] = MESH[::-1]
        with pytest.raises(errors.DataLoss, match="files/0 is not the file"):
            await result.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_expired_is_not_found(connect, tmp_path):
    shelf = Shelf(("scene.glb", MESH))
    async with shelf.serve() as address, connect(address) as client:
        result = await client.job_result(JOB)
        shelf.files.contents.clear()
        with pytest.raises(errors.StoredFileNotFound):
            await result.save(tmp_path)
    assert not (tmp_path / "scene.glb").exists()
