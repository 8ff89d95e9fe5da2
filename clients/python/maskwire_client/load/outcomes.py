"""What became of the calls of a run, counted in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from .latencies import LatencyHistogram
from .plan import Kind, LoadPlan

__all__ = ["OK", "KindFigures", "Outcome", "Recorder"]

OK = "OK"
MAX_BINS = 120
"""Most intervals into which latencies are kept apart over time."""
MAX_KEPT_FAILURES = 20
_BIN_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call, a session's opening or a frame ended.

    Attributes:
        kind: What it was.
        due_s: When it was to begin, in seconds after the beginning of the run.
        latency_s: Seconds from then to its end.
        code: Name of the gRPC status; `OK` where it did what it should.
        overload_retries: Attempts after one that the server refused because it was full.
        digest_misses: Attempts that named an image which the server did not hold.
        message: What the error says; empty where there is none.
        request_id: Identifier of the call, as in the server's logs.
        job_name: The job, where it was one that was accepted.
    """

    kind: Kind
    due_s: float
    latency_s: float
    code: str = OK
    overload_retries: int = 0
    digest_misses: int = 0
    message: str = ""
    request_id: str = ""
    job_name: str = ""


@dataclass(slots=True)
class KindFigures:
    """The counts of one kind.

    Attributes:
        sent: Calls that were begun.
        codes: Status name to number of calls that ended so.
        shed: Arrivals that the generator did not begin, because too many calls were in flight.
        overload_retries: As of `Outcome`, all together.
        digest_misses: Likewise.
        latency: Of the calls that did what they should.
        bins: Number of the interval in which calls were due to their latencies.
        last_end_s: When the last one ended, in seconds after the beginning of the run.
    """

    sent: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    shed: int = 0
    overload_retries: int = 0
    digest_misses: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    bins: dict[int, LatencyHistogram] = field(default_factory=dict)
    last_end_s: float = 0.0

    @property
    def ok(self) -> int:
        """Calls that did what they should."""
        return self.codes[OK]

    @property
    def failed(self) -> int:
        """Calls that ended otherwise."""
        return self.codes.total() - self.ok


class Recorder:
    """Counts what is due after the warm-up; the rest leaves no trace.

    Args:
        plan: The run.

    Attributes:
        kept_failures: The first 20 calls that failed, those of the warm-up too.
        warmup_failures: How many calls of the warm-up failed.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.kept_failures: list[Outcome] = []
        self.warmup_failures = 0
        self._plan = plan
        self._kinds: dict[Kind, KindFigures] = {}
        self._in_flight = 0

    @property
    def kinds(self) -> Mapping[Kind, KindFigures]:
        """The counts of each kind that occurred."""
        return self._kinds

    @property
    def in_flight(self) -> int:
        """Calls and frames that have begun and not ended, those of the warm-up too."""
        return self._in_flight

    @property
    def failed(self) -> int:
        """Calls that failed, of all kinds, those of the warm-up too."""
        return self.warmup_failures + sum(figures.failed for figures in self._kinds.values())

    @property
    def shed(self) -> int:
        """Arrivals that were not begun."""
        return sum(figures.shed for figures in self._kinds.values())

    @property
    def bin_s(self) -> float:
        """Length of the intervals: whole seconds."""
        return float(max(1, math.ceil(self._plan.duration_s / MAX_BINS)))

    def begin(self, kind: Kind, due_s: float) -> None:
        """Count a call that begins; each is ended or forgotten once."""
        self._in_flight += 1
        if self._is_measured(due_s):
            self._figures(kind).sent += 1

    def forget(self) -> None:
        """Count no longer a call that ended neither well nor badly: a frame that was dropped."""
        self._in_flight -= 1

    def end(self, outcome: Outcome) -> None:
        """Count how a call ended."""
        self._in_flight -= 1
        has_failed = outcome.code != OK
        if has_failed and len(self.kept_failures) < MAX_KEPT_FAILURES:
            self.kept_failures.append(outcome)
        if not self._is_measured(outcome.due_s):
            self.warmup_failures += has_failed
            return
        figures = self._figures(outcome.kind)
        figures.codes[outcome.code] += 1
        figures.overload_retries += outcome.overload_retries
        figures.digest_misses += outcome.digest_misses
        figures.last_end_s = max(figures.last_end_s, outcome.due_s + outcome.latency_s)
        if has_failed:
            return
        figures.latency.add(outcome.latency_s)
        interval = int((outcome.due_s - self._plan.warmup_s) / self.bin_s)
        if interval not in figures.bins:
            figures.bins[interval] = LatencyHistogram(_BIN_DIGITS)
        figures.bins[interval].add(outcome.latency_s)

    def shed_one(self, kind: Kind, due_s: float) -> None:
        """Count an arrival that is not begun."""
        if self._is_measured(due_s):
            self._figures(kind).shed += 1

    def _is_measured(self, due_s: float) -> bool:
        return due_s >= self._plan.warmup_s

    def _figures(self, kind: Kind) -> KindFigures:
        return self._kinds.setdefault(kind, KindFigures())
