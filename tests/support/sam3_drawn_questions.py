"""A table of questions about unseen scenes, drawn by chance: what the small SAM 3 network is asked.

The seed and the share that must be answered rightly were written down before any network was asked
these questions, and no question is left out because of an answer. Scenes of training come from
other generators (`sam3_training`), so that a scene of the table is one that the network never saw.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from tests.support.sam3_scenes import CONCEPTS, Question, Scene, some_kinds

SEED = 20_261_121
EACH = 40
LEAST_SHARE_RIGHT = 0.95
"""Of all questions. Of each kind it is `LEAST_SHARE_OF_A_KIND`."""
LEAST_SHARE_OF_A_KIND = 0.9


@cache
def drawn_questions(kind: str) -> tuple[Question, ...]:
    """Return `EACH` questions of a kind, a key of `KINDS_OF_QUESTIONS`."""
    random = np.random.default_rng((SEED, list(KINDS_OF_QUESTIONS).index(kind)))
    found: list[Question] = []
    while len(found) < EACH:
        kinds = tuple(some_kinds(random))
        unasked = Question(int(random.integers(2**31)), kinds, "", frozenset())
        if not unasked.is_complete():
            continue
        question = KINDS_OF_QUESTIONS[kind](random, unasked, unasked.scene())
        if question is not None:
            found.append(question)
    return tuple(found)


def _matching(scene: Scene, text: str) -> frozenset[int]:
    return frozenset(number for number, shape in enumerate(scene.shapes) if shape.is_a(text))


def _by_count(
    fits: Callable[[int], bool],
) -> Callable[[np.random.Generator, Question, Scene], Question | None]:
    """Ask for a concept of which the scene has so many instances."""

    def ask(random: np.random.Generator, unasked: Question, scene: Scene) -> Question | None:
        texts = [text for text in CONCEPTS if fits(len(_matching(scene, text)))]
        if not texts:
            return None
        text = str(random.choice(texts))
        return Question(unasked.seed, unasked.kinds, text, _matching(scene, text))

    return ask


def _exemplar_alone(
    random: np.random.Generator, unasked: Question, scene: Scene
) -> Question | None:
    """Show one shape; all of its kind are wanted."""
    shown = int(random.integers(len(scene.shapes)))
    kind = scene.shapes[shown].kind
    same = frozenset(n for n, shape in enumerate(scene.shapes) if shape.kind == kind)
    return Question(unasked.seed, unasked.kinds, "", same, positive=shown)


def _negative_exemplar(
    random: np.random.Generator, unasked: Question, scene: Scene
) -> Question | None:
    """Ask for a concept that shapes of two kinds are, and show one of what is not wanted."""
    texts = [
        text
        for text in CONCEPTS
        if len({scene.shapes[number].kind for number in _matching(scene, text)}) > 1
    ]
    if not texts:
        return None
    text = str(random.choice(texts))
    among = sorted(_matching(scene, text))
    shown = among[random.integers(len(among))]
    rest = frozenset(n for n in among if scene.shapes[n].kind != scene.shapes[shown].kind)
    return Question(unasked.seed, unasked.kinds, text, rest, negative=shown)


KINDS_OF_QUESTIONS: dict[str, Callable[[np.random.Generator, Question, Scene], Question | None]] = {
    "there once": _by_count(lambda count: count == 1),
    "there several times": _by_count(lambda count: count > 1),
    "not there": _by_count(lambda count: count == 0),
    "exemplar alone": _exemplar_alone,
    "negative exemplar": _negative_exemplar,
}
