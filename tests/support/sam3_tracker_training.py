"""Teaches the tracker of the SAM 3 test checkpoint what to make of frozen features of clips.

A lesson is a batch of clips of three frames, of which one shape is followed: in the first frame
it is drawn from a click, a box or a rough mask as on a single image, and its true mask is
remembered; in the others it is found again with what is remembered, and may be gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tests.support.sam3_checkpoint import GRID_SIDE, MASK_SIDE, SIDE, WIDTH
from tests.support.sam3_lessons import normalised, shares, small
from tests.support.sam3_losses import mask_loss, overlap
from tests.support.sam3_scenes import draw_clip, some_kinds

_FRAMES = 3
_MOST_SPEED = 7.0
_GONE_SHARE = 0.15
_POINTERS = 16
_MEMORIES = 6
_LOGIT = 10.0
_PROMPT_GAIN = 1.7


@dataclass(frozen=True)
class Clips:
    """A batch of clips.

    Attributes:
        pixels: Shape (n, frames, 3, side, side), normalised.
        masks: Of the shape that is followed, as shares, shape (n, frames, mask side, mask side).
        first: The same at the image's side, in the first frame, shape (n, 1, side, side).
        clicks: A point on it there, shape (n, 1, 2), pixels of the network's image.
        boxes: Corners of a rough box, shape (n, 2, 2), likewise.
    """

    pixels: torch.Tensor
    masks: torch.Tensor
    first: torch.Tensor
    clicks: torch.Tensor
    boxes: torch.Tensor


@dataclass(frozen=True)
class _Drawn:
    """What the mask decoder says: logits (n, candidates, side, side), and of each its IoU."""

    logits: torch.Tensor
    ious: torch.Tensor
    tokens: torch.Tensor
    appears: torch.Tensor


def prepare(video: Any) -> None:
    """Let a tracker that was not taught take no object for gone."""
    with torch.no_grad():
        video.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(_LOGIT)


def begin_prompts(video: Any) -> None:
    """Begin from the detector's neck, and with attention to the places that prompts name.

    A network that begins elsewhere learns for a long time to draw everything, prompted or not.
    """
    tracker, neck = video.tracker_model, video.tracker_neck
    neck.load_state_dict(video.detector_model.vision_encoder.neck.state_dict())
    transformer = tracker.mask_decoder.transformer
    clips = draw_clips(np.random.default_rng(0), 8, frames=1)
    with torch.no_grad():
        # Features no stronger than the places' codes, and masks that stand out from them.
        _scale(
            neck.fpn_layers[2].proj2,
            0.7 / neck.fpn_layers[2](_tokens(video, clips.pixels[:, 0])).std(),
        )
        said = tracker.prompt_encoder.mask_embed(clips.masks * 2 * _LOGIT - _LOGIT)
        _scale(tracker.prompt_encoder.mask_embed.conv3, 1 / said.std((2, 3)).mean())
        # One in the published network, too: the same place has the same code in both.
        tracker.prompt_encoder.shared_embedding.positional_embedding.copy_(
            tracker.shared_image_embedding.positional_embedding
        )
        looking = [layer.cross_attn_token_to_image for layer in transformer.layers]
        for attention in (*looking, transformer.final_attn_token_to_image):
            attention.q_proj.weight.mul_(_PROMPT_GAIN)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.k_proj.bias.copy_(attention.q_proj.bias)


def _scale(layer: Any, by: torch.Tensor) -> None:
    layer.weight.mul_(by)
    layer.bias.mul_(by)


def begin_following(video: Any) -> None:
    """Begin with attention to memories of the same place."""
    tracker = video.tracker_model
    with torch.no_grad():
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(2.0)
        for name, parameter in tracker.named_parameters():
            if name in ("no_object_pointer", "occlusion_spatial_embedding_parameter"):
                parameter.normal_(std=0.1)
            elif name in ("memory_temporal_positional_encoding", "no_memory_embedding"):
                parameter.normal_(std=0.02)
            elif name.endswith(".scale"):
                parameter.fill_(0.1)
        for layer in tracker.memory_attention.layers:
            for projection in (layer.cross_attn_image.q_proj, layer.cross_attn_image.k_proj):
                projection.weight.mul_(0.1)
                # Equal vectors, which rotary positions make alike only where the places are.
                projection.bias.fill_(3.5)
        _begin_memories(tracker.memory_encoder)


def _begin_memories(encoder: Any) -> None:
    """Let what is remembered tell clearly whether a token is on the mask."""
    encoder.feature_projection.weight.mul_(0.1)
    side = 4 * MASK_SIDE
    off, on = (
        encoder.mask_downsampler(torch.full((1, 1, side, side), logit))[:, :, 4:6, 4:6].mean(
            (0, 2, 3)
        )
        for logit in (-_LOGIT, _LOGIT)
    )
    gain = 3.0 / (on - off).std()
    encoder.mask_downsampler.final_conv.weight.mul_(gain)
    encoder.mask_downsampler.final_conv.bias.copy_(-off * gain)


def draw_clips(random: np.random.Generator, count: int, frames: int = _FRAMES) -> Clips:
    """Draw clips and choose the shape that is followed in each."""
    pixels: list[NDArray[np.uint8]] = []
    masks: list[torch.Tensor] = []
    first: list[torch.Tensor] = []
    clicks: list[NDArray[np.float64]] = []
    boxes: list[NDArray[np.float64]] = []
    while len(pixels) < count:
        clip = draw_clip(
            random, frames, kinds=some_kinds(random), speed=random.uniform(0, _MOST_SPEED)
        )
        if not clip[0].shapes:
            continue
        at = int(random.integers(len(clip[0].shapes)))
        shape = clip[0].shapes[at]
        inner = cv2.erode(shape.mask.astype(np.uint8), np.ones((5, 5), np.uint8))
        rows, columns = np.nonzero(inner)
        if len(rows) == 0:
            continue
        shown = [scene.pixels for scene in clip]
        truth = [scene.shapes[at].mask for scene in clip]
        if frames > 1 and random.random() < _GONE_SHARE:
            since = int(random.integers(1, frames))
            for frame in range(since, frames):
                shown[frame] = _without(shown[frame], truth[frame])
                truth[frame] = np.zeros_like(truth[frame])
        height, width = shape.mask.shape
        scale = np.array([SIDE / width, SIDE / height])
        chosen = int(random.integers(len(rows)))
        clicks.append((np.array([columns[chosen], rows[chosen]]) + 0.5) * scale)
        centre, extent = shares(clip[0], (shape,))[0].numpy().reshape(2, 2) * SIDE
        rough = np.stack([centre - extent / 2, centre + extent / 2])
        boxes.append(rough + random.normal(0, 0.04, (2, 2)) * extent)
        pixels.append(
            np.stack([cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in shown])
        )
        masks.append(torch.stack([small(mask, MASK_SIDE) for mask in truth]))
        first.append(small(truth[0], SIDE)[None])
    return Clips(
        normalised(torch.from_numpy(np.stack(pixels)).permute(0, 1, 4, 2, 3)),
        torch.stack(masks),
        torch.stack(first),
        torch.tensor(np.array(clicks)[:, None], dtype=torch.float32),
        torch.tensor(np.array(boxes), dtype=torch.float32),
    )


def _without(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a picture whose background goes on where a shape was."""
    hidden = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.asarray(cv2.inpaint(pixels, hidden, 3, cv2.INPAINT_TELEA), dtype=np.uint8)


