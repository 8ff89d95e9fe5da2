"""Prompts on one object in one frame of a video, and following it from there; see `tracker`.

Does what `Sam3TrackerVideoModel` does, with its own parts. As in SAM 2, an object begins without
memory, a correction sees the frame through the object's memory, and what the object's mask was on
the frame goes in with the clicks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskwire_server.domain.engine import MaskCandidate
from maskwire_server.domain.geometry import Box, ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import PromptedObject
from maskwire_server.engines.visual_prompts import PromptBatch, batched, filled_mask, mask_logits

from .embedding import Sam3Embedding
from .network import Sam3Network
from .video_session import StreamedSession

# Upstream bounds earlier answers to this before they are prompts again.
_LOGIT_BOUND = 32.0


class VideoPrompting:
    """Decodes prompts on the frames of one video into what a session keeps."""

    def __init__(self, network: Sam3Network, size: ImageSize, device: torch.device) -> None:
        """Prompt on frames of a size."""
        self._network = network
        self._tracker = network.tracker
        self._size = size
        self._window = Box.covering(size)
        self._device = device

    def answer(
        self,
        session: StreamedSession,
        internal_id: int,
        prompts: ObjectPrompts,
        frame: int,
        embedding: Sam3Embedding,
        *,
        starts_anew: bool,
        multimask: bool,
    ) -> PromptedObject:
        """Begin an object or correct it, and store the outcome.

        Args:
            session: Where the object is kept.
            internal_id: The object there; it may be new.
            prompts: What was said.
            frame: A frame whose features are held.
            embedding: That frame.
            starts_anew: Whether what the object's mask was on the frame is left out.
            multimask: Whether alternatives are asked for, where the object begins.
        """
        index = session.obj_id_to_idx(internal_id)
        begins = frame not in session.frames_tracked_per_obj[index]
        earlier = session.at(internal_id, frame)
        features, positions, *fine, coarse = self._afresh(session, internal_id, frame)
        candidates: tuple[MaskCandidate, ...] = ()
        if prompts.mask is not None and prompts.box is None and len(prompts.points) == 0:
            side = self._network.side
            mask = torch.from_numpy(filled_mask(prompts.mask, self._size, side))
            output = self._tracker._use_mask_as_output(
                coarse, fine, mask.to(self._device, torch.float32)[None, None]
            )
        else:
            if not begins:
                coarse = self._seen(session, index, frame, features, positions)
            else:
                coarse = coarse + self._tracker.no_memory_embedding.view(1, -1, 1, 1)
            batch = self._batch(prompts, None if starts_anew else earlier)
            assert batch.coordinates is not None
            assert batch.labels is not None
            points = {"point_labels": batch.labels[:, None]}
            several = self._tracker._use_multimask(begins, points) or (multimask and begins)
            output = self._tracker._single_frame_forward(
                input_points=batch.coordinates[:, None],
                input_labels=batch.labels[:, None],
                input_masks=batch.masks,
                image_embeddings=[*fine, coarse],
                multimask_output=several,
            )
            if multimask and several:
                candidates = self._alternatives(embedding, batch)
        self._store(session, index, frame, output, is_conditioning=begins, is_prompted=True)
        best = MaskCandidate(self.logits(output.pred_masks[0, 0]), float(output.iou_scores.max()))
        presence = float(output.object_score_logits.float().sigmoid())
        return PromptedObject(prompts.object_id, candidates or (best,), presence)

    def carry(self, session: StreamedSession, internal_id: int, frames: Collection[int]) -> None:
        """Follow an object through held frames anew."""
        index = session.obj_id_to_idx(internal_id)
        for frame in frames:
            features, positions, *fine, _ = self._afresh(session, internal_id, frame)
            seen = self._seen(session, index, frame, features, positions)
            output = self._tracker._single_frame_forward(
                image_embeddings=[*fine, seen],
                multimask_output=self._tracker._use_multimask(False, None),
            )
            self._store(session, index, frame, output, is_conditioning=False, is_prompted=False)
            session.frames_tracked_per_obj[index][frame] = {"reverse": False}

    def cells(self, mask: NDArray[np.bool_]) -> torch.Tensor:
        """Return a mask of the whole frame at the network's side, shape (side, side): 0 or 1."""
        filled = filled_mask(mask, self._size, self._network.side)
        return torch.from_numpy(filled).to(self._device, torch.float32)

    def logits(self, values: torch.Tensor) -> MaskLogits:
        """Return a mask of the whole frame, from shape (rows, columns)."""
        array = np.asarray(values.float().cpu().numpy(), dtype=np.float32)
        return MaskLogits(array, self._window)

    def _afresh(
        self, session: StreamedSession, internal_id: int, frame: int
    ) -> tuple[torch.Tensor, ...]:
        """Forget what an object was in a frame, through which it would be seen else.

        Returns:
            Of the coarsest level the features and positions as the memory attention takes them;
            then all levels as the mask decoder takes them, shape (1, channels, rows, columns).
        """
        session.drop_at(internal_id, frame)
        features, positions = self._tracker._prepare_vision_features(session, frame, 1)
        levels = (
            level.permute(1, 2, 0).view(1, -1, *size)
            for level, size in zip(features, self._tracker.backbone_feature_sizes, strict=True)
        )
        return (features[-1], positions[-1], *levels)

    def _seen(
        self,
        session: StreamedSession,
        index: int,
        frame: int,
        features: torch.Tensor,
        positions: torch.Tensor,
    ) -> Any:
        return self._tracker._prepare_memory_conditioned_features(
            inference_session=session,
            frame_idx=frame,
            obj_idx=index,
            is_initial_conditioning_frame=False,
            current_vision_features=features,
            current_vision_positional_embeddings=positions,
            num_total_frames=session.num_frames,
        )

    def _store(
        self,
        session: StreamedSession,
        index: int,
        frame: int,
        output: Any,
        *,
        is_conditioning: bool,
        is_prompted: bool,
    ) -> None:
        kept = {
            "pred_masks": output.pred_masks,
            "object_pointer": output.object_pointer,
            "high_res_masks": output.high_res_masks,
            "object_score_logits": output.object_score_logits,
        }
        session.store_output(index, frame, output_value=kept, is_conditioning_frame=is_conditioning)
        self._tracker._batch_encode_memories(
            inference_session=session,
            frame_idx=frame,
            objects_needing_memory_encoding=[index],
            high_res_masks_for_memory=[output.high_res_masks],
            object_score_logits_for_memory=[output.object_score_logits],
            is_mask_from_pts_per_obj=[is_prompted],
        )

    def _batch(self, prompts: ObjectPrompts, earlier: Mapping[str, Any] | None) -> PromptBatch:
        """Return clicks and a box with the mask that goes in with them."""
        (batch,) = batched(
            [replace(prompts, mask=None)],
            self._size,
            network_side=self._network.side,
            mask_side=self._network.mask_side,
            batch_limit=1,
            device=self._device,
        )
        if prompts.mask is not None:
            said = mask_logits(prompts.mask, self._size, self._network.mask_side)
            return replace(batch, masks=torch.from_numpy(said)[None, None].to(self._device))
        if earlier is not None and "pred_masks" in earlier:
            return replace(
                batch, masks=earlier["pred_masks"].float().clamp(-_LOGIT_BOUND, _LOGIT_BOUND)
            )
        return batch

    def _alternatives(
        self, embedding: Sam3Embedding, batch: PromptBatch
    ) -> tuple[MaskCandidate, ...]:
        logits, scores = self._network.decode(embedding.tracker_levels, batch, multimask=True)
        return tuple(
            MaskCandidate(self.logits(mask), float(iou))
            for mask, iou in zip(logits[0], scores[0].tolist(), strict=True)
        )
