"""The forms of folder that hold labelled photographs and clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwire_client.evaluation import find_clips, find_photographs


def write_grey(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file)


def write_picture(file: Path, size: tuple[int, int] = (30, 20), **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(file, **options)


def label_map(*labels: int) -> np.ndarray:
    """20 x 30 pixels with a column of each label, one after another from the left."""
    drawn = np.zeros((20, 30), dtype=np.uint8)
    for number, label in enumerate(labels):
        drawn[5:10, 4 * number : 4 * number + 3] = label
    return drawn


def test_photographs(tmp_path: Path) -> None:
    for scene in ("b", "a"):
        write_picture(tmp_path / scene / "image.jpg")
    for name in ("10", "2", "cup"):
        write_grey(tmp_path / "a" / f"{name}.png", label_map(127, 128, 255))
    write_grey(tmp_path / "b" / "0.png", label_map(255))
    first, second = find_photographs(tmp_path)
    assert (first.name, second.name) == ("a", "b")
    assert [labelled.name for labelled in first.objects] == ["2", "10", "cup"]
    mask = first.objects[0].read()
    assert mask.dtype == np.bool_
    assert int(mask.sum()) == 2 * 15  # what is brighter than half
    assert find_clips(tmp_path) == ()


def test_photographs_are_taken_as_they_are_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    write_picture(tmp_path / "a" / "image.jpg", size=(20, 30), exif=exif)
    write_grey(tmp_path / "a" / "0.png", label_map(255))
    assert find_photographs(tmp_path)[0].objects[0].read().shape == (20, 30)


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "a" / "image.jpg", size=(31, 20))
    write_grey(tmp_path / "a" / "7.png", label_map(255))
    with pytest.raises(ValueError, match=r"7\.png is 30 x 20 px, and its picture 31 x 20 px"):
        find_photographs(tmp_path)


def test_a_photograph_without_masks_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "street" / "image.jpg")
    with pytest.raises(ValueError, match="street holds no masks"):
        find_photographs(tmp_path)


def write_clip(
    frames: Path, maps: Path, *labels: int, count: int = 5, palette: bool = True
) -> None:
    for number in range(count):
        write_picture(frames / f"{number:05d}.jpg")
        picture = Image.fromarray(label_map(*labels))
        if palette:
            picture = picture.convert("P")
            picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        maps.mkdir(parents=True, exist_ok=True)
        picture.save(maps / f"{number:05d}.png")


def test_clips(tmp_path: Path) -> None:
    write_clip(tmp_path / "b", tmp_path / "b" / "masks", 1)
    write_clip(tmp_path / "a", tmp_path / "a" / "masks", 1, 2, palette=False)
    first, second = find_clips(tmp_path)
    assert (first.name, second.name) == ("a", "b")
    assert [file.name for file in first.frames] == [f"{number:05d}.jpg" for number in range(5)]
    assert first.object_labels() == (1, 2)
    assert first.scored_frames == (1, 2, 3)
    assert np.array_equal(first.labels(2), label_map(1, 2))
    assert find_photographs(tmp_path) == ()


def test_the_layout_of_davis(tmp_path: Path) -> None:
    for resolution in ("Full-Resolution", "480p"):
        for name in ("bear", "dance"):
            maps = tmp_path / "Annotations" / resolution / name
            write_clip(tmp_path / "JPEGImages" / resolution / name, maps, 1, 2)
    write_clip(tmp_path / "JPEGImages" / "480p" / "unlabelled", tmp_path / "elsewhere", 1)
    clips = find_clips(tmp_path)
    assert [clip.name for clip in clips] == ["bear", "dance"]
    assert "480p" in str(clips[0].frames[0])
    assert np.array_equal(clips[0].labels(0), label_map(1, 2))


def test_255_is_the_object_only_where_it_is_the_only_label(tmp_path: Path) -> None:
    write_clip(tmp_path / "a", tmp_path / "a" / "masks", 255, palette=False)
    write_clip(tmp_path / "b", tmp_path / "b" / "masks", 1, 255, palette=False)
    assert [clip.object_labels() for clip in find_clips(tmp_path)] == [(255,), (1,)]


def test_frames_without_labels_do_not_count(tmp_path: Path) -> None:
    write_clip(tmp_path / "a", tmp_path / "a" / "masks", 1)
    (tmp_path / "a" / "masks" / "00002.png").unlink()
    assert find_clips(tmp_path)[0].scored_frames == (1, 3)


@pytest.mark.parametrize(
    ("count", "missing", "message"),
    [(2, [], "between its first and its last"), (5, [0], "no label map for its first frame")],
)
def test_clips_that_cannot_be_measured_are_named(
    tmp_path: Path, count: int, missing: list[int], message: str
) -> None:
    write_clip(tmp_path / "walk", tmp_path / "walk" / "masks", 1, count=count)
    for frame in missing:
        (tmp_path / "walk" / "masks" / f"{frame:05d}.png").unlink()
    with pytest.raises(ValueError, match=f"the clip walk .*{message}"):
        find_clips(tmp_path)


def test_coloured_label_maps_are_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "a", tmp_path / "a" / "masks", 1)
    write_picture(tmp_path / "a" / "masks" / "00003.png")
    with pytest.raises(ValueError, match=r"00003\.png is no label map"):
        find_clips(tmp_path)
