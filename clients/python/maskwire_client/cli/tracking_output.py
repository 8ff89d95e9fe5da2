"""What `maskwire track` leaves and prints: the files of `--out` and the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from PIL import Image
from rich.table import Table

from ..geometry import Box, Point
from ..images import ImageReference
from ..videos import VideoFrame
from .progress import work_progress
from .tracking_pictures import (
    PaintedFrame,
    TrackingPictures,
    frames_of_overlay,
    painted_frames,
)
from .tracking_record import ObjectTrack, TrackingRecord, document
from .video_output import GifWriter, Mp4Writer, VideoWriter

__all__ = ["TrackingOutput", "track_table", "video_table"]

_SPANS_SHOWN = 4


class TrackingOutput:
    """Writes the results of a tracked video into a folder.

    Args:
        folder: The folder; it is made where it is missing.
        gif: Whether the overlay is a GIF instead of an MP4.
        mask_files: Whether to write a picture for each mask, in the folder `masks`.
    """

    def __init__(self, folder: Path, *, gif: bool, mask_files: bool) -> None:
        self._folder = folder
        self._gif = gif
        self._mask_files = mask_files

    def write(
        self,
        record: TrackingRecord,
        name: str,
        video: Path | ImageReference,
        prompts: Sequence[Point | Box],
    ) -> list[Path]:
        """Write masks.json, the overlay video, the contact sheet and the masks; return the files.

        Args:
            record: What was tracked; at least one frame.
            name: What to call the video.
            video: The video: a file, or else the record holds the server's overlay of it.
            prompts: To draw on the contact sheet.

        Raises:
            OSError: The folder cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        masks = self._folder / "masks.json"
        masks.write_text(json.dumps(document(record, name)) + "\n", encoding="utf-8")
        return [masks, *self._pictures(record, video, prompts), *self._masks(record)]

    def _pictures(
        self, record: TrackingRecord, video: Path | ImageReference, prompts: Sequence[Point | Box]
    ) -> list[Path]:
        """Write the overlay video and the contact sheet."""
        frames = record.in_order()
        if isinstance(video, Path):
            return self._draw(painted_frames(video, frames), frames, prompts, writes_video=True)
        overlay = record.summary.overlay if record.summary is not None else None
        if overlay is None or overlay.data is None:
            return []
        made = overlay.save(self._folder / "overlay.mp4")
        painted = frames_of_overlay(made, frames)
        return [made, *self._draw(painted, frames, prompts, writes_video=self._gif)]

    def _draw(
        self,
        painted: Iterator[PaintedFrame],
        frames: Sequence[VideoFrame],
        prompts: Sequence[Point | Box],
        *,
        writes_video: bool,
    ) -> list[Path]:
        """Write the contact sheet, and with `writes_video` the overlay video, of painted frames."""
        pictures = TrackingPictures([frame.frame_index for frame in frames], prompts)
        file = self._folder / ("overlay.gif" if self._gif else "overlay.mp4")
        with ExitStack() as resources:
            progress = resources.enter_context(work_progress("frames/s"))
            writer = resources.enter_context(self._writer(file)) if writes_video else None
            for frame, pixels in progress.track(painted, len(frames), description="drawing"):
                pictures.add(frame, pixels)
                if writer is not None:
                    writer.add(pixels, frame.time_s)
        sheet = self._folder / "contact-sheet.png"
        written = [sheet] if pictures.save_sheet(sheet) else []
        return [file, *written] if writes_video else written

    def _writer(self, file: Path) -> VideoWriter:
        return GifWriter(file) if self._gif else Mp4Writer(file)

    def _masks(self, record: TrackingRecord) -> list[Path]:
        """Write a picture for each mask, where they were asked for."""
        if not self._mask_files:
            return []
        folder = self._folder / "masks"
        folder.mkdir(exist_ok=True)
        for frame in record.in_order():
            for mask in frame.masks:
                if mask.encoded is not None:
                    name = f"frame-{frame.frame_index:06d}-object-{mask.object_id}.png"
                    Image.fromarray(mask.encoded.decode()).save(folder / name)
        return [folder]


def track_table(tracks: Sequence[ObjectTrack]) -> Table:
    """Return a table with one row for each object."""
    table = Table("object", "frames", "seen", "score", "found again", "lost in frames")
    for column in table.columns[:5]:
        column.justify = "right"
    for track in tracks:
        table.add_row(
            str(track.object_id),
            str(track.frames),
            str(track.seen),
            "" if track.mean_score is None else f"{track.mean_score:.3f}",
            str(track.found_again),
            _spans(track.lost_spans),
        )
    return table


def video_table(record: TrackingRecord) -> Table:
    """Return what the video is, how fast it was tracked, and by which model."""
    table = Table.grid(padding=(0, 2))
    if record.summary is not None:
        for reference in record.summary.info.models:
            table.add_row("model", reference.model)
    if record.video is not None:
        video, size = record.video, record.video.size
        frames = f", {video.frame_count} frames" if video.frame_count else ""
        rate = f" at {video.frames_per_second:.2f} a second" if video.frames_per_second else ""
        table.add_row("video", f"{size.width_px} x {size.height_px} px{frames}{rate}")
    speed = f"{record.seconds:.2f} s, {record.frames_per_second:.1f} frames/s"
    table.add_row("tracked", f"{len(record.frames)} frames in {speed}")
    return table


def _spans(spans: Sequence[tuple[int, int]]) -> str:
    shown = ", ".join(
        str(first) if first == last else f"{first} to {last}"
        for first, last in spans[:_SPANS_SHOWN]
    )
    more = len(spans) - _SPANS_SHOWN
    return f"{shown}, and {more} more times" if more > 0 else shown
