"""What a tracker remembers of one object, and what of it the network attends to.

Follows upstream's `SAM2VideoPredictor`: frames on which prompts began the object ("conditioning")
are remembered for good, those that it was followed into as far back as the network looks. Only
bookkeeping lives here; the tensors come from `video_network`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from sam2.modeling.sam2_utils import select_closest_cond_frames

_NEWEST_CONDITIONING_FRAMES = 7
"""Conditioning frames kept beside the first, so that memory stays bounded; upstream keeps all."""


@dataclass(slots=True, eq=False)
class FrameOutput:
    """One object in one frame.

    With S the side of the network's input, C and D its widths for images and memories:

    Attributes:
        logits: Shape (1, 1, S/4, S/4), float32; None once prompts can no longer refer to the frame.
        pointer: Shape (1, C): the decoder's token for the object.
        object_score: Shape (1, 1): logit of the probability that the object is visible.
        memory: Shape ((S/16)², D), bfloat16; None until it is needed and once it is too old.
        is_prompted: Whether prompts gave the mask.
    """

    logits: torch.Tensor | None
    pointer: torch.Tensor
    object_score: torch.Tensor
    memory: torch.Tensor | None = None
    is_prompted: bool = False

    def held_logits(self) -> torch.Tensor:
        """Return the logits, of a frame that prompts can still refer to."""
        if self.logits is None:
            raise ValueError("the logits of a frame that is no longer held are gone")
        return self.logits

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield what the output holds."""
        for tensor in (self.logits, self.pointer, self.object_score, self.memory):
            if tensor is not None:
                yield tensor


