"""Looks for concepts in frame after frame and follows what it finds, as `Sam3VideoModel` does.

The association of detections with what is followed, and the rules by which objects begin and are
given up, are upstream's own methods, called on the features that the engine computed. The rules are
those for videos of any length, without the delay by which upstream holds answers back.

Upstream's tables grow with the frames: here everything that no rule can read any more is cut.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from maskwire_server.domain.concept_tracking import FoundObject, SoughtConcept

from .association import Seen, followed, without_duplicates
from .embedding import Sam3Embedding
from .network import Sam3Network
from .texts import TextEncoder, TextFeatures
from .video_session import StreamedSession

_FRAMES_UNSEEN = 30
"""Frames for which a removed object stays known, so that it is not found anew at once."""


@dataclass(slots=True, eq=False)
class _Sought:
    """A concept with what the detector reads of it, and the id that its first instance takes."""

    concept: SoughtConcept
    features: TextFeatures
    reserved_id: int | None


class ConceptVideo:
    """The concepts that are looked for in one video, and what was found."""

    def __init__(
        self,
        network: Sam3Network,
        texts: TextEncoder,
        session: StreamedSession,
        *,
        at_once: int,
    ) -> None:
        """Look for nothing yet.

        Args:
            network: The network; its weights are shared.
            texts: What texts become.
            session: Where the objects are kept; nobody else begins or drops objects there.
            at_once: Most texts that are looked for in one run of the detector.
        """
        self._at_once = at_once
        self._network = network
        self._texts = texts
        self._session = session
        # Another object around the same modules and parameters, with limits of its own. Upstream
        # fills holes only with an extension that it would fetch; so it does not.
        self._model: Any = copy.copy(network.model)
        self._model.fill_hole_area = 0
        self._sought: dict[int, _Sought] = {}
        self._next_prompt_id = 0
        self._searched_frame = -1
        self._unseen: dict[int, int] = {}
        self._muted: set[int] = set()
        self._origin: dict[int, str] = {}

    @property
    def sought(self) -> tuple[SoughtConcept, ...]:
        """What is looked for; with the ids that first instances have yet to take."""
        return tuple(
            replace(one.concept, object_id=one.reserved_id) for one in self._sought.values()
        )

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to look for and nothing to follow."""
        return not self._sought and not self._session.obj_ids

    @property
    def followed(self) -> int:
        """How many objects are followed."""
        return len(self._session.obj_ids)

    def text_of(self, internal_id: int) -> str:
        """Return the text that found an object."""
        return self._origin[internal_id]

    def confidence_of(self, internal_id: int) -> float:
        """Return the score with which an object was found."""
        return float(self._session.obj_id_to_score[internal_id])

    def reserved_id(self, internal_id: int) -> int | None:
        """Return the id that an object takes as the first of its concept, once."""
        sought = self._sought.get(self._session.obj_id_to_prompt_id[internal_id])
        if sought is None:
            return None
        reserved, sought.reserved_id = sought.reserved_id, None
        return reserved

    def seek(
        self,
        concepts: Sequence[SoughtConcept],
        frame: int,
        embedding: Sam3Embedding,
        capacity: int,
    ) -> list[Seen]:
        """Look for concepts from a frame on; see `ConceptTracker.seek`.

        Args:
            concepts: What to look for.
            frame: The latest frame.
            embedding: That frame.
            capacity: Most objects that may be followed.
        """
        added = self.seek_later(concepts)
        if self._searched_frame == frame:
            return self._begin(added, frame, embedding, capacity) if added else []
        return self.follow(frame, embedding, capacity)

    def seek_later(self, concepts: Sequence[SoughtConcept]) -> list[int]:
        """Look for concepts from the next frame on; return the prompt ids of those that are new."""
        features = [self._texts.encode(one.text) for one in concepts]
        added = []
        for concept, encoded in zip(concepts, features, strict=True):
            prompt_id = self._prompt_id(concept.text)
            if prompt_id in self._sought:
                self._sought[prompt_id].concept = concept
                continue
            self._sought[prompt_id] = _Sought(concept, encoded, concept.object_id)
            self._session.prompts[prompt_id] = concept.text
            added.append(prompt_id)
        return added

    def bring_back(
        self, objects: Sequence[FoundObject], masks: Sequence[torch.Tensor], frame: int
    ) -> list[int]:
        """Go on with objects that were found before; return their ids within the session.

        Args:
            objects: The objects.
            masks: Where each is in the latest frame, shapes (rows, columns): 0 or 1.
            frame: The latest frame; it counts as searched.
        """
        self._searched_frame = frame
        if not objects:
            return []
        ids = [self._session.max_obj_id + 1 + rank for rank in range(len(objects))]
        for internal_id, one in zip(ids, objects, strict=True):
            self._admit(internal_id, self._prompt_id(one.text), one.confidence, frame)
            self._origin[internal_id] = one.text
            self.keep(internal_id)
        self._model._tracker_add_new_objects(self._session, frame, ids, torch.stack(list(masks)))
        return ids

    def stop_seeking(self) -> None:
        """Look for nothing any more; what was found is followed on for good."""
        self._sought.clear()
        self._session.prompts.clear()
        for internal_id in self._session.obj_ids:
            self.keep(internal_id)

    def keep(self, internal_id: int) -> None:
        """Take an object out of the rule that drops what was found by mistake."""
        self._session.obj_first_frame_idx[internal_id] = -(1 << 30)

    def remove(self, internal_id: int) -> None:
        """Show an object no more; it is known until it is out of sight, lest it be found anew."""
        self._muted.add(internal_id)

    def clear(self) -> None:
        """Forget all objects and texts."""
        for internal_id in list(self._session.obj_ids):
            self._drop(internal_id)
        self._sought.clear()
        self._session.prompts.clear()
        self._searched_frame = -1

    def follow(self, frame: int, embedding: Sam3Embedding, capacity: int) -> list[Seen]:
        """Follow all objects into a frame whose features the session has, and find new ones."""
        session, model = self._session, self._model
        found, prompt_of = self._detect(tuple(self._sought), embedding)
        masks, scores = model.run_tracker_propagation(session, frame, reverse=False)
        known = tuple(session.obj_ids)
        self._limit(found, prompt_of, capacity)
        plan, tables = model.run_tracker_update_planning_phase(
            inference_session=session,
            frame_idx=frame,
            reverse=False,
            det_out=found,
            tracker_low_res_masks_global=masks,
            tracker_obj_scores_global=scores,
            det_idx_to_prompt_id=prompt_of,
            streaming=False,
        )
        model.run_tracker_update_execution_phase(
            inference_session=session,
            frame_idx=frame,
            reverse=False,
            det_out=found,
            tracker_update_plan=plan,
        )
        self._take_over(tables)
        self._searched_frame = frame
        seen = list(followed(known, masks, scores, found, plan, tables, frame))
        seen += self._begun(plan["new_det_obj_ids"], found["mask"][plan["new_det_out_inds"]])
        self._cut_tables()
        return [one for one in seen if not self._is_muted(one)]

    def tensors(self) -> Iterator[torch.Tensor]:
        """Yield what is held beside the session's."""
        for sought in self._sought.values():
            yield sought.features.features
            yield sought.features.attention_mask

    def _detect(
        self, prompt_ids: Sequence[int], embedding: Sam3Embedding
    ) -> tuple[dict[str, torch.Tensor], dict[int, int]]:
        """Return the detections of concepts in upstream's form, and the concept of each."""
        boxes, masks, scores = [], [], []
        prompt_of: dict[int, int] = {}
        all_sought = [self._sought[prompt_id] for prompt_id in prompt_ids]
        outputs = self._network.detect_texts(
            embedding.detector_levels, [one.features for one in all_sought], self._at_once
        )
        for prompt_id, sought, output in zip(prompt_ids, all_sought, outputs, strict=True):
            score = (output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0]
            least = sought.concept.score_threshold
            if least is None:
                least = self._model.score_threshold_detection
                chosen = torch.where(score > least)[0]
            else:
                chosen = torch.where(score >= least)[0]
            chosen = without_duplicates(
                chosen, score, output.pred_masks[0], self._model.det_nms_thresh
            )
            boxes.append(output.pred_boxes[0, chosen])
            masks.append(output.pred_masks[0, chosen])
            scores.append(score[chosen])
            start = len(prompt_of)
            prompt_of.update(dict.fromkeys(range(start, start + len(chosen)), prompt_id))
        if not boxes:
            side = self._model.low_res_mask_size
            device = self._session.inference_device
            return {
                "bbox": torch.zeros(0, 4, device=device),
                "mask": torch.zeros(0, side, side, device=device),
                "scores": torch.zeros(0, device=device),
            }, {}
        return {
            "bbox": torch.cat(boxes),
            "mask": torch.cat(masks),
            "scores": torch.cat(scores),
        }, prompt_of

    def _limit(
        self, found: dict[str, torch.Tensor], prompt_of: dict[int, int], capacity: int
    ) -> None:
        """Set how many objects there may be, and from which score on each detection begins one."""
        default = self._model.config.new_det_thresh
        thresholds = [self._sought[one].concept.score_threshold for one in prompt_of.values()]
        self._model.new_det_thresh = torch.tensor(
            [default if one is None else one for one in thresholds],
            device=found["scores"].device,
            dtype=torch.float32,
        )
        self._model.max_num_objects = max(capacity, len(self._session.obj_ids))

    def _begin(
        self, prompt_ids: Sequence[int], frame: int, embedding: Sam3Embedding, capacity: int
    ) -> list[Seen]:
        """Begin objects of concepts that are new, in a frame that the others were followed into."""
        session = self._session
        found, prompt_of = self._detect(prompt_ids, embedding)
        self._searched_frame = frame
        room = max(0, capacity - len(session.obj_ids))
        order = found["scores"].argsort(descending=True, stable=True)[:room].tolist()
        if not order:
            return []
        ids = [session.max_obj_id + 1 + rank for rank in range(len(order))]
        for internal_id, at in zip(ids, order, strict=True):
            self._admit(internal_id, prompt_of[at], float(found["scores"][at]), frame)
        masks = found["mask"][order]
        self._model._tracker_add_new_objects(session, frame, ids, masks)
        return self._begun(ids, masks)

    def _admit(self, internal_id: int, prompt_id: int, score: float, frame: int) -> None:
        """Enter an object into upstream's tables."""
        session = self._session
        session.obj_id_to_prompt_id[internal_id] = prompt_id
        session.obj_id_to_score[internal_id] = score
        session.obj_first_frame_idx[internal_id] = frame
        session.trk_keep_alive[internal_id] = self._model.init_trk_keep_alive
        session.max_obj_id = internal_id

    def _prompt_id(self, text: str) -> int:
        """Return the id of a text that is or was looked for, or one that was never used."""
        for prompt_id, sought in self._sought.items():
            if sought.concept.text == text:
                return prompt_id
        for internal_id, origin in self._origin.items():
            if origin == text:
                return int(self._session.obj_id_to_prompt_id[internal_id])
        self._next_prompt_id += 1
        return self._next_prompt_id - 1

    def _begun(self, ids: Sequence[int], masks: torch.Tensor) -> list[Seen]:
        """Return objects that begin, the most confident first."""
        for internal_id in ids:
            prompt_id = self._session.obj_id_to_prompt_id[internal_id]
            self._origin[internal_id] = self._sought[prompt_id].concept.text
        begun = [Seen(one, mask, 1.0, True) for one, mask in zip(ids, masks, strict=True)]
        return sorted(begun, key=lambda one: -self.confidence_of(one.internal_id))

    def _take_over(self, tables: dict[str, Any]) -> None:
        """Make upstream's new tables the session's, as its `forward` does."""
        session, more = self._session, tables["extra_metadata"]
        session.obj_id_to_score = tables["obj_id_to_score"]
        session.obj_id_to_last_occluded = tables["obj_id_to_last_occluded"]
        session.max_obj_id = tables["max_obj_id"]
        session.obj_ids = list(tables["obj_ids"])
        session.obj_first_frame_idx = more["obj_first_frame_idx"]
        session.unmatched_frame_inds = more["unmatched_frame_inds"]
        session.trk_keep_alive = more["trk_keep_alive"]
        session.overlap_pair_to_frame_inds = more["overlap_pair_to_frame_inds"]

    def _cut_tables(self) -> None:
        """Drop what is about objects that are gone, and counts beyond what the rules ask for."""
        session, known = self._session, set(self._session.obj_ids)
        for table in (
            session.obj_id_to_score,
            session.obj_id_to_last_occluded,
            session.obj_id_to_prompt_id,
            session.obj_first_frame_idx,
            session.trk_keep_alive,
            self._unseen,
            self._origin,
        ):
            for internal_id in [one for one in table if one not in known]:
                del table[internal_id]
        self._muted &= known
        session.unmatched_frame_inds = defaultdict(
            list,
            {
                one: frames[: self._model.hotstart_unmatch_thresh]
                for one, frames in session.unmatched_frame_inds.items()
                if one in known
            },
        )
        session.overlap_pair_to_frame_inds = defaultdict(
            list,
            {
                pair: frames[: self._model.hotstart_dup_thresh]
                for pair, frames in session.overlap_pair_to_frame_inds.items()
                if known.issuperset(pair)
            },
        )
        session.removed_obj_ids = set()
        session.suppressed_obj_ids = defaultdict(set)
        session.obj_id_to_tracker_score_frame_wise = defaultdict(dict)

    def _is_muted(self, one: Seen) -> bool:
        """Whether an object is not shown; forget it where it has been out of sight for long."""
        if one.internal_id not in self._muted:
            return False
        is_seen = bool((one.mask > 0).any())
        unseen = 0 if is_seen else self._unseen.get(one.internal_id, 0) + 1
        self._unseen[one.internal_id] = unseen
        if unseen > _FRAMES_UNSEEN:
            self._drop(one.internal_id)
        return True

    def _drop(self, internal_id: int) -> None:
        self._session.remove_object(internal_id)
        self._cut_tables()
