"""What a reconstruction by inflate costs: an object of a megapixel, several, points, fine grids.

The promise is 2 s for an object of 1024²; no time is ever a pass or a failure here. Seconds of
processor time stand beside the clock's, which a busy machine stretches.
"""

from __future__ import annotations

import itertools
import time

import cv2
import numpy as np
import pytest
from skimage import data

from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.reconstruction.camera import default_intrinsics, unproject_depth
from maskwire_server.domain.reconstruction.engine import ObjectScene, ReconstructionSpecification
from maskwire_server.engines.inflate import InflateFactory
from tests.benchmarks.measuring import measure_in_turn, report
from tests.support.inflated_scenes import disc

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

STAGES = ("prepare", "solve", "mesh", "texture", "splats")
MEGAPIXEL = ImageSize(1024, 1024)


def picture() -> np.ndarray:
    return cv2.resize(data.astronaut(), (1024, 1024), interpolation=cv2.INTER_CUBIC)


def points_of_a_slope() -> np.ndarray:
    depth = np.linspace(1, 3, 1024, dtype=np.float32)[:, None] * np.ones((1, 1024), np.float32)
    return unproject_depth(depth, default_intrinsics(MEGAPIXEL))


def scene(masks, points=None) -> ObjectScene:
    return ObjectScene(picture(), tuple(masks), points, None, seed=1)


def quarters() -> list[np.ndarray]:
    masks = []
    for row, column in ((0, 0), (0, 512), (512, 0), (512, 512)):
        mask = np.zeros((1024, 1024), np.bool_)
        mask[row : row + 512, column : column + 512] = disc(512, 240)
        masks.append(mask)
    return masks


def call(engine, one):
    return lambda _: engine.reconstruct(one, lambda stage, fraction: None)


def processor_time_of_stages(engine, one) -> str:
    marks: list[tuple[str, float]] = []
    engine.reconstruct(one, lambda stage, _: marks.append((stage, time.process_time())))
    spent = dict.fromkeys(STAGES, 0.0)
    for (stage, begun), (_, ended) in itertools.pairwise(marks):
        spent[stage] += ended - begun
    return ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in spent.items())


def test_objects_of_a_megapixel():
    engine = InflateFactory().load(ReconstructionSpecification("inflate"))
    whole = np.ones((1024, 1024), np.bool_)
    scenes = {
        "disc of 960 px": scene([disc(1024, 480)]),
        "whole image": scene([whole]),
        "whole image, points": scene([whole], points_of_a_slope()),
        "4 discs of 480 px": scene(quarters()),
    }
    calls = {name: call(engine, one) for name, one in scenes.items()}
    notes = {}
    for name, one in scenes.items():
        started = time.process_time()
        result = engine.reconstruct(one, lambda stage, fraction: None)
        seconds = time.process_time() - started
        faces = sum(len(model.mesh.faces) for model in result.objects)
        splats = sum(len(model.splats.positions) for model in result.objects)
        notes[name] = f"{seconds:.2f} s of processor time, {faces} triangles, {splats} splats"
    report("Inflate at 1024 x 1024", measure_in_turn(calls, rounds=7, warm_up=1), notes)


def test_grids_and_their_stages():
    one = scene([np.ones((1024, 1024), np.bool_)])
    calls, notes = {}, {}
    for resolution in (128, 256, 512):
        specification = ReconstructionSpecification("inflate", mesh_resolution_px=resolution)
        engine = InflateFactory().load(specification)
        notes[f"{resolution}, processor time"] = processor_time_of_stages(engine, one)
        calls[f"grid of {resolution}"] = call(engine, one)
    report("Inflate by its grid, whole image", measure_in_turn(calls, rounds=3, warm_up=0), notes)
