"""What the doctor sees in reconstructed objects: each broken promise fails its own check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from maskwire_server.domain.diagnosis.findings import Verdict
from maskwire_server.domain.diagnosis.objects import examine_objects
from maskwire_server.domain.reconstruction.engine import (
    ObjectModel,
    ObjectScene,
    ReconstructedScene,
    ReconstructionSpecification,
)
from maskwire_server.domain.reconstruction.geometry import Quaternion
from maskwire_server.engines.inflate import InflateFactory

Breakage = Callable[[ObjectModel], ObjectModel]


@pytest.fixture(scope="module")
def scene() -> ObjectScene:
    rows, columns = np.mgrid[:60, :80] + 0.5
    mask = ((columns - 45) / 20) ** 2 + ((rows - 25) / 12) ** 2 <= 1
    pixels = np.full((60, 80, 3), 120, np.uint8)
    return ObjectScene(pixels, (mask,), points=None, intrinsics=None, seed=1)


@pytest.fixture(scope="module")
def result(scene: ObjectScene) -> ReconstructedScene:
    small = ReconstructionSpecification(
        "inflate", mesh_resolution_px=48, texture_px=32, max_splats=2000
    )
    return InflateFactory().load(small).reconstruct(scene, lambda stage, fraction: None)


def failed(scene: ObjectScene, result: ReconstructedScene, again: ReconstructedScene) -> list[str]:
    findings = examine_objects(scene, result, again)
    return [finding.subject for finding in findings if finding.verdict is Verdict.FAILED]


def broken(result: ReconstructedScene, change: Breakage) -> ReconstructedScene:
    return replace(result, objects=tuple(change(one) for one in result.objects))


def test_nothing_is_wrong_with_a_good_result(scene, result):
    subjects = [finding.subject for finding in examine_objects(scene, result, result)]
    assert failed(scene, result, result) == []
    assert subjects == [
        "objects",
        "numbers",
        "poses",
        "object frame",
        "splats on the mesh",
        "silhouettes",
        "PLY",
        "GLB",
        "camera",
        "seed",
    ]


def _nan(one: ObjectModel) -> ObjectModel:
    vertices = one.mesh.vertices.copy()
    vertices[3, 1] = np.nan
    return replace(one, mesh=replace(one.mesh, vertices=vertices))


def _long_quaternion(one: ObjectModel) -> ObjectModel:
    return replace(one, pose=replace(one.pose, rotation=Quaternion(1.0, 0.1, 0.0, 0.0)))


def _large(one: ObjectModel) -> ObjectModel:
    pose = replace(one.pose, scale=one.pose.scale / 1.2)
    splats = replace(one.splats, positions=one.splats.positions * np.float32(1.2))
    mesh = replace(one.mesh, vertices=one.mesh.vertices * np.float32(1.2))
    return ObjectModel(mesh, splats, pose)


def _lying_splats(one: ObjectModel) -> ObjectModel:
    # With z up, as upstream of SAM 3D has them.
    turned = one.splats.positions @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
    return replace(one, splats=replace(one.splats, positions=turned + np.float32(0.1)))


def _elsewhere(one: ObjectModel) -> ObjectModel:
    moved = one.pose.translation + np.array([0.5, 0.0, 0.0])
    return replace(one, pose=replace(one.pose, translation=moved))


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        (_nan, "numbers"),
        (_long_quaternion, "poses"),
        (_large, "object frame"),
        (_lying_splats, "splats on the mesh"),
        (_elsewhere, "silhouettes"),
    ],
)
def test_a_broken_promise_fails_its_check(scene, result, change, subject):
    bad = broken(result, change)
    assert failed(scene, bad, bad) == [subject]


def test_a_missing_object(scene, result):
    assert failed(scene, replace(result, objects=()), result) == ["objects"]


def test_lengths_that_are_called_metres(scene, result):
    assert failed(scene, replace(result, is_metric=True), result) == ["camera"]


def test_another_result_for_the_same_seed(scene, result):
    assert failed(scene, result, broken(result, _elsewhere)) == ["seed"]
    assert failed(scene, result, replace(result, objects=())) == ["seed"]
