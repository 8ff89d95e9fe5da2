"""Writes the version of `pyproject.toml` as the tag of our images: `python -m deploy.version`.

It stands in the kustomizations and in the commands of the deployment's README. A test holds them to
it; tags of other people's images are left alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
"""The folder of deployments."""

_TAG = re.compile(r"(?P<before>maskwire-[a-z0-9-]+(?::|\n +newTag: )|tag `)\d+\.\d+\.\d+")


def files() -> Iterator[Path]:
    """Yield the files that name tags."""
    yield FOLDER / "README.md"
    yield from sorted((FOLDER / "kubernetes").rglob("kustomization.yaml"))


def current() -> str:
    """Return the version of the project."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    version: str = project["project"]["version"]
    return version


def versioned(text: str, version: str) -> str:
    """Return a text whose tags of our images are a version, with their suffixes as they were."""
    return _TAG.sub(rf"\g<before>{version}", text)


def main() -> None:
    """Write every file anew."""
    for file in files():
        file.write_text(versioned(file.read_text(encoding="utf-8"), current()), encoding="utf-8")


if __name__ == "__main__":
    main()
