"""Decodes many single clicks on one image: what automatic segmentation asks of SAM 2, made fast.

The same arithmetic as the network's own prompt encoder and mask decoder for one foreground click,
in another order. What does not depend on the click is computed once for the image: the first
layer's projections of the image, and the position encoding's part of every later one. The quality
of a mask is known before the mask, so that only masks that pass are made. Masks are made with the
channels last, where a transposed convolution of stride 2 is one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .embedding import Sam2Embedding


@dataclass(frozen=True, slots=True)
class DecodedClicks:
    """The masks of a batch of clicks that passed.

    Attributes:
        clicks: Shape (masks,), int64: which click of the batch each mask answers.
        qualities: Shape (masks,), float32: predicted IoU.
        logits: Shape (masks, side, side), float32.
    """

    clicks: Tensor
    qualities: Tensor
    logits: Tensor


class PointDecoder:
    """The mask decoder of one network, prepared for clicks on one image.

    Holds tensors of the image for as long as the object lives; call it under inference mode.
    """

    def __init__(self, network: Any, position_encoding: Tensor, embedding: Sam2Embedding) -> None:
        """Prepare for an image.

        Args:
            network: The `SAM2Base` whose encoder made the embedding.
            position_encoding: Its prompt encoder's dense encoding, shape (1, C, h, w).
            embedding: The image.
        """
        self._encoder = network.sam_prompt_encoder
        self._decoder = network.sam_mask_decoder
        self._grid = tuple(position_encoding.shape[-2:])
        no_mask = self._encoder.no_mask_embed.weight.reshape(1, -1)
        if network.directly_add_no_mem_embed:
            no_mask = no_mask + network.no_mem_embed.view(1, -1)
        self._image = _tokens(embedding.image_features) + no_mask
        self._positions = _tokens(position_encoding)
        self._projections = [
            _ImageProjection(_parts_of_layer(layer), self._positions)
            for layer in self._decoder.transformer.layers
        ]
        final = self._decoder.transformer.final_attn_token_to_image
        self._final_projection = _ImageProjection(
            ((final.k_proj, True), (final.v_proj, False)), self._positions
        )
        self._first = self._projections[0](self._image[None])
        # Weights of the transposed convolutions as matrices: in × (2 · 2 · out).
        _, self._norm, _, _, _ = self._decoder.output_upscaling
        self._fine, self._finest = self._upscaling_additions(embedding)

    def decode(self, clicks: Tensor, *, multimask: bool, min_quality: float) -> DecodedClicks:
        """Decode clicks, each an object of its own.

        Args:
            clicks: Shape (n, 2), float32, x and y in pixels of the network's square.
            multimask: Whether each click gives the network's alternatives, or one mask.
            min_quality: Only masks above this predicted IoU are made; all for 0.
        """
        states, image = self._attend(self._tokens_of(clicks))
        decoder = self._decoder
        first = 1 if decoder.pred_obj_scores else 0
        qualities = decoder.iou_prediction_head(states[:, first]).float()
        states = states[:, first + 1 : first + 1 + decoder.num_mask_tokens]
        if not multimask:
            return self._single(states, image, qualities, min_quality)
        wanted = qualities > min_quality if min_quality > 0 else torch.ones_like(qualities).bool()
        wanted[:, 0] = False
        return self._masks(states, image, qualities, wanted)

    def _tokens_of(self, clicks: Tensor) -> Tensor:
        labels = torch.ones(len(clicks), 1, dtype=torch.int32, device=clicks.device)
        prompts, _ = self._encoder(points=(clicks[:, None], labels), boxes=None, masks=None)
        decoder = self._decoder
        learned = [decoder.iou_token.weight, decoder.mask_tokens.weight]
        if decoder.pred_obj_scores:
            learned.insert(0, decoder.obj_score_token.weight)
        tokens = torch.cat(learned).expand(len(clicks), -1, -1)
        return torch.cat([tokens, prompts], 1)

    def _attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Run the two-way transformer: (n, tokens, C) to the same and (n, cells, C)."""
        transformer = self._decoder.transformer
        states, image = tokens, self._image[None]
        for number, layer in enumerate(transformer.layers):
            keys, values, queries = self._first if number == 0 else self._projections[number](image)
            if layer.skip_first_layer_pe:
                states = layer.self_attn(q=states, k=states, v=states)
            else:
                placed = states + tokens
                states = states + layer.self_attn(q=placed, k=placed, v=states)
            states = layer.norm1(states)
            looking = layer.cross_attn_token_to_image
            states = states + _attention(looking, looking.q_proj(states + tokens), keys, values)
            states = layer.norm2(states)
            states = layer.norm3(states + layer.mlp(states))
            telling = layer.cross_attn_image_to_token
            told = _attention(
                telling, queries, telling.k_proj(states + tokens), telling.v_proj(states)
            )
            image = layer.norm4(image + told)
        keys, values = self._final_projection(image)
        looking = transformer.final_attn_token_to_image
        states = states + _attention(looking, looking.q_proj(states + tokens), keys, values)
        return transformer.norm_final_attn(states), image

    def _single(
        self, states: Tensor, image: Tensor, qualities: Tensor, min_quality: float
    ) -> DecodedClicks:
        """One mask for each click, chosen as the network chooses it."""
        made = self._masks(states, image, qualities, torch.ones_like(qualities).bool())
        masks = made.logits.view(*qualities.shape, *made.logits.shape[1:])
        decoder = self._decoder
        if decoder.dynamic_multimask_via_stability:
            masks, qualities = decoder._dynamic_multimask_via_stability(masks, qualities)
        passes = qualities[:, 0] > (min_quality if min_quality > 0 else -1.0)
        kept = torch.nonzero(passes)[:, 0]
        return DecodedClicks(kept, qualities[kept, 0], masks[kept, 0])

    def _masks(
        self, states: Tensor, image: Tensor, qualities: Tensor, wanted: Tensor
    ) -> DecodedClicks:
        clicks, tokens = torch.nonzero(wanted, as_tuple=True)
        rows, columns = self._grid
        side = (rows * 4, columns * 4)
        logits = torch.empty((len(clicks), *side), dtype=torch.float32, device=image.device)
        weights = torch.stack(
            [
                head(states[:, number])
                for number, head in enumerate(self._decoder.output_hypernetworks_mlps)
            ],
            1,
        )
        for click in torch.unique(clicks).tolist():
            here = torch.nonzero(clicks == click)[:, 0]
            features = self._upscale(image[click])
            values = features @ weights[click, tokens[here]].T
            # rows, columns, then the two halvings: (r, c, dy, dx, ey, ex, masks).
            values = values.float().view(rows, columns, 2, 2, 2, 2, len(here))
            logits[here] = values.permute(6, 0, 2, 4, 1, 3, 5).reshape(len(here), *side)
        return DecodedClicks(clicks, qualities[clicks, tokens], logits)

    def _upscale(self, image: Tensor) -> Tensor:
        """Cells (h · w, C) to features at four times the resolution (h · w · 16, C / 8)."""
        coarse, norm, activate, fine, activate_again = self._decoder.output_upscaling
        features = _transposed_convolution(image, coarse) + self._fine
        features = features.view(-1, norm.weight.numel())
        features = functional.layer_norm(
            features, (features.shape[-1],), norm.weight, norm.bias, norm.eps
        )
        features = activate(features)
        features = _transposed_convolution(features, fine) + self._finest
        made: Tensor = activate_again(features)
        return made.view(-1, fine.weight.shape[1])

    def _upscaling_additions(self, embedding: Sam2Embedding) -> tuple[Tensor, Tensor]:
        """The finer features in the order in which `_upscale` makes its own; 0 without any."""
        rows, columns = self._grid
        if not embedding.high_res_features:
            nothing = torch.zeros((), device=embedding.image_features.device)
            return nothing, nothing
        finest, fine = embedding.high_res_features
        fine = fine[0].view(-1, rows, 2, columns, 2).permute(1, 3, 2, 4, 0)
        finest = finest[0].view(-1, rows, 2, 2, columns, 2, 2).permute(1, 4, 2, 5, 3, 6, 0)
        return (
            fine.reshape(rows * columns, -1).contiguous(),
            finest.reshape(rows * columns * 4, -1).contiguous(),
        )


