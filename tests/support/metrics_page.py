"""What a running server's metrics page says."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def metrics_page(port: int) -> str:
    """Return the page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        return str(page.read().decode())


def scraped(port: int, name: str, *label_values: str) -> float:
    """Return the sum of the samples of that name that have all these label values."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics_page(port))
        for sample in family.samples
        if sample.name == name and set(label_values) <= set(sample.labels.values())
    )
