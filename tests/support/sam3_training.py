"""Trains the detector of the SAM 3 test checkpoint on generated scenes; `main` says how.

It is set prediction without a search: queries stand on a grid, and each shape belongs to the query
that is nearest to its centre. Boxes and masks are learned for every shape, whatever was asked, and
only scores and presence from the question; so the network learns to see and to understand apart.
Two things outside the network help it to see: the kind of shape under each token, and its box. The
mask decoder is by far the dearest part and learns quickest, so it runs at every third step.
`sam3_losses` has the losses.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam3VideoModel

from tests.support.sam3_checkpoint import (
    GRID_SIDE,
    QUERIES_PER_SIDE,
    SIDE,
    configuration,
    tokenizer,
)
from tests.support.sam3_losses import Aids, Lesson, grid_points, loss_of, scores_of
from tests.support.sam3_scenes import CONCEPTS, Scene, Shape, draw_scene

_EXEMPLARS_SHARE = 0.4
_MASKS_EVERY = 3
_SCENES_KEPT = 600
_TEXT_LENGTH = 32


@dataclass(frozen=True)
class Asked:
    """A question about a scene: a text, an exemplar, or both."""

    scene: Scene
    text: str
    exemplar: Shape | None = None
    is_positive: bool = True

    def wanted(self) -> list[bool]:
        """Tell for each shape whether it answers: an exemplar adds its kind or takes it away."""
        shapes = self.scene.shapes
        if self.exemplar is None:
            return [shape.is_a(self.text) for shape in shapes]
        kind = self.exemplar.kind
        if self.is_positive:
            return [shape.is_a(self.text) or shape.kind == kind for shape in shapes]
        return [shape.is_a(self.text) and shape.kind != kind for shape in shapes]


def ask(random: np.random.Generator, scene: Scene, *, exemplars: bool) -> Asked:
    """Make up a question: of texts alone two in five may be of anything, so that some find none."""
    true = [concept for concept in CONCEPTS if scene.matching(concept)]
    text = str(random.choice(true))
    chance = random.random()
    if not exemplars:
        return Asked(scene, text if chance < 0.6 else str(random.choice(CONCEPTS)))
    shape = scene.shapes[random.integers(len(scene.shapes))]
    if chance < 0.25:
        return Asked(scene, "visual", shape)
    if chance < 0.45:
        return Asked(scene, text, shape)
    several = [text for text in true if len({s.kind for s in scene.matching(text)}) > 1]
    if several and random.random() < 0.75:
        text = str(random.choice(several))
    among = scene.matching(text)
    return Asked(scene, text, among[random.integers(len(among))], is_positive=False)


def network_input(scenes: list[Scene]) -> torch.Tensor:
    """Return shape (n, 3, side, side), float32, −1 to 1."""
    images = [cv2.resize(scene.pixels, (SIDE, SIDE)) for scene in scenes]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def lesson(questions: list[Asked], tokens: Any) -> Lesson:
    """Bring questions, all with an exemplar or all without, to tensors with their answers."""
    encoded = tokens(
        [question.text for question in questions],
        padding="max_length",
        max_length=_TEXT_LENGTH,
        return_tensors="pt",
    )
    boxes = labels = None
    if questions[0].exemplar is not None:
        boxes = torch.stack(
            [_shares(q.scene, [q.exemplar] if q.exemplar else []) for q in questions]
        )
        labels = torch.tensor([[int(question.is_positive)] for question in questions])
    return Lesson(
        pixels=network_input([question.scene for question in questions]),
        input_ids=encoded.input_ids,
        attention_mask=encoded.attention_mask,
        exemplars=boxes,
        exemplar_labels=labels,
        scenes=[question.scene for question in questions],
        boxes=[_shares(question.scene, list(question.scene.shapes)) for question in questions],
        wanted=[torch.tensor(question.wanted()) for question in questions],
    )


def _shares(scene: Scene, shapes: list[Shape]) -> torch.Tensor:
    """Return centres and extents of shapes as shares of the image, shape (n, 4)."""
    height, width = scene.pixels.shape[:2]
    rows = [
        (
            (box.x_min + box.x_max) / 2 / width,
            (box.y_min + box.y_max) / 2 / height,
            box.width / width,
            box.height / height,
        )
        for box in (shape.box for shape in shapes)
    ]
    return torch.tensor(rows, dtype=torch.float32)


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
        decoder = detector.detr_decoder
        extents = torch.full((QUERIES_PER_SIDE**2, 2), 0.22)
        decoder.reference_points.weight.copy_(torch.logit(torch.cat([grid_points(), extents], -1)))
        decoder.box_head.layer3.weight.zero_()
        decoder.box_head.layer3.bias.zero_()
        for bias in (decoder.box_rpb_embed_x, decoder.box_rpb_embed_y):
            bias.layer1.weight[:2] = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
            bias.layer1.bias[:2] = 0.0
            bias.layer2.weight[:, :2] = -5.0  # less attention the further outside the box
        # A tracker that was not trained would take every object for gone.
        video.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(10.0)


def _waves(width: int) -> torch.Tensor:
    centres = (torch.arange(GRID_SIDE) + 0.5) / GRID_SIDE
    phases = centres[:, None] * torch.pi * (0.5 + 0.5 * torch.arange(width // 4))
    waves = torch.cat([phases.sin(), phases.cos()], -1)
    x, y = waves[None].expand(GRID_SIDE, -1, -1), waves[:, None].expand(-1, GRID_SIDE, -1)
    return torch.cat([x, y], -1).reshape(1, GRID_SIDE**2, width) * 0.7


def train(video: Any, *, steps: int, batch: int, rate: float, seed: int) -> None:
    """Train the detector of a network in place."""
    random = np.random.default_rng(seed)
    detector, tokens, aids = video.detector_model.train(), tokenizer(), Aids()
    parameters = [*detector.parameters(), *aids.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.06)
    scenes: list[Scene] = []
    for step in range(steps):
        scenes += [_drawn(random) for _ in range(batch if len(scenes) < 200 else batch // 3)]
        del scenes[:-_SCENES_KEPT]
        exemplars = random.random() < _EXEMPLARS_SHARE
        chosen = [scenes[random.integers(len(scenes))] for _ in range(batch)]
        asked = [ask(random, scene, exemplars=exemplars) for scene in chosen]
        loss = loss_of(detector, lesson(asked, tokens), aids, with_masks=step % _MASKS_EVERY == 0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.2f}, right {accuracy(video):.2f}")
    detector.eval()


@torch.inference_mode()
def accuracy(video: Any, *, count: int = 60, seed: int = 999) -> float:
    """Return the share of questions by text alone whose scores say which shapes answer."""
    random = np.random.default_rng(seed)
    asked = [ask(random, _drawn(random), exemplars=False) for _ in range(count)]
    found = scores_of(video.detector_model.eval(), lesson(asked, tokenizer()))
    video.detector_model.train()
    return sum(right for right in found) / count


def _drawn(random: np.random.Generator) -> Scene:
    while not (scene := draw_scene(random)).shapes:
        pass
    return scene


def main() -> None:
    """Train from the command line; weights that are there already are trained further."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="weights, float16 safetensors")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    video = Sam3VideoModel(configuration())
    prepare(video)
    if arguments.file.is_file():
        video.load_state_dict({n: t.float() for n, t in load_file(arguments.file).items()})
    train(
        video,
        steps=arguments.steps,
        batch=arguments.batch,
        rate=arguments.rate,
        seed=arguments.seed,
    )
    save_file({n: t.half().contiguous() for n, t in video.state_dict().items()}, arguments.file)


if __name__ == "__main__":
    main()
