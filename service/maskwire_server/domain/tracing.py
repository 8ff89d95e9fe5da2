"""What the domain tells of traces, beside the reports of `observer.py`; knows nothing of tracers.

Most spans are made of reports that work has just ended. What those cannot say is here: which of
them belong together where a stream or a job lasts for hours, and what a trace is called elsewhere.
"""

from __future__ import annotations

from typing import Protocol, Self

from .errors import ErrorCode


class TracedWork(Protocol):
    """A piece of work that reports belong to while it is entered; every method is cheap."""

    @property
    def context(self) -> str:
        """Name of its trace for other processes, W3C's `traceparent`; empty where there is none."""

    def stage_begun(self, stage: str) -> None:
        """Tell that a stage begins, and the one before it ends with that."""

    def ended(self, outcome: str, code: ErrorCode | None = None) -> None:
        """Tell how the work ended: one of a few words, and the error where there was one."""

    def __enter__(self) -> Self:
        """Begin it."""

    def __exit__(self, *exception: object) -> None:
        """End it."""


class Untraced:
    """Work that nobody traces."""

    context = ""

    def stage_begun(self, stage: str) -> None:
        """Do nothing."""

    def ended(self, outcome: str, code: ErrorCode | None = None) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing."""


UNTRACED = Untraced()
