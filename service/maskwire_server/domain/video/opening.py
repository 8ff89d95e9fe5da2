"""The handover of an opened video from the thread that opens it to a caller who may be gone."""

from __future__ import annotations

import threading
from typing import BinaryIO

from ..file_decoder import FileDecoder
from .opened import OpenedVideo, VideoLimits


class VideoOpening:
    """Opens a video on a thread; nothing stays open where nobody waits for it any more."""

    def __init__(
        self, decoder: FileDecoder, file: BinaryIO, limits: VideoLimits, field: str
    ) -> None:
        self._decoder = decoder
        self._file = file
        self._limits = limits
        self._field = field
        self._lock = threading.Lock()
        self._has_begun = self._is_abandoned = False
        self._video: OpenedVideo | None = None

    def run(self) -> OpenedVideo:
        """Open the video; called once, on the thread.

        Raises:
            MaskwireError: As `FileDecoder.open_video`.
        """
        self._has_begun = True
        try:
            video = self._decoder.open_video(self._file, self._limits, field=self._field)
        except BaseException:
            self._file.close()
            raise
        with self._lock:
            self._video = video
            is_abandoned = self._is_abandoned
        if is_abandoned:
            video.close()
        return video

    def abandon(self) -> OpenedVideo | None:
        """Say that nobody waits; return the video to be closed where it is open already."""
        with self._lock:
            self._is_abandoned = True
            if not self._has_begun:  # and never will: it was refused, or taken out of the queue
                self._file.close()
            return self._video
