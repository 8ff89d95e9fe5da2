"""A discrete-event core: processes that visit stations, on one clock.

Why not `simpy`: it was measured first, with the nine visits of one live frame as processes and
resources. simpy 4.1.2 takes 84 us of CPU a frame on this machine, so one second of 10,000 cameras
at 30 frames a second would take 25 s, and the plan of `simulate` hours. Here a process is a
generator that yields `(station, seconds)`, which keeps the models as readable, and a visit without
waiting is one heap entry. `tests/deploy/test_capacity.py` holds stations to the closed forms of
M/M/1, M/D/1, M/M/c, M/M/1/K and processor sharing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

Process = Generator[tuple["Visited | None", float], None, None]
"""Yields where to spend how many seconds of work; None is a pause."""


class Visited(Protocol):
    """Where processes spend time."""

    def visit(self, process: Process, seconds: float) -> None:
        """Take a process in, and resume it when its work is done."""


class Clock:
    """Simulated time, in seconds, and what happens when."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._coming: list[tuple[float, int, Process | None, Station | None]] = []
        self._order = count()

    def start(self, process: Process) -> None:
        """Run a process from now on."""
        self.resume(process)

    def resume(self, process: Process) -> None:
        """Run a process to its next visit or pause."""
        try:
            station, seconds = next(process)
        except StopIteration:
            return
        if station is None:
            heappush(self._coming, (self.now_s + seconds, next(self._order), process, None))
        else:
            station.visit(process, seconds)

    def leave_at(self, when_s: float, process: Process | None, station: Station | None) -> None:
        """Let a process leave a station at a time, and then go on."""
        heappush(self._coming, (when_s, next(self._order), process, station))

    def run(self, until_s: float) -> None:
        """Let everything happen that is due before a time."""
        coming = self._coming
        while coming and coming[0][0] < until_s:
            self.now_s, _, process, station = heappop(coming)
            if station is not None:
                station.leave()
            if process is not None:
                self.resume(process)
        self.now_s = until_s


class Station:
    """First come, first served, by some servers: an executor of the service, or its event loop.

    Attributes:
        pending: Who waits or is served.
        busy_s: Server-seconds of work taken in so far.
    """

    def __init__(self, clock: Clock, servers: int = 1, cores: SharedCores | None = None) -> None:
        """Take the number of servers, and the cores that they run on where these are scarce."""
        self._clock = clock
        self._servers = servers
        self._cores = cores
        self._waiting: deque[tuple[Process, float]] = deque()
        self.pending = 0
        self.busy_s = 0.0

    def visit(self, process: Process, seconds: float) -> None:
        """Serve a process for so long, once a server is free."""
        self.pending += 1
        if self.pending > self._servers:
            self._waiting.append((process, seconds))
        else:
            self._serve(process, seconds)

    def leave(self) -> None:
        """Serve the next one, if there is one, in the place of one that is done."""
        self.pending -= 1
        if self._waiting:
            self._serve(*self._waiting.popleft())

    def _serve(self, process: Process, seconds: float) -> None:
        self.busy_s += seconds
        if self._cores is None:
            self._clock.leave_at(self._clock.now_s + seconds, process, self)
        else:
            self._cores.share(process, seconds, self)


class SharedCores:
    """Cores of a machine that its threads share evenly, as the scheduler of Linux does.

    With n threads at work on c cores each runs at the rate min(1, c / n). Time is kept as work done
    per thread, so that arrivals and departures cost one heap entry each, however many run.
    """

    def __init__(self, clock: Clock, cores: float) -> None:
        self._clock = clock
        self._cores = cores
        self._running: list[tuple[float, int, Process, Station | None]] = []
        self._order = count()
        self._done_s = 0.0
        self._since_s = 0.0
        self._alarm = _Alarm(self)

    def visit(self, process: Process, seconds: float) -> None:
        """Run work that no station bounds, like another program's."""
        self.share(process, seconds, None)

    def share(self, process: Process, seconds: float, station: Station | None) -> None:
        """Run a station's work."""
        self._advance()
        heappush(self._running, (self._done_s + seconds, next(self._order), process, station))
        self._set_alarm()

    def _rate(self) -> float:
        return min(1.0, self._cores / max(1, len(self._running)))

    def _advance(self) -> None:
        now_s = self._clock.now_s
        self._done_s += (now_s - self._since_s) * self._rate()
        self._since_s = now_s

    def _set_alarm(self) -> None:
        if self._running:
            left_s = max(0.0, self._running[0][0] - self._done_s)
            self._alarm.set(self._clock, self._clock.now_s + left_s / self._rate())

    def finish_due(self) -> None:
        """Let the one go on whose work is done; the others run faster from now on."""
        self._advance()
        _, _, process, station = heappop(self._running)
        self._set_alarm()
        if station is not None:
            station.leave()
        self._clock.resume(process)


class _Alarm:
    """Wakes shared cores at one time; a later call replaces an earlier one."""

    def __init__(self, cores: SharedCores) -> None:
        self._cores = cores
        self._number = 0

    def set(self, clock: Clock, when_s: float) -> None:
        self._number += 1
        clock.leave_at(when_s, self._ring(self._number), None)

    def _ring(self, number: int) -> Process:
        if number == self._number:
            self._cores.finish_due()
        yield from ()
