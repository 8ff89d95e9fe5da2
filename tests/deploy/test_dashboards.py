from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.grafana.dashboards import FOLDER, dashboards
from tests.deploy.metric_table import table, table_in_readme
from tests.deploy.monitoring import exposed_labels, known_labels, promtool
from tests.support.promql import references, unknown_references

BOARDS = {name: json.loads(content) for name, content in dashboards().items()}


def targets(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield from panel.get("targets", ())


def expressions(board: dict[str, Any]) -> list[str]:
    """Return the queries of a dashboard as Prometheus gets them."""
    return [
        target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
        for target in targets(board)
    ]


def test_the_files_are_what_the_script_makes():
    there = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert there == dashboards()


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_names_what_there_is(name):
    known = known_labels()
    for expression in expressions(BOARDS[name]):
        assert "$" not in expression
        assert not list(unknown_references(expression, known)), expression


@pytest.mark.parametrize("name", BOARDS)
def test_legends_use_labels_that_the_series_have(name):
    known = known_labels()
    for target in targets(BOARDS[name]):
        found = references(target["expr"])
        grouping = found.grouping - {"le"}
        if not grouping:
            grouping = frozenset({"instance"}).union(
                *(known[metric] for metric, _ in found.metrics)
            )
        used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert used <= grouping, target


def test_promtool_accepts_every_query(tmp_path):
    queries = [expression for board in BOARDS.values() for expression in expressions(board)]
    queried = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    groups = [{"name": "queries", "rules": queried}]
    path.write_text(json.dumps({"groups": groups}))  # JSON is YAML, too
    checked = subprocess.run(
        [promtool(), "check", "rules", "--lint=none", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_places_of_their_own(name):
    panels = BOARDS[name]["panels"]
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_table_of_metrics_in_the_readme_is_the_program_s():
    assert table_in_readme() == table()


def test_the_exercised_page_has_every_metric():
    declared = set(exposed_labels())
    for line in table().splitlines()[2:]:
        name = line.split("`")[1]
        assert {name, f"{name}_count"} & declared, f"{name} has no sample"
