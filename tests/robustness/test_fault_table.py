"""The table of faults names tests that exist, and the README says what the table does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.robustness.__main__ import arguments_for
from tests.robustness.fault_table import (
    BUGS,
    FAULTS,
    README,
    command,
    nodes_of,
    readme_tables,
    rows,
)
from tests.support.job_worker_faults import FAULTS as JOB_FAULTS

ROOT = Path(__file__).parents[2]
ROWS = rows()


@cache
def functions(file: str) -> dict[str, str]:
    """Return the source of the functions of a file by their names."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    return {node.name: ast.get_source_segment(text, node) or "" for node in found}


def test_the_readme_has_the_tables():
    """`python -m tests.robustness.fault_table` writes them."""
    text = README.read_text(encoding="utf-8")
    assert text.endswith(readme_tables())
    for name in ROWS:
        assert command(name)[:-1] in text


@pytest.mark.parametrize("row", ROWS)
def test_the_test_of_a_row_exists(row: str):
    file, _, name = ROWS[row].partition("[")[0].partition("::")
    assert name in functions(file), ROWS[row]
    assert re.fullmatch(r"[a-z0-9-]+", row)


def test_names_are_unique_and_enough():
    assert len(ROWS) == len(FAULTS) + len(BUGS)
    assert len(BUGS) >= 8
    assert sum(one.name.startswith("job-") for one in FAULTS) == len(JOB_FAULTS)


@pytest.mark.parametrize("row", [one for one in FAULTS if one.is_seeded], ids=lambda row: row.name)
def test_a_fault_that_takes_a_seed_draws_from_it(row):
    file, _, _ = row.test.partition("::")
    assert "fault_seed(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_fault_of_the_servers_machine_is_in_the_table():
    tests = {
        name for name in functions("tests/robustness/test_server_faults.py") if name[:5] == "test_"
    }
    assert tests <= {row.test.partition("::")[2] for row in FAULTS}


def test_faults_of_jobs_run_on_both_backends():
    row = next(one for one in FAULTS if one.name == "job-worker-kill-9-mid-job")
    first, second = nodes_of(row.test)
    assert (first.endswith("[sqlite-worker kill -9 mid-job]"), "[nats-" in second) == (True, True)
    assert arguments_for(row.test)[:2] == [first, second]


def test_the_program_runs_one():
    """The command itself, on a row that takes no server; a name that is none is refused."""
    run = [sys.executable, "-m", "tests.robustness"]
    ran = subprocess.run(
        [*run, "one-bit-png-mask", "--seed", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout
    refused = subprocess.run([*run, "no-such"], cwd=ROOT, capture_output=True, check=False)
    assert refused.returncode == 2
