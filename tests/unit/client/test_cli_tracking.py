"""What the command line makes of a tracked video: how objects fared, masks.json, pictures."""

from __future__ import annotations

import dataclasses
import struct
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycocotools_mask

from maskwire_client import (
    Box,
    CocoRleCounts,
    ImageInfo,
    ImageSize,
    ModelReference,
    ObjectState,
    Point,
    ProcessingInfo,
    Timings,
    TrackedMask,
    TrackProgress,
    VideoFrame,
    VideoInfo,
    VideoSummary,
    errors,
)
from maskwire_client.cli.drawing import overlay
from maskwire_client.cli.tracking_output import TrackingOutput
from maskwire_client.cli.tracking_pictures import painted_frames
from maskwire_client.cli.tracking_record import ObjectTrack, TrackingRecord, document
from maskwire_client.cli.video_output import Mp4Writer

SIZE = ImageSize(width_px=64, height_px=48)
SEEN, LOST, FOUND = ObjectState.TRACKED, ObjectState.LOST, ObjectState.FOUND_AGAIN
INFO = ProcessingInfo(
    models=(ModelReference("nano", "sha256:0"),),
    image=ImageInfo("", SIZE, ""),
    embedding_cached=False,
    timings=Timings(),
    request_id="r",
)


def bitmap(left: int) -> np.ndarray:
    pixels = np.zeros((SIZE.height_px, SIZE.width_px), dtype=np.bool_)
    pixels[10:30, left : left + 20] = True
    return pixels


def tracked(object_id: int, state: ObjectState, left: int = 5) -> TrackedMask:
    pixels = bitmap(left) if state is not LOST else np.zeros_like(bitmap(0))
    return TrackedMask(
        index=0,
        object_id=object_id,
        area_px=int(pixels.sum()),
        score=0.0 if state is LOST else 0.9,
        box=None if state is LOST else Box(left, 10, left + 20, 30),
        encoded=CocoRleCounts.encode(pixels),
        state=state,
    )


def frame(index: int, *masks: TrackedMask) -> VideoFrame:
    return VideoFrame(index, index / 10, masks, TrackProgress(index + 1, 0))


class Track(list[VideoFrame]):
    """Stands in for the call: frames, then the summary or an error."""

    info = VideoInfo(SIZE, 20, 10.0, timedelta(seconds=2), "sha256:1")
    summary: VideoSummary | None = None

    def __init__(self, *frames: VideoFrame, error: errors.MaskwireError | None = None) -> None:
        super().__init__(frames)
        self._error = error

    def __iter__(self):
        yield from super().__iter__()
        if self._error is not None:
            raise self._error
        self.summary = VideoSummary(INFO)


def record_of(*frames: VideoFrame) -> TrackingRecord:
    record = TrackingRecord()
    for _ in record.collect(Track(*frames)):  # type: ignore[arg-type]
        pass
    return record


def test_how_each_object_fared() -> None:
    states = [SEEN, LOST, LOST, FOUND, LOST, FOUND]
    frames = [frame(2 * number, tracked(3, state)) for number, state in enumerate(states)]
    frames[5] = frame(10, tracked(3, FOUND), tracked(1, SEEN))
    one, three = record_of(*frames).tracks()
    assert one == ObjectTrack(1, 1, 1, 0, (), 0.9)
    assert dataclasses.replace(three, mean_score=None) == ObjectTrack(
        3, 6, 3, 2, ((2, 4), (8, 8)), None
    )
    assert three.mean_score == pytest.approx(0.9)


def test_frames_are_put_in_order_and_the_first_of_two_stays() -> None:
    again = frame(4, tracked(1, LOST))
    record = record_of(frame(4, tracked(1, SEEN)), frame(5), again, frame(3))
    assert [one.frame_index for one in record.in_order()] == [3, 4, 5]
    assert record.tracks()[0].seen == 1


