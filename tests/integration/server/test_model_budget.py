"""Four models under a budget that fits two: every answer is what it is without a budget.

Clicks for all four, and texts: to the one that takes them, and drawn anew by another.
"""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image

from maskwire.v1 import image_pb2, mask_pb2, segmentation_pb2, segmentation_pb2_grpc
from maskwire_client import Client, LoadState
from maskwire_server.domain.engine import SegmentationEngine
from maskwire_server.domain.residency import WeightResidency
from maskwire_server.engines.checkpoints import specify
from maskwire_server.engines.registry import load_engine
from maskwire_server.observability.metrics import Metrics
from tests.support.hosted_requests import refused
from tests.support.metrics_page import metrics_page, scraped
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.sam3_scenes import CONCEPTS, draw_scene
from tests.support.server_process import ServerProcess, server_process

REQUESTS = 200
CLIENTS = 4
CHANGES = 0.3
"""How often one request is for another model than the one before."""
TEXTS = 0.4
"""How many of the requests have a text."""
DEADLINE_S = 240.0
WEIGHTS, LOADING = "maskwire_model_weights_bytes", "maskwire_model_loading"
LOADS = "maskwire_model_load_seconds_count"
Masks = list[mask_pb2.Mask]


def served(quick: Sam2Files, sam3: Path) -> list[dict[str, str]]:
    def sam2(name: str, files: Sam2Files) -> dict[str, str]:
        paths = {"config": str(files.config), "checkpoint": str(files.checkpoint)}
        return {"name": name, "engine": "sam2", **paths}

    return [
        {"name": "maskwire-nano"},
        sam2("quick-one", quick),
        sam2("quick-two", quick),
        {"name": "shapes", "engine": "sam3", "checkpoint": str(sam3)},
    ]


def loaded(model: dict[str, str], cache: Path) -> SegmentationEngine:
    paths = {key: Path(model[key]) for key in ("checkpoint", "config") if key in model}
    return load_engine(
        specify(
            model["name"],
            cache,
            engine=model.get("engine"),
            checkpoint=paths.get("checkpoint"),
            config=paths.get("config"),
            device="cpu",
        )
    )


def weights_of(model: dict[str, str], cache: Path) -> int:
    engine = loaded(model, cache)
    try:
        return engine.weight_bytes
    finally:
        engine.close()


@contextmanager
def serving(folder: Path, models: list[dict[str, str]], budget: int) -> Iterator[ServerProcess]:
    folder.mkdir()
    chosen = {"serve": models, "device": "cpu", "cpu_threads": 1, "weight_bytes": budget}
    cache = {"embedding_bytes": 2**20}
    with server_process(folder, models=chosen, cache=cache, jobs={"workers": 0}) as process:
        yield process


def requests(models: list[dict[str, str]]) -> list[segmentation_pb2.SegmentImageRequest]:
    random = np.random.default_rng(5)
    pictures = []
    for _ in range(4):
        file = io.BytesIO()
        Image.fromarray(draw_scene(random, width=128, height=96).pixels).save(file, "PNG")
        pictures.append(file.getvalue())
    made = []
    model = models[0]["name"]
    for _ in range(REQUESTS):
        if random.random() < CHANGES:
            model = models[random.integers(len(models))]["name"]
        request = segmentation_pb2.SegmentImageRequest(
            image=image_pb2.ImageSource(data=pictures[random.integers(len(pictures))]),
            model=model,
        )
        request.mask_options.include_scores = True
        if random.random() < TEXTS:
            request.prompts.add().text.text = str(random.choice(CONCEPTS))
        point = request.prompts.add().point.point
        point.x, point.y = float(random.uniform(0, 128)), float(random.uniform(0, 96))
        made.append(request)
    return made


def answers(
    server: ServerProcess, asked: list[segmentation_pb2.SegmentImageRequest]
) -> list[segmentation_pb2.SegmentImageResponse]:
    with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(CLIENTS) as pool:
        stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        return list(pool.map(lambda one: stub.SegmentImage(one, timeout=DEADLINE_S), asked))


def masks(responses: list[segmentation_pb2.SegmentImageResponse]) -> list[Masks]:
    return [list(response.masks) for response in responses]


