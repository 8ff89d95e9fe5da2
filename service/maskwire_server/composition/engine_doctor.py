"""Examines a reconstruction engine: loads it, runs one picture twice, checks what comes of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from ..domain.diagnosis.bodies import examine_bodies
from ..domain.diagnosis.findings import Finding, Verdict, judged
from ..domain.diagnosis.objects import examine_objects
from ..domain.errors import MaskwireError
from ..domain.geometry import Box
from ..domain.reconstruction.engine import (
    BodyEngine,
    BodyScene,
    ObjectEngine,
    ObjectScene,
    ReconstructionEngine,
)
from ..engines.reconstruction_registry import load_reconstruction_engine
from ..settings import Settings
from .reconstruction import reconstruction_specification

SEED = 42
"""The seed of both runs."""

# The outline of cup and saucer in skimage's photograph `coffee`, drawn by hand, x and y in pixels.
_CUP = (
    *((176, 72), (200, 50), (225, 30), (255, 20), (285, 18), (320, 21), (350, 33), (375, 50)),
    *((395, 75), (404, 100), (425, 115), (450, 143), (470, 185), (479, 230), (470, 270)),
    *((450, 300), (415, 335), (370, 365), (330, 382), (290, 389), (245, 384), (200, 372)),
    *((155, 347), (120, 318), (92, 278), (78, 235), (80, 195), (95, 150), (120, 115), (150, 88)),
)
_CUT = 60  # columns at the left
_ASTRONAUT = Box(0.0, 8.0, 470.0, 512.0)  # in skimage's photograph of that name


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to examine an engine with.

    Attributes:
        name: What it is called in findings.
        pixels: Shape (height, width, 3), uint8, RGB.
        mask: Shape (height, width), bool: the object or person; None for the whole picture, or for
            people to be found.
        box: Box of the person; None as above.
    """

    name: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None = None
    box: Box | None = None


def examine_engine(settings: Settings, name: str, picture: Picture | None) -> Iterator[Finding]:
    """Examine an engine; blocks, up to minutes between two findings.

    Args:
        settings: What to load it with.
        name: Its entry point.
        picture: What to run; None takes a photograph that scikit-image brings.
    """
    started = time.perf_counter()
    try:
        engine = load_reconstruction_engine(reconstruction_specification(settings, name))
    except MaskwireError as error:
        yield Finding("load", Verdict.FAILED, error.message)
        return
    described = engine.description
    digest = described.checkpoint_digest or "without weights"
    seconds = time.perf_counter() - started
    yield judged("load", True, f"{seconds:.1f} s, on {described.device}, {digest}")
    try:
        yield from _examine(engine, picture)
    except MaskwireError as error:
        yield Finding("run", Verdict.FAILED, error.message)
    except Exception:  # whoever tries an engine on real weights needs to see where it fails
        yield Finding("run", Verdict.FAILED, traceback.format_exc())
    finally:
        engine.close()


def coffee() -> Picture:
    """Return a photograph of a cup on its saucer, cut so that they stand off its centre: there, an
    object that is placed in a mirrored frame would still cover its mask.
    """
    pixels = np.asarray(skimage.data.coffee(), np.uint8)  # type: ignore[no-untyped-call]
    drawn = np.zeros(pixels.shape[:2], np.uint8)
    cv2.fillPoly(drawn, [np.array(_CUP, np.int32)], 1)
    mask = drawn.astype(np.bool_)
    return Picture("coffee of scikit-image", pixels[:, _CUT:].copy(), mask=mask[:, _CUT:])


def astronaut() -> Picture:
    """Return a photograph of a person down to the hips."""
    pixels = np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    return Picture("astronaut of scikit-image", pixels, box=_ASTRONAUT)


def _examine(engine: ReconstructionEngine, picture: Picture | None) -> Iterator[Finding]:
    if isinstance(engine, ObjectEngine):
        yield from _examine_objects(engine, picture or coffee())
    elif isinstance(engine, BodyEngine):
        yield from _examine_bodies(engine, picture or astronaut())
    else:
        yield Finding("run", Verdict.FAILED, f"{type(engine).__name__} is of no known kind")


def _examine_objects(engine: ObjectEngine, picture: Picture) -> Iterator[Finding]:
    mask = picture.mask
    if mask is None:
        mask = np.ones(picture.pixels.shape[:2], np.bool_)
    scene = ObjectScene(picture.pixels, (mask,), points=None, intrinsics=None, seed=SEED)
    progress = _Progress()
    started = time.perf_counter()
    result = engine.reconstruct(scene, progress)
    yield _run(picture, time.perf_counter() - started)
    yield progress.finding()
    yield from examine_objects(scene, result, engine.reconstruct(scene, _Progress()))


def _examine_bodies(engine: BodyEngine, picture: Picture) -> Iterator[Finding]:
    scene = BodyScene(
        picture.pixels,
        boxes=() if picture.box is None else (picture.box,),
        masks=() if picture.mask is None else (picture.mask,),
        points=None,
        intrinsics=None,
    )
    progress = _Progress()
    started = time.perf_counter()
    bodies = engine.reconstruct(scene, progress)
    yield _run(picture, time.perf_counter() - started)
    yield progress.finding()
    yield from examine_bodies(scene, bodies, engine.reconstruct(scene, _Progress()))


def _run(picture: Picture, seconds: float) -> Finding:
    height, width = picture.pixels.shape[:2]
    return judged("run", True, f"{seconds:.1f} s for {picture.name}, {width} x {height}")


class _Progress:
    """A report that remembers what it heard."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, float]] = []

    def __call__(self, stage: str, fraction: float) -> None:
        self._heard.append((stage, fraction))

    def finding(self) -> Finding:
        """Return whether fractions only grow, up to 1."""
        fractions = [fraction for _, fraction in self._heard]
        stages = " > ".join(dict(self._heard)) or "no stage"
        grows = fractions == sorted(fractions) and fractions[-1:] == [1.0]
        return judged("progress", grows, f"{len(fractions)} reports: {stages}")
