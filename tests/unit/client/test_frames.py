"""Sources of frames, and their pace."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from maskwire_client import Camera, Frame, ImageFolder, VideoFile, paced


def write_video(path: Path, count: int = 5, rate: int = 10) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for number in range(count):
            pixels = np.full((16, 32, 3), 40 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def pixels(frame: Frame) -> np.ndarray:
    assert isinstance(frame.image, np.ndarray)
    return frame.image


def test_a_video_files_frames_in_order(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path)
    source = VideoFile(path)
    assert (source.frame_count, source.frames_per_second) == (5, 10.0)
    for _ in range(2):  # each iteration begins anew
        taken = list(source)
        assert [frame.frame_id for frame in taken] == [0, 1, 2, 3, 4]
        assert [pixels(frame).shape for frame in taken] == [(16, 32, 3)] * 5
        brightness = [float(pixels(frame).mean()) for frame in taken]
        assert brightness == sorted(brightness)
        beginning = datetime(1970, 1, 1, tzinfo=UTC)
        assert taken[3].capture_time == beginning + timedelta(seconds=0.3)


def test_files_that_are_no_video(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(ValueError, match="no video that FFmpeg reads"):
        list(VideoFile(path))
    with pytest.raises(FileNotFoundError):
        VideoFile(tmp_path / "absent.mp4")


def test_an_image_folder_gives_its_pictures_by_name_undecoded(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "c.jpg").mkdir()
    taken = list(ImageFolder(tmp_path))
    assert [(frame.image, frame.frame_id) for frame in taken] == [(b"a.jpg", 0), (b"b.PNG", 1)]
    with pytest.raises(NotADirectoryError):
        ImageFolder(tmp_path / "absent")


class FakeCapture:
    """A camera that gives two frames, in OpenCV's channel order."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.left = 2
        self.options: dict[int, float] = {}
        self.is_released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.index == 0

    def set(self, option: int, value: float) -> None:
        self.options[option] = value

    def read(self):
        self.left -= 1
        picture = np.zeros((4, 6, 3), dtype=np.uint8)
        picture[..., 0] = 255
        return self.left >= 0, picture

    def release(self) -> None:
        self.is_released = True


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> list[FakeCapture]:
    """OpenCV with cameras that need no hardware."""
    captures: list[FakeCapture] = []

    def capture(index: int) -> FakeCapture:
        captures.append(FakeCapture(index))
        return captures[-1]

    module = SimpleNamespace(
        VideoCapture=capture,
        CAP_PROP_BUFFERSIZE=38,
        CAP_PROP_FRAME_WIDTH=3,
        CAP_PROP_FRAME_HEIGHT=4,
    )
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    return captures


def test_a_camera_gives_rgb_until_it_ends(opencv: list[FakeCapture]) -> None:
    with Camera(0, width_px=640, height_px=480) as camera:
        taken = list(camera)
    assert [frame.frame_id for frame in taken] == [0, 1]
    assert pixels(taken[0])[0, 0].tolist() == [0, 0, 255]
    first, second = (frame.capture_time for frame in taken)
    assert first is not None
    assert second is not None
    assert first <= second
    assert opencv[0].options == {38: 1, 3: 640, 4: 480}
    assert opencv[0].is_released


def test_a_camera_that_is_not_there(opencv: list[FakeCapture]) -> None:
    with pytest.raises(OSError, match="camera 7"):
        Camera(7)
    assert opencv[0].is_released


@pytest.mark.parametrize(
    ("module", "make", "remedy"),
    [
        ("cv2", lambda path: Camera(0), "opencv-python-headless"),
        ("av", VideoFile, r"maskwire\[video\]"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, make, remedy: str
) -> None:
    original = importlib.import_module

    def without(name: str):
        if name == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ModuleNotFoundError, match=remedy) as raised:
        make(tmp_path)
    assert raised.value.name == module


class Clock:
    """Time that passes only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


def test_paced_frames_keep_the_rate_and_make_up_for_delays() -> None:
    clock = Clock()
    times = []
    for frame in paced([b"0", b"1", b"2", b"3", b"4"], 4.0, clock=clock, sleep=clock.sleep):
        times.append(clock.now_s - 100.0)
        if frame == b"1":
            clock.now_s += 0.6  # a consumer that is late
    assert times == pytest.approx([0, 0.25, 0.85, 0.85, 1.0])


def test_a_pace_is_greater_than_zero() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        paced([], 0.0)


def test_a_frame_stands_for_itself() -> None:
    assert Frame(b"x").frame_id is None
