"""Follows objects through frames with a SAM 3 network, in memory that does not grow.

Objects that prompts begin are followed as `Sam3TrackerVideoModel` follows them, each for itself;
objects that texts find as `Sam3VideoModel` does, which weighs instances of a concept against each
other (see `concept_tracker`). Both read the features that the engine's `encode` computed once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch

from maskwire_server.domain.concept_tracking import (
    ConceptTracker,
    FoundObject,
    SoughtConcept,
)
from maskwire_server.domain.engine import ImageEmbedding
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import ObjectSighting, PromptedObject, TrackingLimits

from .association import Seen
from .concept_tracker import ConceptVideo
from .embedding import Sam3Embedding
from .network import Sam3Network
from .texts import TextEncoder
from .video_prompting import VideoPrompting
from .video_session import FrameFeatures, StreamedSession, remembered

# The numbers with which the tracker takes a mask of 0 to 1 for logits.
_MASK_SCALE, _MASK_BIAS = 20.0, -10.0


class Sam3Tracker(ConceptTracker):
    """Follows objects and looks for concepts; see `ConceptTracker`."""

    def __init__(
        self,
        network: Sam3Network,
        texts: TextEncoder,
        size: ImageSize,
        limits: TrackingLimits,
        *,
        device: torch.device,
        computing: Callable[[], AbstractContextManager[None]],
        concepts_at_once: int,
    ) -> None:
        """Track nothing yet; called where the engine computes.

        Args:
            network: The engine's network.
            texts: The engine's text encoder.
            size: Size of the frames.
            limits: What bounds the memory.
            device: Where the network is.
            computing: The context in which the engine computes.
            concepts_at_once: Most texts that are looked for in one run of the detector.
        """
        self._network = network
        self._texts = texts
        self._limits = limits
        self._device = device
        self._computing = computing
        self._concepts_at_once = concepts_at_once
        self._prompting = VideoPrompting(network, size, device)
        configuration = network.tracker.config
        self._memory_reach = int(network.tracker.num_maskmem)
        self._pointer_reach = max(
            self._memory_reach, int(configuration.max_object_pointers_in_encoder)
        )
        self._begin()

    def _begin(self) -> None:
        """Hold no frames and no objects."""
        self._features = FrameFeatures(self._network.tracker_positions, self._limits.held_frames)
        self._embeddings: dict[int, Sam3Embedding] = {}
        self._prompted_session = StreamedSession(self._features, self._device)
        self._found_session = StreamedSession(self._features, self._device)
        self._concepts = ConceptVideo(
            self._network,
            self._texts,
            self._found_session,
            at_once=self._concepts_at_once,
            most_removed=self._limits.max_objects,
        )
        # By object id, in the order in which they were added: session, and id within it.
        self._objects: dict[int, tuple[StreamedSession, int]] = {}
        self._by_internal: dict[int, int] = {}
        self._next_internal = itertools.count()
        self._new_id: Callable[[], int] | None = None
        # What objects that were corrected on the latest frame had been followed to there.
        self._before: dict[int, tuple[str, dict[str, Any]]] = {}
        self._restarts: set[int] = set()
        # Frames on which prompts gave an object's mask, as far as they are held.
        self._settled: set[tuple[int, int]] = set()
        self._kept_places = 0

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects, in the order in which they were added."""
        return tuple(self._objects)

    @property
    def sought(self) -> tuple[SoughtConcept, ...]:
        """What is looked for; see `ConceptTracker.sought`."""
        return self._concepts.sought

    @property
    def size_bytes(self) -> int:
        """Memory that the tracker holds; tensors that share memory count once."""
        storages = (tensor.untyped_storage() for tensor in self._tensors())
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def advance(self, frame: int, embedding: ImageEmbedding) -> list[ObjectSighting]:
        """Take the next frame; see `ObjectTracker.advance`.

        Where this fails, as whatever else is asked, the tracker stays as it was before.
        """
        if not isinstance(embedding, Sam3Embedding):
            raise TypeError(f"{type(embedding).__name__} is not an embedding of this engine")
        if frame <= self._latest:
            raise ValueError(f"frame {frame} does not come after frame {self._latest}")
        with self._all_or_nothing():
            self._features.add(frame, embedding)
            if self._embeddings:  # concepts are looked for in the latest frame only
                self._embeddings[self._latest] = self._embeddings[self._latest].without_concepts()
            self._embeddings[frame] = embedding
            while len(self._embeddings) > self._limits.held_frames + 1:
                del self._embeddings[next(iter(self._embeddings))]
            self._before.clear()
            self._restarts.clear()
            self._settled = {one for one in self._settled if one[1] in self._embeddings}
            sightings = {one.object_id: one for one in self._follow_prompted(frame)}
            if not self._concepts.is_idle:
                seen = self._concepts.follow(frame, embedding, self._room)
                sightings |= {one.object_id: one for one in self._sightings(seen)}
                self._forget_dropped()
            self._prune()
        return [sightings[object_id] for object_id in self._objects]

    def prompt(
        self, frame: int, objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> list[PromptedObject]:
        """Begin or correct objects; see `ObjectTracker.prompt`.

        A mask alone is taken over as it is. Alternatives are given for objects that begin.
        """
        embedding = self._embeddings.get(frame)
        if embedding is None:
            raise ValueError(f"frame {frame} is not held")
        answers = []
        with self._all_or_nothing():
            for prompts in objects:
                object_id = prompts.object_id
                session, internal_id = self._object(object_id)
                if frame == self._latest:
                    self._remember_followed(object_id, session, internal_id, frame)
                answer = self._prompting.answer(
                    session,
                    internal_id,
                    prompts,
                    frame,
                    embedding,
                    starts_anew=object_id in self._restarts,
                    multimask=multimask,
                )
                self._restarts.discard(object_id)
                self._settled.add((object_id, frame))
                later = [
                    one
                    for one in self._embeddings
                    if one > frame and (object_id, one) not in self._settled
                ]
                self._prompting.carry(session, internal_id, later)
                if session is self._found_session:
                    self._concepts.keep(internal_id)
                    answer = replace(
                        answer,
                        text=self._concepts.text_of(internal_id),
                        confidence=self._concepts.confidence_of(internal_id),
                    )
                answers.append(answer)
            self._prune()
        return answers

    def check(self, concepts: Sequence[SoughtConcept]) -> None:
        """Check that concepts can be looked for; their texts are then remembered."""
        with self._computing():
            for one in concepts:
                self._texts.encode(one.text, one.path)

    def keep_places(self, count: int) -> None:
        """Leave places for objects that prompts are going to begin."""
        self._kept_places = count

    def seek(
        self, concepts: Sequence[SoughtConcept], new_id: Callable[[], int]
    ) -> list[ObjectSighting]:
        """Look for concepts from the latest frame on; see `ConceptTracker.seek`."""
        if not self._embeddings:
            raise ValueError("there is no frame to look for concepts in")
        with self._all_or_nothing():
            self._new_id = new_id
            frame = self._latest
            seen = self._concepts.seek(concepts, frame, self._embeddings[frame], self._room)
            sightings = list(self._sightings([one for one in seen if one.is_new]))
            self._forget_dropped()
            self._prune()
        return sightings

    def resume(
        self,
        objects: Sequence[FoundObject],
        concepts: Sequence[SoughtConcept],
        new_id: Callable[[], int],
    ) -> list[ObjectSighting]:
        """Go on from what another tracker found; see `ConceptTracker.resume`."""
        with self._all_or_nothing():
            self._new_id = new_id
            self._concepts.seek_later(concepts)
            masks = [self._prompting.cells(one.mask) for one in objects]
            brought = self._concepts.bring_back(objects, masks, self._latest)
            for one, internal_id in zip(objects, brought, strict=True):
                self._by_internal[internal_id] = one.object_id
                self._objects[one.object_id] = (self._found_session, internal_id)
            self._prune()
        return [
            ObjectSighting(
                one.object_id,
                self._prompting.logits(cells * _MASK_SCALE + _MASK_BIAS),
                1.0,
                one.text,
                one.confidence,
            )
            for one, cells in zip(objects, masks, strict=True)
        ]

    def stop_seeking(self) -> None:
        """Look for no concept any more."""
        self._concepts.stop_seeking()

    def clear_prompts(self, object_ids: Collection[int]) -> None:
        """Forget prompts on the latest frame; see `ObjectTracker.clear_prompts`."""
        for object_id in object_ids:
            if object_id not in self._objects:
                continue
            session, internal_id = self._objects[object_id]
            self._restarts.add(object_id)
            before = self._before.pop(object_id, None)
            if before is not None:
                session.put_back(internal_id, self._latest, *before)
                self._settled.discard((object_id, self._latest))

    def remove(self, object_ids: Collection[int]) -> None:
        """Forget objects."""
        for object_id in object_ids:
            if object_id not in self._objects:
                continue
            session, internal_id = self._objects.pop(object_id)
            self._before.pop(object_id, None)
            if session is self._found_session:
                self._by_internal.pop(internal_id, None)
                self._concepts.remove(internal_id)
            else:
                session.remove_object(internal_id)

    def reset(self) -> None:
        """Forget all objects, texts and frames."""
        self._begin()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Compute, and leave everything as it was where that fails."""
        owners = (
            self,
            self._features,
            self._prompted_session,
            self._found_session,
            self._concepts,
            self._concepts.out_of_sight,
        )
        restore = [remembered(owner) for owner in owners]
        try:
            with self._computing():
                yield
        except BaseException:
            for again in restore:
                again()
            raise

    @property
    def _latest(self) -> int:
        return next(reversed(self._embeddings), -1)

    @property
    def _room(self) -> int:
        """Most objects that texts may have found."""
        taken = len(self._prompted_session.obj_ids) + self._kept_places
        return max(0, self._limits.max_objects - taken)

    def _object(self, object_id: int) -> tuple[StreamedSession, int]:
        if object_id not in self._objects:
            self._concepts.release(object_id)
            self._kept_places = max(0, self._kept_places - 1)
            self._objects[object_id] = (self._prompted_session, next(self._next_internal))
        return self._objects[object_id]

    def _follow_prompted(self, frame: int) -> Iterator[ObjectSighting]:
        session = self._prompted_session
        if not session.obj_ids:
            return
        output = self._network.tracker(inference_session=session, frame_idx=frame)
        presences = output.object_score_logits.float().sigmoid().flatten().tolist()
        seen = zip(output.pred_masks, presences, strict=True)
        by_internal = dict(zip(output.object_ids, seen, strict=True))
        for object_id, (kept, internal_id) in self._objects.items():
            if kept is session:
                mask, presence = by_internal[internal_id]
                yield ObjectSighting(object_id, self._prompting.logits(mask[0]), presence)

    def _sightings(self, seen: Sequence[Seen]) -> Iterator[ObjectSighting]:
        """Turn what was found into sightings, with ids for what is new."""
        for one in seen:
            object_id = self._by_internal.get(one.internal_id)
            if object_id is None:
                object_id = self._concepts.reserved_id(one.internal_id)
                if object_id is None or object_id in self._objects:
                    assert self._new_id is not None
                    object_id = self._new_id()
                self._by_internal[one.internal_id] = object_id
                self._objects[object_id] = (self._found_session, one.internal_id)
            yield ObjectSighting(
                object_id,
                self._prompting.logits(one.mask),
                one.presence,
                self._concepts.text_of(one.internal_id),
                self._concepts.confidence_of(one.internal_id),
            )

    def _forget_dropped(self) -> None:
        """Forget objects that the model gave up."""
        known = set(self._found_session.obj_ids)
        for internal_id in [one for one in self._by_internal if one not in known]:
            del self._objects[self._by_internal.pop(internal_id)]

    def _remember_followed(
        self, object_id: int, session: StreamedSession, internal_id: int, frame: int
    ) -> None:
        """Keep what an object was followed to, before it is corrected for the first time."""
        if object_id in self._before or session.at(internal_id, frame) is None:
            return
        followed = session.kept_at(internal_id, frame)
        if followed is not None:
            self._before[object_id] = followed

    def _prune(self) -> None:
        for session in (self._prompted_session, self._found_session):
            session.prune(
                self._latest,
                self._limits.held_frames,
                pointer_reach=self._pointer_reach,
                memory_reach=self._memory_reach,
            )

    def _tensors(self) -> Iterator[torch.Tensor]:
        for embedding in self._embeddings.values():
            yield from embedding.detector_levels
            yield from embedding.tracker_levels
        for session in (self._prompted_session, self._found_session):
            yield from session.tensors()
        for _, output in self._before.values():
            yield from output.values()
        yield from self._concepts.tensors()
