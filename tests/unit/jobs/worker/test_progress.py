from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwire_server.jobs.worker.progress import Progress, ProgressBuffer


def filled(*reports: Progress) -> list[Progress]:
    buffer = ProgressBuffer()
    for one in reports:
        buffer.add(one)
    return [buffer.pop() for _ in range(len(buffer))]


def test_newer_fractions_of_a_stage_replace_older_ones():
    assert filled(*(Progress("a", tenth / 10) for tenth in range(10))) == [Progress("a", 0.9)]


def test_stages_and_lines_are_kept():
    reports = [
        Progress("a", 0.1),
        Progress("a", 0.2, "one"),
        Progress("a", 0.3, "two"),
        Progress("b", 0.4),
        Progress("a", 0.5),
    ]
    assert filled(*reports) == reports


def test_a_fraction_does_not_replace_a_line():
    assert filled(Progress("a", 0.1, "one"), Progress("a", 0.2)) == [
        Progress("a", 0.1, "one"),
        Progress("a", 0.2),
    ]


@pytest.mark.parametrize(
    ("given_fraction", "kept"),
    [(math.nan, 0.0), (-1.0, 0.0), (2.0, 1.0), (math.inf, 1.0), (0.25, 0.25)],
)
def test_fractions_are_between_nothing_and_all(given_fraction, kept):
    assert filled(Progress("a", given_fraction)) == [Progress("a", kept)]


def test_after_many_lines_one_says_that_there_were_more():
    buffer = ProgressBuffer()
    lines = []
    for number in range(500):
        buffer.add(Progress("a", 0.0, f"line {number}"))
        lines.append(buffer.pop().log_line)
    assert lines[:200] == [f"line {number}" for number in range(200)]
    assert "left out" in lines[200]
    assert lines[201:] == [""] * 299


def test_lines_are_one_line_and_not_long():
    (kept,) = filled(Progress("a", 0.0, "first\r\n second " + "x" * 1000))
    assert kept.log_line.startswith("first second xxx")
    assert len(kept.log_line) == 500


@given(
    st.lists(
        st.builds(
            Progress,
            st.sampled_from(["a", "b", "c"]),
            st.floats(),
            st.sampled_from(["", "", "line"]),
        ),
        max_size=400,
    )
)
def test_what_waits_is_bounded_and_ends_with_the_latest(reports):
    kept = filled(*reports)
    assert len(kept) <= 64
    assert bool(kept) == bool(reports)
    if reports:
        assert kept[-1].stage == reports[-1].stage
