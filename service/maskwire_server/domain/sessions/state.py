"""The state machine of a session: its objects, its frames, and what each request does to them.

One task calls it, one request at a time; a request that is refused changes nothing. Work on the
device and on pixels runs on their executors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from ..concept_tracking import ConceptTracker
from ..engine import ModelDescription
from ..errors import ErrorCode, MaskwireError, invalid_field
from ..executor import BoundedExecutor, Completed
from ..geometry import ImageSize
from ..image_access import EncodedImage, FrameImage, ImageAccess
from ..models import ModelRegistry, ServedModel
from ..observer import Observer
from ..prompts import Prompt
from ..segmentation import Caller, InlineImage
from ..tracking import ObjectTracker, TrackingEngine, TrackingLimits
from .answering import Answering
from .answers import Sightings
from .costs import Answered, Costs, StateLimits
from .frames import HeldFrame, HeldFrames, check_size, gather
from .messages import NewFrame, NewPrompts, SessionConfig, Snapshot
from .prompting import PromptReader, Said, check_known, prepare, seek, sought_by
from .resuming import SeenFrame, check_snapshot, refused, restore, seen_frames
from .seeds import SeedContent, SeedKeeper


class SessionState:
    """The objects and frames of one session."""

    def __init__(
        self,
        model: ServedModel,
        config: SessionConfig,
        limits: StateLimits,
        caller: Caller,
        *,
        models: ModelRegistry,
        images: ImageAccess,
        pixels: BoundedExecutor,
        observer: Observer,
    ) -> None:
        self._model = model
        self._engine: TrackingEngine = models.require_tracking(model)
        self._config = config
        self._limits = limits
        self._caller = caller
        self._models = models
        self._images = images
        self._pixels = pixels
        self._observer = observer
        self._decoder = images.decoder_of(caller)
        self._reader = PromptReader(model, models, pixels, self._decoder, limits)
        self._answering = Answering(config, model.description.name, pixels, observer)
        self._seeds = SeedKeeper()
        self._frames = HeldFrames(limits.held_frames + 1)
        self._tracker: ObjectTracker | None = None
        self._asked_for_tracker = False
        self._size: ImageSize | None = None
        self._next_number = 0
        self._next_object_id = 1
        self.is_paused = False

    @property
    def model(self) -> ModelDescription:
        """The model that serves the session."""
        return self._model.description

    @property
    def limits(self) -> StateLimits:
        """What bounds its objects and prompts."""
        return self._limits

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects of the session."""
        return () if self._tracker is None else self._tracker.object_ids

    @property
    def size_bytes(self) -> int:
        """Memory that the session holds for its objects and frames."""
        tracker = 0 if self._tracker is None else self._tracker.size_bytes
        return tracker + self._answering.size_bytes + self._seeds.size_bytes

    async def read(self, frame: NewFrame) -> FrameImage:
        """Read a frame's image; may run while an earlier request is being carried out.

        Raises:
            MaskwireError: `INVALID_ARGUMENT`, `PAYLOAD_TOO_LARGE`, `IMAGE_NOT_FOUND`, `OVERLOADED`.
        """
        return await self._images.read_frame(frame.image, self._model, self._caller)

    async def process(
        self,
        frame: NewFrame,
        reading: asyncio.Task[FrameImage] | None,
        received_s: float,
        *,
        must_answer: bool,
    ) -> Answered:
        """Follow all objects into a new frame, and carry out the prompts on it.

        Args:
            frame: The frame.
            reading: Its `read` where that began before, else None.
            received_s: When it came, on `time.perf_counter`'s clock.
            must_answer: Whether it is answered whatever the sampling says.

        Raises:
            MaskwireError: `INVALID_ARGUMENT`, `PAYLOAD_TOO_LARGE`, `IMAGE_NOT_FOUND`,
                `UNSUPPORTED_BY_MODEL`, `SESSION_STATE`, `OVERLOADED`, `MODEL_UNAVAILABLE`.
        """
        if self.is_paused:
            raise MaskwireError(ErrorCode.SESSION_STATE, "frame.prompts: the session is paused")
        image, said, encoded = await self._arrived(frame, reading)
        objects = said.objects
        costs = Costs(received_s, encode_s=encoded.encode_s)
        costs.queue_s = 0.0 if image.is_cached else encoded.queue_s
        tracker = await self._tracker_for(image.size)
        number = self._next_number
        multimask = self._config.mask_options.return_multiple_masks
        held = HeldFrame(
            number=number,
            frame_id=frame.frame_id,
            capture_time_ns=frame.capture_time_ns,
            info=encoded.info,
            data=image.data,
            said={one.object_id: one for one in objects},
        )

        self._reserve(said)
        known = tracker.object_ids

        def follow() -> Sightings:
            prepare(tracker, said)
            tracked = tracker.advance(number, encoded.embedding)
            self._next_number += 1
            self._frames.add(held)
            try:
                found = seek(tracker, said, self._new_id)
                prompted = tracker.prompt(number, objects, multimask=multimask) if objects else ()
            finally:
                self._answering.give_up(known, tracker.object_ids)
            still = (one for one in tracked if one.object_id in tracker.object_ids)
            return Sightings((*still, *found), tuple(prompted))

        seen = await self._on_device(follow, costs, "track", len(known))
        self._note(held, seen)
        must_answer = must_answer or bool(frame.prompts)
        masks = await self._answering.sampled(seen, image.size, costs, must_answer=must_answer)
        return Answered(held, masks, costs.processed(self.model, held.info, image))

    async def prompt(self, request: NewPrompts, received_s: float) -> Answered:
        """Carry out prompts on a frame that is held.

        Raises:
            MaskwireError: As `process`, and `FRAME_NOT_HELD`.
        """
        self._reader.check(request.prompts, "prompts.prompts")
        held = self._frames.find(request.frame_id)
        size = held.info.size
        said = await self._read(request.prompts, size)
        if said.sought and held is not self._frames.latest:
            raise invalid_field("prompts.frame_id", "texts are looked for from the latest frame on")
        objects = gather(
            held,
            said.objects,
            replace=request.replace,
            max_points=self._limits.max_prompts,
        )
        costs = Costs(received_s)
        tracker = await self._tracker_for(size)
        multimask = self._config.mask_options.return_multiple_masks
        starts_anew = request.replace and held is self._frames.latest
        self._reserve(said)

        def correct() -> Sightings:
            prepare(tracker, said)
            known = tracker.object_ids
            if starts_anew:
                tracker.clear_prompts([one.object_id for one in objects if one.object_id in known])
            try:
                found = seek(tracker, said, self._new_id)
                if not objects:
                    return Sightings(tuple(found))
                prompted = tracker.prompt(held.number, objects, multimask=multimask)
            finally:
                self._answering.give_up(known, tracker.object_ids)
            return Sightings(tuple(found), tuple(prompted))

        seen = await self._on_device(correct, costs, "prompt", len(objects))
        held.said |= {one.object_id: one for one in objects}
        self._note(held, seen)
        masks = await self._answering.finish(seen, size, costs)
        return Answered(held, masks, costs.processed(self.model, held.info, None))

    async def remove(self, object_ids: Sequence[int]) -> None:
        """Forget objects.

        Raises:
            MaskwireError: `OBJECT_NOT_FOUND` where one is unknown; then none is forgotten.
        """
        tracker = self._known(object_ids)
        if tracker is not None:
            await self._model.run(lambda: tracker.remove(object_ids), is_refusable=False)
        self._answering.forget(object_ids)
        self._seeds.forget(object_ids)
        self._frames.forget(object_ids)

    async def clear_prompts(self, object_ids: Sequence[int]) -> None:
        """Forget what was said about objects on the latest frame; no ids means all, and all texts.

        Raises:
            MaskwireError: `OBJECT_NOT_FOUND` where one is unknown.
        """
        tracker = self._known(object_ids)
        if tracker is None:
            return
        latest = self._frames.latest
        # A resumed session has no frame of its own at first, but it looks for texts.
        chosen = () if latest is None else object_ids or tracker.object_ids

        def clear() -> None:
            tracker.clear_prompts(chosen)
            if not object_ids and isinstance(tracker, ConceptTracker):
                tracker.stop_seeking()

        await self._model.run(clear, is_refusable=False)
        if latest is not None:
            for object_id in chosen:
                latest.said.pop(object_id, None)

    async def reset(self) -> None:
        """Forget all objects and frames; ids go on, so that none ever means two things."""
        self._size, self._next_number = None, 0
        self._answering.clear()
        self._seeds.clear()
        self._frames.clear()
        if self._asked_for_tracker:
            await self._model.run(self._close_tracker, is_refusable=False)
            self._asked_for_tracker = False

    async def snapshot(self, last_sequence: int) -> Snapshot:
        """Return what is needed to resume the session elsewhere.

        Raises:
            MaskwireError: `PAYLOAD_TOO_LARGE` where it does not fit.
        """
        size = self._size
        content = SeedContent((), ())
        if size is not None:
            make = partial(
                self._seeds.content,
                size,
                self._images.limits,
                self._limits.max_seed_bytes,
                self._decoder,
            )
            content = (await self._pixels.run(make, is_refusable=False)).value
        return Snapshot(
            model=self._model.description.name,
            checkpoint_digest=self._model.description.checkpoint_digest,
            tenant=self._caller.tenant,
            config=self._config,
            last_sequence=last_sequence,
            frame_size=size,
            next_object_id=self._next_object_id,
            frames=content.frames,
            objects=content.objects,
            sought=sought_by(self._tracker),
        )

    async def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot: its frames are encoded again, and its masks given as prompts.

        What texts had found goes on as found, and the texts are looked for from the next frame on.

        Raises:
            MaskwireError: `SEED_REFUSED` where it does not fit this caller, this model or itself.
        """
        check_snapshot(snapshot, self.model, self._caller, self._limits.max_objects)
        self._next_object_id = max(1, snapshot.next_object_id)
        try:
            for frame in seen_frames(snapshot):
                await self._restore(frame)
        except MaskwireError as error:
            if error.code is not ErrorCode.INVALID_ARGUMENT:
                raise
            raise refused(error.message) from error
        for one in snapshot.objects:
            self._answering.resume(one.object_id, is_visible=one.is_visible)

    async def _arrived(
        self, frame: NewFrame, reading: asyncio.Task[FrameImage] | None
    ) -> tuple[FrameImage, Said, EncodedImage]:
        """Read and encode a frame and the prompts on it; the session stays as it is."""
        self._frames.check_new(frame.frame_id)
        self._reader.check(frame.prompts, "frame.prompts")
        image = await (reading or self.read(frame))
        check_size(image.size, self._size)
        said = await self._read(frame.prompts, image.size)
        encoded = await self._images.encode_frame(
            image, self._model, self._caller, keep=self._next_number == 0
        )
        return image, said, encoded

    async def _restore(self, frame: SeenFrame) -> None:
        size = frame.size
        image = await self._images.read_frame(InlineImage(frame.data), self._model, self._caller)
        if image.size != size:
            raise refused("a frame is not of the size that it says")
        encoded = await self._images.encode_frame(image, self._model, self._caller, keep=False)
        read = partial(frame.read, self._decoder)
        told = (await self._pixels.run(read, is_refusable=False)).value
        tracker = await self._tracker_for(size)
        number = self._next_number

        def follow() -> Sightings:
            return restore(tracker, number, encoded.embedding, told, self._new_id)

        seen = (await self._model.run(follow, is_refusable=False)).value
        # What the snapshot says was seen counts as seen, whatever the tracker thinks of it.
        self._seeds.note(number, image.data, seen.with_visible(told.object_ids))
        self._next_number += 1

    async def _tracker_for(self, size: ImageSize) -> ObjectTracker:
        if self._tracker is None:
            limits = TrackingLimits(self._limits.max_objects, self._limits.held_frames)

            def make() -> ObjectTracker:
                self._tracker = self._engine.new_tracker(size, limits)
                return self._tracker

            # Made and closed on the device's thread only: a call that is cancelled while the
            # tracker is being made still closes it.
            self._asked_for_tracker = True
            tracker = (await self._model.run(make, is_refusable=False)).value
            self._size = size
            return tracker
        return self._tracker

    def _close_tracker(self) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.close()

    async def _read(self, prompts: Sequence[Prompt], size: ImageSize) -> Said:
        return await self._reader.read(
            prompts, size, self._tracker, first_free_id=self._next_object_id
        )

    def _reserve(self, said: Said) -> None:
        """Give no id anew that prompts name or are given."""
        self._next_object_id = max(self._next_object_id, *(one + 1 for one in said.object_ids), 0)

    def _new_id(self) -> int:
        object_id = self._next_object_id
        self._next_object_id += 1
        return object_id

    def _known(self, object_ids: Sequence[int]) -> ObjectTracker | None:
        check_known(object_ids, self.object_ids)
        return self._tracker

    def _note(self, held: HeldFrame, seen: Sightings) -> None:
        self._seeds.forget(self._answering.given_up)
        self._frames.forget(self._answering.given_up)
        self._seeds.note(held.number, held.data, seen.merged())

    async def _on_device(
        self, work: Callable[[], Sightings], costs: Costs, stage: str, objects: int
    ) -> Sightings:
        done: Completed[Sightings] = await self._model.run(work, is_refusable=False)
        costs.queue_s += done.queue_s
        costs.prompt_s += done.run_s
        name = self._model.description.name
        self._observer.stage_finished(stage, name, done.run_s, done.ended_s)
        if objects:
            self._observer.batch_decoded(name, objects)
        return done.value
