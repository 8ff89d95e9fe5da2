"""The call of `maskwire track`: shows how far the work is and keeps what came, come what may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .._client import Client
from .._video import VideoTrack
from ..errors import MaskwireError
from ..geometry import Box, Point
from ..images import ImageReference
from ..options import MaskEncoding
from ..prompts import MaskPrompt, Text
from ..videos import TrackDirection
from .connection import Connection
from .exit_codes import ExitCode
from .failures import CommandFailure
from .progress import work_progress
from .tracking_record import TrackingRecord

__all__ = ["TrackingCall", "follow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingCall:
    """What is asked of the server; as the arguments of `Client.track_video`."""

    video: Path | ImageReference
    points: Sequence[Point]
    boxes: Sequence[Box]
    masks: Sequence[MaskPrompt]
    texts: Sequence[Text]
    model: str
    direction: TrackDirection
    start_frame: int
    end_frame: int | None
    stride: int
    encoding: MaskEncoding
    render_overlay: bool
    timeout_s: float | None

    def start(self, client: Client) -> VideoTrack:
        """Begin the call.

        Raises:
            CommandFailure: The file cannot be read.
        """
        try:
            return client.track_video(
                self.video,
                points=self.points,
                boxes=self.boxes,
                masks=self.masks,
                texts=self.texts,
                model=self.model,
                direction=self.direction,
                start_frame=self.start_frame,
                end_frame=self.end_frame,
                stride=self.stride,
                encoding=self.encoding,
                render_overlay=self.render_overlay,
                timeout_s=self.timeout_s,
            )
        except (OSError, ValueError) as error:
            text = f"the video cannot be sent: {error}"
            raise CommandFailure(text, ExitCode.USAGE) from error


def follow(
    connection: Connection, call: TrackingCall
) -> tuple[TrackingRecord, BaseException | None]:
    """Track and show progress until the end, a failure or Ctrl-C.

    Returns:
        What came, and what to raise once it is written; a video that is broken counts as a failure.

    Raises:
        CommandFailure: The file cannot be read, or the service in this process cannot be started.
    """
    record = TrackingRecord()
    with work_progress("frames/s") as progress:
        task = progress.add_task("starting", total=None)
        with connection.client() as client, call.start(client) as track:
            progress.update(task, description="tracking")
            try:
                for frame in record.collect(track):
                    total = frame.progress.frames_total or None
                    progress.update(task, completed=frame.progress.frames_done, total=total)
            except (MaskwireError, KeyboardInterrupt) as failure:
                return record, failure
    return record, record.summary.decode_error if record.summary is not None else None
