"""The table of metrics in deploy/README.md, from the program itself.

`python -m tests.deploy.metric_table` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.monitoring import DEPLOY
from tests.support.exercised_metrics import exercised_metrics

README = DEPLOY / "README.md"
_BEGIN, _END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"


def table() -> str:
    """Return the table in Markdown."""
    page = generate_latest(exercised_metrics().registry).decode()
    families = sorted(text_string_to_metric_families(page), key=lambda family: family.name)
    lines = ["| Metric | Type | Labels | What it says |", "|---|---|---|---|"]
    lines += [_row(family) for family in families if not family.name.endswith("_created")]
    return "".join(line + "\n" for line in lines)


def table_in_readme() -> str:
    """Return the table that the document has."""
    return README.read_text().split(_BEGIN)[1].split(_END)[0]


def write() -> None:
    """Put the table into the document."""
    before, rest = README.read_text().split(_BEGIN)
    README.write_text(before + _BEGIN + table() + _END + rest.split(_END)[1])


def _row(family: Metric) -> str:
    labels = sorted({name for sample in family.samples for name in sample.labels} - {"le"})
    name = family.name + ("_total" if family.type == "counter" else "")
    kind = family.type
    if kind == "histogram":
        bounds = sorted(set(_bounds(family)))
        kind += f", {len(bounds)} buckets from {bounds[0]:g} to {bounds[-1]:g}"
    shown = ", ".join(f"`{label}`" for label in labels)
    return f"| `{name}` | {kind} | {shown} | {family.documentation} |"


def _bounds(family: Metric) -> Iterator[float]:
    for sample in family.samples:
        if sample.labels.get("le", "+Inf") != "+Inf":
            yield float(sample.labels["le"])


if __name__ == "__main__":
    write()