def test_four_models_take_turns_and_answer_as_if_all_were_loaded(
    tmp_path: Path, quick_sam2: Sam2Files, small_sam3: Path
) -> None:
    models = served(quick_sam2, small_sam3)
    sizes = sorted(weights_of(model, tmp_path) for model in models)
    assert sizes[0] > 0
    budget = sizes[-1] + sizes[-2]
    assert sum(sizes) > budget
    asked = requests(models)
    with serving(tmp_path / "free", models, 0) as server:
        expected = answers(server, asked)
    used = Counter(tuple(one.model for one in response.info.models) for response in expected)
    assert {(model["name"],) for model in models} < set(used), "each alone"
    assert any(len(names) == 2 for names in used), "and one after another for one request"
    assert any(mask.text for of_one in masks(expected) for mask in of_one), "texts found something"
    with serving(tmp_path / "tight", models, budget) as server:
        assert masks(answers(server, asked)) == masks(expected)
        assert scraped(server.metrics_port, LOADS) > 2 * len(models)
        assert 0 < scraped(server.metrics_port, WEIGHTS) <= budget
        assert f'{LOADING}{{model="{models[0]["name"]}"}} 0.0' in metrics_page(server.metrics_port)
        assert scraped(server.metrics_port, LOADING) == 0
        states = load_states(server)
        assert LoadState.ON_DEMAND in states.values(), "not all fit"
        for name, state in states.items():
            is_in_memory = scraped(server.metrics_port, WEIGHTS, name) > 0
            assert state is (LoadState.LOADED if is_in_memory else LoadState.ON_DEMAND), name


def load_states(server: ServerProcess) -> dict[str, LoadState]:
    with Client(server.address) as client:
        return {model.name: model.load_state for model in client.models()}


def test_weights_that_are_gone_are_told_in_the_log_and_read_when_they_are_back(
    tmp_path: Path, small_sam3: Path
) -> None:
    folder = tmp_path / "secret-place"
    shutil.copytree(small_sam3, folder)
    shapes = {"name": "shapes", "engine": "sam3", "checkpoint": str(folder)}
    models = [shapes, {"name": "maskwire-nano"}]
    budget = max(weights_of(model, tmp_path) for model in models)
    asked = segmentation_pb2.SegmentImageRequest(model="shapes")
    asked.image.data = requests(models)[0].image.data
    asked.prompts.add().text.text = "red disc"
    with (
        serving(tmp_path / "tight", models, budget) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        assert load_states(server)["shapes"] is LoadState.ON_DEMAND, "nano was loaded after it"
        folder.rename(tmp_path / "moved")
        line = server.lines_read
        error = refused(lambda: stub.SegmentImage(asked, timeout=DEADLINE_S))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "shapes" in (error.details() or "")
        assert str(tmp_path) not in repr(error), "where the server's files lie is its own business"
        server.wait_for_line(folder.name, line)
        assert load_states(server)["shapes"] is LoadState.FAILED
        (tmp_path / "moved").rename(folder)
        stub.SegmentImage(asked, timeout=DEADLINE_S)
        assert load_states(server)["shapes"] is LoadState.LOADED


def test_the_weights_in_memory_are_never_more_than_the_budget(
    tmp_path: Path, quick_sam2: Sam2Files, small_sam3: Path
) -> None:
    models = served(quick_sam2, small_sam3)
    sizes = sorted(weights_of(model, tmp_path) for model in models)
    residency = WeightResidency(sizes[-1] + sizes[-2], Metrics())
    engines = [residency.load(model["name"], partial(loaded, model, tmp_path)) for model in models]
    random = np.random.default_rng(6)
    most = 0
    for _ in range(REQUESTS):
        engine = engines[random.integers(len(engines))]
        in_memory = residency.run(engine, lambda: [parameter_bytes(one) for one in engines])
        assert in_memory[engines.index(engine)] == engine.weight_bytes
        assert sum(in_memory) == residency.resident_bytes
        most = max(most, sum(in_memory))
    assert sizes[-1] < most <= sizes[-1] + sizes[-2]
    for engine in engines:
        engine.close()


def parameter_bytes(engine: Any) -> int:
    """What an engine's parameters really take, whatever it says."""
    return sum(one.untyped_storage().nbytes() for one in engine._weights._network.parameters())


def test_weights_come_back_bit_equal_and_the_memory_is_given_back(
    tmp_path: Path, quick_sam2: Sam2Files, small_sam3: Path
) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    for model in served(quick_sam2, small_sam3):
        engine = loaded(model, tmp_path)
        residency = WeightResidency(0, Metrics())
        before = engine.encode(pixels)
        engine.drop_weights()
        residency.run(engine, lambda: None)
        after = engine.encode(pixels)
        assert tensors(before) == tensors(after), model["name"]
        engine.close()


def tensors(embedding: Any) -> list[bytes]:
    """Every tensor or array of an embedding, as bytes."""
    found = []
    for name in embedding.__slots__ if hasattr(embedding, "__slots__") else vars(embedding):
        value = getattr(embedding, name)
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "numpy"):
                found.append(one.float().numpy().tobytes())
            elif isinstance(one, np.ndarray):
                found.append(one.tobytes())
    return found
