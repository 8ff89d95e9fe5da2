"""Runs the contract suite over every job backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from maskwire_server.domain.errors import MaskwireError
from maskwire_server.domain.jobs.backend import JobBackend
from maskwire_server.domain.jobs.ledger import JobLedger
from tests.support.job_backends import (
    KEPT_LEASE,
    JobStore,
    nats_store,
    new_ledger,
    sqlite_store,
)
from tests.support.nats_process import NatsServer, nats_process, nats_program


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_process(nats_program(), tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def lease() -> timedelta:
    """How long leases last; tests that wait for their end have others."""
    return KEPT_LEASE


@pytest.fixture(params=["sqlite", "nats"])
def store(request: pytest.FixtureRequest, tmp_path: Path, lease: timedelta) -> JobStore:
    if request.param == "sqlite":
        return sqlite_store(tmp_path / "made" / "later", lease)
    return nats_store(request.getfixturevalue("nats_server").url, lease)


@pytest.fixture
async def backend(store: JobStore) -> AsyncIterator[JobBackend]:
    async with store.opened() as opened:
        yield opened


@pytest.fixture
async def other(store: JobStore) -> AsyncIterator[JobBackend]:
    """A second backend on the store of the first, as another process has it."""
    async with store.opened() as opened:
        yield opened


@pytest.fixture
def ledger(backend: JobBackend) -> JobLedger:
    return new_ledger(backend)


@pytest.fixture
def other_ledger(other: JobBackend) -> JobLedger:
    return new_ledger(other)


@pytest.fixture
def refused():
    """Awaits what must be refused, and returns the error."""

    async def await_error(awaitable) -> MaskwireError:
        with pytest.raises(MaskwireError) as raised:
            await awaitable
        return raised.value

    return await_error
