"""Percentiles and rates of streams."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire_client.cli.statistics import Percentiles, Rate


@given(
    st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=300), st.sampled_from([0, 50, 95, 99, 100])
)
def test_percentiles_are_those_of_the_values_to_half_a_percent(
    values: list[float], percent: float
) -> None:
    figures = Percentiles()
    for value in values:
        figures.add(value)
    exact = np.percentile(values, percent, method="inverted_cdf")
    assert figures.percentile(percent) == pytest.approx(exact, rel=0.0051)
    assert figures.mean == pytest.approx(np.mean(values))
    assert figures.count == len(values)


def test_without_values_there_are_no_percentiles() -> None:
    assert Percentiles().percentile(50) is None
    assert Percentiles().mean is None


def test_values_out_of_range_count_as_the_nearest_in_it() -> None:
    figures = Percentiles()
    figures.add(0.0)
    figures.add(1e9)
    assert figures.percentile(50) == pytest.approx(1e-6, rel=0.01)
    assert figures.percentile(100) == pytest.approx(1e6, rel=0.01)


def test_memory_does_not_grow_with_the_number_of_values() -> None:
    figures = Percentiles()
    for value in np.random.default_rng(0).lognormal(-3, 2, 50_000):
        figures.add(float(value))
    assert len(figures._counts) < 2800
    assert sys.getsizeof(figures._counts) < 200_000


def test_the_rate_is_that_of_the_latest_events() -> None:
    now = 0.0
    rate = Rate(lambda: now)
    assert rate.per_second() == 0
    for _ in range(30):
        rate.add()
        now += 0.1
    assert rate.per_second() == pytest.approx(29 / 3.0)
    for _ in range(200):
        now += 0.05
        rate.add()
    assert rate.per_second() == pytest.approx(20)
    now += 100
    assert rate.per_second() == 0
