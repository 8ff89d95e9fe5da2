"""Follows objects through frames with a SAM 2 network, in memory that does not grow.

Gives the masks of upstream's `SAM2VideoPredictor`, frame by frame: the network attends to the
memories of the first frames of an object and of the last few, and that is all that is kept. Holes
in masks are not filled; nor does upstream fill any unless its CUDA extension is built.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from maskwire_server.domain.engine import ImageEmbedding, MaskCandidate
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import (
    ObjectSighting,
    ObjectTracker,
    PromptedObject,
    TrackingLimits,
)

from .embedding import Sam2Embedding
from .object_memory import FrameOutput, ObjectMemory, Recollection
from .prompting import Answer, PromptedFrame, Prompting
from .video_network import DecodedObjects, VideoNetwork


class Sam2Tracker(ObjectTracker):
    """Follows objects; see `ObjectTracker`.

    Prompts on a frame that an object was followed into correct it there; on any other frame they
    begin it there. A correction lasts: it is not computed anew when the object is carried through
    its frame later.
    """

    def __init__(
        self,
        network: VideoNetwork,
        size: ImageSize,
        limits: TrackingLimits,
        *,
        prompting: Prompting,
        computing: Callable[[], AbstractContextManager[None]],
        batch_limit: int,
    ) -> None:
        """Track nothing yet.

        Args:
            network: The network's parts.
            size: Size of the frames.
            limits: What bounds the memory.
            prompting: Decodes prompts on frames of that size.
            computing: The context in which the engine computes.
            batch_limit: Most objects that are followed in one forward pass.
        """
        self._network = network
        self._window = Box.covering(size)
        self._held_frames = limits.held_frames
        self._prompting = prompting
        self._computing = computing
        self._batch_limit = batch_limit
        self._frames: dict[int, Sam2Embedding] = {}
        self._objects: dict[int, ObjectMemory] = {}
        # A frame as the memories of objects that are corrected on it let it be seen: prompting
        # again then costs no more than decoding. Of one frame at a time.
        self._seen: dict[int, torch.Tensor] = {}
        self._seen_frame = -1

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects, in the order in which they were added."""
        return tuple(self._objects)

    @property
    def size_bytes(self) -> int:
        """Memory that the tracker holds; tensors that share memory count once."""
        storages = (tensor.untyped_storage() for tensor in self._tensors())
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def advance(self, frame: int, embedding: ImageEmbedding) -> list[ObjectSighting]:
        """Take the next frame; see `ObjectTracker.advance`.

        Where the device fails, the tracker stays as it was before.
        """
        if not isinstance(embedding, Sam2Embedding):
            raise TypeError(f"{type(embedding).__name__} is not an embedding of this engine")
        if frame <= self._latest:
            raise ValueError(f"frame {frame} does not come after frame {self._latest}")
        with self._computing():
            self._settle_latest()
            outputs = self._follow(tuple(self._objects), frame, embedding)
            self._forget_seen()
            self._frames[frame] = embedding
            for object_id, output in outputs.items():
                self._objects[object_id].followed[frame] = output
            self._prune()
            return [
                ObjectSighting(
                    object_id,
                    MaskLogits(_to_numpy(output.held_logits())[0, 0], self._window),
                    _presence(output.object_score),
                )
                for object_id, output in outputs.items()
            ]

    def prompt(
        self, frame: int, objects: Sequence[ObjectPrompts], *, multimask: bool
    ) -> list[PromptedObject]:
        """Begin or correct objects; see `ObjectTracker.prompt`.

        A mask alone is taken over as it is, where the network was trained so; with clicks or a
        box, it goes in as the earlier answer. Alternatives are given for objects that begin, and
        for corrections where the network decodes several for itself.
        """
        embedding = self._frames.get(frame)
        if embedding is None:
            raise ValueError(f"frame {frame} is not held")
        with self._computing():
            prompted = [self._prompted(frame, embedding, prompts) for prompts in objects]
            outputs: dict[int, FrameOutput] = {}
            shown: dict[int, PromptedObject] = {}
            for answer in self._prompting.answer(embedding, prompted, multimask=multimask):
                decoded = _outputs(answer.decoded, is_prompted=True)
                outputs.update(zip(answer.indices, decoded, strict=True))
                shown.update(self._shown(objects, answer))
            by_object = {prompts.object_id: outputs[index] for index, prompts in enumerate(objects)}
            if frame == self._latest:
                self._await_next_frame(by_object)
            else:
                self._remember(embedding, tuple(by_object.values()), is_prompted=True)
                for object_id, output in by_object.items():
                    self._objects.setdefault(object_id, ObjectMemory()).settle(frame, output)
                self._carry(tuple(by_object), frame)
                self._prune()
        return [shown[index] for index in range(len(objects))]

    def clear_prompts(self, object_ids: Collection[int]) -> None:
        """Forget prompts on the latest frame; see `ObjectTracker.clear_prompts`."""
        for object_id in object_ids:
            memory = self._objects.get(object_id)
            if memory is None:
                continue
            memory.restarts = True
            if not memory.begins_with(self._latest):
                memory.pending = None

    def remove(self, object_ids: Collection[int]) -> None:
        """Forget objects."""
        for object_id in object_ids:
            self._objects.pop(object_id, None)
            self._seen.pop(object_id, None)

    def reset(self) -> None:
        """Forget all objects and frames."""
        self._objects.clear()
        self._frames.clear()
        self._forget_seen()

    @property
    def _latest(self) -> int:
        return next(reversed(self._frames), -1)

    def _await_next_frame(self, outputs: Mapping[int, FrameOutput]) -> None:
        """Keep what prompts on the latest frame gave until the next one comes."""
        for object_id, output in outputs.items():
            memory = self._objects.setdefault(object_id, ObjectMemory())
            memory.pending, memory.restarts = output, False

    def _prompted(
        self, frame: int, embedding: Sam2Embedding, prompts: ObjectPrompts
    ) -> PromptedFrame:
        """Look up what the object had on the frame, and how its memory lets the frame be seen."""
        memory = self._objects.get(prompts.object_id)
        if memory is None:
            return PromptedFrame(prompts, begins=True, features=None, earlier=None)
        begins, is_latest = memory.begins_with(frame), frame == self._latest
        output = memory.at(frame)
        if is_latest and memory.pending is not None:
            output = memory.pending
        if is_latest and memory.restarts and begins:
            output = None
        features = None
        if not begins and not self._prompting.adopts(prompts):
            features = self._features(frame, embedding, prompts.object_id)
        return PromptedFrame(
            prompts,
            begins=begins,
            features=features,
            earlier=None if output is None else output.logits,
        )

    def _features(self, frame: int, embedding: Sam2Embedding, object_id: int) -> torch.Tensor:
        """Return the frame as the object's memory lets it be seen, computed at most once."""
        if frame != self._seen_frame:
            self._forget_seen()
            self._seen_frame = frame
        if object_id not in self._seen:
            recollection = self._objects[object_id].recall(frame, self._network.rules)
            self._seen[object_id] = self._network.with_memory(embedding, [recollection])
        return self._seen[object_id]

    def _follow(
        self, object_ids: Sequence[int], frame: int, embedding: Sam2Embedding
    ) -> dict[int, FrameOutput]:
        """Follow objects into a frame, those whose memories have the same structure together."""
        groups: dict[tuple[int, int], list[tuple[int, Recollection]]] = {}
        for object_id in object_ids:
            recollection = self._objects[object_id].recall(frame, self._network.rules)
            groups.setdefault(recollection.structure, []).append((object_id, recollection))
        outputs: dict[int, FrameOutput] = {}
        for group in groups.values():
            for start in range(0, len(group), self._batch_limit):
                ids, recollections = zip(*group[start : start + self._batch_limit], strict=True)
                decoded = self._network.decode(
                    self._network.with_memory(embedding, recollections),
                    embedding,
                    points=None,
                    masks=None,
                    several=self._network.may_answer_several(begins=False, points=0),
                )
                followed = _outputs(decoded, is_prompted=False)
                self._remember(embedding, followed, is_prompted=False)
                outputs.update(zip(ids, followed, strict=True))
        return {object_id: outputs[object_id] for object_id in object_ids}

    def _carry(self, object_ids: Sequence[int], frame: int) -> None:
        """Follow objects through the held frames after one, except where prompts gave masks."""
        for later in [held for held in self._frames if held > frame]:
            followed = [
                object_id
                for object_id in object_ids
                if not self._is_settled_by_prompts(object_id, later)
            ]
            outputs = self._follow(followed, later, self._frames[later])
            for object_id, output in outputs.items():
                self._objects[object_id].followed[later] = output

    def _is_settled_by_prompts(self, object_id: int, frame: int) -> bool:
        memory = self._objects[object_id]
        if frame == self._latest and memory.pending is not None and memory.begins_with(frame):
            return True
        output = memory.at(frame)
        return output is not None and output.is_prompted

    def _settle_latest(self) -> None:
        """Make memories of what prompts on the latest frame gave."""
        pending = [memory for memory in self._objects.values() if memory.pending is not None]
        if pending:
            outputs = [memory.pending for memory in pending if memory.pending is not None]
            self._remember(self._frames[self._latest], outputs, is_prompted=True)
            for memory, output in zip(pending, outputs, strict=True):
                memory.settle(self._latest, output)
                memory.pending = None
        for memory in self._objects.values():
            memory.restarts = False

    def _remember(
        self, embedding: Sam2Embedding, outputs: Sequence[FrameOutput], *, is_prompted: bool
    ) -> None:
        """Encode outputs of a frame into memories."""
        for start in range(0, len(outputs), self._batch_limit):
            chunk = outputs[start : start + self._batch_limit]
            memories = self._network.remember(
                embedding,
                torch.cat([output.held_logits() for output in chunk]),
                torch.cat([output.object_score for output in chunk]),
                is_prompted=is_prompted,
            )
            for output, memory in zip(chunk, memories, strict=True):
                output.memory = memory.clone()

    def _prune(self) -> None:
        """Forget frames that are no longer held, and what no frame to come attends to."""
        while len(self._frames) > self._held_frames + 1:
            del self._frames[next(iter(self._frames))]
        for memory in self._objects.values():
            memory.prune(self._latest, self._held_frames, self._network.rules)

    def _forget_seen(self) -> None:
        self._seen.clear()
        self._seen_frame = -1

    def _tensors(self) -> Iterator[torch.Tensor]:
        for embedding in self._frames.values():
            yield embedding.image_features
            yield from embedding.high_res_features
        for memory in self._objects.values():
            yield from memory.tensors()
        yield from self._seen.values()

    def _shown(
        self, objects: Sequence[ObjectPrompts], answer: Answer
    ) -> Iterator[tuple[int, PromptedObject]]:
        """Yield what callers see of an answer, by where the objects stood."""
        decoded = answer.decoded
        values, best = _to_numpy(decoded.logits), decoded.best.tolist()
        ious, scores = decoded.predicted_ious.tolist(), decoded.object_scores
        for row, index in enumerate(answer.indices):
            kept = range(len(ious[row])) if answer.shows_all else (best[row],)
            candidates = tuple(
                MaskCandidate(MaskLogits(values[row, at], self._window), ious[row][at])
                for at in kept
            )
            yield (
                index,
                PromptedObject(objects[index].object_id, candidates, _presence(scores[row])),
            )


def _outputs(decoded: DecodedObjects, *, is_prompted: bool) -> list[FrameOutput]:
    """Split a batch into objects; copies, so that forgetting one frees its memory."""
    logits = decoded.best_logits()
    return [
        FrameOutput(
            logits=logits[row : row + 1].clone(),
            pointer=decoded.pointers[row : row + 1].clone(),
            object_score=decoded.object_scores[row : row + 1].clone(),
            is_prompted=is_prompted,
        )
        for row in range(len(logits))
    ]


def _presence(object_score: torch.Tensor) -> float:
    return float(object_score.float().sigmoid())


def _to_numpy(logits: torch.Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = logits.float().cpu().numpy()
    return values
