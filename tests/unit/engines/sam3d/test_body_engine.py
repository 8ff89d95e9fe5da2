"""The engine `sam3d-body` on a stand-in of upstream's package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import Box
from maskwire_server.domain.jobs.calls import JobCancelled
from maskwire_server.domain.reconstruction.camera import project
from maskwire_server.domain.reconstruction.engine import BodyScene, ReconstructionSpecification
from maskwire_server.domain.reconstruction.geometry import Intrinsics
from maskwire_server.engines.reconstruction_registry import load_reconstruction_engine
from maskwire_server.engines.sam3d_body import Sam3dBodyFactory
from maskwire_server.engines.sam3d_body import loading as body_loading
from maskwire_server.engines.sam3d_body.engine import Sam3dBodyEngine
from tests.support.sam3d_upstream import BodyUpstream, install_body, pretend_cuda

WIDTH, HEIGHT = 120, 90
DIAGONAL = 150.0


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BodyUpstream:
    pretend_cuda(monkeypatch)
    return install_body(monkeypatch, tmp_path / "checkpoint")


@pytest.fixture
def engine(upstream: BodyUpstream) -> Sam3dBodyEngine:
    return Sam3dBodyFactory().load(specification(upstream))


def specification(upstream: BodyUpstream, **fields: Any) -> ReconstructionSpecification:
    files = {"sam3d_body_checkpoint": upstream.checkpoint, "sam3d_body_rig": upstream.rig}
    return ReconstructionSpecification("sam3d-body", **(files | fields))


def scene(**fields: Any) -> BodyScene:
    values: dict[str, Any] = {"boxes": (), "masks": (), "points": None, "intrinsics": None}
    return BodyScene(pixels=np.zeros((HEIGHT, WIDTH, 3), np.uint8), **(values | fields))


def silent(stage: str, fraction: float) -> None:
    return


LEFT, RIGHT = Box(10, 10, 40, 80), Box(70, 20, 100, 70)


def estimator_of(engine: Sam3dBodyEngine) -> Any:
    return engine._estimator


def test_people_come_in_the_order_of_their_boxes(engine):
    bodies = engine.reconstruct(scene(boxes=(RIGHT, LEFT)), silent)
    assert [body.box for body in bodies] == [RIGHT, LEFT]
    assert [body.focal_length_px for body in bodies] == pytest.approx([DIAGONAL, DIAGONAL])


def test_keypoints_in_the_camera_frame_project_onto_the_image(engine):
    (body,) = engine.reconstruct(scene(boxes=(LEFT,)), silent)
    camera = Intrinsics(DIAGONAL, DIAGONAL, WIDTH / 2, HEIGHT / 2)
    assert body.keypoints_camera.shape == (70, 3)
    assert body.keypoints_image.shape == (70, 2)
    projected = project(body.keypoints_camera, camera)
    np.testing.assert_allclose(projected, body.keypoints_image, atol=1e-3)
    # The person fills the box, whose height is 70: 1.8 m at 150 * 1.8 / 70 m.
    assert body.camera_translation[2] == pytest.approx(DIAGONAL * 1.8 / 70)


def test_the_mesh_stands_in_the_camera_frame(engine):
    (body,) = engine.reconstruct(scene(boxes=(LEFT,)), silent)
    assert body.mesh.vertices.shape == (18439, 3)
    assert body.mesh.faces.shape == (36874, 3)
    assert body.mesh.faces.dtype == np.int32
    middle = (body.mesh.vertices.min(axis=0) + body.mesh.vertices.max(axis=0)) / 2
    assert middle == pytest.approx(body.camera_translation, abs=1e-3)


def test_boxes_of_masks_alone(engine):
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[20:60, 30:50] = True
    (body,) = engine.reconstruct(scene(masks=(mask,)), silent)
    assert body.box == Box(30, 20, 50, 60)
    (given,) = estimator_of(engine).masks
    assert given.shape == (HEIGHT, WIDTH, 1)
    assert np.unique(given).tolist() == [0, 1]


def test_a_given_camera(engine):
    camera = Intrinsics(300.0, 300.0, 60.0, 45.0)
    (body,) = engine.reconstruct(scene(boxes=(LEFT,), intrinsics=camera), silent)
    assert body.focal_length_px == 300.0


def test_people_are_found_where_the_detectors_weights_are(upstream):
    upstream.add_detector()
    engine = Sam3dBodyFactory().load(specification(upstream))
    stages: list[str] = []
    (body,) = engine.reconstruct(scene(), lambda stage, fraction: stages.append(stage))
    assert body.box == Box(30, 22.5, 90, 67.5)
    assert stages[0] == "people"


def test_nobody_can_be_found_without_a_detector(engine):
    with pytest.raises(MaskwireError) as caught:
        engine.reconstruct(scene(), silent)
    assert caught.value.code is ErrorCode.UNSUPPORTED_BY_MODEL
    assert "boxes or masks" in caught.value.message


def test_aligned_to_a_scene(engine):
    points = person_shell(scale=2.0)
    (body,) = engine.reconstruct(scene(boxes=(LEFT,), points=points), silent)
    assert body.alignment is not None
    # The farthest 5 % of the points, at the outline, are taken to have flown off.
    assert body.alignment.scale_factor == pytest.approx(2.0, rel=0.05)
    assert body.alignment.translation == pytest.approx([0, 0, 0], abs=0.4)
    assert body.alignment.focal_length_px == pytest.approx(DIAGONAL)
    assert body.alignment.target_point_count > 1000


def person_shell(scale: float) -> np.ndarray:
    """Return the points that show the stand-in's person in the box LEFT, all scaled up."""
    depth = DIAGONAL * 1.8 / 70
    middle = np.array([(25 - 60) * depth / DIAGONAL, 0.0, depth])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(columns - 60) / DIAGONAL, (rows - 45) / DIAGONAL, np.ones(rows.shape)], -1)
    halves = np.array([0.3, 0.9, 0.2])
    # The nearer of where a ray t · r meets |(t r - middle) / halves| = 1.
    a = ((rays / halves) ** 2).sum(-1)
    b = (rays / halves * middle / halves).sum(-1)
    c = ((middle / halves) ** 2).sum() - 1
    inside = b * b - a * c
    with np.errstate(invalid="ignore"):
        near = (b - np.sqrt(inside)) / a
    return (rays * near[..., None] * scale).astype(np.float32)


