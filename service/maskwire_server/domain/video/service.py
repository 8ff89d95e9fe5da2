"""Tracking objects through stored videos: admission, opening, the run, the summary.

The work on one request is in `run.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from datetime import timedelta

from ..errors import ErrorCode, MaskwireError, invalid_field
from ..executor import BoundedExecutor
from ..file_decoder import FileDecoder, FileDecoders, InProcessDecoders
from ..files.store import FileStore, StoredFile
from ..grouping import prompt_kinds
from ..models import ModelRegistry, ServedModel
from ..observer import Observer
from ..prompts import PromptKind
from ..remote_sources import RemoteSources
from ..segmentation import Caller
from ..tracking import TrackingEngine
from .access import VideoAccess
from .opened import OpenedVideo, VideoLimits
from .opening import VideoOpening
from .requests import TrackEvent, TrackSummary, TrackVideoRequest
from .run import TrackLimits, TrackRun
from .writer import OVERLAY_VIDEO_NAME, OVERLAY_VIDEO_TYPE

_RETRY_AFTER = timedelta(seconds=1)
_EXECUTOR = "videos"


class VideoService:
    """Tracks prompted objects through stored videos on the served models."""

    def __init__(
        self,
        models: ModelRegistry,
        pixel_executor: BoundedExecutor,
        observer: Observer,
        video_limits: VideoLimits,
        track_limits: TrackLimits,
        *,
        max_streams: int,
        files: FileStore | None = None,
        sources: RemoteSources | None = None,
        decoders: FileDecoders | None = None,
    ) -> None:
        """Take what is needed.

        Args:
            models: The served models.
            pixel_executor: Where videos are decoded and masks finished.
            observer: Receives measurements.
            video_limits: What a video may be at most.
            track_limits: What one request may use.
            max_streams: Most requests at a time, which bounds the memory of all.
            files: The store of uploaded files and of results; None where there is none.
            sources: Fetches videos from elsewhere; None where nothing is fetched.
            decoders: Decode videos and masks; None decodes in this process.
        """
        self._models = models
        self._pixels = pixel_executor
        self._observer = observer
        self._video_limits = video_limits
        self._track_limits = track_limits
        self._max_streams = max_streams
        self._files = files
        self._access = VideoAccess(files, pixel_executor, video_limits.max_bytes, sources)
        self._decoders = decoders or InProcessDecoders()
        self._streams = 0

    async def track(
        self, request: TrackVideoRequest, caller: Caller
    ) -> AsyncGenerator[TrackEvent, None]:
        """Track the prompted objects: what the video is, each frame's masks, the summary.

        Closing the generator ends the work with the frame that is on the device. A file that is
        broken or cut off gives what can be decoded, then the summary, then the error that the
        summary names.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` naming the field and the rule, `MODEL_NOT_FOUND`,
                `UNSUPPORTED_BY_MODEL`, `SOURCE_DISABLED`, `FILE_NOT_FOUND`, `PAYLOAD_TOO_LARGE`,
                `OVERLOADED`, `MODEL_UNAVAILABLE`, `DATA_LOSS`.
        """
        model, engine = self._check(request)
        with self._admitted():
            decoder = self._decoders.of_tenant(caller.tenant)
            reader = await self._open(request, caller, decoder)
            try:
                run = self._run(request, model, engine, reader, decoder)
                await run.check_prompts()
                yield TrackEvent(reader.info, run.progress)
                async with aclosing(run.frames()) as frames:
                    async for event in frames:
                        yield event
                yield TrackEvent(await self._summary(request, caller, model, run), run.progress)
                if run.decode_error is not None:
                    raise run.decode_error
            finally:
                with suppress(MaskwireError):  # the server stops, and frees it with all else
                    await self._pixels.run(reader.close, is_refusable=False)

    def _check(self, request: TrackVideoRequest) -> tuple[ServedModel, TrackingEngine]:
        model = self._models.resolve(request.model)
        kinds = prompt_kinds([one.prompt for one in request.prompts])
        if PromptKind.TEXT in kinds:
            named = bool(request.model)
            model = self._models.concept_tracking_model(model, is_named=named)
        engine = self._models.require_tracking(model)
        count, most = len(request.prompts), self._track_limits.max_prompts
        if count == 0:
            raise invalid_field("prompts", "at least one prompt is needed")
        if count > most:
            raise invalid_field("prompts", f"{count} prompts are more than the limit of {most}")
        self._models.require(model, kinds)
        if request.stores_overlay and self._files is None:
            raise MaskwireError(
                ErrorCode.SOURCE_DISABLED,
                "delivery: this server stores no files; ask for the overlay video inline",
            )
        return model, engine

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._streams >= self._max_streams:
            self._observer.overload_refused(_EXECUTOR)
            raise MaskwireError(
                ErrorCode.OVERLOADED,
                f"the server has its limit of {self._max_streams} videos in work",
                retry_after=_RETRY_AFTER,
                resource=_EXECUTOR,
            )
        self._streams += 1
        self._observer.videos_changed(self._streams)
        try:
            yield
        finally:
            self._streams -= 1
            self._observer.videos_changed(self._streams)

    async def _open(
        self, request: TrackVideoRequest, caller: Caller, decoder: FileDecoder
    ) -> OpenedVideo:
        file, field = await self._access.open(request.video, caller)
        opening = VideoOpening(decoder, file, self._video_limits, field)
        try:
            return (await self._pixels.run(opening.run)).value
        except BaseException:
            if (video := opening.abandon()) is not None:
                await self._pixels.run(video.close, is_refusable=False)
            raise

    def _run(
        self,
        request: TrackVideoRequest,
        model: ServedModel,
        engine: TrackingEngine,
        reader: OpenedVideo,
        decoder: FileDecoder,
    ) -> TrackRun:
        return TrackRun(
            request,
            model,
            engine,
            reader,
            decoder,
            self._pixels,
            self._observer,
            self._track_limits,
        )

    async def _summary(
        self, request: TrackVideoRequest, caller: Caller, model: ServedModel, run: TrackRun
    ) -> TrackSummary:
        return TrackSummary(
            overlay_video=await self._overlay(request, caller, run),
            model=model.description.name,
            checkpoint_digest=model.description.checkpoint_digest,
            timings=run.timings,
            decode_error=run.decode_error,
        )

    async def _overlay(
        self, request: TrackVideoRequest, caller: Caller, run: TrackRun
    ) -> bytes | StoredFile | None:
        if not request.render_overlay:
            return None
        video = await run.overlay_video()
        if not request.stores_overlay or self._files is None:
            return video
        return await self._files.put(
            caller, video, content_type=OVERLAY_VIDEO_TYPE, file_name=OVERLAY_VIDEO_NAME
        )
