"""What a running server's metrics page says."""

from __future__ import annotations

import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

_PATIENCE_S = 60.0


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


def wait_until_scraped(port: int, least: float, name: str, *label_values: str) -> None:
    """Wait until that sum is so much: a client knows a status before the server has counted it."""
    end_s = time.monotonic() + _PATIENCE_S
    while (seen := scraped(port, name, *label_values)) < least:
        assert time.monotonic() < end_s, f"{name} is {seen}, not {least}"
