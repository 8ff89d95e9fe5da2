"""The parts of a Grafana dashboard, typed, and the JSON that Grafana reads.

What the dashboards show is in `boards/`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
_HEIGHT = 8
_WHERE = 'instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class Query:
    """A query and how its series are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel over time.

    Attributes:
        title: What it shows.
        unit: Grafana's name of the unit.
        queries: What is drawn.
        description: What to make of it.
        is_stacked: Whether the series add up to something.
    """

    title: str
    unit: str
    queries: Sequence[Query]
    description: str = ""
    is_stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard; its identifier is that of its file."""

    identifier: str
    title: str
    rows: Sequence[Row]


def rate(counter: str, by: str, where: str = "") -> str:
    """Return the rate of a counter per second, summed by labels."""
    return f"sum by ({by}) (rate({counter}{matchers(where)}[$__rate_interval]))"


def level(gauge: str, by: str, where: str = "") -> str:
    """Return a gauge, summed by labels."""
    return f"sum by ({by}) ({gauge}{matchers(where)})"


def quantiles(histogram: str, by: str, where: str = "") -> list[Query]:
    """Return the median, the 95th and the 99th percentile by a label."""
    buckets = rate(f"{histogram}_bucket", f"{by}, le", where)
    return [
        Query(f"histogram_quantile({share}, {buckets})", f"p{round(share * 100)} {{{{{by}}}}}")
        for share in (0.5, 0.95, 0.99)
    ]


def mean(histogram: str, by: str, where: str = "") -> str:
    """Return the mean of a histogram by labels."""
    return f"{rate(histogram + '_sum', by, where)} / {rate(histogram + '_count', by, where)}"


def matchers(where: str = "") -> str:
    """Return the matchers of a query: the chosen instances, and `where`."""
    return "{" + ", ".join(part for part in (_WHERE, where) if part) + "}"


def to_json(board: Dashboard) -> str:
    """Return what Grafana reads."""
    content = {
        "uid": board.identifier,
        "title": board.title,
        "tags": ["maskwire"],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 39,
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "panels": _panels(board.rows),
    }
    return json.dumps(content, indent=1) + "\n"


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance",
            "label": "Instance",
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": "label_values(maskwire_build_info, instance)", "refId": "instance"},
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        },
    ]


def _panels(rows: Sequence[Row]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        made.append({"id": len(made) + 1, "type": "row", "title": row.title, "gridPos": place})
        width = _COLUMNS // len(row.panels)
        for column, panel in enumerate(row.panels):
            place = {"x": column * width, "y": top + 1, "w": width, "h": _HEIGHT}
            made.append({"id": len(made) + 1, **_panel(panel), "gridPos": place})
        top += 1 + _HEIGHT
    return made


def _panel(panel: Panel) -> dict[str, Any]:
    custom: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never"}
    if panel.is_stacked:
        custom["stacking"] = {"mode": "normal"}
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom},
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for number, query in enumerate(panel.queries)
        ],
    }
