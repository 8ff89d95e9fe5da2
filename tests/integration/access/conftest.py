"""A real server process that lets in two tenants, each by a key of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest

from maskwire.v1 import model_pb2, model_pb2_grpc
from maskwire_client import Client
from maskwire_server.domain.identity import ALL_SCOPES, Scope
from maskwire_server.identity.api_keys import ApiKeyRecord
from maskwire_server.identity.key_file import changed_keys
from tests.support.server_process import ServerProcess, server_process


@dataclass(frozen=True)
class Keys:
    """A file of keys, and how to change it."""

    path: Path

    def create(self, tenant: str, scopes: frozenset[Scope] = ALL_SCOPES) -> tuple[str, str]:
        """Add a key; return its identifier and the key."""
        record, key = ApiKeyRecord.create(
            name="test", tenant=tenant, scopes=scopes, now=datetime.now(UTC)
        )
        with changed_keys(self.path) as keys:
            keys[record.key_id] = record
        return record.key_id, key

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        with changed_keys(self.path) as keys:
            keys[key_id] = keys[key_id].model_copy(update={"revoke_time": datetime.now(UTC)})


@dataclass(frozen=True)
class GuardedServer:
    """A server, its keys, and one for each of two tenants."""

    process: ServerProcess
    keys: Keys
    acme: str
    globex: str

    def client(self, key: str | None) -> Client:
        """Return a client with a key, which sends images whole and repeats nothing."""
        return Client(
            self.process.address,
            api_key=key,
            digest_first=False,
            retry_attempts=1,
            overload_retries=0,
        )

    def lines_read(self) -> int:
        """Return how many lines the log has once those of all earlier calls are read."""
        known, request_id = self.process.lines_read, f"fence-{uuid4().hex}"
        metadata = (("x-api-key", self.globex), ("x-request-id", request_id))
        with grpc.insecure_channel(self.process.address) as channel:
            models = model_pb2_grpc.ModelServiceStub(channel)
            models.ListModels(model_pb2.ListModelsRequest(), metadata=metadata, timeout=60)
        self.process.wait_for_line(request_id, known)
        return self.process.lines_read


@contextmanager
def guarded_server(folder: Path, **groups: dict[str, Any]) -> Iterator[GuardedServer]:
    """Run a server whose log has everything that it ever logs."""
    keys = Keys(folder / "keys.json")
    (_, acme), (_, globex) = keys.create("acme"), keys.create("globex")
    settings: dict[str, Any] = {
        "auth": {"keys_file": str(keys.path), "reload_interval_s": 0.05},
        "models": {"cpu_threads": 1},
        "logging": {"level": "debug", "format": "json"},
        "jobs": {"workers": 0},
        # Nothing is loaded for it here: jobs are admitted, and nobody works on them.
        "reconstruction": {"body_models": ["sam3d-body"]},
    } | groups
    with server_process(folder, **settings) as process:
        yield GuardedServer(process, keys, acme, globex)


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedServer]:
    """A running server for all tests of the package."""
    with guarded_server(tmp_path_factory.mktemp("guarded")) as running:
        yield running
