"""What `transformers` remembers of a video, held so that it does not grow with the frames.

Upstream's session keeps every frame and all that was ever computed on it. Here a frame leaves its
features alone, and they go when no prompt can refer to it any more; what is known of an object goes
when the network attends to it no longer.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers.models.sam3_video.modeling_sam3_video import (
    Sam3VideoInferenceCache,
    Sam3VideoInferenceSession,
)

from .embedding import Sam3Embedding

# Upstream scales the distances of object pointers by the length of the video, up to the number of
# pointers that it attends to; a stream is as long as it likes.
_ENDLESS = 1 << 30
# Conditioning frames kept beside the first, so that memory stays bounded; upstream keeps all.
_NEWEST_CONDITIONING_FRAMES = 7
_KINDS = ("cond_frame_outputs", "non_cond_frame_outputs")
# What is in a session's tables: objects, kinds of frames, frames; what is known of a frame is
# replaced, never changed.
_TABLE_DEPTH = 3


def remembered(owner: object) -> Callable[[], None]:
    """Return what makes all tables of an object what they are now."""
    kept = {name: _copied(value, _TABLE_DEPTH) for name, value in vars(owner).items()}
    return lambda: vars(owner).update(kept)


def _copied(value: Any, depth: int) -> Any:
    if depth == 0 or not isinstance(value, dict | list | set):
        return value
    copied = copy.copy(value)
    if isinstance(copied, dict):
        for name, inner in copied.items():
            copied[name] = _copied(inner, depth - 1)
    return copied


class FrameFeatures(Sam3VideoInferenceCache):
    """The features of held frames as the tracker's network reads them; views of embeddings."""

    def __init__(self, position: torch.Tensor, held_frames: int) -> None:
        """Hold no frame yet.

        Args:
            position: Position encoding of the coarsest level, shape (cells, 1, C).
            held_frames: Frames held beside the latest.
        """
        super().__init__(position.device, position.device, held_frames + 1)
        self._position = position

    def add(self, frame: int, embedding: Sam3Embedding) -> None:
        """Take a frame; the oldest one goes where there are too many."""
        levels = [level.flatten(2).permute(2, 0, 1) for level in embedding.tracker_levels]
        # Only the coarsest level's positions are read.
        self.cache_vision_features(
            frame, {"vision_feats": levels, "vision_pos_embeds": [self._position]}
        )

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames that are held, oldest first."""
        return tuple(self._vision_features)

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield what is held."""
        for features in self._vision_features.values():
            yield from features["vision_feats"]


