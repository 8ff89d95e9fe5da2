"""Replicas that serve cameras and prompts, as the service does it.

A replica is what `domain/executor.py` and `domain/sessions` make of a process: one event loop, one
thread per device that takes work in its order and never two at a time, a pool of threads for
pixels. A session carries out one request after the other; a frame visits the loop, the pixels
(decode), the device twice (encode, then track: others' work may come between), the pixels (masks)
and the loop. Frames of different sessions are not batched. Cameras keep the latest only: a frame
that waits makes room for a newer one, so that a session holds at most two. Unary calls are refused
where the device's queue is full; sessions are not, they have one frame at a time. What is left out:
the network, other calls, several models on one device, and Python's global lock, for which the
engine's Python and the event loop compete.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .events import Clock, Process, Station
from .profiles import Profile

Balancing = Literal["hash", "round robin"]
Placement = Literal["even", "random"]

_FRAME_VISITS = 5
"""Of the event loop: request in, after decode, encode and track, answer out."""

_CALL_VISITS = 3
MAX_DEVICE_QUEUE = 128
"""Default of limits.max_device_queue."""


@dataclass(frozen=True, slots=True)
class Load:
    """What comes.

    Attributes:
        cameras: Live sessions.
        frames_per_s: Of each camera.
        calls_per_s: Prompts on still images, of all callers together.
        prompts_per_image: Mean number of prompts on one image.
        seconds_between_prompts: Mean pause of a caller.
    """

    cameras: int
    frames_per_s: float
    calls_per_s: float
    prompts_per_image: float
    seconds_between_prompts: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """What serves it.

    Attributes:
        replicas: How many.
        profile: What each is.
        balancing: Where calls on an image go.
        placement: How sessions fall on replicas: evenly to within one, or at random.
    """

    replicas: int
    profile: Profile
    balancing: Balancing = "hash"
    placement: Placement = "even"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        frames: Frames that counted.
        p50_s: Median time from a frame's arrival to its answer.
        p99_s: 99th percentile of it.
        dropped: Part of the frames that newer ones replaced.
        calls: Calls that counted.
        calls_p99_s: 99th percentile of the time of calls; 0 without calls.
        refused: Part of the calls that met a full queue.
        hits: Part of the calls that found their image's embedding.
        device: Part of the time that devices were at work.
        loop: Part of the time that event loops were at work.
        pixels: Part of the time that threads for pixels were at work.
    """

    frames: int
    p50_s: float
    p99_s: float
    dropped: float
    calls: int
    calls_p99_s: float
    refused: float
    hits: float
    device: float
    loop: float
    pixels: float


class Tally:
    """Counts what begins after the warm-up."""

    def __init__(self, clock: Clock, from_s: float) -> None:
        self._clock = clock
        self._from_s = from_s
        self.received = self.dropped = 0
        self.latencies_s: list[float] = []
        self.calls = self.refused = self.hits = 0
        self.call_latencies_s: list[float] = []

    @property
    def is_counting(self) -> bool:
        """Whether the warm-up is over."""
        return self._clock.now_s >= self._from_s

    def drop(self, arrived_s: float) -> None:
        """Count a frame that a newer one replaced."""
        self.dropped += arrived_s >= self._from_s

    def answer(self, arrived_s: float) -> None:
        """Count a frame that is answered now."""
        if arrived_s >= self._from_s:
            self.latencies_s.append(self._clock.now_s - arrived_s)


class Replica:
    """One server process with its device."""

    def __init__(self, clock: Clock, profile: Profile, chance: random.Random) -> None:
        self.loop = Station(clock)
        self.device = Station(clock)
        self.pixels = Station(clock, profile.pixel_threads)
        self._profile = profile
        self._chance = chance
        self._embeddings: OrderedDict[int, None] = OrderedDict()

    @property
    def is_full(self) -> bool:
        """Whether the device's queue refuses calls."""
        return self.device.pending > MAX_DEVICE_QUEUE

    def on_loop(self) -> tuple[Station, float]:
        """Return one visit of the event loop for a frame."""
        return self.loop, self._varied(self._profile.loop_frame_s / _FRAME_VISITS)

    def on_loop_for_call(self) -> tuple[Station, float]:
        """Return one visit of the event loop for a call."""
        return self.loop, self._varied(self._profile.loop_call_s / _CALL_VISITS)

    def decode(self) -> tuple[Station, float]:
        """Return the visit that decodes a picture."""
        return self.pixels, self._varied(self._profile.decode_s)

    def encode(self) -> tuple[Station, float]:
        """Return the visit that encodes it."""
        return self.device, self._varied(self._profile.encode_s)

    def track(self) -> tuple[Station, float]:
        """Return the visit that follows a session's objects into a frame."""
        return self.device, self._varied(self._profile.track_s)

    def prompt(self) -> tuple[Station, float]:
        """Return the visit that answers a prompt."""
        return self.device, self._varied(self._profile.prompt_s)

    def finish(self) -> tuple[Station, float]:
        """Return the visit that makes masks."""
        return self.pixels, self._varied(self._profile.postprocess_s)

    def finds(self, image: int) -> bool:
        """Return whether an embedding is held, and hold it from now on."""
        held = self._embeddings
        found = image in held
        held[image] = None
        held.move_to_end(image)
        if len(held) > self._profile.held_embeddings:
            held.popitem(last=False)
        return found

    def _varied(self, mean_s: float) -> float:
        spread = self._profile.spread
        return mean_s * self._chance.lognormvariate(-spread * spread / 2, spread)


