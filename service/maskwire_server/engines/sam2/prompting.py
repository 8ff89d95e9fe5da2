"""Prompts on objects in one frame of a video: which of them can be decoded together, and decoding.

The rules are those of upstream's `add_new_points_or_box` and `add_new_mask`: an object begins
without memory, a correction sees the frame through the object's memory, and what the object's mask
was on the frame goes in with the clicks. `tracker` says what is done with the results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.engines.visual_prompts import batched, filled_mask, mask_logits

from .embedding import Sam2Embedding
from .video_network import DecodedObjects, VideoNetwork

# Upstream bounds earlier answers to this before they are prompts again.
_LOGIT_BOUND = 32.0


@dataclass(frozen=True, slots=True, eq=False)
class PromptedFrame:
    """An object with prompts on a frame.

    Attributes:
        prompts: What was said.
        begins: Whether the object begins with the frame.
        features: The frame as the object's memory lets it be seen, (1, C, S/16, S/16); None for an
            object that begins there, and for a mask that is taken over as it is.
        earlier: Logits that the object had on the frame, (1, 1, S/4, S/4), or None.
    """

    prompts: ObjectPrompts
    begins: bool
    features: torch.Tensor | None
    earlier: torch.Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What prompts gave: decoded objects, where they stood, and how many answers to show.

    Attributes:
        indices: Where the objects stood, in the order of the batch.
        decoded: Their masks and pointers.
        shows_all: Whether all answers count, or only the best.
    """

    indices: tuple[int, ...]
    decoded: DecodedObjects
    shows_all: bool


class Prompting:
    """Decodes prompts on the frames of one video."""

    def __init__(
        self, network: VideoNetwork, size: ImageSize, device: torch.device, batch_limit: int
    ) -> None:
        """Prompt on frames of a size, at most `batch_limit` objects at once."""
        self._network = network
        self._size = size
        self._device = device
        self._batch_limit = batch_limit

    def adopts(self, prompts: ObjectPrompts) -> bool:
        """Whether a mask is taken over as it is: where it is alone, if the network does so."""
        is_alone = prompts.box is None and len(prompts.points) == 0
        return prompts.mask is not None and is_alone and self._network.adopts_masks

    def answer(
        self, embedding: Sam2Embedding, objects: Sequence[PromptedFrame], *, multimask: bool
    ) -> Iterator[Answer]:
        """Yield answers for all objects, in batches of those that can be decoded together.

        Args:
            embedding: The frame.
            objects: The objects.
            multimask: Whether alternatives are asked for; only objects that begin give some where
                the network would not have decoded them for itself.
        """
        groups: dict[tuple[bool, ...], list[int]] = {}
        for index, prompted in enumerate(objects):
            has_logits = prompted.earlier is not None or prompted.prompts.mask is not None
            adopts = self.adopts(prompted.prompts)
            key = (True,) if adopts else (False, prompted.begins, has_logits)
            groups.setdefault(key, []).append(index)
        for (adopts, *_), indices in groups.items():
            members = [objects[index] for index in indices]
            for answer in (
                self._adopt(embedding, members)
                if adopts
                else self._decode(embedding, members, multimask)
            ):
                yield replace(answer, indices=tuple(indices[at] for at in answer.indices))

    def _adopt(
        self, embedding: Sam2Embedding, members: Sequence[PromptedFrame]
    ) -> Iterator[Answer]:
        """Take masks over as they are."""
        side = self._network.side
        for start in range(0, len(members), self._batch_limit):
            chunk = members[start : start + self._batch_limit]
            masks = [
                filled_mask(each.prompts.mask, self._size, side)
                for each in chunk
                if each.prompts.mask is not None
            ]
            stacked = torch.from_numpy(np.stack(masks)[:, None]).to(self._device)
            decoded = self._network.adopt(stacked.float(), embedding)
            yield Answer(tuple(range(start, start + len(chunk))), decoded, shows_all=False)

    def _decode(
        self, embedding: Sam2Embedding, members: Sequence[PromptedFrame], multimask: bool
    ) -> Iterator[Answer]:
        """Decode objects that all begin or are all corrected, all with earlier logits or none."""
        begins, network = members[0].begins, self._network
        for batch in batched(
            [replace(each.prompts, mask=None) for each in members],
            self._size,
            network_side=network.side,
            mask_side=network.mask_side,
            batch_limit=self._batch_limit,
            device=self._device,
        ):
            chunk = [members[position] for position in batch.positions]
            points = None
            if batch.coordinates is not None and batch.labels is not None:
                points = batch.coordinates, batch.labels
            point_count = 0 if points is None else points[1].shape[1]
            several = network.may_answer_several(begins=begins, points=point_count)
            decoded = network.decode(
                self._features(embedding, chunk),
                embedding,
                points=points,
                masks=self._earlier_logits(chunk),
                several=several or (multimask and begins),
            )
            yield Answer(batch.positions, decoded, shows_all=multimask)

    def _features(self, embedding: Sam2Embedding, chunk: Sequence[PromptedFrame]) -> torch.Tensor:
        seen = [each.features for each in chunk if each.features is not None]
        if seen:
            return torch.cat(seen) if len(seen) > 1 else seen[0]
        return self._network.without_memory(embedding).expand(len(chunk), -1, -1, -1)

    def _earlier_logits(self, chunk: Sequence[PromptedFrame]) -> torch.Tensor | None:
        """Return the masks that go in with clicks: what was said, else the earlier answer."""
        logits: list[torch.Tensor] = []
        for each in chunk:
            if each.prompts.mask is not None:
                said = mask_logits(each.prompts.mask, self._size, self._network.mask_side)
                logits.append(torch.from_numpy(said)[None, None].to(self._device))
            elif each.earlier is not None:
                logits.append(each.earlier.clamp(-_LOGIT_BOUND, _LOGIT_BOUND))
        return torch.cat(logits) if logits else None
