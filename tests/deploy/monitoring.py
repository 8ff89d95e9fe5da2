"""What the program exposes and the shipped rules record, for the tests of rules and dashboards."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # the project has no stubs of it
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.exercised_metrics import exercised_metrics
from tests.support.promql import references

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus"


def promtool() -> str:
    """Return the program; skips the test where it is missing, except in CI."""
    program = shutil.which("promtool")
    if program is None:
        assert not os.environ.get("CI"), "promtool must be installed in CI"
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return program


def read_yaml(path: Path) -> Any:
    """Return what a file of YAML says."""
    return yaml.safe_load(path.read_text())


def rules(name: str) -> list[dict[str, Any]]:
    """Return the rules of a file, in their order."""
    content = read_yaml(RULES / name)
    return [rule for group in content["groups"] for rule in group["rules"]]


@cache
def exposed_labels() -> Mapping[str, frozenset[str]]:
    """Return the labels of each series of the program's page, as Prometheus would have them."""
    page = generate_latest(exercised_metrics().registry).decode()
    labels: dict[str, frozenset[str]] = defaultdict(frozenset)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels[sample.name] |= frozenset(sample.labels)
    return labels


@cache
def known_labels() -> Mapping[str, frozenset[str]]:
    """Return the labels of everything that rules and dashboards may name."""
    known = {**exposed_labels(), "up": frozenset[str]()}
    for rule in rules("recording-rules.yml"):
        known[rule["record"]] = references(rule["expr"]).grouping - {"le"}
    return known
