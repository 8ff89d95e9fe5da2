"""Direct use of `transformers` on a SAM 3 checkpoint's folder, for comparisons with the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from maskwire_server.domain.concepts import ConceptPrompt, DetectedInstance
from maskwire_server.domain.engine import ObjectPrediction
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.logits import MaskLogits
from maskwire_server.domain.prompts import ObjectPrompts

ROUNDING = 1e-4


@dataclass(frozen=True)
class Upstream:
    """Direct use of `transformers`."""

    detector: Any
    processor: Any
    tracker: Any
    tracker_processor: Any

    @classmethod
    def load(cls, folder: Path) -> Upstream:
        from transformers import (
            Sam3Model,
            Sam3Processor,
            Sam3TrackerModel,
            Sam3TrackerProcessor,
        )

        return cls(
            Sam3Model.from_pretrained(folder, local_files_only=True).eval(),
            Sam3Processor.from_pretrained(folder, local_files_only=True),
            Sam3TrackerModel.from_pretrained(folder, local_files_only=True).eval(),
            Sam3TrackerProcessor.from_pretrained(folder, local_files_only=True),
        )

    def detect(self, pixels: NDArray[np.uint8], concept: ConceptPrompt) -> dict[str, Any]:
        """Return what the processor makes of the answer, best first, and probabilities of masks."""
        exemplars = (*concept.positive_boxes, *concept.negative_boxes)
        boxes = [[b.x_min, b.y_min, b.x_max, b.y_max] for b in exemplars]
        labels = [1] * len(concept.positive_boxes) + [0] * len(concept.negative_boxes)
        shown = {"input_boxes": [boxes], "input_boxes_labels": [labels]} if boxes else {}
        inputs = self.processor(
            images=pixels, text=concept.text or None, return_tensors="pt", **shown
        )
        size = tuple(pixels.shape[:2])
        with torch.inference_mode():
            output = self.detector(**inputs)
        threshold = 0.5 if concept.score_threshold is None else concept.score_threshold
        (found,) = self.processor.post_process_instance_segmentation(
            output, threshold=threshold, target_sizes=[size]
        )
        scores = (output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0]
        probabilities = functional.interpolate(
            output.pred_masks.sigmoid(), size, mode="bilinear", align_corners=False
        )[0, scores > threshold]
        order = found["scores"].argsort(descending=True, stable=True)
        return {
            "scores": found["scores"][order].numpy(),
            "boxes": found["boxes"][order].numpy(),
            "masks": found["masks"][order].numpy().astype(bool),
            "probabilities": probabilities[order].numpy(),
        }

    def levels(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Return an image's levels for the tracker, with what says that nothing is remembered.

        `Sam3TrackerModel` of transformers 5.23 adds that to a fourth level, which nobody reads. SAM
        3 itself (`sam1_task_predictor.py`, which drops that level) and `Sam3TrackerVideoModel` add
        it to the coarsest of three, as the engine does. `test_parity` tells when it is mended.
        """
        *finer, coarse = self.tracker.get_image_embeddings(pixel_values)
        return [*finer, coarse + self.tracker.no_memory_embedding.view(1, -1, 1, 1)]

    def decode(
        self, pixels: NDArray[np.uint8], prompts: ObjectPrompts, *, multimask: bool
    ) -> tuple[torch.Tensor, NDArray[np.bool_], NDArray[np.float32]]:
        """Return low-resolution logits, full-size masks and predicted IoUs."""
        arguments: dict[str, Any] = {}
        if len(prompts.points):
            arguments["input_points"] = [[prompts.points.tolist()]]
            arguments["input_labels"] = [[prompts.point_labels.astype(int).tolist()]]
        if prompts.box is not None:
            box = prompts.box
            arguments["input_boxes"] = [[[box.x_min, box.y_min, box.x_max, box.y_max]]]
        inputs = self.tracker_processor(images=pixels, return_tensors="pt", **arguments)
        sizes = inputs.pop("original_sizes")
        masks = {}
        if isinstance(prompts.mask, MaskLogits):
            masks["input_masks"] = torch.from_numpy(prompts.mask.values)[None, None]
        with torch.inference_mode():
            levels = self.levels(inputs.pop("pixel_values"))
            output = self.tracker(
                image_embeddings=levels, **inputs, **masks, multimask_output=multimask
            )
        (full,) = self.tracker_processor.post_process_masks(output.pred_masks, sizes)
        return output.pred_masks[0, 0], full[0].numpy(), output.iou_scores[0, 0].numpy()


def assert_same_instances(
    ours: Sequence[DetectedInstance], theirs: dict[str, Any], size: ImageSize
) -> None:
    """Compare instances with what `Upstream.detect` returns: scores, boxes and masks."""
    assert len(ours) == len(theirs["scores"])
    extent = [size.width_px, size.height_px] * 2
    for number, instance in enumerate(ours):
        assert instance.score == pytest.approx(theirs["scores"][number], abs=1e-5)
        box = instance.box
        np.testing.assert_allclose(
            [box.x_min, box.y_min, box.x_max, box.y_max],
            np.clip(theirs["boxes"][number], 0, extent),
            atol=1e-2,
        )
        _assert_same(
            instance.logits.to_bitmap(size),
            theirs["masks"][number],
            theirs["probabilities"][number] - 0.5,
        )


def assert_same_candidates(
    ours: ObjectPrediction,
    logits: torch.Tensor,
    masks: NDArray[np.bool_],
    scores: NDArray[np.float32],
    size: ImageSize,
) -> None:
    """Compare the alternatives of an object with what `Upstream.decode` returns."""
    assert len(ours.candidates) == len(scores)
    full = functional.interpolate(
        logits[None], masks.shape[-2:], mode="bilinear", align_corners=False
    )[0].numpy()
    for number, candidate in enumerate(ours.candidates):
        np.testing.assert_allclose(candidate.logits.values, logits[number], atol=1e-3)
        assert candidate.predicted_iou == pytest.approx(scores[number], abs=1e-5)
        _assert_same(candidate.logits.to_bitmap(size), masks[number], full[number])


def _assert_same(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], margin: NDArray[np.float32]
) -> None:
    """Compare pixels, which may differ only where upstream's value is close to the threshold."""
    differing = ours != theirs
    assert np.abs(margin[differing]).max(initial=0.0) < ROUNDING
    assert differing.mean() < ROUNDING
