"""A server with one small network that takes points, boxes and masks."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from maskwire_server.app import local_server
from maskwire_server.settings import Settings
from tests.support.sam2_checkpoints import Sam2Files


@pytest.fixture(scope="session")
def channel(
    tmp_path_factory: pytest.TempPathFactory, small_sam2: Sam2Files
) -> Iterator[grpc.Channel]:
    """A connection to a server with one small network that takes points, boxes and masks."""
    model = {
        "name": "small",
        "engine": "sam2",
        "config": small_sam2.config,
        "checkpoint": small_sam2.checkpoint,
    }
    settings = Settings.read(
        grpc={"port": 0, "drain_notice_s": 0.0},
        metrics={"enabled": False},
        logging={"level": "error"},
        models={"serve": [model], "device": "cpu", "cpu_threads": 1},
        storage={"folder": tmp_path_factory.mktemp("files")},
    )
    with local_server(settings) as address, grpc.insecure_channel(address) as connected:
        yield connected
