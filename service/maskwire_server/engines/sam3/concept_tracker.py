"""Looks for concepts in frame after frame and follows what it finds, as `Sam3VideoModel` does.

The association of detections with what is followed, and the rules by which objects begin and are
given up, are upstream's own methods, called on the features that the engine computed. The rules are
those for videos of any length, without the delay by which upstream holds answers back.

Upstream's tables grow with the frames: here everything that no rule can read any more is cut.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from maskwire_server.domain.concept_tracking import FoundObject, SoughtConcept

from .association import Seen, beginning, followed, without_duplicates
from .embedding import Sam3Embedding
from .network import Sam3Network
from .out_of_sight import OutOfSight
from .texts import TextEncoder, TextFeatures
from .video_session import StreamedSession


@dataclass(frozen=True, slots=True, eq=False)
class _Sought:
    """A concept with what the detector reads of it, and the id that its first instance takes."""

    concept: SoughtConcept
    features: TextFeatures
    reserved_id: int | None
    has_begun: bool = False

    def told(self, concept: SoughtConcept) -> _Sought:
        """Return it with what is said of it anew."""
        takes_id = concept.object_id is not None and not self.has_begun
        reserved_id = concept.object_id if takes_id else self.reserved_id
        return replace(self, concept=concept, reserved_id=reserved_id)


class ConceptVideo:
    """The concepts that are looked for in one video, and what was found."""

    def __init__(
        self,
        network: Sam3Network,
        texts: TextEncoder,
        session: StreamedSession,
        *,
        at_once: int,
        most_removed: int,
    ) -> None:
        """Look for nothing yet.

        Args:
            network: The network; its weights are shared.
            texts: What texts become.
            session: Where the objects are kept; nobody else begins or drops objects there.
            at_once: Most texts that are looked for in one run of the detector.
            most_removed: Most removed objects that are kept known, lest they be found anew.
        """
        self._at_once = at_once
        self._network = network
        self._texts = texts
        self._session = session
        # Another object around the same modules and parameters, with limits of its own. Upstream
        # fills holes only with an extension that it would fetch; so it does not.
        self._model: Any = copy.copy(network.model)
        self._model.fill_hole_area = 0
        self._keep_alive: int = self._model.init_trk_keep_alive
        self._sought: dict[int, _Sought] = {}
        self._next_prompt_id = 0
        self._searched_frame = -1
        self.out_of_sight = OutOfSight(most_removed)
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

    def text_of(self, internal_id: int) -> str:
        """Return the text that found an object."""
        return self._origin[internal_id]

    def confidence_of(self, internal_id: int) -> float:
        """Return the score with which an object was found."""
        return float(self._session.obj_id_to_score[internal_id])

    def reserved_id(self, internal_id: int) -> int | None:
        """Return the id that an object takes as the first of its concept, once."""
        prompt_id = self._session.obj_id_to_prompt_id[internal_id]
        sought = self._sought.get(prompt_id)
        if sought is None:
            return None
        self._sought[prompt_id] = replace(sought, has_begun=True, reserved_id=None)
        return sought.reserved_id

    def release(self, object_id: int) -> None:
        """Keep an id for no instance any more: an object has it."""
        for prompt_id, sought in self._sought.items():
            if sought.reserved_id == object_id:
                self._sought[prompt_id] = replace(sought, reserved_id=None)

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
        told = self.seek_later(concepts)
        if self._searched_frame == frame:
            return self._begin(told, frame, embedding, capacity) if told else []
        return self.follow(frame, embedding, capacity)

    def seek_later(self, concepts: Sequence[SoughtConcept]) -> list[int]:
        """Look for concepts from the next frame on.

        Returns:
            The prompt ids of those that are new, or have another threshold.
        """
        features = [self._texts.encode(one.text, one.path) for one in concepts]
        told = []
        for concept, encoded in zip(concepts, features, strict=True):
            prompt_id = self._prompt_id(concept.text)
            known = self._sought.get(prompt_id)
            if known is None or known.concept.score_threshold != concept.score_threshold:
                told.append(prompt_id)
            self._sought[prompt_id] = (
                _Sought(concept, encoded, concept.object_id)
                if known is None
                else known.told(concept)
            )
            self._session.prompts[prompt_id] = concept.text
        return told

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
            prompt_id = self._prompt_id(one.text)
            self._session.admit(internal_id, prompt_id, one.confidence, frame, self._keep_alive)
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
        """Show an object no more; it is known until it is out of sight, lest it be found anew.

        Of too many that are removed, the one that was removed first is forgotten at once.
        """
        forgotten = self.out_of_sight.remove(internal_id)
        if forgotten is not None:
            self._drop(forgotten)

    def follow(self, frame: int, embedding: Sam3Embedding, capacity: int) -> list[Seen]:
        """Follow all objects into a frame whose features the session has, and find new ones."""
        session, model = self._session, self._model
        found, prompt_of = self._detect(tuple(self._sought), embedding)
        masks, scores = model.run_tracker_propagation(session, frame, reverse=False)
        known = tuple(session.obj_ids)
        found, prompt_of, leaving = self._limited(found, prompt_of, masks, capacity)
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
        session.take_over(tables)
        self._searched_frame = frame
        seen = list(followed(known, masks, scores, found, plan, tables, frame))
        seen += self._begun(plan["new_det_obj_ids"], found["mask"][plan["new_det_out_inds"]])
        for internal_id in leaving:
            self._drop(internal_id)
        self._cut_tables()
        return self._shown([one for one in seen if one.internal_id not in leaving])

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

    def _limited(
        self,
        found: dict[str, torch.Tensor],
        prompt_of: dict[int, int],
        masks: torch.Tensor,
        capacity: int,
    ) -> tuple[dict[str, torch.Tensor], dict[int, int], list[int]]:
        """Set which detections begin objects; return those for upstream, and which objects leave.

        Where nothing is followed, upstream begins all that it is given, whatever their scores.
        """
        default = self._model.config.new_det_thresh if len(masks) > 0 else 0.0
        begun, leaving = self._beginning(found, prompt_of, masks, capacity, default)
        self._model.max_num_objects = len(masks) + len(begun)
        if len(masks) == 0:
            begun.sort()
            kept = {name: values[begun] for name, values in found.items()}
            return kept, {at: prompt_of[one] for at, one in enumerate(begun)}, leaving
        self._model.new_det_thresh = torch.full_like(found["scores"].float(), torch.inf)
        self._model.new_det_thresh[begun] = -torch.inf
        return found, prompt_of, leaving

    def _beginning(
        self,
        found: dict[str, torch.Tensor],
        prompt_of: dict[int, int],
        masks: torch.Tensor,
        capacity: int,
        default: float = 0.0,
    ) -> tuple[list[int], list[int]]:
        """Return which detections begin objects, the best first, and which objects leave.

        Detections of texts that have no threshold of their own need the score `default`.
        """
        session = self._session
        thresholds = [self._sought[one].concept.score_threshold for one in prompt_of.values()]
        least = [default if one is None else one for one in thresholds]
        room = capacity + len(self.out_of_sight.removed) - len(session.obj_ids)
        here = dict(zip(session.obj_ids, (masks > 0).flatten(1).any(1).tolist(), strict=True))
        long_gone = [one for one in self.out_of_sight.long_gone if not here[one]]
        begun = beginning(
            found,
            list(prompt_of.values()),
            torch.tensor(least, device=found["scores"].device),
            masks,
            [session.obj_id_to_prompt_id[one] for one in session.obj_ids],
            own_iou=self._model.assoc_iou_thresh,
            most=room + len(long_gone),
        )
        return begun, long_gone[: max(0, len(begun) - room)]

    def _begin(
        self, prompt_ids: Sequence[int], frame: int, embedding: Sam3Embedding, capacity: int
    ) -> list[Seen]:
        """Begin objects of concepts that are told in a frame that others were followed into."""
        session = self._session
        found, prompt_of = self._detect(prompt_ids, embedding)
        here = {one: session.kept_at(one, frame) for one in session.obj_ids}
        masks = found["mask"][:0]
        if here:
            shown = [session.at(one, frame) for one in here]
            masks = torch.cat([one["pred_masks"][:, 0] for one in shown if one is not None])
        order, leaving = self._beginning(found, prompt_of, masks, capacity)
        if not order:
            return []
        ids = [session.max_obj_id + 1 + rank for rank in range(len(order))]
        for internal_id, at in zip(ids, order, strict=True):
            score = float(found["scores"][at])
            session.admit(internal_id, prompt_of[at], score, frame, self._keep_alive)
        begun = found["mask"][order]
        self._model._tracker_add_new_objects(session, frame, ids, begun)
        # Upstream follows all others into the frame anew, and forgets how they were corrected.
        for internal_id, kept in here.items():
            if kept is not None:
                session.put_back(internal_id, frame, *kept)
        for internal_id in leaving:
            self._drop(internal_id)
        return self._begun(ids, begun)

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

    def _cut_tables(self) -> None:
        """Drop what is about objects that are gone, and counts beyond what the rules ask for."""
        self._session.cut_tables(
            unmatched=self._model.hotstart_unmatch_thresh,
            duplicate=self._model.hotstart_dup_thresh,
        )
        known = set(self._session.obj_ids)
        self._origin = {one: text for one, text in self._origin.items() if one in known}
        self.out_of_sight.keep_only(known)

    def _shown(self, seen: Sequence[Seen]) -> list[Seen]:
        """Return what was not removed; forget what is out of sight for long."""
        shown = [one for one in seen if one.internal_id not in self.out_of_sight.removed]
        if seen:
            are_seen = (torch.stack([one.mask for one in seen]) > 0).flatten(1).any(1).tolist()
            ids = [one.internal_id for one in seen]
            for internal_id in self.out_of_sight.note(dict(zip(ids, are_seen, strict=True))):
                self._drop(internal_id)
        return shown

    def _drop(self, internal_id: int) -> None:
        self._session.remove_object(internal_id)
        self._cut_tables()
