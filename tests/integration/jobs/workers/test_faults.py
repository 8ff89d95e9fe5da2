"""The kill matrix: whatever dies, freezes or fills up, no job is lost, none is done twice.

The default suite runs each fault once on each backend; `pytest -m robustness -s` on this file runs
20 seeds of each and prints what became of the jobs.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.robustness.seeds import fault_seed
from tests.support.job_worker_arena import Arena, Tally, examine
from tests.support.job_worker_faults import FAULTS, lease_s_of
from tests.support.job_worker_world import Place, job_world, sqlite_place
from tests.support.nats_process import NatsServer, nats_process, nats_program

SEEDS = 20

ONE_SEED = fault_seed(default=6)
"""The seed of the default suite: its frozen worker finds a result to commit when it wakes up."""

_prefixes = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_process(nats_program(), tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture(params=["sqlite", "nats"])
def broker(request: pytest.FixtureRequest) -> NatsServer | None:
    """The server of the backend, where it has one."""
    return request.getfixturevalue("server") if request.param == "nats" else None


@pytest.fixture(scope="module")
def matrix() -> Iterator[dict[str, Tally]]:
    """What became of the jobs by fault and backend; printed at the end."""
    tallies: dict[str, Tally] = {}
    yield tallies
    if tallies:
        table = Table("fault", *vars(Tally()), title="jobs under faults", title_justify="left")
        for name, tally in tallies.items():
            table.add_row(name, *(str(value) for value in vars(tally).values()))
        Console(width=110, highlight=False).print("", table)


async def run_fault(name: str, seed: int, folder: Path, broker: NatsServer | None) -> Tally:
    place = (
        sqlite_place(folder)
        if broker is None
        else Place("nats", broker.url, f"faults-{next(_prefixes)}")
    )
    tally = Tally()
    async with job_world(folder, place, lease_s_of(name)) as world:
        arena = Arena(world, broker)
        harmed = await FAULTS[name](arena, random.Random(f"{name} {seed}"))
        await examine(arena, harmed, tally)
    return tally


@pytest.mark.parametrize("name", FAULTS)
async def test_no_fault_loses_or_doubles_a_job(name, broker, tmp_path) -> None:
    tally = await run_fault(name, ONE_SEED, tmp_path, broker)
    assert tally.is_clean, tally


@pytest.mark.robustness
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FAULTS)
async def test_the_kill_matrix(
    name: str, broker: NatsServer | None, tmp_path: Path, matrix: dict[str, Tally]
) -> None:
    total = matrix[f"{name} ({'sqlite' if broker is None else 'nats'})"] = Tally()
    for seed in range(SEEDS):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        one = await run_fault(name, seed, folder, broker)
        if not one.is_clean:
            print(f"{name}, seed {seed}: {one}")
        for field in vars(one):
            setattr(total, field, getattr(total, field) + getattr(one, field))
    assert total.is_clean, total
