"""Writes and checks the software bill of materials: `make sbom`.

CycloneDX's own tool lists what is installed in the environment that this runs in. What it leaves
out, licences that a package states in words only, is added from the package's metadata; then the
whole is judged by CycloneDX's validator and compared with `constraints.txt`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
JUDGES = Path(sys.prefix) / "audit" / "bin"
"""Where `make tools` installs cyclonedx-py and pip-audit, in a venv of their own."""

DEFAULT_FILE = ROOT / "build" / "maskwire.cdx.json"
SPECIFICATION = "1.6"

WITHOUT_STATED_LICENCE = {
    "atheris": "Apache-2.0, as the licence file in it reads",
    "cuda-toolkit": "NVIDIA's toolkit as a set of other packages; each of those states its licence",
}
"""Packages whose metadata names no licence, and what is known instead."""

_VALIDATION = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
judge = JsonStrictValidator(SchemaVersion.from_version(sys.argv[1]))
problem = judge.validate_str(sys.stdin.read())
sys.exit(None if problem is None else f"not valid CycloneDX: {problem}")
"""


class BillError(Exception):
    """The bill of materials cannot be made or is not right; the message says why."""


def normalised(name: str) -> str:
    """Return a package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    """Return the versions of `constraints.txt` by normalised name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normalised(name): version.strip() for name, version in pins}


def listed() -> dict[str, Any]:
    """Return what CycloneDX's tool lists of this environment, with every licence that is stated.

    Raises:
        BillError: The tool is not installed, or fails.
    """
    program = JUDGES / "cyclonedx-py"
    if not program.is_file():
        raise BillError(f"there is no {program}: make tools")
    command = [str(program), "environment", "--pyproject", str(ROOT / "pyproject.toml")]
    options = ["--output-reproducible", "--sv", SPECIFICATION, "--no-validate", sys.prefix]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise BillError(ran.stderr.strip())
    bill: dict[str, Any] = json.loads(ran.stdout)
    for component in bill["components"]:
        if not component.get("licenses"):
            stated = metadata.metadata(component["name"]).json.get("license")
            if isinstance(stated, str):
                named = {"name": stated.splitlines()[0], "acknowledgement": "declared"}
                component["licenses"] = [{"license": named}]
    return bill


def validate(text: str) -> None:
    """Have CycloneDX's validator judge a bill.

    Raises:
        BillError: It does not follow the specification's schema.
    """
    judge = [str(JUDGES / "python"), "-c", _VALIDATION, SPECIFICATION]
    ran = subprocess.run(judge, input=text, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise BillError(ran.stderr.strip())


def problems(bill: Mapping[str, Any], pins: Mapping[str, str]) -> Iterator[str]:
    """Yield what a bill lacks: pinned packages, their versions, licences."""
    found = {normalised(one["name"]): one for one in bill["components"]}
    for name, version in pins.items():
        if name not in found:
            yield f"{name} {version} is pinned and not listed"
        elif found[name].get("version") != version:
            yield f"{name} is pinned at {version} and listed at {found[name].get('version')}"
    for name, component in found.items():
        if not component.get("licenses") and name not in WITHOUT_STATED_LICENCE:
            yield f"{name} is listed without a licence"


def licence_of(component: Mapping[str, Any]) -> str:
    """Return a component's licences in one line."""
    found = component.get("licenses") or ()
    said = (
        one.get("expression") or one["license"].get("id") or one["license"]["name"] for one in found
    )
    return " AND ".join(said) or WITHOUT_STATED_LICENCE.get(normalised(component["name"]), "")


def main() -> None:
    """Write the bill to the file that the command line names, and print packages and licences."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FILE
    try:
        bill = listed()
        text = json.dumps(bill, indent=2) + "\n"
        validate(text)
    except BillError as error:
        sys.exit(str(error))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    for component in sorted(bill["components"], key=lambda one: normalised(one["name"])):
        sys.stdout.write(f"{component['name']} {component['version']}: {licence_of(component)}\n")
    wrong = list(problems(bill, pinned()))
    if wrong:
        sys.exit("\n".join(wrong))
    count = len(bill["components"])
    sys.stdout.write(f"{count} packages in {target}: valid CycloneDX {SPECIFICATION}\n")


if __name__ == "__main__":
    main()