def test_no_alignment_where_no_point_shows_the_body(engine):
    nothing = np.full((HEIGHT, WIDTH, 3), np.nan, np.float32)
    (body,) = engine.reconstruct(scene(boxes=(LEFT,), points=nothing), silent)
    assert body.alignment is None


def test_progress_names_every_stage_in_order_and_never_falls(engine):
    told: list[tuple[str, float]] = []
    engine.reconstruct(scene(boxes=(LEFT, RIGHT)), lambda *now: told.append(now))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert list(dict(told)) == ["body", "left_hands", "right_hands", "mesh"]
    assert estimator_of(engine).model.passes == ["body", "hand", "hand"]


@pytest.mark.parametrize("name", ["body", "left_hands", "right_hands", "mesh"])
def test_cancelled_in_any_stage(engine, name):
    def report(stage: str, fraction: float) -> None:
        if stage == name:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        engine.reconstruct(scene(boxes=(LEFT,)), report)
    assert "forward_step" not in vars(estimator_of(engine).model)
    assert len(engine.reconstruct(scene(boxes=(LEFT,)), silent)) == 1


def test_a_device_without_memory(engine):
    estimator_of(engine).model.failures["hand"] = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(MaskwireError) as caught:
        engine.reconstruct(scene(boxes=(LEFT,)), silent)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert "forward_step" not in vars(estimator_of(engine).model)


def test_upstreams_prints_stay_off_standard_output(engine, capsys):
    engine.reconstruct(scene(boxes=(LEFT,)), silent)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "RGB" in captured.err


def test_closing_lets_the_networks_go(engine):
    engine.close()
    assert estimator_of(engine) is None


def test_found_by_its_entry_point(upstream):
    engine = load_reconstruction_engine(specification(upstream))
    assert engine.description.name == "sam3d-body"
    assert engine.description.checkpoint_digest.startswith("sha256:")


def message_of(made: ReconstructionSpecification) -> str:
    with pytest.raises(MaskwireError) as caught:
        Sam3dBodyFactory().load(made)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    return caught.value.message


def test_a_checkpoint_of_another_digest_is_refused_before_upstream_reads_it(upstream, monkeypatch):
    digest = Sam3dBodyFactory().load(specification(upstream)).description.checkpoint_digest
    pinned = specification(upstream, sam3d_body_sha256=digest.removeprefix("sha256:"))
    assert Sam3dBodyFactory().load(pinned).description.checkpoint_digest == digest
    upstream.checkpoint.write_bytes(b"another")
    monkeypatch.setattr(body_loading, "import_upstream", unreachable)
    with pytest.raises(MaskwireError, match=digest.removeprefix("sha256:")) as caught:
        Sam3dBodyFactory().load(pinned)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


def unreachable(*_: object) -> None:
    raise AssertionError("upstream's code must not see these weights")


def test_what_is_missing_is_named(upstream, monkeypatch):
    bare = specification(upstream, sam3d_body_checkpoint=None)
    assert "reconstruction.sam3d_body_checkpoint is not set" in message_of(bare)
    bare = specification(upstream, sam3d_body_rig=Path("/nowhere/rig.pt"))
    assert "there is no file" in message_of(bare)
    assert "cuda:0 only" in message_of(specification(upstream, device="cuda:1"))
    (upstream.checkpoint.parent / "model_config.yaml").unlink()
    assert "model_config.yaml" in message_of(specification(upstream))
    (upstream.checkpoint.parent / "model_config.yaml").touch()
    monkeypatch.undo()
    pretend_cuda(monkeypatch)
    assert "package sam_3d_body" in message_of(specification(upstream))
