"""Runs the parts of a SAM 3 network: one vision encoder, a detector and a tracker.

A published checkpoint is one `Sam3VideoModel`. Its detector (`Sam3Model`) and its tracker share the
vision transformer: the checkpoint has that once, and `transformers`' own key conversion gives the
same tensors to a `Sam3TrackerModel` that is loaded from the folder (compared: every tensor equal).
Only the necks on top differ (`detector_model.vision_encoder.neck` and `tracker_neck`). So the whole
network is held once, the transformer runs once for an image, and both necks run on its output; the
answers are those of `Sam3Model` and `Sam3TrackerModel`, which run it each for themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from maskwire_server.engines.visual_prompts import PromptBatch

from .texts import TextFeatures


class Sam3Network:
    """A `Sam3VideoModel` in parts; its methods are called within the engine's autocast."""

    def __init__(self, model: Any) -> None:
        """Take a loaded model on its device.

        Args:
            model: A `transformers.Sam3VideoModel` in evaluation mode.
        """
        self.model = model
        self.detector = model.detector_model
        self.tracker = model.tracker_model
        self.side: int = model.config.image_size
        self.grid_side: int = self.tracker.prompt_encoder.image_embedding_size[0]
        self.mask_side: int = self.tracker.prompt_encoder.mask_input_size[0]
        self.masks_per_object: int = self.tracker.mask_decoder.num_multimask_outputs
        # All depend on the architecture alone.
        self._tracker_positions = self.tracker.get_image_wide_positional_embeddings()
        width = self.detector.config.vision_config.fpn_hidden_size
        self._detector_positions = self.detector.vision_encoder.neck.position_encoding(
            torch.Size((1, width, self.grid_side, self.grid_side)), model.device, torch.float32
        )
        # For following objects through frames: shape (cells, 1, C).
        positions = model.tracker_neck.position_encoding(
            torch.Size((1, width, self.grid_side, self.grid_side)), model.device, torch.float32
        )
        self.tracker_positions = positions.flatten(2).permute(2, 0, 1)

    def look(
        self, image: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Run the vision encoder once.

        Args:
            image: Shape (1, 3, side, side), float32, normalised.

        Returns:
            The levels for the detector and for the tracker, as `Sam3Embedding` has them.
        """
        vision = self.detector.vision_encoder
        tokens = vision.backbone(image).last_hidden_state
        features = tokens.view(1, self.grid_side, self.grid_side, -1).permute(0, 3, 1, 2)
        # The last level of a neck, at half the grid, has no reader in either head.
        *finer, coarsest = (layer(features) for layer in vision.neck.fpn_layers[:-1])
        # Exemplars are pooled from this one; in bfloat16 upstream would pool in float16, which
        # autocast on a CPU refuses.
        detector_levels = (*finer, coarsest.float())
        fine, middle, coarse = (
            layer(features) for layer in self.model.tracker_neck.fpn_layers[:-1]
        )
        decoder = self.tracker.mask_decoder
        return detector_levels, (decoder.conv_s0(fine), decoder.conv_s1(middle), coarse)

    def detect(
        self,
        levels: tuple[torch.Tensor, ...],
        text: TextFeatures,
        boxes: torch.Tensor | None,
        box_labels: torch.Tensor | None,
    ) -> Any:
        """Run the detector for one concept.

        Args:
            levels: The detector's levels of an embedding, repeated for each text.
            text: What the text encoder gave; of several texts where there are no exemplars.
            boxes: Exemplars, shape (1, n, 4), float32: centre x and y, width and height as shares
                of the image; None where there are none.
            box_labels: Shape (1, n), int64: 1 positive, 0 negative.

        Returns:
            A `Sam3ImageSegmentationOutput`.
        """
        from transformers.modeling_outputs import BaseModelOutputWithPooling
        from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

        # The detector drops the last of the levels that it is given, and reads the position of the
        # coarsest of the others alone.
        positions = (self._detector_positions,) * (len(levels) + 1)
        return self.detector(
            vision_embeds=Sam3VisionEncoderOutput(
                fpn_hidden_states=(*levels, levels[-1]), fpn_position_encoding=positions
            ),
            text_embeds=BaseModelOutputWithPooling(pooler_output=text.features),
            attention_mask=text.attention_mask,
            input_boxes=boxes,
            input_boxes_labels=box_labels,
        )

    def detect_texts(
        self, levels: tuple[torch.Tensor, ...], texts: Sequence[TextFeatures], limit: int
    ) -> Iterator[Any]:
        """Run the detector for concepts that texts alone say, several at once.

        Together they need about half the processor's time that they need one by one: 46 to 31 ms
        for two, 81 to 43 for four, 170 to 97 for eight, on one core with a random network of width
        128 and 140 pixels a side. The answers differ by rounding (masks' logits by 2e-5).

        Args:
            levels: The detector's levels of an embedding.
            texts: What the text encoder gave for each.
            limit: Most texts at once.

        Yields:
            A `Sam3ImageSegmentationOutput` for each text, without hidden states.
        """
        for start in range(0, len(texts), limit):
            here = texts[start : start + limit]
            together = TextFeatures(
                torch.cat([one.features for one in here]),
                torch.cat([one.attention_mask for one in here]),
            )
            repeated = tuple(level.expand(len(here), -1, -1, -1) for level in levels)
            output = self.detect(repeated, together, None, None)
            for at in range(len(here)):
                yield type(output)(
                    pred_masks=output.pred_masks[at : at + 1],
                    pred_boxes=output.pred_boxes[at : at + 1],
                    pred_logits=output.pred_logits[at : at + 1],
                    presence_logits=output.presence_logits[at : at + 1],
                )

    def decode(
        self, levels: Sequence[torch.Tensor], batch: PromptBatch, *, multimask: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the tracker's prompt encoder and mask decoder on prompts of several objects.

        Args:
            levels: The tracker's levels of an embedding.
            batch: The prompts.
            multimask: Whether to give alternatives.

        Returns:
            Logits, shape (objects, candidates, 4n, 4n), and predicted IoUs (objects, candidates).
        """
        count = len(batch.positions)
        fine, middle, coarse = (level.expand(count, -1, -1, -1) for level in levels)
        points, labels = batch.coordinates, batch.labels
        if points is None or labels is None:
            # What `Sam3TrackerModel` gives the prompt encoder where only masks prompt.
            points = torch.zeros(count, 1, 2, device=coarse.device)
            labels = torch.full((count, 1), -1, dtype=torch.int32, device=coarse.device)
        sparse, dense = self.tracker.prompt_encoder(
            input_points=points[:, None],
            input_labels=labels[:, None],
            input_boxes=None,
            input_masks=batch.masks,
        )
        logits, scores, _, _ = self.tracker.mask_decoder(
            image_embeddings=coarse + self.tracker.no_memory_embedding.view(1, -1, 1, 1),
            image_positional_embeddings=self._tracker_positions.expand(count, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=[fine, middle],
        )
        return logits[:, 0], scores[:, 0]
