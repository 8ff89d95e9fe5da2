"""A small deployment in processes: servers over one NATS and one store, a worker, maybe Envoy.

Servers can be restarted one after the other on their ports, as a rolling update does, and their
memory is watched.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskwire_client import Client
from maskwire_server.engines import nano
from tests.support.envoy_process import Envoy, envoy_process
from tests.support.metrics_page import scraped
from tests.support.moto_process import moto_process, moto_program
from tests.support.nats_process import nats_process, nats_program
from tests.support.ports import free_port
from tests.support.server_process import ServerProcess, server_process

ENVOY_CLUSTER = "maskwire"
_BUCKET = "maskwire-soak"
_WEIGHTS = Path(nano.__file__).parent / "weights" / "maskwire-nano.safetensors"
_STOP_TIMEOUT_S = 120.0
_KNOWN_TIMEOUT_S = 120.0

# Small, so that they are full soon and memory is flat from then on.
_GROUPS: dict[str, dict[str, Any]] = {
    "models": {"cpu_threads": 1},
    "cache": {"embedding_bytes": 4 * 2**20, "image_bytes": 2**20},
    "reconstruction": {"mesh_resolution_px": 64, "texture_px": 128, "max_splats": 1000},
    "sessions": {"drain_grace_s": 5.0},
}


@dataclass
class MemorySample:
    """Resident memory of one process.

    Attributes:
        time_s: When, on the monotonic clock.
        process_id: Of which.
        resident_bytes: How much.
    """

    time_s: float
    process_id: int
    resident_bytes: int


@dataclass
class Replica:
    """A server that keeps its port over restarts.

    Attributes:
        name: Its name and its folder's.
        samples: Its memory over time, of all its processes.
        exit_codes: How the processes ended that have, in order.
        is_warmed: Whether each process answers one call on a whole picture before it counts as
            started: the first one makes the allocator keep 300 MiB, which is no growth.
    """

    name: str
    folder: Path
    groups: dict[str, dict[str, Any]]
    samples: list[MemorySample] = field(default_factory=list)
    exit_codes: list[int | None] = field(default_factory=list)
    is_warmed: bool = False
    _stack: ExitStack = field(default_factory=ExitStack)
    _process: ServerProcess | None = None
    _address: str = ""
    _port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return self._address

    @property
    def log(self) -> list[str]:
        return [] if self._process is None else list(self._process.log)

    def start(self) -> None:
        """Start it and return when it serves; again on the port that it had."""
        grpc = {**self.groups["grpc"], "port": self._port}
        running = server_process(self.folder, **{**self.groups, "grpc": grpc})
        self._process = self._stack.enter_context(running)
        self._address = self._process.address
        if self.is_warmed:
            with Client(self._address) as client:
                client.auto_segment(np.zeros((256, 256, 3), np.uint8), timeout_s=_KNOWN_TIMEOUT_S)

    def stop(self) -> None:
        """Send SIGTERM and return when it has drained and ended."""
        process = self._process
        self._stack.close()
        if process is not None:
            self.exit_codes.append(process.process.returncode)

    def calls(self, method: str) -> float:
        """Return how many calls of a method the process that runs has begun."""
        assert self._process is not None, "it runs"
        return scraped(self._process.metrics_port, "grpc_server_started_total", method)

    def sample(self) -> None:
        """Note how much memory it has."""
        process = self._process
        if process is None or process.process.poll() is not None:
            return
        identifier = process.process.pid
        try:
            pages = int(Path(f"/proc/{identifier}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return
        resident = pages * os.sysconf("SC_PAGE_SIZE")
        self.samples.append(MemorySample(time.monotonic(), identifier, resident))


@dataclass
class World:
    """What runs.

    Attributes:
        replicas: The servers.
        target: What clients call.
        envoy: What is before the servers, if anything.
    """

    replicas: list[Replica]
    target: str
    envoy: Envoy | None

    async def restart_all(self) -> None:
        """Restart the servers one after the other, each once the one before is called again."""
        for replica in self.replicas:
            await asyncio.to_thread(replica.stop)
            await asyncio.to_thread(replica.start)
            await asyncio.to_thread(self._wait_until_called, replica)

    async def watch_memory(self, interval_s: float = 1.0) -> None:
        """Note the servers' memory again and again, until cancelled."""
        while True:
            for replica in self.replicas:
                replica.sample()
            await asyncio.sleep(interval_s)

    def _wait_until_called(self, replica: Replica) -> None:
        """Wait until calls reach a server again; nobody tells, so it is asked again and again.

        Clients that balance by themselves try a server that was down only after a pause: to stop
        the next before that, as `minReadySeconds` prevents in a cluster, would leave them none.
        """
        end_s = time.monotonic() + _KNOWN_TIMEOUT_S
        while not self._is_called(replica):
            assert time.monotonic() < end_s, f"{replica.name} is not called again"
            time.sleep(0.2)

    def _is_called(self, replica: Replica) -> bool:
        if self.envoy is None:
            return replica.calls("SegmentImage") > 0
        return replica.address in self.envoy.healthy(ENVOY_CLUSTER)


