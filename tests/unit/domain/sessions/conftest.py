"""A session service over the colour engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from maskwire_server.domain.executor import BoundedExecutor
from maskwire_server.domain.image_access import ImageAccess
from maskwire_server.domain.images import ImageLimits
from maskwire_server.domain.models import ModelRegistry, ServedModel
from maskwire_server.domain.sessions.service import SessionLimits, SessionService
from maskwire_server.domain.sessions.session import QueueLimits, SessionTimes
from maskwire_server.observability.metrics import Metrics
from tests.support.colour_engine import ColourEngine
from tests.support.session_world import World


@pytest.fixture
def executors() -> Iterator[list[BoundedExecutor]]:
    made: list[BoundedExecutor] = []
    yield made
    for executor in made:
        executor.close()


@pytest.fixture
def make_world(executors: list[BoundedExecutor]) -> Any:
    def make(engine: ColourEngine | None = None, **limits: Any) -> World:
        metrics = Metrics()
        engine = engine or ColourEngine()
        device = BoundedExecutor("cpu", 1, 4, metrics)
        pixels = BoundedExecutor("pixels", 2, 16, metrics)
        executors.extend((device, pixels))
        models = ModelRegistry([ServedModel(engine, device, is_default=True)])
        images = ImageAccess(
            pixels,
            ImageLimits(max_bytes=2**20, max_pixels=2**20, max_side_px=2**12),
            metrics,
            embedding_budget_bytes=2**20,
            image_budget_bytes=2**20,
        )
        times = SessionTimes(
            idle_timeout_s=limits.pop("idle_timeout_s", 60.0),
            lease_s=limits.pop("lease_s", 3600.0),
            notice_s=limits.pop("notice_s", 1.0),
        )
        queues = QueueLimits(
            max_requests=limits.pop("max_requests", 16),
            max_frames=limits.pop("max_frames", 2),
            max_responses=limits.pop("max_responses", 4),
        )
        chosen = {
            "max_sessions": 4,
            "max_sessions_per_tenant": 3,
            "max_objects": 4,
            "max_held_frames": 4,
            "max_prompts": 16,
            "max_seed_bytes": 2**20,
        } | limits
        service = SessionService(
            models, images, pixels, metrics, SessionLimits(**chosen, times=times, queues=queues)
        )
        return World(service, engine, metrics, images)

    return make


@pytest.fixture
def world(make_world: Any) -> World:
    made: World = make_world()
    return made
