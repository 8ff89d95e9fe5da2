"""Trains the SAM 3 test checkpoint on generated scenes, part by part; `sam3_train` runs it.

A network this small learns to see far more slowly than to answer, so that each part is first taught
alone on what the parts before it, then frozen, make of scenes:

1. sight: the vision encoder, asked for the kind of shape under each token and for its box;
2. answers: texts, exemplars, boxes, scores and presence, on features of scenes kept in a pool. It
   is set prediction as in DETR: boxes are learned for every shape, whatever was asked, and scores
   from the question;
3. both together, which takes answers that are right from 86 to 99 in 100;
4. masks: the mask decoder and the finer levels, alone and then with what makes the queries;
5. prompts: the tracker (`sam3_tracker_training`) on single images;
6. following: the tracker on clips.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from tests.support import sam3_tracker_training
from tests.support.sam3_checkpoint import GRID_SIDE, QUERIES_PER_SIDE
from tests.support.sam3_lessons import (
    Asked,
    Pool,
    Pupil,
    ask,
    drawn,
    lesson,
    normalised,
    spelled,
)
from tests.support.sam3_losses import (
    Hearing,
    Sight,
    answer_loss,
    assigned,
    grid_points,
    listen,
    mask_loss,
    overlap,
    rightly_answered,
)

_REPORT_EVERY = 100
_EXEMPLARS_SHARE = 0.5
_RENEWED_EVERY = 10


def prepare(video: Any) -> None:
    """Give a new network a start from which it learns quickly.

    Upstream's small random weights all but extinguish signals in a network this narrow; queries
    begin on a grid and look around themselves.
    """
    detector = video.detector_model
    with torch.no_grad():
        for module in video.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                torch.nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, torch.nn.Embedding):
                torch.nn.init.normal_(module.weight, std=0.5)
        positions = detector.vision_encoder.backbone.embeddings.position_embeddings
        positions.copy_(_waves(positions.shape[-1]))
        patches = detector.vision_encoder.backbone.embeddings.patch_embeddings.projection
        patches.weight.copy_(_cosines(*patches.weight.shape) * 0.3)
        decoder = detector.detr_decoder
        extents = torch.full((QUERIES_PER_SIDE**2, 2), 0.28)
        decoder.reference_points.weight.copy_(torch.logit(torch.cat([grid_points(), extents], -1)))
        decoder.box_head.layer3.weight.zero_()
        decoder.box_head.layer3.bias.zero_()
        for bias in (decoder.box_rpb_embed_x, decoder.box_rpb_embed_y):
            bias.layer1.weight[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
            bias.layer1.bias[:2] = 0.0
            bias.layer2.weight[:, :2] = -5.0  # less attention the further outside the box


def _cosines(filters: int, channels: int, side: int, _: int) -> torch.Tensor:
    """Return the slowest cosines of a patch, of each channel alike: what edges are told from."""
    each = filters // channels
    order = sorted(
        ((u, v) for u in range(side) for v in range(side)), key=lambda one: (sum(one), one)
    )
    at = (torch.arange(side) + 0.5) * torch.pi / side
    weight = torch.zeros(filters, channels, side, side)
    for rank, (u, v) in enumerate(order[:each]):
        wave = torch.outer((at * v).cos(), (at * u).cos())
        for channel in range(channels):
            weight[rank * channels + channel, channel] = wave / wave.norm()
    return weight


def _waves(width: int) -> torch.Tensor:
    centres = (torch.arange(GRID_SIDE) + 0.5) / GRID_SIDE
    phases = centres[:, None] * torch.pi * (0.5 + 0.5 * torch.arange(width // 4))
    waves = torch.cat([phases.sin(), phases.cos()], -1)
    x, y = waves[None].expand(GRID_SIDE, -1, -1), waves[:, None].expand(-1, GRID_SIDE, -1)
    return torch.cat([x, y], -1).reshape(1, GRID_SIDE**2, width) * 0.7


def taught(
    parameters: list[torch.nn.Parameter], steps: int, rate: float, name: str
) -> Iterator[tuple[int, Any]]:
    """Yield each step and a function that learns from its loss; report means now and then."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.06)
    noted: list[list[float]] = []
    start = time.monotonic()

    def learn(loss: torch.Tensor, *told: float) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        noted.append([loss.item(), *map(float, told)])

    for step in range(steps):
        yield step, learn
        if (step + 1) % _REPORT_EVERY == 0 or step + 1 == steps:
            means = " ".join(f"{mean:.3f}" for mean in np.nanmean(noted, axis=0))
            print(f"{name} {step + 1}: {means} ({time.monotonic() - start:.0f} s)", flush=True)
            noted.clear()


