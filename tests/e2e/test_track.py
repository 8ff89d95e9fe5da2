"""`maskwire track` as users run it, on the embedded default and clips of known content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from maskwire_server.domain.geometry import ImageSize
from tests.support import videos
from tests.support.clips import Clip, make_clip, write_mp4

Run = Callable[..., tuple[int, str, str]]

FRAMES = 6
SIZE = ImageSize(160, 120)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Two objects cut from photographs that move over a third one, seen by a camera that moves."""
    return make_clip(7, FRAMES, SIZE, objects=2)


@pytest.fixture(scope="module")
def video(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mp4(clip, tmp_path_factory.mktemp("clip") / "clip.mp4")


def box_of(clip: Clip, object_id: int, frame: int = 0) -> str:
    rows, columns = np.nonzero(clip.masks[frame][object_id])
    return f"{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"


def pictures(file: Path) -> list[np.ndarray]:
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def read_json(file: Path) -> Any:
    return json.loads(file.read_text())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_clip_gives_an_overlay_masks_and_a_contact_sheet(
    run: Run, server: str, clip: Clip, video: Path, tmp_path: Path
) -> None:
    prompts = ["--box", f"{box_of(clip, 1)}@1", "--box", f"{box_of(clip, 2, 2)}@2#2"]
    code, output, _ = run("track", video, *prompts, "--server", server, "--out", tmp_path)
    assert code == 0
    assert "maskwire-nano" in output
    assert f"{FRAMES} frames" in output
    assert str(tmp_path / "overlay.mp4") in output

    document = COCO(str(tmp_path / "masks.json"))
    images = document.loadImgs(document.getImgIds())
    assert [image["frame_index"] for image in images] == list(range(FRAMES))
    by_object: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for entry in document.loadAnns(document.getAnnIds()):
        bitmap = document.annToMask(entry)
        assert bitmap.shape == (SIZE.height_px, SIZE.width_px)
        assert int(bitmap.sum()) == entry["area"]
        assert (entry["area"] == 0) == (entry["state"] == "lost")
        by_object[entry["object_id"]].append(entry)
    assert [entry["frame_index"] for entry in by_object[1]] == list(range(FRAMES))
    assert [entry["frame_index"] for entry in by_object[2]] == list(range(2, FRAMES))
    first = document.annToMask(by_object[1][0]).astype(bool)
    assert (first & clip.masks[0][1]).sum() > 0.3 * (first | clip.masks[0][1]).sum()

    overlay = pictures(tmp_path / "overlay.mp4")
    assert len(overlay) == FRAMES
    changed = np.abs(overlay[0].astype(int) - clip.frames[0]).mean(axis=2)
    assert changed[first].mean() > 3 * changed[~first].mean()
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width > 3 * 300


def test_a_part_backward_and_forward_as_a_gif(
    run: Run, server: str, clip: Clip, video: Path, tmp_path: Path
) -> None:
    options = ["--frame", "3", "--direction", "both", "--start", "1", "--stride", "2"]
    prompts = ["--box", box_of(clip, 1, 3)]
    code, output, _ = run(
        "track", video, *prompts, *options, "--server", server, "--gif", "--json", "--out", tmp_path
    )
    assert code == 0
    document = json.loads(output)
    assert [image["frame_index"] for image in document["images"]] == [1, 3, 5]
    assert len(pictures(tmp_path / "overlay.gif")) == 3
    assert {Path(file).name for file in document["files"]} == {
        "overlay.gif",
        "masks.json",
        "contact-sheet.png",
    }


def test_json_without_a_folder_writes_nothing(
    run: Run, server: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prompts = ["--point", "80,60@4", "--end", "1", "--format", "polygons"]
    code, output, _ = run("track", video, *prompts, "--server", server, "--json")
    assert code == 0
    assert {entry["object_id"] for entry in json.loads(output)["annotations"]} == {4}
    assert list(tmp_path.iterdir()) == []


def test_a_broken_video_leaves_what_was_decoded(run: Run, server: str, tmp_path: Path) -> None:
    whole = videos.index_first(videos.squares_video(24, keyframe_every=4))
    file = tmp_path / "cut.mp4"
    file.write_bytes(videos.cut_in_data(whole, 0.6))
    out = tmp_path / "out"
    code, _, messages = run(
        "track", file, "--box", "0,8,16,24", "--server", server, "--out", out, "--format", "png"
    )
    assert code == 8
    assert "DATA_LOSS" in messages
    document = read_json(out / "masks.json")
    count = len(document["images"])
    assert 0 < count < 24
    assert document["videos"][0]["is_complete"] is False
    assert len(pictures(out / "overlay.mp4")) == count
    assert len(list((out / "masks").iterdir())) == count
    assert (out / "contact-sheet.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        ([], 2, "maskwire track clip.mp4 --point"),
        (["--point", "4"], 2, "#FRAME"),
        (["--point", "500,30"], 3, "prompts[0]"),
        (["--point", "4,4#99"], 3, "prompts[0]"),
        (["--text", "a wheel"], 6, "text"),
        (["--point", "4,4", "--model", "absent"], 4, "absent"),
        (["--point", "4,4", "--direction", "up"], 2, "up"),
    ],
)
def test_failures_have_their_exit_codes(
    run: Run, server: str, video: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    code, output, messages = run("track", video, *arguments, "--server", server, "--json")
    assert code == exit_code
    assert message in messages
    assert output == ""


def test_videos_that_cannot_be_read(run: Run, server: str, tmp_path: Path) -> None:
    code, _, messages = run("track", tmp_path / "absent.mp4", "--point", "1,1")
    assert code == 2
    assert "absent.mp4" in messages
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    out = tmp_path / "out"
    assert run("track", broken, "--point", "1,1", "--server", server, "--out", out)[0] == 3
    assert not out.exists()
