"""What an examination found."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    """How a check ended."""

    PASSED = enum.auto()
    FAILED = enum.auto()
    SKIPPED = enum.auto()
    """It could not be made here; the detail says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and how it ended.

    Attributes:
        subject: What was checked.
        verdict: How it ended.
        detail: What was seen, for people.
    """

    subject: str
    verdict: Verdict
    detail: str


def judged(subject: str, passed: bool, detail: str) -> Finding:
    """Return a finding for a condition."""
    return Finding(subject, Verdict.PASSED if passed else Verdict.FAILED, detail)