def tokens_of(detector: Any, pupils: list[Pupil]) -> torch.Tensor:
    """Return what the vision transformer makes of scenes, shape (n, channels, grid, grid)."""
    pixels = normalised(torch.stack([one.pixels for one in pupils]))
    tokens = detector.vision_encoder.backbone(pixels).last_hidden_state
    features: torch.Tensor = tokens.view(len(pupils), GRID_SIDE, GRID_SIDE, -1).permute(0, 3, 1, 2)
    return features


def teach_sight(video: Any, random: np.random.Generator, *, steps: int, batch: int, rate: float):
    """Teach the vision encoder up to the coarsest level."""
    vision = video.detector_model.vision_encoder
    sight = Sight()
    parameters = [
        *vision.backbone.parameters(),
        *vision.neck.fpn_layers[2].parameters(),
        *sight.parameters(),
    ]
    pool = Pool(random, lambda count: [drawn(random) for _ in range(count)], 1500)
    for _, learn in taught(parameters, steps, rate, "sight"):
        pool.renew(batch // 5)
        pupils = pool.some(batch)
        loss, right = sight(
            pupils, vision.neck.fpn_layers[2](tokens_of(video.detector_model, pupils))
        )
        learn(loss, right)


class Seen:
    """Scenes with what the frozen vision encoder makes of them, in a pool."""

    def __init__(self, video: Any, random: np.random.Generator, size: int) -> None:
        self._detector = video.detector_model
        self._random = random
        self._pool: Pool[tuple[Pupil, torch.Tensor]] = Pool(random, self._look, size)

    def renew(self, count: int) -> None:
        self._pool.renew(count)

    def some(self, count: int) -> tuple[list[Pupil], torch.Tensor]:
        """Return scenes and their tokens, shape (n, channels, grid, grid)."""
        pupils, tokens = zip(*self._pool.some(count), strict=True)
        return list(pupils), torch.stack(tokens)

    @torch.no_grad()
    def _look(self, count: int) -> list[tuple[Pupil, torch.Tensor]]:
        seen: list[tuple[Pupil, torch.Tensor]] = []
        while len(seen) < count:
            pupils = [drawn(self._random) for _ in range(min(50, count - len(seen)))]
            tokens = tokens_of(self._detector, pupils).contiguous()
            seen += [(one, row.clone()) for one, row in zip(pupils, tokens, strict=True)]
        return seen


class _Questions:
    """Asks about scenes, all with an exemplar or all without, and judges the answers."""

    def __init__(self, detector: Any, random: np.random.Generator) -> None:
        self.hearing = Hearing()
        self._detector = detector
        self._random = random
        self._ids, self._mask = spelled()

    def __call__(
        self, pupils: list[Pupil], features: torch.Tensor
    ) -> tuple[torch.Tensor, float, float]:
        """Return the loss, and the share answered rightly of texts or else of exemplars."""
        random, mask = self._random, self._mask
        exemplars = random.random() < _EXEMPLARS_SHARE
        given = lesson([ask(random, one.scene, exemplars=exemplars) for one in pupils], pupils)
        encoded = self._detector.get_text_features(input_ids=self._ids, attention_mask=mask)
        texts = encoded.pooler_output
        said = listen(self._detector, features, given, texts, mask)
        matched = assigned(said, given)
        loss = answer_loss(said, given, matched) + self.hearing(said, pupils, given, texts, mask)
        right = float(np.mean(rightly_answered(said, given, matched)))
        return (loss, np.nan, right) if exemplars else (loss, right, np.nan)


def teach_answers(
    video: Any, random: np.random.Generator, *, steps: int, batch: int, rate: float, save: Any
) -> None:
    """Teach what lies between the features and the scores and boxes."""
    detector = video.detector_model
    parameters = [
        parameter
        for name, parameter in detector.named_parameters()
        if not name.startswith(("vision_encoder", "mask_decoder"))
    ]
    questions = _Questions(detector, random)
    parameters += questions.hearing.parameters()
    seen = Seen(video, random, 2000)
    coarse = detector.vision_encoder.neck.fpn_layers[2]
    for step, learn in taught(parameters, steps, rate, "answers"):
        if step % _RENEWED_EVERY == 0:
            seen.renew(4 * _RENEWED_EVERY)
        pupils, tokens = seen.some(batch)
        with torch.no_grad():
            features = coarse(tokens)
        learn(*questions(pupils, features))
        if (step + 1) % (5 * _REPORT_EVERY) == 0:
            print(f"    of unseen: {accuracy(video):.3f}", flush=True)
            save()


def teach_together(
    video: Any, random: np.random.Generator, *, steps: int, batch: int, rate: float, save: Any
) -> None:
    """Teach sight and answers further, together."""
    detector = video.detector_model
    vision = detector.vision_encoder
    sight, questions = Sight(), _Questions(detector, random)
    parameters = [
        parameter
        for name, parameter in detector.named_parameters()
        if not name.startswith(("vision_encoder.neck", "mask_decoder"))
    ]
    coarse = vision.neck.fpn_layers[2]
    parameters += [*coarse.parameters(), *sight.parameters(), *questions.hearing.parameters()]
    pool = Pool(random, lambda count: [drawn(random) for _ in range(count)], 1500)
    for step, learn in taught(parameters, steps, rate, "together"):
        pool.renew(batch // 5)
        pupils = pool.some(batch)
        features = coarse(tokens_of(detector, pupils))
        seen, tokens_right = sight(pupils, features)
        loss, *told = questions(pupils, features)
        learn(loss + 2 * seen, tokens_right, *told)
        if (step + 1) % (5 * _REPORT_EVERY) == 0:
            save()


def teach_masks(
    video: Any,
    random: np.random.Generator,
    *,
    steps: int,
    batch: int,
    rate: float,
    with_queries: bool,
) -> None:
    """Teach the mask decoder and the finer levels, and with them what makes the queries."""
    detector = video.detector_model
    fine, middle, coarse, *_ = detector.vision_encoder.neck.fpn_layers
    parameters = [*detector.mask_decoder.parameters(), *fine.parameters(), *middle.parameters()]
    if with_queries:
        parameters += [*detector.detr_encoder.parameters(), *detector.detr_decoder.parameters()]
        parameters += detector.dot_product_scoring.parameters()
    seen = Seen(video, random, 800)
    ids, mask = spelled()
    with torch.no_grad():
        texts = detector.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    for step, learn in taught(parameters, steps, rate, "masks"):
        if step % _RENEWED_EVERY == 0:
            seen.renew(2 * _RENEWED_EVERY)
        pupils, tokens = seen.some(batch)
        exemplars = random.random() < _EXEMPLARS_SHARE
        given = lesson([ask(random, one.scene, exemplars=exemplars) for one in pupils], pupils)
        with torch.no_grad():
            features = coarse(tokens)
        with torch.set_grad_enabled(with_queries):
            said = listen(detector, features, given, texts, mask)
        rows, columns = matched = assigned(said, given)
        drawn_masks = detector.mask_decoder(
            decoder_queries=said.queries,
            backbone_features=[fine(tokens), middle(tokens), features],
            encoder_hidden_states=said.features,
            prompt_features=said.prompt,
            prompt_mask=said.prompt_mask,
        ).pred_masks[rows, columns]
        truth = torch.cat([one.masks for one in pupils])
        loss = mask_loss(drawn_masks, truth).mean()
        if with_queries:
            loss = 3 * loss + answer_loss(said, given, matched)
        right = np.mean(rightly_answered(said, given, matched))
        learn(loss, overlap(drawn_masks, truth).mean(), float(right))


def teach_prompts(
    video: Any, random: np.random.Generator, *, steps: int, batch: int, rate: float
) -> None:
    """Teach the tracker to draw what clicks, boxes and rough masks mean on single images."""
    tracker = video.tracker_model
    parameters = [
        *video.tracker_neck.parameters(),
        *tracker.prompt_encoder.parameters(),
        *tracker.mask_decoder.parameters(),
    ]
    for _, learn in taught(parameters, steps, rate, "prompts"):
        clips = sam3_tracker_training.draw_clips(random, batch, frames=1)
        learn(*sam3_tracker_training.prompt_loss(video, clips, random))


def teach_following(
    video: Any, random: np.random.Generator, *, steps: int, batch: int, rate: float, save: Any
) -> None:
    """Teach the tracker and its neck."""
    parameters = [*video.tracker_model.parameters(), *video.tracker_neck.parameters()]
    video.tracker_model.train()
    for step, learn in taught(parameters, steps, rate, "following"):
        clips = sam3_tracker_training.draw_clips(random, batch)
        loss, ious = sam3_tracker_training.lesson_loss(video, clips, random)
        learn(loss, *ious)
        if (step + 1) % (5 * _REPORT_EVERY) == 0:
            save()
    video.tracker_model.eval()


@torch.no_grad()
def accuracy(video: Any, *, count: int = 200, seed: int = 999) -> float:
    """Return the share of questions whose scores say which shapes answer; half have exemplars."""
    random = np.random.default_rng(seed)
    detector = video.detector_model
    ids, mask = spelled()
    texts = detector.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    right: list[bool] = []
    for exemplars in (False, True):
        pupils = [drawn(random) for _ in range(count // 2)]
        asked: list[Asked] = [ask(random, one.scene, exemplars=exemplars) for one in pupils]
        features = detector.vision_encoder.neck.fpn_layers[2](tokens_of(detector, pupils))
        given = lesson(asked, pupils)
        said = listen(detector, features, given, texts, mask)
        right += rightly_answered(said, given, assigned(said, given))
    return sum(right) / len(right)
