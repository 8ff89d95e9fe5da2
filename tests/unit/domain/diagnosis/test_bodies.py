"""What the doctor sees in reconstructed bodies: each broken promise fails its own check."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import trimesh

from maskwire_server.domain.diagnosis.bodies import examine_bodies
from maskwire_server.domain.diagnosis.findings import Verdict
from maskwire_server.domain.geometry import Box
from maskwire_server.domain.reconstruction.camera import project
from maskwire_server.domain.reconstruction.engine import BodyModel, BodyScene
from maskwire_server.domain.reconstruction.geometry import Intrinsics, Mesh

CAMERA = Intrinsics(200.0, 200.0, 80.0, 60.0)


@pytest.fixture
def scene() -> BodyScene:
    box = Box(40, 10, 120, 110)
    return BodyScene(np.zeros((120, 160, 3), np.uint8), (box,), (), None, None)


@pytest.fixture
def body(scene: BodyScene) -> BodyModel:
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.8)
    vertices = np.asarray(ball.vertices + np.array([0.0, 0.0, 4.0]), np.float32)
    keypoints = vertices[:70].astype(np.float64)
    return BodyModel(
        box=scene.boxes[0],
        focal_length_px=200.0,
        camera_translation=np.array([0.0, 0.0, 4.0]),
        keypoints_image=project(keypoints, CAMERA),
        keypoints_camera=keypoints,
        mesh=Mesh(vertices, np.asarray(ball.faces, np.int32)),
        alignment=None,
    )


def failed(scene: BodyScene, body: BodyModel, again: BodyModel | None = None) -> list[str]:
    findings = examine_bodies(scene, (body,), (again or body,))
    return [finding.subject for finding in findings if finding.verdict is Verdict.FAILED]


def test_nothing_is_wrong_with_a_good_result(scene, body):
    assert failed(scene, body) == []


def nan_first(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[0, 0] = np.nan
    return changed


@pytest.mark.parametrize(
    ("change", "subjects"),
    [
        (lambda body: {"keypoints_camera": nan_first(body.keypoints_camera)}, ["numbers"]),
        (lambda body: {"keypoints_image": body.keypoints_image + 3.0}, ["camera"]),
        (
            lambda body: {"mesh": replace(body.mesh, vertices=body.mesh.vertices / np.float32(5))},
            ["sizes"],
        ),
        (
            lambda body: {"keypoints_image": body.keypoints_image + 200.0},
            ["camera", "in the picture"],
        ),
    ],
)
def test_a_broken_promise_fails_its_check(scene, body, change: Any, subjects):
    assert failed(scene, replace(body, **change(body))) == subjects


def test_keypoints_of_another_number(scene, body):
    fewer = replace(
        body, keypoints_camera=body.keypoints_camera[:17], keypoints_image=body.keypoints_image[:17]
    )
    assert failed(scene, fewer) == ["keypoints"]


def test_a_second_run_that_differs(scene, body):
    moved = replace(body, keypoints_camera=body.keypoints_camera + 0.01)
    assert failed(scene, body, moved) == ["repetition"]


def test_nobody_in_the_picture(scene):
    (finding,) = examine_bodies(scene, (), ())
    assert finding.verdict is Verdict.FAILED


def test_too_few_people(scene, body):
    two = replace(scene, boxes=scene.boxes * 2)
    assert failed(two, body) == ["people"]
