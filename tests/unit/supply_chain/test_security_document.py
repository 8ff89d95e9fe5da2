"""SECURITY.md names tests, settings and files that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from maskwire_server.settings import Settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
HEADER = "| asset | attacker | path | control | setting | test |"
ATTACKERS = {
    "network peer",
    "tenant",
    "hostile file or URI",
    "hostile weights",
    "compromised worker or decoder",
    "log reader",
    "metrics reader",
    "cluster neighbour",
    "client of webhooks",
}


def rows() -> list[list[str]]:
    """Return the cells of the table of threats."""
    lines = TEXT.split(HEADER, 1)[1].splitlines()[2:]
    table = lines[: lines.index("")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def exists(test: str) -> bool:
    """Whether a test is in its file: `tests/...py::test_...`."""
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() and name in names_in(ROOT / file)


def is_setting(name: str) -> bool:
    """Whether a name is a group's field, or a group within a group."""
    group, _, field = name.partition(".")
    model = Settings.model_fields.get(group)
    return model is not None and field in getattr(model.annotation, "model_fields", {})


def test_every_row_is_whole():
    assert len(rows()) >= 25
    for row in rows():
        assert len(row) == 6, row
        assert all(row), row


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}-{row[1]}-{row[2][:30]}")
def test_tests_and_settings_of_a_threat_exist(row: list[str]):
    *_, setting, test = row
    assert named(test), "every control has a test"
    assert [one for one in named(test) if not exists(one)] == []
    assert [one for one in named(setting) if not is_setting(one)] == []
    assert setting == "none" or named(setting)


def test_every_attacker_attacks():
    assert {row[1] for row in rows()} == ATTACKERS


def test_settings_and_files_in_the_text_exist():
    for name in re.findall(r"`([a-z_]+\.[a-z_0-9]+)`", TEXT):
        if name.partition(".")[0] in Settings.model_fields:
            assert is_setting(name), name
    for name in re.findall(r"`((?:tests|deploy|service|clients)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"`make ([a-z-]+)`", TEXT):
        assert f"\n{target}: " in (ROOT / "Makefile").read_text(encoding="utf-8"), target


def test_what_does_not_exist_is_found():
    assert not exists("tests/none.py::test_a")
    assert not exists("tests/conftest.py::test_that_is_not_there")
    assert not is_setting("auth.no_such_setting")
    assert not is_setting("nothing.keys_file")
