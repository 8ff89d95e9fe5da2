"""What is installed is used, and what is used is asked for: each extra, and the client alone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from deploy.bill_of_materials import normalised

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SERVICE = ROOT / "service" / "maskwire_server"
CLIENT = ROOT / "clients" / "python" / "maskwire_client"
TRAINING = ROOT / "service" / "training"
CONTRACT = ROOT / "proto" / "gen" / "python" / "maskwire"

CODE = {
    "": (CLIENT, CONTRACT),
    "server": (SERVICE,),
    "video": (CLIENT,),
    "sam3": (SERVICE / "engines" / "sam3",),
    "nats": (SERVICE / "jobs" / "nats",),
    "quotas": (SERVICE / "quotas",),
    "tracing": (SERVICE / "observability",),
    "load": (CLIENT / "load",),
    "demo": (CLIENT / "cli" / "demo.py",),
    "train": (TRAINING,),
}
"""The code that each extra is for; the empty one is the base install. `dev` is for tests."""

UNIMPORTED = {
    ("server", "protobuf-py"): "protovalidate breaks without the version that is asked for here",
    ("server", "torchvision"): "sam2 and transformers import it; its build must fit torch's",
}

BROUGHT = {
    "hydra": "sam2",
    "omegaconf": "sam2",
    "yaml": "sam2",
    "pydantic": "pydantic-settings",
    "cryptography": "pyjwt",
    "yarl": "aiohttp",
}
"""Modules that the service imports and that another package, which is asked for, brings."""

OPTIONAL = {
    "limits": SERVICE / "quotas",
    "nats": SERVICE / "jobs" / "nats",
    "opentelemetry": SERVICE / "observability",
    "transformers": SERVICE / "engines" / "sam3",
}
"""Modules of the extras that a server does without, and the only place that imports them."""

LOADED_BY_SITE = {"maskwire", "maskwire_client", "_distutils_hack"}
"""What the test itself looks at, and what setuptools loads at the start of every program."""

OWN = {"maskwire", "maskwire_client", "maskwire_server", "training"}


def required(extra: str) -> set[str]:
    """Return what an extra asks for, without the project's own extras."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    names = {normalised(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines}
    return names - {"maskwire"}


def imported(*places: Path) -> dict[str, set[Path]]:
    """Return the outside modules that files import, anywhere in them, by top-level name."""
    found: dict[str, set[Path]] = {}
    for place in places:
        for file in (place,) if place.is_file() else sorted(place.rglob("*.py")):
            for name in _imports(ast.parse(file.read_text(encoding="utf-8"))):
                if name not in sys.stdlib_module_names and name not in OWN:
                    found.setdefault(name, set()).add(file)
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "_library")
        ):
            texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
            yield from (text.partition(".")[0] for text in texts if isinstance(text, str))


DISTRIBUTIONS = {
    module: {normalised(name) for name in names}
    for module, names in metadata.packages_distributions().items()
}


def distributions(modules: dict[str, set[Path]]) -> set[str]:
    return {name for module in modules for name in DISTRIBUTIONS.get(module, ())}


@pytest.mark.parametrize("extra", CODE)
def test_every_package_of_an_extra_is_imported_by_its_code(extra):
    unused = required(extra) - distributions(imported(*CODE[extra]))
    assert unused == {name for one, name in UNIMPORTED if one == extra}


def test_every_extra_is_looked_at():
    assert set(PROJECT["optional-dependencies"]) | {""} == {*CODE, "dev"}


def test_exceptions_are_asked_for():
    for extra, name in UNIMPORTED:
        assert name in required(extra), name
    for name in BROUGHT.values():
        assert name in required("server"), name


def test_the_service_imports_only_what_is_asked_for():
    allowed = required("server") | required("")
    for module, files in imported(SERVICE).items():
        if module in OPTIONAL:
            assert all(file.is_relative_to(OPTIONAL[module]) for file in files), module
        elif module not in BROUGHT:
            assert DISTRIBUTIONS[module] & allowed, f"{module} in {min(files)}"


def closure(*names: str) -> set[str]:
    """Return packages with everything that they need on this machine."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [
            normalised(re.split(r"[\[<>=!~;( ]", line)[0])
            for line in lines
            if not re.search(r"extra\s*==", line)
        ]
    return found


# Only what is allowed can be found: as in an environment that has nothing else.
IMPORTING = """
import importlib, pkgutil, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

package, blocked = sys.argv[1], set(sys.argv[2].split(","))
sys.meta_path.insert(0, Nothing())
found = importlib.import_module(package)
folders = getattr(found, "__path__", [])
names = [one.name for one in pkgutil.walk_packages(folders, package + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names), sorted(blocked & {name.partition(".")[0] for name in sys.modules}))
"""


def importing(package: str, blocked: set[str]) -> tuple[int, str]:
    """Import a package with all its modules; return their number, and which blocked were found."""
    command = [sys.executable, "-c", IMPORTING, package, ",".join(sorted(blocked))]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    count, _, found = ran.stdout.strip().partition(" ")
    return int(count), found


def test_the_client_alone_imports_with_its_own_dependencies():
    """Every module of it, the command line's included, where nothing else is installed."""
    installed = closure(*required(""))
    others = {module for module, names in DISTRIBUTIONS.items() if not names & installed}
    blocked = (others | {"maskwire_server", "training"}) - LOADED_BY_SITE
    assert {"torch", "aiohttp", "obstore", "av", "structlog"} <= blocked
    count, found = importing("maskwire_client", blocked)
    assert count > 80
    assert found == "[]"


def test_the_server_imports_without_the_extras_that_it_does_without():
    count, found = importing("maskwire_server.app", {*OPTIONAL, "matplotlib", "hdrh"})
    assert (count, found) == (0, "[]")


def test_a_module_that_is_not_asked_for_is_found(tmp_path: Path):
    """The looking itself: late imports, names in texts, imports of parts."""
    (tmp_path / "one.py").write_text(
        "def late():\n    import torch.nn\n    from yaml import load\n"
        "    importlib.import_module('nats.aio')\n"
    )
    assert set(imported(tmp_path)) == {"torch", "yaml", "nats"}
