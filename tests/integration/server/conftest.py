"""A real server process on a small SAM 2 network, shared by the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.support.sam2_checkpoints import Sam2Files
from tests.support.server_process import ServerProcess, server_process

MODEL = "small"


def small_model_settings(files: Sam2Files) -> dict[str, Any]:
    """Settings of the group `models` that serve the small network."""
    return {
        "serve": [
            {
                "name": MODEL,
                "engine": "sam2",
                "config": str(files.config),
                "checkpoint": str(files.checkpoint),
            }
        ],
        "device": "cpu",
        "cpu_threads": 1,
    }


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, small_sam2: Sam2Files
) -> Iterator[ServerProcess]:
    """A running server."""
    folder = tmp_path_factory.mktemp("server")
    with server_process(folder, models=small_model_settings(small_sam2)) as process:
        yield process


@pytest.fixture
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    """A connection to the server that may send more than the server takes."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as connected:
        yield connected