class StreamedSession(Sam3VideoInferenceSession):
    """Upstream's session without pictures, for frames that come one by one."""

    def __init__(self, features: FrameFeatures, device: torch.device) -> None:
        """Begin without objects.

        Args:
            features: The frames; sessions on the same frames share them.
            device: Where everything is.
        """
        super().__init__(
            inference_device=device,
            inference_state_device=device,
            video_storage_device=device,
            dtype=torch.float32,
        )
        self.cache = features
        self.obj_with_new_inputs: list[int] = []
        # The same for all memories of one precision.
        self._memory_positions: dict[torch.dtype, torch.Tensor] = {}

    @property
    def num_frames(self) -> int:
        """More than any stream has."""
        return _ENDLESS

    def store_output(
        self,
        obj_idx: int,
        frame_idx: int,
        output_key: str | None = None,
        output_value: torch.Tensor | dict[str, torch.Tensor] | None = None,
        is_conditioning_frame: bool = True,
    ) -> None:
        """Keep what upstream's `store_output` keeps, with object pointers of shape (1, C).

        Upstream has (1, 1, C), which it can read again only where C is more than a memory's width.
        """
        if output_key == "object_pointer" and isinstance(output_value, torch.Tensor):
            output_value = output_value.flatten(0, 1)
        super().store_output(obj_idx, frame_idx, output_key, output_value, is_conditioning_frame)

    def outputs(self, obj_id: int) -> dict[str, dict[int, dict[str, Any]]]:
        """Return what is kept of an object, by kind and frame."""
        kept: dict[str, dict[int, dict[str, Any]]] = self.output_dict_per_obj[
            self._obj_id_to_idx[obj_id]
        ]
        return kept

    def at(self, obj_id: int, frame: int) -> dict[str, Any] | None:
        """Return what an object was in a frame, as far as it is kept."""
        if obj_id not in self._obj_id_to_idx:
            return None
        kept = self.outputs(obj_id)
        return next((kept[kind][frame] for kind in _KINDS if frame in kept[kind]), None)

    def kept_at(self, obj_id: int, frame: int) -> tuple[str, dict[str, Any]] | None:
        """Return what an object was in a frame, with how it is kept; None for one it began in."""
        index, kept = self._obj_id_to_idx[obj_id], self.outputs(obj_id)
        if frame not in self.frames_tracked_per_obj[index]:
            return None
        return next(((kind, kept[kind][frame]) for kind in _KINDS if frame in kept[kind]), None)

    def put_back(self, obj_id: int, frame: int, kind: str, output: dict[str, Any]) -> None:
        """Make an object in a frame what `kept_at` returned."""
        self.drop_at(obj_id, frame)
        self.outputs(obj_id)[kind][frame] = output

    def drop_at(self, obj_id: int, frame: int) -> None:
        """Forget what an object was in a frame."""
        kept = self.outputs(obj_id)
        for kind in _KINDS:
            kept[kind].pop(frame, None)

    def remove_object(self, obj_id: int, strict: bool = False) -> None:
        """Forget an object; upstream's own forgets the frames with the last object."""
        index = self._obj_id_to_idx.get(obj_id)
        if index is None:
            return
        remaining = [one for one in self._obj_id_to_idx if one != obj_id]
        for stored in (
            self.point_inputs_per_obj,
            self.mask_inputs_per_obj,
            self.output_dict_per_obj,
            self.frames_tracked_per_obj,
        ):
            kept = [stored[self._obj_id_to_idx[one]] for one in remaining]
            stored.clear()
            stored.update(enumerate(kept))
        self._obj_id_to_idx = OrderedDict((one, at) for at, one in enumerate(remaining))
        self._obj_idx_to_id = OrderedDict(enumerate(remaining))
        self.obj_ids = remaining
        self.obj_id_to_prompt_id.pop(obj_id, None)

    def admit(self, obj_id: int, prompt_id: int, score: float, frame: int, keep_alive: int) -> None:
        """Enter an object into the tables of what texts find."""
        self.obj_id_to_prompt_id[obj_id] = prompt_id
        self.obj_id_to_score[obj_id] = score
        self.obj_first_frame_idx[obj_id] = frame
        self.trk_keep_alive[obj_id] = keep_alive
        self.max_obj_id = obj_id

    def take_over(self, tables: dict[str, Any]) -> None:
        """Make the tables that upstream planned with the session's, as its `forward` does."""
        more = tables["extra_metadata"]
        self.obj_id_to_score = tables["obj_id_to_score"]
        self.obj_id_to_last_occluded = tables["obj_id_to_last_occluded"]
        self.max_obj_id = tables["max_obj_id"]
        self.obj_ids = list(tables["obj_ids"])
        self.obj_first_frame_idx = more["obj_first_frame_idx"]
        self.unmatched_frame_inds = more["unmatched_frame_inds"]
        self.trk_keep_alive = more["trk_keep_alive"]
        self.overlap_pair_to_frame_inds = more["overlap_pair_to_frame_inds"]

    def cut_tables(self, *, unmatched: int, duplicate: int) -> None:
        """Drop what is about objects that are gone, and counts beyond what the rules ask for.

        Args:
            unmatched: For how many frames without a detection an object is given up.
            duplicate: After how many as another's double.
        """
        known = set(self.obj_ids)
        for table in (
            self.obj_id_to_score,
            self.obj_id_to_last_occluded,
            self.obj_id_to_prompt_id,
            self.obj_first_frame_idx,
            self.trk_keep_alive,
        ):
            for obj_id in [one for one in table if one not in known]:
                del table[obj_id]
        self.unmatched_frame_inds = defaultdict(
            list,
            {
                one: frames[:unmatched]
                for one, frames in self.unmatched_frame_inds.items()
                if one in known
            },
        )
        self.overlap_pair_to_frame_inds = defaultdict(
            list,
            {
                pair: frames[:duplicate]
                for pair, frames in self.overlap_pair_to_frame_inds.items()
                if known.issuperset(pair)
            },
        )
        self.removed_obj_ids = set()
        self.suppressed_obj_ids = defaultdict(set)
        self.obj_id_to_tracker_score_frame_wise = defaultdict(dict)

    def prune(
        self, latest: int, held_frames: int, *, pointer_reach: int, memory_reach: int
    ) -> None:
        """Forget what neither the next frame nor a prompt on a held frame can need.

        Args:
            latest: The latest frame.
            held_frames: Frames before it that prompts may refer to.
            pointer_reach: How many frames back object pointers are attended to.
            memory_reach: How many frames back memories are.
        """
        for index, kept in self.output_dict_per_obj.items():
            conditioning, followed = kept["cond_frame_outputs"], kept["non_cond_frame_outputs"]
            for frame in sorted(conditioning)[1:-_NEWEST_CONDITIONING_FRAMES]:
                del conditioning[frame]
            for frame in [one for one in followed if latest - one > held_frames + pointer_reach]:
                del followed[frame]
            for frame, output in followed.items():
                if latest - frame > held_frames + memory_reach:
                    output.pop("maskmem_features", None)
                    output.pop("maskmem_pos_enc", None)
            for frame, output in (*conditioning.items(), *followed.items()):
                output.pop("high_res_masks", None)
                if latest - frame > held_frames:
                    output.pop("pred_masks", None)
                if frame == latest:
                    self._make_own(output)
            tracked = self.frames_tracked_per_obj[index]
            for frame in [one for one in tracked if latest - one > held_frames]:
                del tracked[frame]
            self.point_inputs_per_obj[index].clear()
            self.mask_inputs_per_obj[index].clear()

    def _make_own(self, output: dict[str, Any]) -> None:
        """Copy what is a part of a batch, which would hold the memory of all."""
        for name, value in output.items():
            if name == "maskmem_pos_enc":
                known = self._memory_positions.get(value.dtype)
                if known is None:
                    known = self._memory_positions[value.dtype] = value.clone()
                output[name] = known
            else:
                output[name] = value.clone()

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield what is known of objects."""
        for kept in self.output_dict_per_obj.values():
            for kind in _KINDS:
                for output in kept[kind].values():
                    yield from output.values()
