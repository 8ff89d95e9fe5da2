"""The engine on the small SAM 3 network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from maskwire_server.domain.engine import ModelSpecification
from maskwire_server.engines.sam3 import Sam3Engine, Sam3EngineFactory


@pytest.fixture(scope="module")
def engine(small_sam3: Path) -> Iterator[Sam3Engine]:
    loaded = Sam3EngineFactory().load(ModelSpecification("own", "sam3", small_sam3, device="cpu"))
    yield loaded
    loaded.close()
