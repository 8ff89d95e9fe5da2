"""The session of `maskwire live`: frames go out, results come back and are shown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.live import Live

from .._client import Client
from .._session import Session
from .._streaming import ResultStream
from ..errors import MaskwireError
from ..sessions import DropPolicy, FrameResult
from .drawing import overlay
from .exit_codes import ExitCode
from .failures import CommandFailure
from .live_figures import LiveFigures
from .live_frames import LiveFrames
from .video_output import Mp4Writer

__all__ = ["LiveRun"]

# Frames on their way. Few where all are processed, because each waits for those before it; with
# latest-only enough for 2 s at 30 a second, so that it is the server that drops.
_WINDOWS = {DropPolicy.PROCESS_ALL: 8, DropPolicy.LATEST_ONLY: 64}
_REFRESH_S = 0.2


class LiveRun:
    """One session from its first frame to its last, or to Ctrl-C.

    Args:
        frames: The frames.
        prompts: Arguments of `Session.stream`: what is said about the first frame.
        model: Name of the model; empty is the server's default.
        drop_policy: What happens to frames that come too fast.
        overlay_file: Where to write the overlay video; None leaves it out.

    Attributes:
        figures: What was counted; None where the session did not start.
        failure: What ended it before its time, if anything did.
    """

    def __init__(
        self,
        frames: LiveFrames,
        prompts: Mapping[str, Sequence[Any]],
        model: str,
        drop_policy: DropPolicy,
        overlay_file: Path | None,
    ) -> None:
        self.figures: LiveFigures | None = None
        self.failure: BaseException | None = None
        self._frames = frames
        self._prompts = prompts
        self._model = model
        self._drop_policy = drop_policy
        self._overlay_file = overlay_file

    def carry_out(self, client: Client, view: Live) -> None:
        """Run the session, and show its figures meanwhile.

        Raises:
            MaskwireError: The session cannot be opened.
        """
        session = client.open_session(
            model=self._model, drop_policy=self._drop_policy, window=_WINDOWS[self._drop_policy]
        )
        with ExitStack() as resources:
            resources.enter_context(session)
            self.figures = LiveFigures(session.model.model, session.session_id)
            view.update(self.figures.render(), refresh=True)
            writer: Mp4Writer | None = None
            if self._overlay_file is not None:
                writer = resources.enter_context(Mp4Writer(self._overlay_file))
            try:
                self._run(session, self.figures, view, writer)
            except MaskwireError as failure:
                self.failure = failure
                session.close()

    def _run(
        self, session: Session, figures: LiveFigures, view: Live, writer: Mp4Writer | None
    ) -> None:
        """Send all frames, or those up to Ctrl-C, and end the session in good order.

        Raises:
            MaskwireError: The session failed, or the first frame did, on which all depends.
        """
        window = _WINDOWS[self._drop_policy]
        stream = session.stream(self._frames, window=window, **self._prompts)
        shown = time.monotonic()
        try:
            for result in self._results(stream, figures):
                figures.add(result)
                self._paint(result, writer)
                if time.monotonic() - shown >= _REFRESH_S:
                    view.update(figures.render(), refresh=True)
                    shown = time.monotonic()
        except KeyboardInterrupt:
            pass
        finally:
            self._frames.stop()
            stream.close()
        figures.finish(session.end())

    def _results(self, stream: ResultStream, figures: LiveFigures) -> Iterator[FrameResult]:
        """Give results; count frames that failed, and note where the source of frames breaks."""
        while True:
            try:
                yield next(stream)
            except StopIteration:
                return
            except MaskwireError as error:
                if error.sequence == 0 or not error.frame_id:
                    raise
                figures.add_failure()
                self._frames.forget([error.frame_id])
            except ValueError as error:
                self.failure = CommandFailure(str(error), ExitCode.BROKEN_FILE)
                return

    def _paint(self, result: FrameResult, writer: Mp4Writer | None) -> None:
        self._frames.forget(frame.frame_id for frame in result.dropped_frames)
        kept = self._frames.take(result.frame_id)
        if writer is not None and kept is not None:
            pixels, time_s = kept
            writer.add(overlay(pixels, {mask.object_id: mask.bitmap for mask in result}), time_s)
