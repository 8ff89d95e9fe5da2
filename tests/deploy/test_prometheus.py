from __future__ import annotations

import re
import subprocess
from functools import cache
from typing import Any

import pytest

from tests.deploy.monitoring import DEPLOY, RULES, known_labels, promtool, read_yaml, rules
from tests.support.promql import references, unknown_references

RULE_FILES = ("recording-rules.yml", "alerting-rules.yml")
TEST_FILES = sorted((RULES / "tests").glob("*.yml"))
ALERTS = {rule["alert"]: rule for rule in rules("alerting-rules.yml")}


@cache
def unit_tests() -> dict[str, list[tuple[dict[str, Any], list[dict[str, Any]]]]]:
    """Return the unit tests of each alert: the test, and the firing alerts that it expects."""
    found: dict[str, list[tuple[dict[str, Any], list[dict[str, Any]]]]] = {}
    for path in TEST_FILES:
        for test in read_yaml(path)["tests"]:
            for query in test["promql_expr_test"]:
                alert = re.fullmatch(
                    r'ALERTS\{alertname="(\w+)", alertstate="firing"\}', query["expr"]
                )
                assert alert, query["expr"]
                found.setdefault(alert[1], []).append((test, query["exp_samples"]))
    return found


@pytest.mark.parametrize("name", RULE_FILES)
def test_promtool_accepts_the_rules(name):
    checked = subprocess.run(
        [promtool(), "check", "rules", "--lint=all", "--lint-fatal", str(RULES / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_promtool_accepts_the_configuration():
    checked = subprocess.run(
        [promtool(), "check", "config", str(RULES / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_silent_as_they_should(path):
    tested = subprocess.run(
        [promtool(), "test", "rules", path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_shown_to_fire_and_to_stay_silent(alert):
    expectations = [bool(samples) for _, samples in unit_tests()[alert]]
    assert set(expectations) == {True, False}


def test_no_unit_test_is_about_an_alert_that_is_gone():
    assert set(unit_tests()) == set(ALERTS)


def test_the_series_of_unit_tests_are_those_of_the_program():
    known = known_labels()
    for tests in unit_tests().values():
        for test, _ in tests:
            for series in test["input_series"]:
                assert not list(unknown_references(series["series"], known)), test["name"]


@pytest.mark.parametrize("name", RULE_FILES)
def test_rules_name_only_what_there_is(name):
    known = known_labels()
    for rule in rules(name):
        assert not list(unknown_references(rule["expr"], known)), rule


def test_every_recorded_series_is_used_by_a_rule_or_a_dashboard():
    boards = "".join(path.read_text() for path in (DEPLOY / "grafana").glob("*.json"))
    used = {name for rule in ALERTS.values() for name, _ in references(rule["expr"]).metrics}
    unused = {rule["record"] for rule in rules("recording-rules.yml")} - used
    assert not {name for name in unused if name not in boards}


@pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
def test_each_alert_says_what_is_wrong_and_what_to_do(rule):
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    assert notes["summary"]
    assert notes["description"].endswith(".")
    document, anchor = notes["runbook"].split("#")
    assert DEPLOY.parent / document == DEPLOY / "README.md"
    assert anchor == rule["alert"].lower()
    headings = re.findall(r"^#+ (\w+)$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    assert rule["alert"] in headings


@pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
def test_texts_of_alerts_use_labels_that_firing_ones_have(rule):
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    for test, samples in unit_tests()[rule["alert"]]:
        for sample in samples:
            assert used <= set(re.findall(r"(\w+)=", sample["labels"])), test["name"]


def test_the_linter_notices_what_is_not_there():
    known = {"up": frozenset[str](), "a_total": frozenset({"code"})}
    assert not list(unknown_references('sum by (code) (rate(a_total{code="x"}[5m])) > 1e3', known))
    assert list(unknown_references("rate(b_total[5m]) and up", known)) == ["no metric b_total"]
    assert list(unknown_references('a_total{kind="x"}', known)) == ["a_total has no label kind"]
    assert list(unknown_references("max by (queue) (a_total)", known)) == [
        "nothing has the label queue to group by"
    ]
