"""`maskwire doctor` on the real engine `inflate` and on stand-ins of SAM 3D's packages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwire_client.cli import main
from tests.support.sam3d_upstream import install_body, install_objects, pretend_cuda


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict, str]:
    """Run the command; return its exit code, its findings by title and subject, and the errors."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", *arguments])
    captured = capsys.readouterr()
    reports = json.loads(captured.out) if captured.out else {}
    found = {
        title: {one["subject"]: (one["verdict"], one["detail"]) for one in findings}
        for title, findings in reports.items()
    }
    return int(ended.value.code or 0), found, captured.err


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MASKWIRE_STORAGE__FOLDER", str(tmp_path / "files"))
    monkeypatch.setenv("MASKWIRE_JOBS__DATABASE", str(tmp_path / "jobs.sqlite"))
    monkeypatch.setenv("MASKWIRE_RECONSTRUCTION__MESH_RESOLUTION_PX", "64")
    monkeypatch.setenv("MASKWIRE_RECONSTRUCTION__TEXTURE_PX", "64")
    monkeypatch.setenv("MASKWIRE_RECONSTRUCTION__MAX_SPLATS", "2000")


def test_inflate_is_well(capsys):
    code, found, _ = doctor(capsys, "inflate")
    verdicts = {verdict for verdict, _ in found["inflate"].values()}
    assert (code, verdicts) == (0, {"passed"})
    assert "silhouettes" in found["inflate"]


def test_sam3d_objects_on_its_stand_in(capsys, monkeypatch, tmp_path):
    pretend_cuda(monkeypatch)
    upstream = install_objects(monkeypatch, tmp_path / "checkpoint")
    monkeypatch.setenv("MASKWIRE_RECONSTRUCTION__SAM3D_OBJECTS_CONFIG", str(upstream.config))
    code, found, errors = doctor(capsys, "sam3d-objects")
    assert {one for one, _ in found["sam3d-objects"].values()} == {"passed"}, found
    assert code == 0, errors
    assert "point_map > sparse_structure" in found["sam3d-objects"]["progress"][1]


def test_sam3d_body_on_its_stand_in(capsys, monkeypatch, tmp_path):
    pretend_cuda(monkeypatch)
    upstream = install_body(monkeypatch, tmp_path / "checkpoint")
    monkeypatch.setenv("MASKWIRE_RECONSTRUCTION__SAM3D_BODY_CHECKPOINT", str(upstream.checkpoint))
    monkeypatch.setenv("MASKWIRE_RECONSTRUCTION__SAM3D_BODY_RIG", str(upstream.rig))
    code, found, errors = doctor(capsys, "sam3d-body")
    assert {one for one, _ in found["sam3d-body"].values()} == {"passed"}, found
    assert code == 0, errors


def test_an_engine_that_fails_shows_where(capsys, monkeypatch, tmp_path):
    from tests.support import sam3d_objects_upstream

    def fail(*_: object) -> None:
        raise KeyError("no such latents")

    pretend_cuda(monkeypatch)
    upstream = install_objects(monkeypatch, tmp_path / "checkpoint")
    monkeypatch.setenv("MASKWIRE_RECONSTRUCTION__SAM3D_OBJECTS_CONFIG", str(upstream.config))
    pipeline = sam3d_objects_upstream.InferencePipelinePointMap
    monkeypatch.setattr(pipeline, "decode_slat", fail)
    code, found, errors = doctor(capsys, "sam3d-objects")
    verdict, detail = found["sam3d-objects"]["run"]
    assert (code, verdict) == (5, "failed")
    assert "no such latents" in detail
    assert "run" in errors


def test_what_cannot_be_loaded_says_what_would_help(capsys):
    code, found, _ = doctor(capsys, "all")
    assert code == 5
    assert set(found) >= {"inflate", "sam3d-body", "sam3d-objects"}
    verdict, detail = found["sam3d-objects"]["load"]
    assert verdict == "failed"
    assert "pipeline.yaml" in detail
    assert found["inflate"]["run"][0] == "passed"


def test_an_own_picture(capsys, tmp_path):
    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    Image.new("RGB", (60, 40), (90, 120, 30)).save(picture)
    drawn = np.zeros((40, 60), np.uint8)
    drawn[10:30, 20:50] = 255
    Image.fromarray(drawn).save(mask)
    options = ("--image", str(picture), "--mask", str(mask))
    code, found, _ = doctor(capsys, "inflate", *options)
    assert code == 0
    assert "picture.png, 60 x 40" in found["inflate"]["run"][1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "installed: inflate"),
        (["inflate", "--image", "/nowhere.png"], "/nowhere.png cannot be read"),
        (["inflate", "--mask", "mask.png"], "--mask an --image"),
    ],
)
def test_wrong_usage(capsys, arguments, words):
    code, found, errors = doctor(capsys, *arguments)
    assert (code, found) == (2, {})
    assert words in errors.replace("\n", " ")


def test_the_installation_is_well(capsys, tmp_path):
    code, found, errors = doctor(capsys)
    seen = found["the installation"]
    assert code == 0, errors
    assert "loaded" in seen["model maskwire-nano"][1]
    assert seen["engine inflate"][0] == "passed"
    assert "deleted" in seen["file store"][1]
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


def test_what_the_installation_lacks(capsys, monkeypatch):
    monkeypatch.setenv("MASKWIRE_STORAGE__FOLDER", "/proc/nowhere")
    monkeypatch.setenv("MASKWIRE_JOBS__DATABASE", "/proc/nowhere/jobs.sqlite")
    monkeypatch.setenv("MASKWIRE_RECONSTRUCTION__BODY_MODELS", '["sam3d-body"]')
    code, found, _ = doctor(capsys)
    failed = [
        name for name, (verdict, _) in found["the installation"].items() if verdict == "failed"
    ]
    assert code == 5
    assert failed == ["engine sam3d-body", "file store", "jobs"]
