"""The judges of `deploy/` that `make tools` installs beside the environment.

`make test` needs none of them: a test whose tool is absent is skipped and says what was not tested.
Where `CI` is set it fails.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TOOLS = Path(sys.prefix) / "tools" / "bin"
"""Where the programs are, but checkov."""

CHECKOV = Path(sys.prefix) / "checkov" / "bin" / "checkov"
"""It has a venv of its own."""

AUDIT = Path(sys.prefix) / "audit" / "bin" / "cyclonedx-py"
"""So has the writer of bills of materials, with pip-audit beside it."""

NAMES = (
    "checkov",
    "cyclonedx-py",
    "docker-compose",
    "envoy",
    "hadolint",
    "kubectl",
    "kubernetes-validate",
    "node",
)
"""What `tool` knows."""


def tool(name: str, untested: str) -> Path:
    """Return a program; skip the test where it is absent, and fail it in CI.

    Args:
        name: One of `NAMES`.
        untested: What is not tested without it: "the shipped Envoy configuration".
    """
    assert name in NAMES, name
    program = {"checkov": CHECKOV, "cyclonedx-py": AUDIT}.get(name, TOOLS / name)
    if not program.is_file():
        assert not os.environ.get("CI"), f"{name} must be installed in CI: make tools"
        pytest.skip(f"not tested: {untested}; there is no {program} (make tools)")
    return program
