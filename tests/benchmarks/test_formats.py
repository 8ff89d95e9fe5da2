"""What making the files of a reconstruction costs, and how large they are.

Measured on one object of about 200,000 triangles, a texture of 1024² and 60,000 splats, which is
what the embedded engine makes of a large mask at most. No time is a pass or a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import cv2
import numpy as np
import pytest
from skimage import data

from maskwire_server.domain.pictures import PictureFormat, encode_picture
from maskwire_server.domain.reconstruction.formats.artifacts import object_artifacts
from maskwire_server.domain.reconstruction.formats.glb import scene_to_glb
from maskwire_server.domain.reconstruction.formats.ply import (
    place_splats,
    splats_from_ply,
    splats_to_ply,
)
from maskwire_server.domain.reconstruction.formats.scene import unplaced
from maskwire_server.domain.reconstruction.formats.turntable import turntable_png
from maskwire_server.domain.reconstruction.geometry import Mesh
from tests.benchmarks.measuring import measure_in_turn, report
from tests.support.reconstructed_shapes import (
    HALF_TURN_X,
    details,
    scene_of,
    sphere,
    splats_of,
    textured,
)

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

SPLATS = 60_000
TRIANGLES = 200_000

Result = TypeVar("Result")


def large_mesh() -> Mesh:
    """Most of a sphere of 327,680 triangles: its sides left and right are cut away."""
    whole = sphere(7)
    middles = whole.vertices[whole.faces].mean(axis=1)
    kept = np.argsort(np.abs(middles[:, 0]), kind="stable")[:TRIANGLES]
    used, faces = np.unique(whole.faces[kept], return_inverse=True)
    mesh = Mesh(whole.vertices[used], faces.reshape(-1, 3).astype(np.int32))
    return textured(mesh, cv2.resize(data.astronaut(), (1024, 1024)))


def ignoring_round(call: Callable[[], Result], _: int) -> Result:
    return call()


def test_files_of_one_object():
    mesh, splats = large_mesh(), splats_of(SPLATS)
    placed = [unplaced(mesh, "object_000")]
    scene = scene_of(mesh, splat_count=SPLATS)
    pose = scene.objects[0].pose
    sheared = replace(pose, scale=np.array([1.0, 1.1, 1.2]), rotation=HALF_TURN_X)
    ply = splats_to_ply(splats)
    calls: dict[str, Callable[[], object]] = {
        "GLB": partial(scene_to_glb, placed),
        "turntable": partial(turntable_png, placed),
        "splats to PLY": partial(splats_to_ply, splats),
        "splats from PLY": partial(splats_from_ply, ply),
        "splats placed": partial(place_splats, splats, pose),
        "splats placed, three scales": partial(place_splats, splats, sheared),
        "all files": lambda: list(object_artifacts(scene, details(1))),
    }
    rows = measure_in_turn(
        {name: partial(ignoring_round, call) for name, call in calls.items()},
        rounds=7,
        warm_up=1,
    )
    sizes = {
        file.file_name: f"{len(file.data) / 1e6:.2f} MB"
        for file in object_artifacts(scene, details(1))
    }
    report(f"Files of {TRIANGLES} triangles and {SPLATS} splats", rows, sizes)


def test_texture_formats():
    texture = cv2.resize(data.astronaut(), (1024, 1024))
    calls = {
        "JPEG 85": partial(encode_picture, texture, PictureFormat.JPEG, 85),
        "JPEG 90": partial(encode_picture, texture, PictureFormat.JPEG, 90),
        "JPEG 95": partial(encode_picture, texture, PictureFormat.JPEG, 95),
        "PNG": partial(encode_picture, texture, PictureFormat.PNG),
    }
    rows = measure_in_turn(
        {name: partial(ignoring_round, call) for name, call in calls.items()},
        rounds=20,
        warm_up=2,
    )
    notes = {name: f"{len(call()) / 1e3:.0f} kB" for name, call in calls.items()}
    report("A texture of 1024 x 1024", rows, notes)
