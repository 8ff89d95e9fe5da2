"""What `make tools` installs is there where CI is set, and answers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import tools

_ROOT = Path(__file__).parents[2]
_VERSION = {
    "checkov": "--version",
    "cyclonedx-py": "--version",
    "docker-compose": "version",
    "envoy": "--version",
    "hadolint": "--version",
    "kubectl": "version --client",
    "kubernetes-validate": "--version",
    "node": "--version",
}


@pytest.mark.parametrize("name", tools.NAMES)
def test_a_tool_is_installed_and_runs(name: str) -> None:
    program = tools.tool(name, f"whether {name} runs")
    completed = subprocess.run(
        [program, *_VERSION[name].split()], capture_output=True, timeout=60, check=False
    )
    assert completed.returncode == 0, completed.stderr


def test_an_absent_tool_skips_the_test_and_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tools, "TOOLS", tmp_path)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="not tested: the routes"):
        tools.tool("envoy", "the routes")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError, match="envoy must be installed in CI"):
        tools.tool("envoy", "the routes")


def test_ci_installs_the_tools_before_it_checks() -> None:
    steps = (_ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert steps.index("make tools") < steps.index("\nmake check") < steps.index("\nmake test")
