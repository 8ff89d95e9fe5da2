"""One request to track objects through a video, from the open file to the last message.

Three stages run side by side: pictures are decoded a few frames ahead, the device follows the
objects one frame ahead, and masks are finished as the caller takes them. So a caller that reads
slowly stops the device, and one that goes away frees it with the frame that is on it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from ..concept_prompts import read_sought
from ..concept_tracking import ConceptTracker, SoughtConcept
from ..errors import ErrorCode, MaskwireError, invalid_field
from ..executor import BoundedExecutor
from ..file_decoder import FileDecoder
from ..grouping import group_prompts
from ..models import ServedModel
from ..observer import Observer
from ..pipelining import ahead
from ..prompts import BoxPrompt, MaskPrompt, ObjectPrompts, Prompt
from ..segmentation import Timings
from ..tracked_masks import ObjectHistory
from ..tracking import ObjectSighting, ObjectTracker, TrackingEngine, TrackingLimits
from .found_ids import FoundIds
from .masks import DrawnMasks, MaskFinisher
from .opened import OpenedVideo, VideoPicture
from .plan import FrameSupply, TrackPass, gather_concepts, number_prompts, plan_tracking
from .requests import TrackedFrame, TrackEvent, TrackProgress, TrackVideoRequest
from .writer import OverlayVideoWriter

Value = TypeVar("Value")

_DECODE_SLICE_S = 0.02
"""How long a thread decodes at a time before others may have it."""


@dataclass(frozen=True, slots=True)
class TrackLimits:
    """What one request may use.

    Attributes:
        max_prompts: Most prompts.
        max_objects: Most objects; the model may allow fewer.
        decode_ahead_frames: Pictures that wait for the device.
        max_overlay_bytes: Largest overlay video.
        max_drawn_bytes: Memory for masks that wait to be drawn.
    """

    max_prompts: int
    max_objects: int
    decode_ahead_frames: int
    max_overlay_bytes: int
    max_drawn_bytes: int


@dataclass(slots=True)
class _Clock:
    """Where the time of a run went so far, in seconds."""

    started: float = field(default_factory=time.perf_counter)
    decode_s: float = 0.0
    queue_s: float = 0.0
    encode_s: float = 0.0
    track_s: float = 0.0
    postprocess_s: float = 0.0

    def read(self) -> Timings:
        return Timings(
            decode_s=self.decode_s,
            queue_s=self.queue_s,
            encode_s=self.encode_s,
            prompt_s=self.track_s,
            postprocess_s=self.postprocess_s,
            total_s=time.perf_counter() - self.started,
        )


@dataclass(frozen=True, slots=True)
class _SightedFrame:
    """What the tracker saw in a frame."""

    index: int
    time_s: float
    sightings: tuple[ObjectSighting, ...]


class TrackRun:
    """The work on one request; used once, on the event loop."""

    def __init__(
        self,
        request: TrackVideoRequest,
        model: ServedModel,
        engine: TrackingEngine,
        reader: OpenedVideo,
        decoder: FileDecoder,
        pixel_executor: BoundedExecutor,
        observer: Observer,
        limits: TrackLimits,
    ) -> None:
        """Plan the work.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` as `plan_tracking`.
        """
        self._request = request
        self._model = model
        self._engine = engine
        self._reader = reader
        self._decoder = decoder
        self._pixels = pixel_executor
        self._observer = observer
        self._limits = limits
        self._size = reader.info.size
        self._plan = plan_tracking(
            request.prompts, request.direction, request.frames, _supply(reader)
        )
        self._prompts = number_prompts(request.prompts)
        self._concepts = gather_concepts(request.prompts)
        self._found_ids = FoundIds(self._object_ids())
        self._prompted: set[int] = set()
        self._finisher = MaskFinisher(self._size, request.mask_options, request.render_overlay)
        self._drawn = DrawnMasks(limits.max_drawn_bytes)
        self._frames_done = 0
        self._decode_error: MaskwireError | None = None
        self._clock = _Clock()

    @property
    def progress(self) -> TrackProgress:
        """How far the work is."""
        return TrackProgress(self._frames_done, self._plan.frames_total)

    @property
    def timings(self) -> Timings:
        """Where the time went so far."""
        return self._clock.read()

    @property
    def decode_error(self) -> MaskwireError | None:
        """What kept frames from being decoded, known when all frames were yielded."""
        return self._decode_error

    async def check_prompts(self) -> None:
        """Check all prompts against the video before the first frame is touched.

        Raises:
            MaskwireError: `INVALID_ARGUMENT` as `group_prompts`, for too many objects, and for a
                text that is longer than the model reads; `MODEL_UNAVAILABLE`.
        """
        count, most = len(self._object_ids()), self._max_objects
        if count > most:
            raise invalid_field("prompts", f"{count} objects are more than the limit {most}")
        read_sought([one.prompt for one in self._request.prompts if _is_negative(one.prompt)])
        for prompts in self._prompts.values():
            await self._group(prompts)
        if self._concepts:
            await self._model.run(self._check_texts, is_refusable=False)

    async def frames(self) -> AsyncGenerator[TrackEvent, None]:
        """Yield the masks of each frame that is asked for.

        A file that turns out to be broken ends a pass early; `decode_error` says so.

        Raises:
            MaskwireError: `INVALID_ARGUMENT`, `PAYLOAD_TOO_LARGE`, `MODEL_UNAVAILABLE`.
        """
        for one in self._plan.passes:
            with self._noting_broken_file():
                async with aclosing(self._tracked_frames(one)) as frames:
                    async for frame in frames:
                        self._frames_done += 1
                        yield TrackEvent(frame, self.progress)
        self._note_missing_frames()

    async def overlay_video(self) -> bytes:
        """Return the overlay video of the frames that were yielded.

        They are decoded once more, in the order in which they are shown: tracking backward meets
        them in another one.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE` where it outgrows its limit.
        """
        frames, stride = self._drawn.frames, self._request.frames.stride
        order = range(frames[0], frames[-1] + 1, stride) if frames else range(0)
        rate = self._reader.info.frames_per_second / stride
        writer = OverlayVideoWriter(self._size, rate, self._limits.max_overlay_bytes)
        try:
            with self._noting_broken_file():
                async with aclosing(self._pictures_ahead(order)) as pictures:
                    async for picture in pictures:
                        await self._on_pixels(partial(self._draw, writer, picture))
            return await self._on_pixels(writer.finish)
        finally:
            with suppress(MaskwireError):  # the server stops, and frees it with everything else
                await self._pixels.run(writer.close, is_refusable=False)

    def _draw(self, writer: OverlayVideoWriter, picture: VideoPicture) -> None:
        writer.add(picture, self._drawn.of(picture.index, self._size))

    async def _tracked_frames(self, one: TrackPass) -> AsyncGenerator[TrackedFrame, None]:
        """Yield the masks of each frame of a pass that is to be answered."""
        history = ObjectHistory(self._request.postprocess)
        is_answered = one.answers_first
        async with aclosing(ahead(self._sighted_frames(one.order), 1)) as sighted_frames:
            async for sighted in sighted_frames:
                if is_answered:
                    yield await self._finish(history, sighted)
                else:
                    seen = sighted.sightings
                    await self._on_pixels(partial(history.observe, seen, self._size))
                    is_answered = True

    async def _finish(self, history: ObjectHistory, sighted: _SightedFrame) -> TrackedFrame:
        finish = partial(self._finisher.finish, history, sighted.sightings)
        finished = await self._on_pixels(finish)
        if self._request.render_overlay:
            self._drawn.add(sighted.index, finished.drawn)
        return TrackedFrame(
            index=sighted.index,
            time_s=sighted.time_s,
            masks=finished.masks,
            mask_options=self._request.mask_options,
            size=self._size,
        )

    async def _sighted_frames(self, order: range) -> AsyncGenerator[_SightedFrame, None]:
        """Follow the objects through the frames in `order` with a tracker of their own."""
        tracker = await self._new_tracker(order)
        try:
            async with aclosing(self._pictures_ahead(order)) as pictures:
                number = 0
                async for picture in pictures:
                    sightings = await self._follow(tracker, number, picture)
                    yield _SightedFrame(picture.index, picture.time_s, sightings)
                    number += 1
        finally:
            with suppress(MaskwireError):  # the server stops, and frees it with everything else
                await self._model.run(tracker.close, is_refusable=False)

    async def _new_tracker(self, order: range) -> ObjectTracker:
        self._found_ids.begin_pass()
        tracker = (await self._model.run(self._make_tracker, is_refusable=False)).value
        if isinstance(tracker, ConceptTracker):
            tracker.keep_places(len(self._prompted_ids(order) - self._reserved_ids()))
        return tracker

    def _make_tracker(self) -> ObjectTracker:
        limits = TrackingLimits(self._max_objects, held_frames=0)
        return self._engine.new_tracker(self._size, limits)

    def _check_texts(self) -> None:
        tracker = self._make_tracker()
        try:
            assert isinstance(tracker, ConceptTracker)
            tracker.check([one for some in self._concepts.values() for one in some])
        finally:
            tracker.close()

    @property
    def _max_objects(self) -> int:
        return min(self._limits.max_objects, self._model.description.max_objects)

    def _object_ids(self) -> set[int]:
        """Return the ids that the request uses."""
        return self._prompted_ids(self._prompts) | self._reserved_ids()

    def _prompted_ids(self, frames: Iterable[int]) -> set[int]:
        """Return the ids of objects that are prompted on some frames."""
        prompts = itertools.chain.from_iterable(self._prompts.get(one, ()) for one in frames)
        return {one.object_id for one in prompts if one.object_id is not None}

    def _reserved_ids(self) -> set[int]:
        concepts = itertools.chain.from_iterable(self._concepts.values())
        return {one.object_id for one in concepts if one.object_id is not None}

    async def _follow(
        self, tracker: ObjectTracker, number: int, picture: VideoPicture
    ) -> tuple[ObjectSighting, ...]:
        prompts = self._prompts.get(picture.index, ())
        objects = await self._group(prompts) if prompts else ()
        concepts = self._concepts.get(picture.index, ())
        self._prompted.update([picture.index] if prompts or concepts else [])
        step = partial(
            _step, self._engine, tracker, number, picture, objects, concepts, self._found_ids
        )
        done = await self._model.run(step, is_refusable=False)
        sightings, encode_s, track_s = done.value
        self._clock.queue_s += done.queue_s
        self._clock.encode_s += encode_s
        self._clock.track_s += track_s
        name = self._model.description.name
        ended_s = done.ended_s
        encoded_s = None if ended_s is None else ended_s - track_s
        self._observer.stage_finished("encode", name, encode_s, encoded_s)
        self._observer.stage_finished("track", name, track_s, ended_s)
        return sightings

    def _pictures_ahead(self, order: range) -> AsyncGenerator[VideoPicture, None]:
        return ahead(self._pictures(order), self._limits.decode_ahead_frames)

    async def _pictures(self, order: range) -> AsyncGenerator[VideoPicture, None]:
        """Decode the frames in `order`, a slice of time after the other."""
        stream = self._reader.pictures(order)
        spent_s = 0.0
        while not stream.is_at_end:
            read = await self._pixels.run(partial(stream.read, _DECODE_SLICE_S), is_refusable=False)
            self._clock.decode_s += read.run_s
            self._clock.queue_s += read.queue_s
            spent_s += read.run_s
            if read.value is not None:
                self._observer.stage_finished("decode", self._model.description.name, spent_s)
                spent_s = 0.0
                yield read.value

    async def _group(self, prompts: Sequence[Prompt]) -> tuple[ObjectPrompts, ...]:
        group = partial(group_prompts, prompts, self._size, self._decoder)
        if any(isinstance(one.content, MaskPrompt) for one in prompts):
            return (await self._pixels.run(group, is_refusable=False)).value
        return group()

    async def _on_pixels(self, work: Callable[[], Value]) -> Value:
        """Finish masks or draw them on the executor for pixels."""
        done = await self._pixels.run(work, is_refusable=False)
        self._clock.queue_s += done.queue_s
        self._clock.postprocess_s += done.run_s
        self._observer.stage_finished("postprocess", self._model.description.name, done.run_s)
        return done.value

    @contextmanager
    def _noting_broken_file(self) -> Iterator[None]:
        """Let a broken file end what is inside, and note the first place where it is broken."""
        try:
            yield
        except MaskwireError as error:
            if error.code is not ErrorCode.DATA_LOSS:
                raise
            self._decode_error = self._decode_error or error

    def _note_missing_frames(self) -> None:
        missing = sorted((self._prompts.keys() | self._concepts.keys()) - self._prompted)
        if self._decode_error is not None or not (missing or self._plan.is_cut_short):
            return
        readable = self._reader.readable_frames
        what = (
            f"the file is cut off after {readable} frames"
            if self._plan.is_cut_short
            else f"frame {missing[0]}, which prompts are about, cannot be decoded"
        )
        self._decode_error = MaskwireError(ErrorCode.DATA_LOSS, f"{self._reader.field}: {what}")


def _step(
    engine: TrackingEngine,
    tracker: ObjectTracker,
    number: int,
    picture: VideoPicture,
    objects: tuple[ObjectPrompts, ...],
    concepts: tuple[SoughtConcept, ...],
    found_ids: FoundIds,
) -> tuple[tuple[ObjectSighting, ...], float, float]:
    """Do the device's part of a frame in one go; also return the seconds of encoder and tracker."""
    started = time.perf_counter()
    embedding = engine.encode(picture.pixels)
    encoded = time.perf_counter()
    sightings = {one.object_id: one for one in tracker.advance(number, embedding)}
    if concepts:
        assert isinstance(tracker, ConceptTracker)
        found = tracker.seek(found_ids.still_free(concepts), found_ids.new)
        sightings |= {one.object_id: one for one in found}
        sightings = {one: sightings[one] for one in tracker.object_ids}
    if objects:
        for answer in tracker.prompt(number, objects, multimask=False):
            sighting = answer.as_sighting(sightings.get(answer.object_id))
            sightings[answer.object_id] = sighting
    found_ids.end_frame(sightings.keys())
    return tuple(sightings.values()), encoded - started, time.perf_counter() - encoded


def _is_negative(prompt: Prompt) -> bool:
    return isinstance(prompt.content, BoxPrompt) and not prompt.content.is_positive


def _supply(reader: OpenedVideo) -> FrameSupply:
    return FrameSupply(reader.info.frame_count, reader.readable_frames, reader.is_whole)