class Session:
    """A live session that keeps the latest frame only."""

    def __init__(self, clock: Clock, replica: Replica, tally: Tally) -> None:
        self._clock = clock
        self._replica = replica
        self._tally = tally
        self._waiting_s: float | None = None
        self._is_working = False

    def camera(self, frames_per_s: float, offset_s: float) -> Process:
        """Send frames for ever."""
        yield None, offset_s
        while True:
            self._tally.received += self._tally.is_counting
            self._clock.start(self._receive(self._clock.now_s))
            yield None, 1 / frames_per_s

    def _receive(self, arrived_s: float) -> Process:
        yield self._replica.on_loop()
        if not self._is_working:
            self._is_working = True
            self._clock.start(self._work(arrived_s))
            return
        if self._waiting_s is not None:
            self._tally.drop(self._waiting_s)
        self._waiting_s = arrived_s

    def _work(self, first_s: float) -> Process:
        replica = self._replica
        arrived_s: float | None = first_s
        while arrived_s is not None:
            yield replica.decode()
            yield replica.on_loop()
            yield replica.encode()
            yield replica.on_loop()
            yield replica.track()
            yield replica.on_loop()
            yield replica.finish()
            yield replica.on_loop()
            self._tally.answer(arrived_s)
            arrived_s, self._waiting_s = self._waiting_s, None
        self._is_working = False


class Callers:
    """People who prompt still images: the first call brings the image, later ones its digest."""

    def __init__(
        self,
        clock: Clock,
        replicas: list[Replica],
        balancing: Balancing,
        tally: Tally,
        chance: random.Random,
    ) -> None:
        self._clock = clock
        self._replicas = replicas
        self._balancing = balancing
        self._tally = tally
        self._chance = chance
        self._images = self._turn = 0

    def arrive(self, load: Load) -> Process:
        """Let images come as a Poisson process."""
        rate = load.calls_per_s / load.prompts_per_image
        while True:
            yield None, self._chance.expovariate(rate)
            self._images += 1
            self._clock.start(self._caller(self._images, load))

    def _caller(self, image: int, load: Load) -> Process:
        is_first = True
        while is_first or self._chance.random() > 1 / load.prompts_per_image:
            self._clock.start(self._call(image, brings_image=is_first))
            is_first = False
            yield None, self._chance.expovariate(1 / load.seconds_between_prompts)

    def _call(self, image: int, *, brings_image: bool) -> Process:
        began_s, tally, replica = self._clock.now_s, self._tally, self._choose(image)
        counts = tally.is_counting
        tally.calls += counts
        yield replica.on_loop_for_call()
        if replica.is_full:
            tally.refused += counts
            return
        if replica.finds(image):
            tally.hits += counts
        else:
            if not brings_image:  # NOT_FOUND: the client sends the bytes
                yield replica.on_loop_for_call()
            yield replica.decode()
            yield replica.encode()
        yield replica.prompt()
        yield replica.on_loop_for_call()
        yield replica.finish()
        yield replica.on_loop_for_call()
        if counts:
            tally.call_latencies_s.append(self._clock.now_s - began_s)

    def _choose(self, image: int) -> Replica:
        self._turn += 1
        number = image * 2654435761 % 2**32 if self._balancing == "hash" else self._turn
        return self._replicas[number % len(self._replicas)]


def simulate(load: Load, fleet: Fleet, *, seconds: float, warm_up_s: float, seed: int) -> Outcome:
    """Run a load on a fleet; the same seed gives the same outcome."""
    clock, chance = Clock(), random.Random(seed)
    tally = Tally(clock, warm_up_s)
    replicas = [Replica(clock, fleet.profile, chance) for _ in range(fleet.replicas)]
    for number in range(load.cameras):
        place = number if fleet.placement == "even" else chance.randrange(fleet.replicas)
        session = Session(clock, replicas[place % fleet.replicas], tally)
        offset_s = chance.random() / load.frames_per_s
        clock.start(session.camera(load.frames_per_s, offset_s))
    if load.calls_per_s > 0:
        clock.start(Callers(clock, replicas, fleet.balancing, tally, chance).arrive(load))
    clock.run(warm_up_s + seconds)
    return _outcome(tally, replicas, fleet.profile, warm_up_s + seconds)


def _outcome(tally: Tally, replicas: list[Replica], profile: Profile, seconds: float) -> Outcome:
    # Work is counted as it is taken in, so that what still waits at the end shows as more than 1.
    whole_s = seconds * len(replicas)
    p50_s, p99_s = np.percentile(tally.latencies_s, [50, 99]) if tally.latencies_s else (0.0, 0.0)
    calls_p99_s = np.percentile(tally.call_latencies_s, 99) if tally.call_latencies_s else 0.0
    return Outcome(
        frames=tally.received,
        p50_s=float(p50_s),
        p99_s=float(p99_s),
        dropped=tally.dropped / max(1, tally.received),
        calls=tally.calls,
        calls_p99_s=float(calls_p99_s),
        refused=tally.refused / max(1, tally.calls),
        hits=tally.hits / max(1, tally.calls),
        device=sum(replica.device.busy_s for replica in replicas) / whole_s,
        loop=sum(replica.loop.busy_s for replica in replicas) / whole_s,
        pixels=sum(replica.pixels.busy_s for replica in replicas) / whole_s / profile.pixel_threads,
    )
