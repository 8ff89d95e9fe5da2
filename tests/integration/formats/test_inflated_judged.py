"""Everything that the embedded engine makes of the demo's photograph, before the same judges."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from skimage import data

from maskwire_server.domain.reconstruction.engine import (
    ObjectScene,
    ReconstructedScene,
    ReconstructionSpecification,
)
from maskwire_server.domain.reconstruction.formats.artifacts import object_artifacts
from maskwire_server.domain.reconstruction.formats.turntable import VIEW_PX
from maskwire_server.engines.inflate.engine import InflateEngine
from tests.support.gltf_judges import require_judge, transform_splats, validate_gltf
from tests.support.reconstructed_shapes import details


def coffee_masks() -> tuple[np.ndarray, ...]:
    """The saucer with its cup, and the coffee in it."""
    saucer, coffee = np.zeros((2, 400, 600), dtype=np.uint8)
    cv2.ellipse(saucer, (280, 215), (200, 150), 0, 0, 360, 1, -1)
    cv2.ellipse(coffee, (285, 150), (85, 60), 0, 0, 360, 1, -1)
    return saucer > 0, coffee > 0


def nothing(stage: str, fraction: float) -> None:
    """Hear a report and do nothing."""


@pytest.fixture(scope="module")
def scene() -> ReconstructedScene:
    """The objects."""
    engine = InflateEngine(ReconstructionSpecification("inflate"))
    return engine.reconstruct(ObjectScene(data.coffee(), coffee_masks(), None, None, 0), nothing)


@pytest.fixture(scope="module")
def folder(scene: ReconstructedScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All the files."""
    folder = tmp_path_factory.mktemp("coffee")
    for file in object_artifacts(scene, details(2)):
        (folder / file.file_name).write_bytes(file.data)
    return folder


def test_the_validator_finds_no_fault(folder: Path) -> None:
    require_judge("gltf-validator")
    reports = validate_gltf(sorted(folder.glob("*.glb")))
    assert len(reports) == 3
    for report in reports:
        assert report["issues"]["numErrors"] == 0
        assert report["issues"]["numWarnings"] == 0
        # Textures are of the object's size.
        found = {one["code"] for one in report["issues"]["messages"]}
        assert found <= {"IMAGE_NPOT_DIMENSIONS"}


def test_splat_transform_reads_every_splat(folder: Path, tmp_path: Path) -> None:
    require_judge("@playcanvas/splat-transform")
    counts = {}
    for path in sorted(folder.glob("*.ply")):
        table = tmp_path / f"{path.stem}.csv"
        transform_splats(path, "--filter-nan", table)
        counts[path.stem] = len(table.read_text().splitlines()) - 1
    assert counts["scene"] == counts["object_000"] + counts["object_001"]
    assert counts["object_001"] > 1000


def test_trimesh_finds_closed_surfaces(scene: ReconstructedScene, folder: Path) -> None:
    for index, one in enumerate(scene.objects):
        content = (folder / f"object_{index:03d}.glb").read_bytes()
        read = trimesh.load(io.BytesIO(content), file_type="glb", process=False)
        assert isinstance(read, trimesh.Scene)
        (mesh,) = read.geometry.values()
        assert np.array_equal(mesh.vertices, one.mesh.vertices)
        assert mesh.is_watertight
        assert mesh.volume > 0


def test_the_first_view_looks_like_the_photograph(folder: Path) -> None:
    sheet = np.asarray(cv2.imread(str(folder / "turntable.png")))[:, :, ::-1]
    view = sheet[:VIEW_PX, :VIEW_PX].astype(float)
    seen = np.abs(view - view[0, 0]).max(axis=2) > 12
    mask = coffee_masks()[0]
    ours, theirs = (
        cv2.resize(cut_out(pixels, where), (24, 24), interpolation=cv2.INTER_AREA)
        for pixels, where in ((view, seen), (data.coffee().astype(float), mask))
    )
    upright = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
    others = [ours[:, ::-1], ours[::-1], ours[::-1, ::-1]]
    assert upright > 0.8
    assert upright > max(np.corrcoef(one.ravel(), theirs.ravel())[0, 1] for one in others) + 0.03


def cut_out(pixels: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the box of an object, black around it."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    cut: np.ndarray = pixels[box] * where[box][..., None]
    return cut


def test_the_archive_holds_the_metadata_of_all(folder: Path) -> None:
    with zipfile.ZipFile(folder / "reconstruction.zip") as archive:
        document = json.loads(archive.read("metadata.json"))
        assert set(archive.namelist()) == {path.name for path in folder.iterdir()} - {
            "reconstruction.zip"
        }
    assert [one["splat_count"] > 1000 for one in document["objects"]] == [True, True]
