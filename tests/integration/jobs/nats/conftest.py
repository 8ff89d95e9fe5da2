"""A NATS server for each test, because tests kill it, and backends on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from maskwire_server.domain.jobs.backend import JobBackend
from tests.support.job_backends import KEPT_LEASE, JobStore, nats_store
from tests.support.nats_process import NatsServer, nats_process, nats_program


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_process(nats_program(), tmp_path / "nats") as running:
        yield running


@pytest.fixture
def lease() -> timedelta:
    """How long leases last; tests that wait for their end have others."""
    return KEPT_LEASE


@pytest.fixture
def store(server: NatsServer, lease: timedelta) -> JobStore:
    return nats_store(server.url, lease)


@pytest.fixture
async def backend(store: JobStore) -> AsyncIterator[JobBackend]:
    async with store.opened() as opened:
        yield opened


@pytest.fixture
async def other(store: JobStore) -> AsyncIterator[JobBackend]:
    """A second backend on the same server, as another process has it."""
    async with store.opened() as opened:
        yield opened