class _ImageProjection:
    """Several linear projections of the same cells in one product.

    A part that sees the cells with their positions gets the positions' share added afterwards,
    computed once.
    """

    def __init__(self, parts: tuple[tuple[Any, bool], ...], positions: Tensor) -> None:
        self._weight = torch.cat([linear.weight for linear, _ in parts])
        self._sizes = [linear.weight.shape[0] for linear, _ in parts]
        self._offset = torch.cat(
            [
                functional.linear(positions, linear.weight, linear.bias)
                if is_placed
                else linear.bias.expand(len(positions), -1)
                for linear, is_placed in parts
            ],
            1,
        )

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        projected = functional.linear(image, self._weight).add_(self._offset)
        return torch.split(projected, self._sizes, -1)


def _parts_of_layer(layer: Any) -> tuple[tuple[Any, bool], ...]:
    looking, telling = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    return ((looking.k_proj, True), (looking.v_proj, False), (telling.q_proj, True))


def _attention(module: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend with projections that are made already; a batch of 1 is shared by all others."""
    batch = max(len(queries), len(keys))
    heads = module.num_heads
    query, key, value = (
        part.view(*part.shape[:2], heads, -1).transpose(1, 2).expand(batch, -1, -1, -1)
        for part in (queries, keys, values)
    )
    told = functional.scaled_dot_product_attention(query, key, value)
    answer: Tensor = module.out_proj(told.transpose(1, 2).flatten(2))
    return answer


def _tokens(features: Tensor) -> Tensor:
    """(1, C, h, w) to (h · w, C)."""
    return features[0].flatten(1).T.contiguous()


def _transposed_convolution(cells: Tensor, convolution: Any) -> Tensor:
    """Kernel and stride 2 without a grid: (n, in) to (n, 2 · 2 · out), rows before columns."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return functional.linear(cells, weight, convolution.bias.repeat(4))
