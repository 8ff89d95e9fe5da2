"""What the metadata says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from maskwire_server.domain.reconstruction.formats.metadata import (
    FileEntry,
    body_metadata,
    object_metadata,
)
from maskwire_server.domain.reconstruction.requests import ArtifactKind
from tests.support.reconstructed_shapes import body, box, details, scene_of, triangle

FILES = [
    FileEntry("scene.glb", ArtifactKind.SCENE_MESH, None, "model/gltf-binary", 12, "ab" * 32),
    FileEntry("object_001.glb", ArtifactKind.OBJECT_MESH, 1, "model/gltf-binary", 9, "cd" * 32),
]


def test_objects_stand_where_the_scene_has_them() -> None:
    document = json.loads(object_metadata(scene_of(box(), triangle()), details(2), FILES))
    assert document["result"] == "objects"
    assert document["objects"][1] == {
        "index": 1,
        "name": "object_001",
        "scale": [0.5, 0.5, 0.5],
        "rotation": {"x": 1.0, "y": 0.0, "z": 0.0, "w": 0.0},
        "translation": [0.6, 0.0, 4.0],
        "box": {"x_min": 10.0, "y_min": 0.0, "x_max": 18.5, "y_max": 20.0},
        "vertex_count": 3,
        "triangle_count": 1,
        "splat_count": 50,
    }
    assert document["camera_pose"] == np.eye(4).tolist()
    assert document["intrinsics"]["focal_length_y_px"] == 510.0
    assert document["seed"] == 7
    assert document["model"] == {"name": "inflate", "checkpoint_digest": ""}
    assert document["image"]["width_px"] == 640


def test_lengths_are_metres_only_where_the_scene_says_so() -> None:
    scene = scene_of(box())
    metric = json.loads(object_metadata(scene, details(1), []))
    assert (metric["is_metric"], metric["unit"]) == (True, "metres")
    other = json.loads(object_metadata(replace(scene, is_metric=False), details(1), []))
    assert other["is_metric"] is False
    assert "metres" not in other["unit"]


def test_files_are_listed() -> None:
    document = json.loads(object_metadata(scene_of(box()), details(1), FILES))
    assert document["files"] == [
        {
            "file_name": "scene.glb",
            "kind": "scene_mesh",
            "content_type": "model/gltf-binary",
            "size_bytes": 12,
            "sha256": "ab" * 32,
        },
        {
            "file_name": "object_001.glb",
            "kind": "object_mesh",
            "index": 1,
            "content_type": "model/gltf-binary",
            "size_bytes": 9,
            "sha256": "cd" * 32,
        },
    ]


def test_people_have_keypoints_and_how_they_were_aligned() -> None:
    people = [body(0), replace(body(1), alignment=None)]
    document = json.loads(body_metadata(people, details(2), []))
    first, second = document["bodies"]
    assert first["keypoints_camera"] == people[0].keypoints_camera.tolist()
    assert np.shape(first["keypoints_image"]) == (70, 2)
    assert first["alignment"] == {
        "scale_factor": 1.25,
        "translation": [0.0, 0.0, 0.5],
        "focal_length_px": 790.0,
        "target_point_count": 1234,
        "cropped_vertex_count": 567,
    }
    assert second["alignment"] is None
    assert document["is_metric"] is False
    assert json.loads(body_metadata([], replace(details(0), is_metric=True), []))["is_metric"]


def test_numbers_are_finite() -> None:
    scene = scene_of(box())
    scene.objects[0].pose.translation[0] = np.nan
    with pytest.raises(ValueError, match="JSON"):
        object_metadata(scene, details(1), [])


def test_there_is_a_box_for_each_object() -> None:
    with pytest.raises(ValueError, match="zip"):
        object_metadata(scene_of(box()), details(2), [])
