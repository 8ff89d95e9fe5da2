"""A server with one small network that takes points, boxes and masks."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.support.sam2_checkpoints import Sam2Files
from tests.support.server_process import server_process


@pytest.fixture(scope="session")
def channel(
    tmp_path_factory: pytest.TempPathFactory, small_sam2: Sam2Files
) -> Iterator[grpc.Channel]:
    """A connection to a server with one small network that takes points, boxes and masks."""
    model = {
        "name": "small",
        "engine": "sam2",
        "config": str(small_sam2.config),
        "checkpoint": str(small_sam2.checkpoint),
    }
    # In a process of its own: the number of threads would be this one's too.
    folder = tmp_path_factory.mktemp("hosted-options")
    with (
        server_process(
            folder,
            models={"serve": [model], "device": "cpu", "cpu_threads": 1},
            storage={"folder": str(folder / "files")},
        ) as process,
        grpc.insecure_channel(process.address) as connected,
    ):
        yield connected
