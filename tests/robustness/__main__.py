"""Runs one named fault or past bug: `python -m tests.robustness NAME [--seed N]`, or lists them.

The seed goes to the test by the environment; the same one draws the same fault.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tests.robustness.fault_table import nodes_of, rows
from tests.robustness.seeds import VARIABLE


def arguments_for(test: str) -> list[str]:
    """Return pytest's arguments for a test of the table, with all its parameters."""
    return [*nodes_of(test), "-m", "robustness or not robustness", "-q", "-s"]


def main() -> int:
    """Run what the command line names; return pytest's exit code."""
    known = rows()
    parser = argparse.ArgumentParser(prog="python -m tests.robustness", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(known), metavar="NAME")
    parser.add_argument("--seed", type=int, help="Draws the fault; tests have one of their own.")
    chosen = parser.parse_args()
    if chosen.name is None:
        print("\n".join(known))
        return 0
    environment = dict(os.environ)
    if chosen.seed is not None:
        environment[VARIABLE] = str(chosen.seed)
    command = [sys.executable, "-m", "pytest", *arguments_for(known[chosen.name])]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
