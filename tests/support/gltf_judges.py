"""Outside judges of 3D files, on node: `gltf-validator` and `splat-transform`.

They are npm packages, installed beside the environment: `npm install --prefix .venv/judges
gltf-validator @playcanvas/splat-transform`. `.ci/run` does this.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

JUDGES = Path(sys.prefix) / "judges" / "node_modules"
"""Where the packages are."""

_TIMEOUT_S = 120.0
_VALIDATE = """
const fs = require("fs");
const validator = require("gltf-validator");
(async () => {
  const reports = [];
  for (const path of process.argv.slice(1)) {
    reports.push(await validator.validateBytes(new Uint8Array(fs.readFileSync(path))));
  }
  console.log(JSON.stringify(reports));
})();
"""


def require_judge(package: str) -> None:
    """Skip the test where a judge is absent, saying what was not tested; fail it in CI."""
    if shutil.which("node") is None:
        _absent(package, "there is no node on the path")
    if not (JUDGES / package / "package.json").is_file():
        _absent(package, f"{JUDGES} lacks it (npm install --prefix {JUDGES.parent} {package})")


def validate_gltf(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the validator's report on each file."""
    output = _run(["node", "-e", _VALIDATE, *map(str, paths)])
    reports: list[dict[str, Any]] = json.loads(output)
    return reports


def transform_splats(*arguments: str | Path) -> str:
    """Run `splat-transform` and return what it says on its standard output."""
    program = JUDGES / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    return _run(["node", str(program), "-w", "-g", "cpu", *map(str, arguments)])


def _run(command: Sequence[str]) -> str:
    completed = subprocess.run(
        command,
        env={**os.environ, "NODE_PATH": str(JUDGES)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def _absent(package: str, reason: str) -> None:
    assert not os.environ.get("CI"), f"{package} must be installed in CI: {reason}"
    pytest.skip(f"files were not judged by {package}: {reason}")
