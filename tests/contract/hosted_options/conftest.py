"""A server with two small networks: the default takes points, boxes and masks, one text too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.sam2_checkpoints import Sam2Files
from tests.support.server_process import server_process


@pytest.fixture(scope="session")
def channel(
    tmp_path_factory: pytest.TempPathFactory, small_sam2: Sam2Files, small_sam3: Path
) -> Iterator[grpc.Channel]:
    """A connection to the server."""
    default = {
        "name": "small",
        "engine": "sam2",
        "config": str(small_sam2.config),
        "checkpoint": str(small_sam2.checkpoint),
    }
    for_text = {"name": "shapes", "engine": "sam3", "checkpoint": str(small_sam3)}
    # In a process of its own: the number of threads would be this one's too.
    folder = tmp_path_factory.mktemp("hosted-options")
    with (
        server_process(
            folder,
            models={"serve": [default, for_text], "device": "cpu", "cpu_threads": 1},
            storage={"folder": str(folder / "files")},
        ) as process,
        grpc.insecure_channel(process.address) as connected,
    ):
        yield connected
