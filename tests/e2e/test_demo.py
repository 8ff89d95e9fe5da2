"""`maskwire demo`: what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trimesh
from PIL import Image
from pycocotools import mask as pycocotools_mask

from maskwire_client.cli.demo_pictures import PHOTOGRAPHS


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_demo_leaves_a_picture_masks_an_object_in_3d_and_a_summary(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "maskwire_client.cli", "demo", "--local", "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "maskwire-nano" in result.stdout
    assert "overlay.png" in result.stdout
    assert "turntable.png" in result.stdout
    with Image.open(tmp_path / "reconstruction" / "turntable.png") as turntable:
        assert turntable.width > 400
    mesh = trimesh.load_mesh(tmp_path / "reconstruction" / "scene.glb")
    assert len(mesh.faces) > 1000
    assert (tmp_path / "reconstruction" / "scene.ply").read_bytes().startswith(b"ply")
    with Image.open(tmp_path / "overlay.png") as overlay:
        assert overlay.height > 400
    document = json.loads((tmp_path / "masks.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [
        photograph.file_name for photograph in PHOTOGRAPHS
    ]
    for image in document["images"]:
        annotations = [
            entry for entry in document["annotations"] if entry["image_id"] == image["id"]
        ]
        assert sorted(entry["object_id"] for entry in annotations) == [1, 2, 3]
        for entry in annotations:
            bitmap = pycocotools_mask.decode(entry["segmentation"])
            assert bitmap.shape == (image["height"], image["width"])
            assert int(bitmap.sum()) == entry["area"] > 0
            assert 0 <= entry["score"] <= 1
        with Image.open(tmp_path / image["file_name"]) as photograph:
            assert photograph.size == (image["width"], image["height"])
