"""The call of `maskwire track`: shows how far the work is and keeps what came, come what may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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

_INLINE_BYTES = 32 * 2**20
"""Files up to this size go with the call; a server takes 64 MiB in a message unless it is set."""


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

    @contextmanager
    def start(self, client: Client) -> Iterator[VideoTrack]:
        """Give the call in progress; a large file is uploaded first, and deleted at the end.

        Raises:
            CommandFailure: The file cannot be read.
            MaskwireError: The file cannot be uploaded.
        """
        try:
            with ExitStack() as resources:
                video = self.video
                if isinstance(video, Path) and video.stat().st_size > _INLINE_BYTES:
                    video = resources.enter_context(_uploaded(client, video))
                yield resources.enter_context(self._track(client, video))
        except (OSError, ValueError) as error:
            text = f"the video cannot be sent: {error}"
            raise CommandFailure(text, ExitCode.USAGE) from error

    def _track(self, client: Client, video: Path | ImageReference) -> VideoTrack:
        return client.track_video(
            video,
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


@contextmanager
def _uploaded(client: Client, file: Path) -> Iterator[ImageReference]:
    """Give the name of a file on the server, where it stays no longer than it is needed."""
    stored = client.upload(file)
    try:
        yield ImageReference(stored.name)
    finally:
        # A server that is gone deletes it too, when it expires.
        with suppress(MaskwireError):
            client.delete_file(stored)


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
