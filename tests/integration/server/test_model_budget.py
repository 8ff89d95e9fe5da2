"""Four models under a budget that fits two: every answer is what it is without a budget."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image

from maskwire.v1 import image_pb2, mask_pb2, segmentation_pb2, segmentation_pb2_grpc
from maskwire_server.domain.engine import SegmentationEngine
from maskwire_server.domain.residency import WeightResidency
from maskwire_server.engines.checkpoints import specify
from maskwire_server.engines.registry import load_engine
from maskwire_server.observability.metrics import Metrics
from tests.support.metrics_page import metrics_page, scraped
from tests.support.sam2_checkpoints import Sam2Files
from tests.support.server_process import ServerProcess, server_process

REQUESTS = 200
CLIENTS = 4
CHANGES = 0.3
"""How often one request is for another model than the one before."""
DEADLINE_S = 240.0
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
        pixels = random.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
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
        request.prompts.add().point.point.x = float(random.uniform(0, 128))
        request.prompts[0].point.point.y = float(random.uniform(0, 96))
        made.append(request)
    return made


def answers(address: str, asked: list[segmentation_pb2.SegmentImageRequest]) -> list[Masks]:
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(CLIENTS) as pool:
        stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        return list(
            pool.map(lambda one: list(stub.SegmentImage(one, timeout=DEADLINE_S).masks), asked)
        )


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
        expected = answers(server.address, asked)
    with serving(tmp_path / "tight", models, budget) as server:
        assert answers(server.address, asked) == expected
        loads = scraped(server.metrics_port, "maskwire_model_load_seconds_count")
        loaded = scraped(server.metrics_port, "maskwire_model_weights_bytes")
        assert "maskwire_model_weights_bytes" in metrics_page(server.metrics_port)
    assert loads > 2 * len(models)
    assert 0 < loaded <= budget


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