def _tokens(video: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        tokens = video.detector_model.vision_encoder.backbone(pixels).last_hidden_state
    features: torch.Tensor = tokens.view(len(pixels), GRID_SIDE, GRID_SIDE, -1).permute(0, 3, 1, 2)
    return features


class _Following:
    """One lesson: the features of its clips, and what is remembered so far."""

    def __init__(self, video: Any, clips: Clips) -> None:
        self._tracker = video.tracker_model
        self._count, frames = clips.masks.shape[:2]
        tokens = _tokens(video, clips.pixels.flatten(0, 1))
        fine, middle, coarse = (layer(tokens) for layer in video.tracker_neck.fpn_layers[:3])
        decoder = self._tracker.mask_decoder
        self._levels = [
            level.view(self._count, frames, *level.shape[1:])
            for level in (decoder.conv_s0(fine), decoder.conv_s1(middle), coarse)
        ]
        places = video.tracker_neck.position_encoding(
            torch.Size((1, WIDTH, GRID_SIDE, GRID_SIDE)), coarse.device, coarse.dtype
        )
        self._places = places.flatten(2).permute(2, 0, 1).expand(-1, self._count, -1)
        self._memories: list[dict[str, torch.Tensor]] = []
        self._pointers: list[torch.Tensor] = []

    def coarse(self, frame: int) -> torch.Tensor:
        return self._levels[2][:, frame]

    def decode(
        self,
        frame: int,
        seen: torch.Tensor,
        points: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        masks: torch.Tensor | None = None,
        *,
        several: bool = True,
    ) -> _Drawn:
        """Draw the shape in a frame."""
        if points is None or labels is None:
            points = torch.zeros(self._count, 1, 2)
            labels = -torch.ones(self._count, 1, dtype=torch.int32)
        sparse, dense = self._tracker.prompt_encoder(
            input_points=points[:, None],
            input_labels=labels[:, None],
            input_boxes=None,
            input_masks=masks,
        )
        positions = self._tracker.get_image_wide_positional_embeddings()
        logits, ious, tokens, appears = self._tracker.mask_decoder(
            image_embeddings=seen,
            image_positional_embeddings=positions.repeat(self._count, 1, 1, 1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=[level[:, frame] for level in self._levels[:2]],
        )
        return _Drawn(logits[:, 0], ious[:, 0], tokens[:, 0], appears[:, 0])

    def plain(self, frame: int) -> torch.Tensor:
        """A frame's features without memories."""
        return self.coarse(frame) + self._tracker.no_memory_embedding.view(1, -1, 1, 1)

    def remembered(self, frame: int, random: np.random.Generator) -> torch.Tensor:
        """A frame's features with what is remembered, some of it as often as in a longer clip."""
        newest = self._memories[-1]
        memories = [(0, self._memories[0])]
        memories += [(frame - at, one) for at, one in enumerate(self._memories) if at > 0]
        first_free = len(self._memories)
        memories += [(at, newest) for at in range(first_free, int(random.integers(_MEMORIES + 1)))]
        offsets = [frame - at for at in range(len(self._pointers))]
        pointers = list(self._pointers)
        for _ in range(int(random.integers(_POINTERS - _FRAMES))):
            offsets.append(len(pointers) + 1)
            pointers.append(self._pointers[-1])
        kept, places = self._tracker._build_memory_attention_inputs(
            memories, newest["maskmem_features"].device
        )
        told, told_places = self._tracker._process_object_pointers(
            offsets, pointers, _POINTERS, self._count, WIDTH, kept[0].device
        )
        fused = self._tracker.memory_attention(
            current_vision_features=self.coarse(frame).flatten(2).permute(2, 0, 1),
            current_vision_position_embeddings=self._places,
            memory=torch.cat([*kept, told]),
            memory_posision_embeddings=torch.cat([*places, told_places]),
            num_object_pointer_tokens=len(told),
        )
        grid = fused[0].transpose(1, 2).reshape(self._count, WIDTH, GRID_SIDE, GRID_SIDE)
        return torch.as_tensor(grid)

    def remember(
        self, frame: int, masks: torch.Tensor, drawn: _Drawn, present: torch.Tensor
    ) -> None:
        """Keep a frame's mask, logits of shape (n, 1, side, side), and the pointer of the best."""
        features, places = self._tracker._encode_new_memory(
            self.coarse(frame).flatten(2).permute(2, 0, 1),
            masks,
            (present * 2 - 1).view(-1, 1, 1) * _LOGIT,
            False,
        )
        self._memories.append(
            {
                "maskmem_features": features.float(),
                "maskmem_pos_enc": places.expand(-1, self._count, -1),
            }
        )
        best = drawn.tokens[torch.arange(self._count), drawn.ious.argmax(-1)]
        pointer = self._tracker.object_pointer_proj(best)
        there = present[:, None] > 0
        self._pointers.append(torch.where(there, pointer, self._tracker.no_object_pointer))


def _loss(
    drawn: _Drawn, truth: torch.Tensor, present: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of what was drawn, and the IoU of what would be chosen."""
    truth = truth[:, None].expand_as(drawn.logits)
    with torch.no_grad():
        real = overlap(drawn.logits, truth)
        chosen = real[torch.arange(len(real)), drawn.ious.argmax(-1)]
    each = mask_loss(drawn.logits, truth).mean(1) + 2 * (drawn.ious - real).square().mean(1)
    appears = functional.binary_cross_entropy_with_logits(drawn.appears[:, 0], present)
    seen = present.sum().clamp(min=1)
    return (each * present).sum() / seen + 0.5 * appears, (chosen * present).sum() / seen


def _prompted(following: _Following, clips: Clips, random: np.random.Generator) -> _Drawn:
    """Draw the shape in the first frame from a click, a box, or a rough mask."""
    count = len(clips.masks)
    one = torch.ones(count, 1, dtype=torch.int32)
    points, labels, masks = clips.clicks, one, None
    chance = random.random()
    if chance < 0.35:
        points, labels = clips.boxes, torch.tensor([[2, 3]] * count, dtype=torch.int32)
    elif chance > 0.7:
        shift = [int(by) for by in random.integers(-2, 3, 2)]
        masks = torch.roll(clips.masks[:, 0], shift, (1, 2))[:, None] * 2 * _LOGIT - _LOGIT
        if chance > 0.85:
            points, labels = torch.zeros(count, 1, 2), -one
    several = bool(random.random() < 0.5)
    return following.decode(0, following.plain(0), points, labels, masks, several=several)


def prompt_loss(
    video: Any, clips: Clips, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of shapes that are drawn from prompts on single images, and their IoU."""
    drawn = _prompted(_Following(video, clips), clips, random)
    return _loss(drawn, clips.masks[:, 0], torch.ones(len(clips.masks)))


def lesson_loss(
    video: Any, clips: Clips, random: np.random.Generator
) -> tuple[torch.Tensor, list[float]]:
    """Return the loss of a lesson, and the IoU on a single image and in each frame that follows."""
    tracker = video.tracker_model
    following = _Following(video, clips)
    always = torch.ones(len(clips.masks))
    loss, iou = _loss(_prompted(following, clips, random), clips.masks[:, 0], always)
    loss, ious = 0.5 * loss, [float(iou)]
    # As upstream begins an object with a mask: the mask is remembered, the decoder points to it.
    mask = functional.interpolate(
        tracker.mask_downsample(clips.first),
        size=(MASK_SIDE, MASK_SIDE),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    drawn = following.decode(0, following.coarse(0), masks=mask)
    loss = loss + 0.3 * _loss(drawn, clips.masks[:, 0], always)[0]
    following.remember(0, clips.first * 2 * _LOGIT - _LOGIT, drawn, always)
    for frame in range(1, _FRAMES):
        truth = clips.masks[:, frame]
        present = (truth.sum((1, 2)) > 6).float()
        drawn = following.decode(frame, following.remembered(frame, random))
        more, iou = _loss(drawn, truth, present)
        loss = loss + more
        ious.append(float(iou))
        best = drawn.logits[torch.arange(len(truth)), drawn.ious.argmax(-1)][:, None]
        best = functional.interpolate(best, (SIDE, SIDE), mode="bilinear", align_corners=False)
        best = torch.where(present.view(-1, 1, 1, 1) > 0, best, torch.tensor(-1024.0))
        following.remember(frame, best, drawn, present)
    return loss, ious
