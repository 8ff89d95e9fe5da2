"""The engine against `transformers` on a network of the published size with weights at random.

860 million parameters, whose file is as large as the published one (3.4 GB): what would go wrong
only there, as places for other widths or memory that is held twice, goes wrong here.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from maskwire_server.domain.concept_tracking import SoughtConcept
from maskwire_server.domain.concepts import ConceptPrompt
from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.domain.geometry import ImageSize
from maskwire_server.domain.prompts import ObjectPrompts
from maskwire_server.domain.tracking import TrackingLimits
from maskwire_server.engines.sam3 import Sam3Engine, Sam3EngineFactory
from tests.support.sam3_checkpoint import randomise_zeros, write_published
from tests.support.sam3_scenes import Scene, draw_clip
from tests.support.sam3_upstream import (
    Upstream,
    assert_same_candidates,
    assert_same_instances,
)

pytestmark = [pytest.mark.robustness, pytest.mark.timeout(3600)]

SIZE = ImageSize(width_px=320, height_px=240)
KINDS = (("red", "disc"), ("red", "disc"), ("blue", "square"), ("green", "triangle"))
EVERYTHING = 0.0
MOST_OBJECTS = 6
Value = TypeVar("Value")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from transformers import Sam3VideoConfig, Sam3VideoModel

    configuration = Sam3VideoConfig(architectures=["Sam3VideoModel"])
    torch.manual_seed(0)
    model = Sam3VideoModel(configuration)
    randomise_zeros(model)
    folder = tmp_path_factory.mktemp("sam3-published")
    write_published(folder, model.state_dict(), configuration)
    del model
    yield folder
    shutil.rmtree(folder)  # pytest would keep it for the next runs


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Sam3Engine]:
    loaded = Sam3EngineFactory().load(ModelSpecification("own", "sam3", folder, device="cpu"))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def clip() -> list[Scene]:
    return draw_clip(np.random.default_rng(3), 2, width=320, height=240, kinds=KINDS, speed=4.0)


@pytest.fixture(scope="module")
def embedding(engine: Sam3Engine, clip: list[Scene]) -> Any:
    return timed("engine: vision encoder", lambda: engine.encode(clip[0].pixels))


def timed(what: str, work: Callable[[], Value]) -> Value:
    start = time.perf_counter()
    done = work()
    most_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{what}: {time.perf_counter() - start:.1f} s, at most {most_mib} MiB so far")
    return done


def test_the_file_is_as_large_as_the_published_one(folder: Path, engine: Sam3Engine):
    assert (folder / "model.safetensors").stat().st_size > 3.4e9
    assert engine.weight_bytes > 3.4e9
    assert engine.description.native_resolution_px == 1008


def test_what_a_text_finds_is_followed(engine: Sam3Engine, embedding: Any, clip: list[Scene]):
    tracker = engine.new_tracker(SIZE, TrackingLimits(MOST_OBJECTS, held_frames=1))
    tracker.advance(0, embedding)
    numbers = iter(range(1, 1000))
    sought = [SoughtConcept("red disc", score_threshold=EVERYTHING)]
    found = timed("engine: text in a video", lambda: tracker.seek(sought, lambda: next(numbers)))
    assert 0 < len(found) <= MOST_OBJECTS
    alone = tracker.size_bytes
    further = engine.encode(clip[1].pixels)
    followed = timed("engine: the next frame", lambda: tracker.advance(1, further))
    assert {one.object_id for one in found} & {one.object_id for one in followed}
    assert all(np.isfinite(one.logits.values).all() for one in followed)
    print(f"held: {alone / 2**20:.1f} MiB, with an earlier frame {tracker.size_bytes / 2**20:.1f}")
    assert tracker.size_bytes - alone < embedding.size_bytes / 4


def test_answers_are_upstreams(engine: Sam3Engine, embedding: Any, folder: Path, clip: list[Scene]):
    first, _, square, _ = clip[0].shapes
    concepts = [
        ConceptPrompt("red disc", score_threshold=EVERYTHING),
        ConceptPrompt("disc", (first.box,), (square.box,), score_threshold=EVERYTHING),
    ]
    point = np.array([[150, 100]], np.float32)
    click = ObjectPrompts(1, point, np.array([True]), None, None)
    found = [
        timed("engine: a text more", partial(engine.detect, embedding, [one]))[0]
        for one in concepts
    ]
    (drawn,) = timed("engine: a click", lambda: engine.decode(embedding, [click], multimask=True))
    upstream = Upstream.load(folder)
    pixels = clip[0].pixels
    for concept, ours in zip(concepts, found, strict=True):
        theirs = timed("upstream: a text", partial(upstream.detect, pixels, concept))
        assert_same_instances(ours, theirs, SIZE)
    answer = timed("upstream: a click", lambda: upstream.decode(pixels, click, multimask=True))
    assert_same_candidates(drawn, *answer, SIZE)
