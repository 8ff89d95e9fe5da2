"""Latencies in bounded memory: HDR histograms, whose files other tools read."""

from __future__ import annotations

import importlib
from typing import Any, TextIO

__all__ = ["LatencyHistogram", "check_installed", "write_log"]

_UNITS_PER_S = 1_000_000
_LONGEST = 3600 * _UNITS_PER_S
_REMEDY = "pip install 'maskwire[load]'"


def check_installed() -> None:
    """Check that the histograms' library is there.

    Raises:
        ModuleNotFoundError: It is not; the message says how to install it.
    """
    _library("hdrh.histogram")


class LatencyHistogram:
    """Counts latencies from 1 µs to 1 h; what lies outside counts as the nearest of the two.

    Args:
        digits: Decimal digits to which values are kept: 3 takes 190 kB, 2 takes 27 kB.
    """

    def __init__(self, digits: int = 3) -> None:
        self._histogram: Any = _library("hdrh.histogram").HdrHistogram(1, _LONGEST, digits)

    @property
    def count(self) -> int:
        """Number of latencies."""
        total: int = self._histogram.get_total_count()
        return total

    @property
    def max_s(self) -> float | None:
        """The longest; None without any."""
        return self._histogram.get_max_value() / _UNITS_PER_S if self.count else None

    @property
    def mean_s(self) -> float | None:
        """Their mean; None without any."""
        return self._histogram.get_mean_value() / _UNITS_PER_S if self.count else None

    def add(self, seconds: float) -> None:
        """Count a latency."""
        self._histogram.record_value(min(max(round(seconds * _UNITS_PER_S), 1), _LONGEST))

    def percentile_s(self, percent: float) -> float | None:
        """Return the latency that so many percent of all do not exceed; None without any."""
        if not self.count:
            return None
        value: float = self._histogram.get_value_at_percentile(percent) / _UNITS_PER_S
        return value

    def encoded(self) -> bytes:
        """Return it in the compressed form (base 64) of HdrHistogram's logs; values are in µs."""
        data: bytes = self._histogram.encode()
        return data


def write_log(file: TextIO, histograms: dict[str, LatencyHistogram], duration_s: float) -> None:
    """Write a log that HdrHistogram's tools read: one line, with its tag, for each histogram.

    The library's own writer knows no tags.
    """
    file.write("#[Histogram log format version 1.3]\n#[Values are in microseconds]\n")
    file.write(
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
    )
    for tag, histogram in histograms.items():
        longest_ms = (histogram.max_s or 0.0) * 1e3
        data = histogram.encoded().decode("ascii")
        file.write(f"Tag={tag},0.000,{duration_s:.3f},{longest_ms:.3f},{data}\n")


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"measuring latencies needs hdrhistogram: {_REMEDY}", name=module
        ) from error
