"""The files of a result: which there are, in which order, and what the archive holds."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from maskwire_server.domain.reconstruction.formats import artifacts
from maskwire_server.domain.reconstruction.formats.artifacts import (
    ArtifactFile,
    body_artifacts,
    object_artifacts,
)
from maskwire_server.domain.reconstruction.formats.ply import place_splats, splats_from_ply
from maskwire_server.domain.reconstruction.requests import ArtifactKind
from tests.support.reconstructed_shapes import (
    body,
    box,
    coloured,
    details,
    quarters,
    scene_of,
    sphere,
    textured,
)


def scene_files() -> list[ArtifactFile]:
    scene = scene_of(textured(sphere(), quarters()), coloured(box()))
    return list(object_artifacts(scene, details(2)))


def test_the_scene_comes_first_and_the_archive_last() -> None:
    assert [(one.kind, one.index, one.file_name) for one in scene_files()] == [
        (ArtifactKind.SCENE_SPLATS, None, "scene.ply"),
        (ArtifactKind.SCENE_MESH, None, "scene.glb"),
        (ArtifactKind.OBJECT_SPLATS, 0, "object_000.ply"),
        (ArtifactKind.OBJECT_MESH, 0, "object_000.glb"),
        (ArtifactKind.OBJECT_SPLATS, 1, "object_001.ply"),
        (ArtifactKind.OBJECT_MESH, 1, "object_001.glb"),
        (ArtifactKind.TURNTABLE, None, "turntable.png"),
        (ArtifactKind.METADATA, None, "metadata.json"),
        (ArtifactKind.ARCHIVE, None, "reconstruction.zip"),
    ]


def test_content_types_and_contents_agree() -> None:
    beginnings = {
        "application/octet-stream": b"ply\n",
        "model/gltf-binary": b"glTF",
        "image/png": b"\x89PNG",
        "application/json": b"{",
        "application/zip": b"PK",
    }
    for file in scene_files():
        assert file.data.startswith(beginnings[file.content_type])


def test_the_archive_holds_all_others() -> None:
    *others, archive = scene_files()
    with zipfile.ZipFile(io.BytesIO(archive.data)) as read:
        assert read.testzip() is None
        assert {name: read.read(name) for name in read.namelist()} == {
            one.file_name: one.data for one in others
        }


def test_the_metadata_lists_all_before_it() -> None:
    *others, metadata, _ = scene_files()
    listed = {one["file_name"]: one for one in json.loads(metadata.data)["files"]}
    assert list(listed) == [one.file_name for one in others]
    for file in others:
        entry = listed[file.file_name]
        assert entry["sha256"] == hashlib.sha256(file.data).hexdigest()
        assert entry["size_bytes"] == len(file.data)


def test_the_same_result_gives_the_same_bytes() -> None:
    assert [one.data for one in scene_files()] == [one.data for one in scene_files()]


def test_splats_of_the_scene_stand_in_the_camera_frame() -> None:
    scene = scene_of(box(), sphere())
    files = {one.file_name: one.data for one in object_artifacts(scene, details(2))}
    together = splats_from_ply(files["scene.ply"])
    alone = splats_from_ply(files["object_001.ply"])
    placed = place_splats(alone, scene.objects[1].pose)
    assert np.allclose(together.positions[50:], placed.positions, atol=1e-6)
    assert together.positions[:, 2].min() > 3.4


def test_people_have_meshes_only() -> None:
    files = list(body_artifacts([body(0), body(1)], details(2)))
    assert [(one.kind, one.index) for one in files] == [
        (ArtifactKind.SCENE_MESH, None),
        (ArtifactKind.OBJECT_MESH, 0),
        (ArtifactKind.OBJECT_MESH, 1),
        (ArtifactKind.TURNTABLE, None),
        (ArtifactKind.METADATA, None),
        (ArtifactKind.ARCHIVE, None),
    ]
    assert files[1].file_name == "person_000.glb"


def test_nobody_in_the_picture_is_a_result_too() -> None:
    files = list(body_artifacts([], details(0)))
    assert files[0].kind is ArtifactKind.SCENE_MESH
    assert len(files) == 4


def test_files_are_made_when_they_are_asked_for() -> None:
    scene = scene_of(box())
    scene.objects[0].mesh.vertices[0] = np.nan
    files = object_artifacts(scene, details(1))
    assert next(files).kind is ArtifactKind.SCENE_SPLATS
    with pytest.raises(ValueError, match="object_000 must be finite"):
        next(files)


def test_an_archive_in_the_making_does_not_lie_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(artifacts, "_ARCHIVE_MEMORY_BYTES", 2**16)
    files = object_artifacts(scene_of(*[box()] * 40, splat_count=4000), details(40))
    tracemalloc.start()
    try:
        scene_splats, _ = len(next(files).data), next(files)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for file in files:
            if (file.kind, file.index) == (ArtifactKind.OBJECT_MESH, 39):
                break
            del file
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        files.close()  # type: ignore[attr-defined]
    assert scene_splats > 40 * 4000 * 68
    assert grown < scene_splats / 8
