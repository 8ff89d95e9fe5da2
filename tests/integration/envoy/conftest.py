"""Three real servers with Envoy before them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwire_client import encode_image
from tests.support.envoy_process import Envoy, envoy_process
from tests.support.server_process import ServerProcess, server_process
from tests.support.tools import tool

SERVERS = 3
PIXELS = 128 * 96
KEPT_EMBEDDINGS = 40
"""Of the embedded default and of a `picture`: two thirds of those that the test of hashing asks
about. Which images are whose hangs on the servers' free ports: one server of three having more
than 40 of 60 is a chance of 1 in a million."""


def picture(number: int) -> bytes:
    """A picture of which there is no other: a light disk on noise."""
    rows, columns = np.mgrid[:96, :128]
    inside = ((columns - 60) / 30) ** 2 + ((rows - 50) / 26) ** 2 < 1
    noise = np.random.default_rng(number).integers(0, 24, (96, 128, 3))
    return encode_image((np.where(inside[..., None], 200, 30) + noise).astype(np.uint8))


@contextmanager
def three_servers(folder: Path, **settings: dict[str, Any]) -> Iterator[list[ServerProcess]]:
    """Run servers with these settings, started and ended together."""
    folders = [folder / str(number) for number in range(SERVERS)]
    for one in folders:
        one.mkdir()
    with ExitStack() as stack:
        contexts = [server_process(one, **settings) for one in folders]
        with ThreadPoolExecutor(SERVERS) as pool:
            servers = list(pool.map(stack.enter_context, contexts))
        yield servers
        for server in servers:
            if server.process.poll() is None:
                server.signal(signal.SIGTERM)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Several servers share the machine's few cores: teams of spinning threads would stop them."""
    tool("envoy", "a real Envoy before three servers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    """Servers that no test ends, with small caches."""
    tool("envoy", "a real Envoy before three servers")
    cache = {"embedding_bytes": KEPT_EMBEDDINGS * PIXELS * 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with three_servers(tmp_path_factory.mktemp("servers"), cache=cache) as running:
            yield running


@pytest.fixture(scope="package")
def envoy(
    tmp_path_factory: pytest.TempPathFactory, servers: list[ServerProcess]
) -> Iterator[Envoy]:
    """The shipped configuration before `servers`."""
    addresses = [server.address for server in servers]
    with envoy_process(tmp_path_factory.mktemp("envoy"), addresses) as running:
        yield running