def test_what_came_before_a_failure_is_kept() -> None:
    record = TrackingRecord()
    broken = Track(frame(0, tracked(1, SEEN)), error=errors.DataLoss("broken"))
    with pytest.raises(errors.DataLoss):
        list(record.collect(broken))  # type: ignore[arg-type]
    assert list(record.frames) == [0]
    assert record.video == Track.info
    assert document(record, "a.mp4")["videos"][0]["is_complete"] is False


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_document_is_cocos_with_an_image_for_each_frame() -> None:
    record = record_of(frame(0, tracked(1, SEEN), tracked(2, SEEN, 30)), frame(2, tracked(1, LOST)))
    made: dict[str, Any] = document(record, "a.mp4")
    (video,) = made["videos"]
    assert video["is_complete"] is True
    assert video["frame_count"] == 20
    assert [(image["id"], image["frame_index"]) for image in made["images"]] == [(1, 0), (2, 2)]
    assert made["images"][1]["time_s"] == 0.2
    entries = made["annotations"]
    assert [(entry["image_id"], entry["object_id"], entry["state"]) for entry in entries] == [
        (1, 1, "tracked"),
        (1, 2, "tracked"),
        (2, 1, "lost"),
    ]
    assert len({entry["id"] for entry in entries}) == 3
    for entry in entries:
        encoded = entry["segmentation"]
        rle = pycocotools_mask.frPyObjects(encoded, *encoded["size"])
        assert int(pycocotools_mask.area(rle)) == entry["area"]


def write_video(file: Path, count: int, width: int = 64) -> Path:
    """A video whose frames are brighter and brighter, darker in the left half."""
    with Mp4Writer(file) as video:
        for number in range(count):
            pixels = np.full((SIZE.height_px, width, 3), 20 + 10 * number, dtype=np.uint8)
            pixels[:, : width // 2] //= 2
            video.add(pixels, number / 10)
    return file


def test_masks_are_painted_on_their_frames(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", 20)
    wanted = [frame(index, tracked(1, SEEN, 40)) for index in (3, 4, 11)]
    painted = list(painted_frames(file, wanted))
    assert [one.frame_index for one, _ in painted] == [3, 4, 11]
    for one, pixels in painted:
        grey = np.full((SIZE.height_px, SIZE.width_px, 3), 20 + 10 * one.frame_index, np.uint8)
        grey[:, :32] //= 2
        expected = overlay(grey, {1: bitmap(40)})
        assert np.abs(pixels.astype(int) - expected).mean() < 3


def test_a_video_that_breaks_off_gives_what_can_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert list(painted_frames(broken, [frame(0)])) == []


def turned(file: Path) -> Path:
    """The same video with a note that it is to be turned by a quarter, as phones write it."""
    data = bytearray(file.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = struct.pack(
        ">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30
    )
    file.write_bytes(data)
    return file


def test_frames_are_turned_as_the_video_says(tmp_path: Path) -> None:
    file = turned(write_video(tmp_path / "a.mp4", 2))
    ((_, pixels),) = painted_frames(file, [frame(1)])
    assert pixels.shape == (64, 48, 3)
    assert pixels[:30].mean() < pixels[34:].mean()


def test_all_files_are_written(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", 20)
    frames = [frame(index, tracked(1, SEEN), tracked(2, LOST)) for index in range(20)]
    output = TrackingOutput(tmp_path / "out", gif=False, mask_files=True)
    prompts: list[Point | Box] = [
        Point(10, 20, object_id=1, frame_index=0),
        Box(4, 4, 20, 20, frame_index=7),
    ]
    written = output.write(record_of(*frames), "a.mp4", file, prompts)
    names = {path.name for path in written}
    assert names == {"masks.json", "overlay.mp4", "contact-sheet.png", "masks"}
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > 4 * 300
    with Image.open(tmp_path / "out" / "masks" / "frame-000003-object-1.png") as picture:
        assert np.array_equal(np.asarray(picture), bitmap(5))
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 40
