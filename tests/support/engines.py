"""The engines under contract: one model of each, as small as it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from maskwire_server.domain.engine import EngineFactory, ModelSpecification
from tests.support.sam2_checkpoints import Sam2Files


@dataclass(frozen=True)
class Candidate:
    """An engine under test: its factory and a model that it can load here."""

    factory: EngineFactory
    specification: ModelSpecification

    def with_changes(self, **changes: Any) -> ModelSpecification:
        return replace(self.specification, **changes)


def _sam2(request: pytest.FixtureRequest) -> ModelSpecification:
    files: Sam2Files = request.getfixturevalue("quick_sam2")
    return ModelSpecification(
        "sam2-small", "sam2", files.checkpoint, config=files.config, device="cpu"
    )


def _sam3(request: pytest.FixtureRequest) -> ModelSpecification:
    folder: Path = request.getfixturevalue("small_sam3")
    return ModelSpecification("sam3-small", "sam3", folder, device="cpu")


def _nano(request: pytest.FixtureRequest) -> ModelSpecification:
    return ModelSpecification("maskwire-nano", "nano", device="cpu")


SPECIFICATIONS: dict[str, Callable[[pytest.FixtureRequest], ModelSpecification]] = {
    "nano": _nano,
    "sam2": _sam2,
    "sam3": _sam3,
}
