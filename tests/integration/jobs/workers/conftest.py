"""A world of jobs on a backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.job_worker_world import World, job_world, sqlite_place


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Jobs in a database of this test's own, with a lease that a busy machine does not miss."""
    async with job_world(tmp_path, sqlite_place(tmp_path), lease_s=10.0) as made:
        yield made