@dataclass(frozen=True, slots=True)
class MemoryRules:
    """What a network attends to when it follows an object; drawn from its configuration.

    Attributes:
        memory_count: Temporal positions of memories, the conditioning frames' included.
        stride: Frames between memories farther back than the last frame.
        closest_conditioning: Most conditioning frames attended to, −1 for all.
        pointer_count: Most frames whose pointers are attended to; 0 where pointers are not used.
        only_past_pointers: Whether pointers of later conditioning frames are left out.
        signed_distances: Whether a later frame's distance is negative.
    """

    memory_count: int
    stride: int
    closest_conditioning: int
    pointer_count: int
    only_past_pointers: bool
    signed_distances: bool

    @classmethod
    def of(cls, network: Any) -> MemoryRules:
        """Read the rules from a `SAM2Base`."""
        return cls(
            memory_count=network.num_maskmem,
            stride=network.memory_temporal_stride_for_eval,
            closest_conditioning=network.max_cond_frames_in_attn,
            pointer_count=(
                network.max_obj_ptrs_in_encoder if network.use_obj_ptrs_in_encoder else 0
            ),
            only_past_pointers=network.only_obj_ptrs_in_the_past_for_eval,
            signed_distances=network.use_signed_tpos_enc_to_obj_ptrs,
        )

    def frames_before(self, frame: int) -> Iterator[tuple[int, int]]:
        """Yield (temporal position, frame) of what `frame` attends to, the oldest first."""
        for position in range(1, self.memory_count):
            steps_back = self.memory_count - position
            if steps_back == 1:
                yield position, frame - 1
            else:
                nearest = (frame - 2) // self.stride * self.stride
                yield position, nearest - (steps_back - 2) * self.stride

    @property
    def memory_reach(self) -> int:
        """How many frames back the farthest memory may lie."""
        return max(1, 2 + (self.stride - 1) + (self.memory_count - 3) * self.stride)

    @property
    def pointer_reach(self) -> int:
        """How many frames back the farthest pointer may lie."""
        return max(1, self.pointer_count - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Recollection:
    """What the network attends to for one object in one frame.

    Attributes:
        memories: Memories of frames, each of shape ((S/16)², D).
        positions: The temporal position of each; 0 for conditioning frames.
        pointers: Object pointers, each of shape (1, C).
        distances: How many frames back each lies.
    """

    memories: tuple[torch.Tensor, ...]
    positions: tuple[int, ...]
    pointers: tuple[torch.Tensor, ...]
    distances: tuple[int, ...]

    @property
    def structure(self) -> tuple[int, int]:
        """Numbers of memories and pointers; objects that agree in them can share a batch."""
        return len(self.memories), len(self.pointers)


@dataclass(slots=True, eq=False)
class ObjectMemory:
    """What is remembered of one object.

    Attributes:
        conditioning: Outputs of the frames on which prompts began the object, without memory of
            other frames.
        followed: Outputs of the frames that it was followed into, corrected or not.
        pending: What prompts on the latest frame gave, not yet encoded into a memory: it is when
            the next frame comes, so that prompting again costs no more than decoding.
        restarts: Whether the next prompts on the latest frame start from nothing.
    """

    conditioning: dict[int, FrameOutput] = field(default_factory=dict)
    followed: dict[int, FrameOutput] = field(default_factory=dict)
    pending: FrameOutput | None = None
    restarts: bool = False

    def at(self, frame: int) -> FrameOutput | None:
        """Return the last output that is settled on a frame."""
        return self.conditioning.get(frame) or self.followed.get(frame)

    def begins_with(self, frame: int) -> bool:
        """Whether prompts on a frame begin the object there instead of correcting it."""
        return frame not in self.followed

    def settle(self, frame: int, output: FrameOutput) -> None:
        """Take what prompts on a frame gave for the object's output there."""
        kept = self.conditioning if self.begins_with(frame) else self.followed
        kept[frame] = output

    def recall(self, frame: int, rules: MemoryRules) -> Recollection:
        """Return what the network attends to in a frame; the object has a conditioning frame."""
        chosen, others = select_closest_cond_frames(
            frame, self.conditioning, rules.closest_conditioning
        )
        memories = [(0, output.memory) for output in chosen.values()]
        for position, earlier in rules.frames_before(frame):
            output = self.followed.get(earlier) or others.get(earlier)
            if output is not None:
                memories.append((position, output.memory))
        pointers = tuple(self._pointers(frame, rules, chosen, others))
        return Recollection(
            memories=tuple(memory for _, memory in memories if memory is not None),
            positions=tuple(position for position, memory in memories if memory is not None),
            pointers=tuple(pointer for _, pointer in pointers),
            distances=tuple(distance for distance, _ in pointers),
        )

    def prune(self, latest: int, held_frames: int, rules: MemoryRules) -> None:
        """Forget what neither the next frame nor a prompt on a held frame can need."""
        for frame in sorted(self.conditioning)[1:-_NEWEST_CONDITIONING_FRAMES]:
            del self.conditioning[frame]
        farthest = held_frames + max(rules.pointer_reach, rules.memory_reach)
        for frame in [frame for frame in self.followed if latest - frame > farthest]:
            del self.followed[frame]
        for frame, output in self.followed.items():
            if latest - frame > held_frames + rules.memory_reach:
                output.memory = None
        for frame, output in (*self.followed.items(), *self.conditioning.items()):
            if latest - frame > held_frames:
                output.logits = None

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield what the memory holds."""
        for output in (*self.conditioning.values(), *self.followed.values()):
            yield from output.tensors()
        if self.pending is not None:
            yield from self.pending.tensors()

    def _pointers(
        self,
        frame: int,
        rules: MemoryRules,
        chosen: dict[int, FrameOutput],
        others: dict[int, FrameOutput],
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (distance, pointer): the conditioning frames' first, then back from the last."""
        if rules.pointer_count == 0:
            return
        for earlier, output in chosen.items():
            if earlier <= frame or not rules.only_past_pointers:
                distance = frame - earlier
                yield distance if rules.signed_distances else abs(distance), output.pointer
        for distance in range(1, rules.pointer_count):
            followed = self.followed.get(frame - distance) or others.get(frame - distance)
            if followed is not None:
                yield distance, followed.pointer
