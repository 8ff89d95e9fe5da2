"""What PromQL expressions refer to, found by their tokens; promtool judges their grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*")|(?P<range>\[[^\]]*\])|(?P<number>[0-9][0-9.a-z]*)
    |(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)|(?P<sign>=~|!~|!=|[=(){},]|[^\s])""",
    re.VERBOSE,
)
_GROUPING = ("by", "without", "on", "ignoring", "group_left", "group_right")
_WORDS = (*_GROUPING, "and", "or", "unless", "bool", "offset")

# Prometheus itself and its discovery add these to every series.
_ADDED_LABELS = frozenset({"job", "instance"})


@dataclass(frozen=True, slots=True)
class References:
    """What an expression names.

    Attributes:
        metrics: Each metric, with the labels that its matchers name.
        grouping: Labels by which the expression groups or joins.
    """

    metrics: tuple[tuple[str, frozenset[str]], ...]
    grouping: frozenset[str]


def references(expression: str) -> References:
    """Return what an expression names."""
    tokens = [(match.lastgroup, match.group()) for match in _TOKEN.finditer(expression)]
    metrics: list[tuple[str, frozenset[str]]] = []
    grouping: set[str] = set()
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if kind != "name":
            continue
        if text in _GROUPING and following == "(":
            names, at = _until(tokens, at + 1, ")")
            grouping.update(names)
        elif following == "{":
            names, at = _until(tokens, at + 1, "}")
            metrics.append((text, frozenset(names)))
        elif text not in _WORDS and following != "(" and following not in _GROUPING:
            metrics.append((text, frozenset()))
    return References(tuple(metrics), frozenset(grouping))


def _until(tokens: list[tuple[str | None, str]], at: int, end: str) -> tuple[list[str], int]:
    names = []
    while tokens[at][1] != end:
        if tokens[at][0] == "name":
            names.append(tokens[at][1])
        at += 1
    return names, at + 1


def unknown_references(expression: str, known: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield in words what an expression names that is not there.

    Args:
        expression: PromQL, without variables of Grafana's.
        known: Labels of each metric that there is.
    """
    found = references(expression)
    there: set[str] = set()
    for metric, labels in found.metrics:
        if metric not in known:
            yield f"no metric {metric}"
            continue
        its_labels = known[metric] | _ADDED_LABELS
        there |= its_labels
        for label in sorted(labels - its_labels):
            yield f"{metric} has no label {label}"
    for label in sorted(found.grouping - there):
        yield f"nothing has the label {label} to group by"
