"""The engine `sam3d-objects` on a stand-in of upstream's package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.jobs.calls import JobCancelled
from maskwire_server.domain.reconstruction.camera import project
from maskwire_server.domain.reconstruction.engine import ObjectScene, ReconstructionSpecification
from maskwire_server.domain.reconstruction.formats.scene import pose_matrix
from maskwire_server.domain.reconstruction.geometry import Intrinsics
from maskwire_server.engines.reconstruction_registry import load_reconstruction_engine
from maskwire_server.engines.sam3d_objects import Sam3dObjectsFactory
from maskwire_server.engines.sam3d_objects import loading as objects_loading
from maskwire_server.engines.sam3d_objects.engine import Sam3dObjectsEngine
from maskwire_server.engines.sam3d_objects.stages import METHODS, POINT_MAP, STAGES
from tests.support.sam3d_objects_upstream import DEPTH, STEPS
from tests.support.sam3d_upstream import ObjectsUpstream, install_objects, pretend_cuda

SIZE = ImageSize(width_px=120, height_px=80)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectsUpstream:
    pretend_cuda(monkeypatch)
    return install_objects(monkeypatch, tmp_path / "checkpoint")


@pytest.fixture
def engine(upstream: ObjectsUpstream) -> Sam3dObjectsEngine:
    return Sam3dObjectsFactory().load(specification(upstream))


def specification(upstream: ObjectsUpstream | None, **fields: Any) -> ReconstructionSpecification:
    config = None if upstream is None else upstream.config
    return ReconstructionSpecification("sam3d-objects", sam3d_objects_config=config, **fields)


def ellipse(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE.height_px, : SIZE.width_px] + 0.5
    inside = ((columns - x) / half_width) ** 2 + ((rows - y) / half_height) ** 2 <= 1
    assert inside.any()
    return inside


def scene(*masks: np.ndarray, seed: int = 7, **fields: Any) -> ObjectScene:
    pixels = np.zeros((SIZE.height_px, SIZE.width_px, 3), np.uint8)
    chosen = masks or (ellipse(70, 30, 25, 20),)
    values = {"points": None, "intrinsics": None} | fields
    return ObjectScene(pixels=pixels, masks=chosen, seed=seed, **values)


def silent(stage: str, fraction: float) -> None:
    return


def pipeline_of(engine: Sam3dObjectsEngine) -> Any:
    return engine._pipeline


def box_of(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def test_objects_project_onto_their_masks(engine):
    masks = (ellipse(70, 30, 25, 20), ellipse(30, 55, 15, 12))
    result = engine.reconstruct(scene(*masks), silent)
    assert not result.is_metric
    for mask, model in zip(masks, result.objects, strict=True):
        rows, columns = np.nonzero(mask)
        expected = box_of(np.column_stack([columns, rows]) + 0.5)
        vertices = np.column_stack([model.mesh.vertices, np.ones(len(model.mesh.vertices))])
        in_camera = (vertices @ pose_matrix(model.pose).T)[:, :3]
        assert box_of(project(in_camera, result.intrinsics)) == pytest.approx(expected, abs=2.5)
        assert model.pose.translation[2] == pytest.approx(1.0, abs=0.01)


def test_mesh_and_splats_share_the_object_frame(engine):
    model = engine.reconstruct(scene(), silent).objects[0]
    extents = np.abs(model.mesh.vertices).max(axis=0)
    assert extents == pytest.approx([0.5, 0.4, 0.1], abs=1e-6)  # x, the local z, the local y
    np.testing.assert_allclose(model.splats.positions, model.mesh.vertices, atol=1e-6)


def test_the_camera_comes_from_the_point_map(engine):
    intrinsics = engine.reconstruct(scene(), silent).intrinsics
    assert intrinsics.focal_length_x_px == pytest.approx(np.hypot(120, 80), rel=1e-3)
    assert intrinsics.principal_point_x_px == pytest.approx(60, abs=0.1)
    assert intrinsics.principal_point_y_px == pytest.approx(40, abs=0.1)


def test_given_points_are_used_and_make_it_metric(engine):
    camera = Intrinsics(200.0, 200.0, 60.0, 40.0)
    rows, columns = np.mgrid[: SIZE.height_px, : SIZE.width_px] + 0.5
    rays = np.stack([(columns - 60) / 200, (rows - 40) / 200, np.ones(rows.shape)], axis=-1)
    points = (rays * 7.0).astype(np.float32)
    result = engine.reconstruct(scene(points=points, intrinsics=camera), silent)
    assert result.is_metric
    assert result.intrinsics == camera
    assert result.objects[0].pose.translation[2] == pytest.approx(7.0, abs=0.01)
    assert pipeline_of(engine).depth_model.calls == 0
    given = pipeline_of(engine).given_maps[0].numpy()
    np.testing.assert_allclose(given, points * [-1, -1, 1])


def test_one_point_map_serves_all_masks(engine):
    engine.reconstruct(scene(*(ellipse(30 + 20 * i, 40, 8, 8) for i in range(3))), silent)
    pipeline = pipeline_of(engine)
    assert pipeline.depth_model.calls == 1
    assert len(pipeline.given_maps) == 3
    # Computed whole, then clipped anew for each mask.
    assert pipeline.clipped == [False, True, True, True]
    assert pipeline.clip_pointmap_beyond_scale == 5.0


def test_layout_runs_with_a_camera(engine):
    engine.reconstruct(scene(), silent)
    assert pipeline_of(engine).layouts == 1
    assert pipeline_of(engine).swallowed == []


def test_the_same_seed_gives_the_same_result(engine):
    first, second = (engine.reconstruct(scene(), silent).objects[0] for _ in range(2))
    other = engine.reconstruct(scene(seed=8), silent).objects[0]
    np.testing.assert_array_equal(first.pose.translation, second.pose.translation)
    assert (first.pose.translation != other.pose.translation).any()


def test_progress_names_every_stage_in_order_and_never_falls(engine):
    told: list[tuple[str, float]] = []
    masks = (ellipse(70, 30, 25, 20), ellipse(30, 55, 15, 12))
    engine.reconstruct(scene(*masks), lambda *told_now: told.append(told_now))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    stages = [stage for stage, _ in told]
    changes = [stage for index, stage in enumerate(stages) if stages[index - 1 : index] != [stage]]
    assert changes == [POINT_MAP, *(stage.name for stage in STAGES), *(s.name for s in STAGES)]
    assert stages.count("sparse_structure") == 2 * (STEPS + 1)
    assert stages.count("structured_latents") == 2 * (STEPS + 1)


@pytest.mark.parametrize("name", [POINT_MAP, *(stage.name for stage in STAGES)])
def test_cancelled_in_any_stage(engine, name):
    told: list[str] = []

    def report(stage: str, fraction: float) -> None:
        told.append(stage)
        if stage == name and told.count(name) == 1:
            raise JobCancelled  # once: what upstream swallows must not be lost

    with pytest.raises(JobCancelled):
        engine.reconstruct(scene(), report)
    assert_untouched(pipeline_of(engine))
    assert len(engine.reconstruct(scene(), silent).objects) == 1


def test_cancelled_in_the_middle_of_sampling(engine):
    seen = []

    def report(stage: str, fraction: float) -> None:
        seen.append(stage)
        if seen.count("structured_latents") == 10:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        engine.reconstruct(scene(), report)
    assert seen[-1] == "structured_latents"
    assert_untouched(pipeline_of(engine))


def assert_untouched(pipeline: Any) -> None:
    assert not set(METHODS) & set(vars(pipeline))
    assert pipeline.clip_pointmap_beyond_scale == 5.0
    for generator in pipeline.models.values():
        assert "generate_iter" not in vars(generator)


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_a_failing_device(engine, failure):
    pipeline_of(engine).failures["decode_slat"] = failure
    with pytest.raises(MaskwireError) as caught:
        engine.reconstruct(scene(), silent)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    assert "sam3d-objects" in caught.value.message
    assert_untouched(pipeline_of(engine))


def test_a_bug_is_not_called_a_failing_device(engine):
    pipeline_of(engine).failures["decode_slat"] = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes"):
        engine.reconstruct(scene(), silent)


def test_a_mask_without_a_shape(engine):
    pipeline_of(engine).failures["nothing"] = ValueError()
    with pytest.raises(MaskwireError) as caught:
        engine.reconstruct(scene(), silent)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.violations[0].field == "masks[0]"


def test_the_description_names_all_weights(upstream, engine):
    digest = engine.description.checkpoint_digest
    assert digest.startswith("sha256:")
    (upstream.config.parent / "slat.ckpt").write_bytes(b"other latents")
    other = Sam3dObjectsFactory().load(specification(upstream))
    assert other.description.checkpoint_digest != digest


def test_weights_of_another_digest_are_refused_before_upstream_reads_them(
    upstream, engine, monkeypatch
):
    digest = engine.description.checkpoint_digest.removeprefix("sha256:")
    pinned = specification(upstream, sam3d_objects_sha256=digest)
    assert Sam3dObjectsFactory().load(pinned).description == engine.description
    (upstream.config.parent / "slat.ckpt").write_bytes(b"other latents")
    monkeypatch.setattr(objects_loading, "instantiate", unreachable)
    assert digest in message_of(pinned)


def unreachable(*_: object) -> None:
    raise AssertionError("upstream's code must not see these weights")


def test_closing_lets_the_networks_go(engine):
    engine.close()
    assert pipeline_of(engine) is None


def test_found_by_its_entry_point(upstream):
    engine = load_reconstruction_engine(specification(upstream))
    assert engine.description.name == "sam3d-objects"


def message_of(made: ReconstructionSpecification) -> str:
    with pytest.raises(MaskwireError) as caught:
        Sam3dObjectsFactory().load(made)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
    return caught.value.message


def test_what_is_missing_is_named(upstream, tmp_path, monkeypatch):
    assert "reconstruction.sam3d_objects_config is not set" in message_of(specification(None))
    nowhere = ReconstructionSpecification(
        "sam3d-objects", sam3d_objects_config=tmp_path / "nowhere.yaml"
    )
    assert "there is no file" in message_of(nowhere)
    assert "cuda:0 only" in message_of(specification(upstream, device="cpu"))
    (upstream.config.parent / "ss.ckpt").unlink()
    assert "ss.ckpt" in message_of(specification(upstream))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "sees no CUDA device" in message_of(specification(upstream))


def test_a_package_that_is_not_installed(upstream, monkeypatch):
    monkeypatch.undo()
    pretend_cuda(monkeypatch)
    assert "package sam3d_objects" in message_of(specification(upstream))
    assert "worker image" in message_of(specification(upstream))


def test_a_pipeline_of_another_version(upstream, monkeypatch):
    from tests.support import sam3d_objects_upstream

    monkeypatch.delattr(sam3d_objects_upstream.InferencePipelinePointMap, "run_post_optimization")
    assert "without run_post_optimization" in message_of(specification(upstream))


def test_the_stand_ins_plane_is_not_at_unit_depth():
    assert DEPTH != 1.0  # else the test of the unit of depth could not fail
