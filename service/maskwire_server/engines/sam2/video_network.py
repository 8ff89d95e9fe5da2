"""A SAM 2 network's parts for video, as functions of tensors: nothing is remembered here.

Does what upstream's `SAM2Base.track_step` does with the same modules, but for several objects in
one forward pass, whenever their memories have the same structure; what tells them apart, the
distances of their memories and pointers, is told for each. The mask is brought to the network's
full side only where a memory is made of it. `object_memory` says what is attended to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sam2.modeling.sam2_base import NO_OBJ_SCORE
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch.nn import functional

from .embedding import Sam2Embedding
from .object_memory import MemoryRules, Recollection

# Upstream's logits for a mask that is given instead of decoded.
_MASK_SCALE, _MASK_BIAS = 20.0, -10.0


@dataclass(frozen=True, slots=True, eq=False)
class DecodedObjects:
    """What the mask decoder gave for some objects.

    With B objects, M answers for each, S the network's side and C its width:

    Attributes:
        logits: Shape (B, M, S/4, S/4), float32; upstream's "no object" where the object is hidden.
        predicted_ious: Shape (B, M).
        best: Shape (B,), int64: the answer of the highest predicted IoU.
        pointers: Shape (B, C), of the best answers.
        object_scores: Shape (B, 1): logits of the probability that the object is visible.
    """

    logits: torch.Tensor
    predicted_ious: torch.Tensor
    best: torch.Tensor
    pointers: torch.Tensor
    object_scores: torch.Tensor

    def best_logits(self) -> torch.Tensor:
        """Return the best answers, shape (B, 1, S/4, S/4)."""
        return self.logits[_range_like(self.best), self.best].unsqueeze(1)


class VideoNetwork:
    """The parts of one network, with what depends on its architecture alone."""

    def __init__(self, network: Any, device: torch.device, prompt_position: torch.Tensor) -> None:
        """Prepare the constants; called where the engine computes, in its precision.

        Args:
            network: A `SAM2Base` with memory, on its device.
            device: That device.
            prompt_position: The prompt encoder's dense position encoding.
        """
        self.rules = MemoryRules.of(network)
        self.side: int = network.image_size
        self.mask_side: int = network.sam_prompt_encoder.mask_input_size[0]
        self.adopts_masks: bool = network.use_mask_input_as_output_without_sam
        self._network = network
        self._device = device
        cells = network.sam_image_embedding_size
        self._prompt_position = prompt_position
        grid = torch.zeros(1, network.hidden_dim, cells, cells, device=device)
        self._image_position = network.image_encoder.neck.position_encoding(grid)
        self._memory_positions = self._positions_of_memories(grid)

    def may_answer_several(self, *, begins: bool, points: int) -> bool:
        """Whether the network decodes alternatives and takes the best, as trained.

        Args:
            begins: Whether the object is looked for without memory.
            points: Points of the prompt; a box counts as two.
        """
        network = self._network
        return bool(
            network.multimask_output_in_sam
            and (begins or network.multimask_output_for_tracking)
            and network.multimask_min_pt_num <= points <= network.multimask_max_pt_num
        )

    def without_memory(self, embedding: Sam2Embedding) -> torch.Tensor:
        """Return the image's features for objects that begin: shape (1, C, S/16, S/16)."""
        no_memory: torch.Tensor = self._network.no_mem_embed
        return embedding.image_features + no_memory.view(1, -1, 1, 1)

    def with_memory(
        self, embedding: Sam2Embedding, recollections: Sequence[Recollection]
    ) -> torch.Tensor:
        """Return the image's features as each object's memory lets it see them.

        Args:
            embedding: The frame.
            recollections: What each object attends to; all of the same structure.

        Returns:
            Shape (objects, C, S/16, S/16).
        """
        count, features = len(recollections), embedding.image_features
        memory, positions, pointer_tokens = self._memory_tokens(recollections)
        position = self._image_position.to(features.dtype)
        attended: torch.Tensor = self._network.memory_attention(
            curr=_as_sequence(features).expand(-1, count, -1),
            curr_pos=_as_sequence(position).expand(-1, count, -1),
            memory=memory.transpose(0, 1),
            memory_pos=positions.transpose(0, 1),
            num_obj_ptr_tokens=pointer_tokens,
        )
        return attended.permute(1, 2, 0).reshape(count, *features.shape[1:])

    def decode(
        self,
        features: torch.Tensor,
        embedding: Sam2Embedding,
        *,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        masks: torch.Tensor | None,
        several: bool,
    ) -> DecodedObjects:
        """Decode objects of one frame.

        Args:
            features: What `without_memory` or `with_memory` returned, (objects, C, S/16, S/16).
            embedding: The frame.
            points: Coordinates (objects, points, 2) in pixels of the network's square, and labels.
            masks: Earlier logits (objects, 1, S/4, S/4), or None.
            several: Whether to decode alternatives.
        """
        network, count = self._network, len(features)
        if points is None:
            coordinates = torch.zeros(count, 1, 2, device=self._device)
            points = coordinates, -torch.ones(count, 1, dtype=torch.int32, device=self._device)
        sparse, dense = network.sam_prompt_encoder(points=points, boxes=None, masks=masks)
        logits, ious, tokens, object_scores = network.sam_mask_decoder(
            image_embeddings=features,
            image_pe=self._prompt_position,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            repeat_image=False,
            high_res_features=list(embedding.high_res_features),
        )
        best = torch.argmax(ious, dim=-1)
        token = tokens[_range_like(best), best] if several and tokens.size(1) > 1 else tokens[:, 0]
        pointers = network.obj_ptr_proj(token)
        if network.pred_obj_scores:
            is_visible = object_scores > 0
            logits = torch.where(is_visible[:, None, None], logits, NO_OBJ_SCORE)
            share = object_scores.sigmoid() if network.soft_no_obj_ptr else is_visible.float()
            pointers = self._hide(pointers, share)
        return DecodedObjects(logits.float(), ious, best, pointers, object_scores)

    def adopt(self, masks: torch.Tensor, embedding: Sam2Embedding) -> DecodedObjects:
        """Take masks for objects' masks in a frame, and decode only their pointers.

        Args:
            masks: Shape (objects, 1, S, S), float32, 0 or 1.
            embedding: The frame.
        """
        network, count = self._network, len(masks)
        logits = functional.interpolate(
            masks * _MASK_SCALE + _MASK_BIAS,
            (self.mask_side, self.mask_side),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        share = masks.flatten(1).any(dim=1, keepdim=True).float()
        if network.use_obj_ptrs_in_encoder:
            features = embedding.image_features.expand(count, -1, -1, -1)
            prompts = network.mask_downsample(masks)
            pointers = self.decode(
                features, embedding, points=None, masks=prompts, several=False
            ).pointers
        else:
            pointers = torch.zeros(count, network.hidden_dim, device=self._device)
        return DecodedObjects(
            logits=logits,
            predicted_ious=torch.ones(count, 1, device=self._device),
            best=torch.zeros(count, dtype=torch.int64, device=self._device),
            pointers=self._hide(pointers, share) if network.pred_obj_scores else pointers,
            object_scores=share * _MASK_SCALE + _MASK_BIAS,
        )

    def remember(
        self,
        embedding: Sam2Embedding,
        logits: torch.Tensor,
        object_scores: torch.Tensor,
        *,
        is_prompted: bool,
    ) -> torch.Tensor:
        """Encode objects' masks in a frame into memories.

        Args:
            embedding: The frame.
            logits: Shape (objects, 1, S/4, S/4).
            object_scores: Shape (objects, 1).
            is_prompted: Whether prompts gave the masks.

        Returns:
            Shape (objects, (S/16)², D), bfloat16 as upstream keeps them.
        """
        network = self._network
        masks = functional.interpolate(
            logits, (self.side, self.side), mode="bilinear", align_corners=False
        )
        if is_prompted and network.binarize_mask_from_pts_for_mem_enc:
            masks = (masks > 0).float()
        else:
            masks = masks.sigmoid_()
        masks = masks.mul_(network.sigmoid_scale_for_mem_enc).add_(network.sigmoid_bias_for_mem_enc)
        features = embedding.image_features.expand(len(masks), -1, -1, -1)
        encoded = network.memory_encoder(features, masks, skip_mask_sigmoid=True)
        memories: torch.Tensor = encoded["vision_features"]
        if network.no_obj_embed_spatial is not None:
            is_hidden = 1 - (object_scores > 0).float()
            memories += is_hidden[..., None, None] * network.no_obj_embed_spatial[..., None, None]
        return memories.to(torch.bfloat16).flatten(2).transpose(1, 2).contiguous()

    def _hide(self, pointers: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Mix in the pointer of no object, by how far the objects are visible (0 to 1)."""
        if self._network.fixed_no_obj_ptr:
            pointers = share * pointers
        hidden: torch.Tensor = self._network.no_obj_ptr
        return pointers + (1 - share) * hidden

    def _memory_tokens(
        self, recollections: Sequence[Recollection]
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Return tokens and their position encodings, each of shape (objects, tokens, D).

        The tokens of pointers come last; how many they are is returned third.
        """
        first, count = recollections[0], len(recollections)
        cells, width = first.memories[0].shape
        per_pointer = self._network.hidden_dim // width
        spatial = len(first.memories) * cells
        pointer_tokens = len(first.pointers) * per_pointer
        tokens = torch.empty(count, spatial + pointer_tokens, width, device=self._device)
        positions = torch.empty_like(tokens)
        for index, recollection in enumerate(recollections):
            for slot, (memory, position) in enumerate(
                zip(recollection.memories, recollection.positions, strict=True)
            ):
                place = slice(slot * cells, (slot + 1) * cells)
                tokens[index, place] = memory
                positions[index, place] = self._memory_positions[position]
        if pointer_tokens:
            pointers = torch.stack([torch.cat(each.pointers) for each in recollections])
            tokens[:, spatial:] = pointers.reshape(count, pointer_tokens, width)
            positions[:, spatial:] = self._pointer_positions(recollections).repeat_interleave(
                per_pointer, dim=1
            )
        return tokens, positions, pointer_tokens

    def _pointer_positions(self, recollections: Sequence[Recollection]) -> torch.Tensor:
        """Return the encodings of the pointers' distances, (objects, pointers, D)."""
        network = self._network
        if not network.add_tpos_enc_to_obj_ptrs:
            shape = len(recollections), len(recollections[0].distances), network.mem_dim
            return torch.zeros(shape, device=self._device)
        width = network.hidden_dim if network.proj_tpos_enc_in_obj_ptrs else network.mem_dim
        distances = torch.tensor([each.distances for each in recollections], device=self._device)
        encodings = get_1d_sine_pe(distances / (self.rules.pointer_count - 1), dim=width)
        projected: torch.Tensor = network.obj_ptr_tpos_proj(encodings)
        return projected

    def _positions_of_memories(self, grid: torch.Tensor) -> torch.Tensor:
        """Return the encodings for each temporal position, (positions, (S/16)², D)."""
        network = self._network
        spatial: torch.Tensor = network.memory_encoder.position_encoding(grid)
        if torch.is_autocast_enabled(self._device.type):
            spatial = spatial.to(torch.get_autocast_dtype(self._device.type))
        latest_first: torch.Tensor = network.maskmem_tpos_enc.flip(0).flatten(1)
        return spatial.flatten(2).transpose(1, 2) + latest_first[:, None]


def _as_sequence(features: torch.Tensor) -> torch.Tensor:
    """From (1, C, rows, columns) to (rows · columns, 1, C)."""
    return features.flatten(2).permute(2, 0, 1)


def _range_like(indices: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(indices), device=indices.device)
