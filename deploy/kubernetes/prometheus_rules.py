"""Writes the rules of `deploy/prometheus` as a resource of the Prometheus operator.

`python -m deploy.kubernetes.prometheus_rules`; a test holds the resource to the rules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # the project has no stubs of it

_DEPLOY = Path(__file__).parents[1]
_RULES = _DEPLOY / "prometheus"
FILE = Path(__file__).parent / "components" / "prometheus-rules" / "prometheus-rules.yaml"
"""The resource."""

_HEADER = """\
# Made by `python -m deploy.kubernetes.prometheus_rules`: change recording-rules.yml and
# alerting-rules.yml in deploy/prometheus, which say why each rule is as it is.
"""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # no stubs
    """Writes texts of several lines as blocks."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def resource() -> dict[str, Any]:
    """Return the PrometheusRule with the groups of both files."""
    groups = [
        group
        for name in ("recording-rules.yml", "alerting-rules.yml")
        for group in yaml.safe_load((_RULES / name).read_text())["groups"]
    ]
    labels = {"app.kubernetes.io/name": "maskwire", "app.kubernetes.io/part-of": "maskwire"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "maskwire", "namespace": "maskwire", "labels": labels},
        "spec": {"groups": groups},
    }


def text() -> str:
    """Return the file."""
    return _HEADER + str(yaml.dump(resource(), Dumper=_Dumper, sort_keys=False, width=100))


if __name__ == "__main__":
    FILE.write_text(text())
