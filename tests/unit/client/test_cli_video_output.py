"""Video files that the command line writes, as PyAV reads them again."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from maskwire_client.cli.video_output import GifWriter, Mp4Writer, VideoWriter


def picture(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A dark picture with a light square that moves."""
    pixels = np.full((height, width, 3), 40, dtype=np.uint8)
    pixels[20:40, 4 * number : 4 * number + 20] = (86, 180, 233)
    return pixels


def read(file: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(file)) as container:
        return [
            (float(frame.time or 0), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize(("writer", "suffix"), [(Mp4Writer, "mp4"), (GifWriter, "gif")])
def test_pictures_come_back_at_their_times(
    tmp_path: Path, writer: type[VideoWriter], suffix: str
) -> None:
    file = tmp_path / f"video.{suffix}"
    times = [0.0, 0.1, 0.2, 0.5, 0.6]
    with writer(file) as video:
        for number, time_s in enumerate(times):
            video.add(picture(number), time_s)
    frames = read(file)
    assert [time_s for time_s, _ in frames] == pytest.approx(times, abs=0.011)
    for number, (_, pixels) in enumerate(frames):
        assert np.abs(pixels.astype(int) - picture(number)).mean() < 6


def test_times_that_do_not_grow_are_moved(tmp_path: Path) -> None:
    with Mp4Writer(tmp_path / "video.mp4") as video:
        for number in range(4):
            video.add(picture(number), 1.0)
    times = [time_s for time_s, _ in read(tmp_path / "video.mp4")]
    assert len(times) == 4
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


def test_odd_sides_gain_a_pixel(tmp_path: Path) -> None:
    with Mp4Writer(tmp_path / "video.mp4") as video:
        video.add(picture(0, 95, 63), 0.0)
    ((_, pixels),) = read(tmp_path / "video.mp4")
    assert pixels.shape == (64, 96, 3)


def test_wide_gifs_are_made_smaller(tmp_path: Path) -> None:
    with GifWriter(tmp_path / "video.gif") as video:
        video.add(picture(0, 960, 480), 0.0)
    ((_, pixels),) = read(tmp_path / "video.gif")
    assert pixels.shape == (240, 480, 3)


def test_what_came_before_a_failure_can_be_seen(tmp_path: Path) -> None:
    with suppress(RuntimeError), Mp4Writer(tmp_path / "video.mp4") as video:
        video.add(picture(0), 0.0)
        raise RuntimeError
    assert len(read(tmp_path / "video.mp4")) == 1


def test_colours_of_objects_that_appear_later_are_kept(tmp_path: Path) -> None:
    grey = np.full((64, 96, 3), 100, dtype=np.uint8)
    later = grey.copy()
    later[10:50, 10:80] = (230, 159, 0)
    with GifWriter(tmp_path / "video.gif") as video:
        video.add(grey, 0.0)
        video.add(later, 0.1)
    (_, (_, pixels)) = read(tmp_path / "video.gif")
    red, green, blue = pixels[30, 40].astype(int)
    assert red > green > blue
    assert red - blue > 60