@contextmanager
def soak_world(
    folder: Path, replicas: int, *, with_envoy: bool, drain_notice_s: float
) -> Iterator[World]:
    """Run everything on free ports of the loopback interface.

    Args:
        folder: Where logs, streams and settings lie.
        replicas: How many servers.
        with_envoy: Whether Envoy, with the shipped configuration, and the S3 process take part;
            without them clients balance by themselves and files lie in a folder.
        drain_notice_s: How long a server that stops still takes calls.
    """
    with ExitStack() as stack:
        nats = stack.enter_context(nats_process(nats_program(), folder / "nats"))
        storage: dict[str, Any] = {"folder": str(folder / "files")}
        if with_envoy:
            storage = _s3(stack.enter_context(moto_process(moto_program())))
        jobs = {"backend": "nats", "nats_url": nats.url, "workers": 0}
        grpc = {"drain_notice_s": drain_notice_s, "shutdown_grace_s": 60.0}
        # A copy: a server that finds other weights when it starts again resumes no session.
        checkpoint = shutil.copy(_WEIGHTS, folder)
        serve = [{"name": "maskwire-nano", "checkpoint": str(checkpoint)}]
        models = {**_GROUPS["models"], "serve": serve}
        groups = {**_GROUPS, "models": models, "jobs": jobs, "storage": storage, "grpc": grpc}
        # The short run has neither the time for it nor a look at the memory.
        servers = _replicas(folder, replicas, groups, is_warmed=with_envoy)
        for server in servers:
            stack.callback(server.stop)
        stack.enter_context(_worker(folder, {**_GROUPS, "jobs": jobs, "storage": storage}))
        with ThreadPoolExecutor(replicas) as pool:
            list(pool.map(Replica.start, servers))
        addresses = [server.address for server in servers]
        envoy = stack.enter_context(envoy_process(folder, addresses)) if with_envoy else None
        target = f"ipv4:{','.join(addresses)}" if envoy is None else envoy.address
        yield World(servers, target, envoy)


def _replicas(
    folder: Path, count: int, groups: dict[str, dict[str, Any]], *, is_warmed: bool
) -> list[Replica]:
    made = []
    for number in range(count):
        name = f"server-{number}"
        (folder / name).mkdir()
        made.append(Replica(name, folder / name, groups, is_warmed=is_warmed))
    return made


def _s3(address: str) -> dict[str, Any]:
    bucket = urllib.request.Request(f"{address}/{_BUCKET}", method="PUT")
    urllib.request.urlopen(bucket).close()
    return {
        "url": f"s3://{_BUCKET}/files",
        "endpoint": address,
        "region": "us-east-1",
        "access_key_id": "test",
        "secret_access_key": "test",
        "allow_http": True,
    }


@contextmanager
def _worker(folder: Path, groups: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Run `maskwire worker` with these settings, as its environment says them."""
    environment = dict(os.environ)
    for group, values in {**groups, "jobs": {**groups["jobs"], "workers": 1}}.items():
        for name, value in values.items():
            environment[f"MASKWIRE_{group}__{name}".upper()] = str(value)
    environment["MASKWIRE_METRICS__PORT"] = "0"
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "maskwire_client.cli", "worker"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_TIMEOUT_S)
            finally:
                process.kill()
                process.wait()
