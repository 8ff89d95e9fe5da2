"""What the SAM 3 test checkpoint is taught: questions about generated scenes, as tensors.

A pool of scenes is kept, and some of it renewed at every step: drawing a scene costs about as much
as learning from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch

from tests.support.sam3_checkpoint import GRID_SIDE, MASK_SIDE, SIDE, tokenizer
from tests.support.sam3_scenes import COLOURS, CONCEPTS, FORMS, Scene, Shape, draw_scene

KINDS = [(colour, form) for colour in COLOURS for form in FORMS]
EXEMPLAR_ALONE = "visual"
TEXTS = (*CONCEPTS, EXEMPLAR_ALONE)
_TEXT_LENGTH = 32
T = TypeVar("T")


@dataclass(frozen=True)
class Pupil:
    """A scene as the network sees it and what is true of it; boxes are centre and extent as shares.

    Attributes:
        scene: The scene.
        pixels: Shape (3, side, side), uint8.
        boxes: Shape (shapes, 4).
        masks: Share of each cell of a mask that is covered, shape (shapes, mask side, mask side).
        kinds: Number of the kind under each token's centre, 0 for none, shape (grid, grid).
        under: Number of the shape under each token's centre, −1 for none, shape (grid, grid).
    """

    scene: Scene
    pixels: torch.Tensor
    boxes: torch.Tensor
    masks: torch.Tensor
    kinds: torch.Tensor
    under: torch.Tensor


@dataclass(frozen=True)
class Asked:
    """A question about a scene: a text, an exemplar, or both."""

    scene: Scene
    text: str
    exemplar: int | None = None
    is_positive: bool = True

    def wanted(self) -> list[bool]:
        """Tell for each shape whether it answers: an exemplar adds its kind or takes it away."""
        shapes = self.scene.shapes
        if self.exemplar is None:
            return [shape.is_a(self.text) for shape in shapes]
        kind = shapes[self.exemplar].kind
        if self.is_positive:
            return [shape.is_a(self.text) or shape.kind == kind for shape in shapes]
        return [shape.is_a(self.text) and shape.kind != kind for shape in shapes]


@dataclass(frozen=True)
class Lesson:
    """Questions as tensors, with their answers.

    Attributes:
        texts: Number in `TEXTS` of each question's text, shape (n,).
        exemplars: Shape (n, 1, 4), or None.
        exemplar_labels: Shape (n, 1): 1 positive, 0 negative; or None.
        shown_kinds: Number of the exemplar's kind, shape (n,); or None.
        boxes: For each question shape (shapes, 4).
        wanted: For each question shape (shapes,), bool: which answer.
    """

    texts: torch.Tensor
    exemplars: torch.Tensor | None
    exemplar_labels: torch.Tensor | None
    shown_kinds: torch.Tensor | None
    boxes: list[torch.Tensor]
    wanted: list[torch.Tensor]


def pupil(scene: Scene) -> Pupil:
    """Bring a scene with at least one shape to tensors."""
    height, width = scene.pixels.shape[:2]
    image = cv2.resize(scene.pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    rows = ((np.arange(GRID_SIDE) + 0.5) / GRID_SIDE * height).astype(int)
    columns = ((np.arange(GRID_SIDE) + 0.5) / GRID_SIDE * width).astype(int)
    under = np.full((GRID_SIDE, GRID_SIDE), -1)
    kinds = np.zeros((GRID_SIDE, GRID_SIDE), np.int64)
    for number, shape in enumerate(scene.shapes):
        here = shape.mask[np.ix_(rows, columns)]
        under[here] = number
        kinds[here] = KINDS.index(shape.kind) + 1
    return Pupil(
        scene,
        torch.from_numpy(image).permute(2, 0, 1).contiguous(),
        shares(scene, scene.shapes),
        torch.stack([small(shape.mask, MASK_SIDE) for shape in scene.shapes]),
        torch.from_numpy(kinds),
        torch.from_numpy(under),
    )


def shares(scene: Scene, shapes: tuple[Shape, ...]) -> torch.Tensor:
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


def small(mask: np.ndarray, side: int) -> torch.Tensor:
    """Return the share of each cell that a mask covers, shape (side, side)."""
    whole = mask.astype(np.float32)
    return torch.from_numpy(cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Return what the processor would make of bytes."""
    return pixels.float().div_(127.5).sub_(1.0)


def drawn(random: np.random.Generator) -> Pupil:
    """Draw a scene with at least one shape."""
    while not (scene := draw_scene(random)).shapes:
        pass
    return pupil(scene)


class Pool(Generic[T]):
    """Things made by chance, of which the oldest make room for new ones."""

    def __init__(
        self, random: np.random.Generator, make: Callable[[int], list[T]], size: int
    ) -> None:
        self._random = random
        self._make = make
        self._things = make(size)
        self._next = 0

    def renew(self, count: int) -> None:
        for thing in self._make(count):
            self._things[self._next] = thing
            self._next = (self._next + 1) % len(self._things)

    def some(self, count: int) -> list[T]:
        return [self._things[at] for at in self._random.integers(len(self._things), size=count)]


def ask(random: np.random.Generator, scene: Scene, *, exemplars: bool) -> Asked:
    """Make up a question: of texts alone two in five are of what may not be there."""
    true = [concept for concept in CONCEPTS if scene.matching(concept)]
    text = str(random.choice(true))
    chance = random.random()
    if not exemplars:
        if chance < 0.6:
            return Asked(scene, text)
        if chance < 0.8:
            return Asked(scene, str(random.choice(CONCEPTS)))
        colours, forms = zip(*(shape.kind for shape in scene.shapes), strict=True)
        return Asked(scene, f"{random.choice(colours)} {random.choice(forms)}")
    at = int(random.integers(len(scene.shapes)))
    if chance < 0.4:
        return Asked(scene, EXEMPLAR_ALONE, at)
    if chance < 0.5:
        return Asked(scene, text, at)
    several = [text for text in true if len({s.kind for s in scene.matching(text)}) > 1]
    if several and random.random() < 0.75:
        text = str(random.choice(several))
    among = [n for n, shape in enumerate(scene.shapes) if shape.is_a(text)]
    return Asked(scene, text, among[random.integers(len(among))], is_positive=False)


def lesson(questions: list[Asked], pupils: list[Pupil]) -> Lesson:
    """Bring questions, all with an exemplar or all without, to tensors with their answers."""
    boxes = labels = kinds = None
    if questions[0].exemplar is not None:
        boxes = torch.stack([p.boxes[[q.exemplar]] for q, p in zip(questions, pupils, strict=True)])
        labels = torch.tensor([[int(question.is_positive)] for question in questions])
        kinds = torch.tensor(
            [
                KINDS.index(q.scene.shapes[q.exemplar].kind)
                for q in questions
                if q.exemplar is not None
            ]
        )
    return Lesson(
        texts=torch.tensor([TEXTS.index(question.text) for question in questions]),
        exemplars=boxes,
        exemplar_labels=labels,
        shown_kinds=kinds,
        boxes=[one.boxes for one in pupils],
        wanted=[torch.tensor(question.wanted()) for question in questions],
    )


def spelled() -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens and attention mask of all `TEXTS`, shapes (texts, 32)."""
    encoded = tokenizer()(
        list(TEXTS), padding="max_length", max_length=_TEXT_LENGTH, return_tensors="pt"
    )
    return encoded.input_ids, encoded.attention_mask
