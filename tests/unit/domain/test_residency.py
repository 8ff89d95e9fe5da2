"""Weights of models that do not fit together take turns within a budget."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import structlog

from maskwire_server.domain.errors import ErrorCode, MaskwireError
from maskwire_server.domain.residency import LoadState, WeightResidency
from maskwire_server.observability.metrics import Metrics
from tests.support.colour_engine import ColourEngine


class WeighingEngine(ColourEngine):
    """An engine whose weights are a number of bytes that are there or not."""

    def __init__(self, name: str, weight_bytes: int, log: list[str]) -> None:
        super().__init__(name)
        self._weight_bytes = weight_bytes
        self._log = log
        self.has_weights = True
        self.is_broken = False

    @property
    def weight_bytes(self) -> int:
        return self._weight_bytes

    def drop_weights(self) -> None:
        assert self.has_weights
        self.has_weights = False
        self._log.append(f"drop {self.description.name}")

    def load_weights(self) -> None:
        assert not self.has_weights
        if self.is_broken:
            raise MaskwireError(ErrorCode.MODEL_UNAVAILABLE, "the file is gone")
        self.has_weights = True
        self._log.append(f"load {self.description.name}")


class Loading(Metrics):
    """Metrics that also note which models are being loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.now: set[str] = set()
        self.ever: list[str] = []
        self.tell: Callable[[str], LoadState] | None = None
        self.told: list[LoadState] = []

    def model_loading(self, model: str, *, is_loading: bool) -> None:
        super().model_loading(model, is_loading=is_loading)
        if is_loading:
            if self.tell is not None:
                self.told.append(self.tell(model))
            assert not self.now, "one at a time"
            self.now.add(model)
            self.ever.append(model)
        else:
            self.now.remove(model)


class World:
    """Models of given sizes under a budget; `use` runs a call of one."""

    def __init__(self, budget_bytes: int, **sizes: int) -> None:
        self.log: list[str] = []
        self.budget_bytes = budget_bytes
        self.loading = Loading()
        self.residency = WeightResidency(budget_bytes, self.loading)
        self.engines: dict[str, WeighingEngine] = {}
        for name, size in sizes.items():
            engine = self.residency.load(name, partial(WeighingEngine, name, size, self.log))
            assert isinstance(engine, WeighingEngine)
            self.engines[name] = engine
        self.log.clear()

    def use(self, name: str) -> None:
        engine = self.engines[name]

        def call() -> None:
            assert engine.has_weights
            assert not self.loading.now
            loaded = sum(one.weight_bytes for one in self.engines.values() if one.has_weights)
            assert loaded == self.residency.resident_bytes
            assert not self.budget_bytes or loaded <= self.budget_bytes

        self.residency.run(engine, call)


def test_without_a_budget_all_weights_stay() -> None:
    world = World(0, a=60, b=60)
    for name in "abab":
        world.use(name)
    assert world.log == []


def test_the_least_recently_used_makes_room() -> None:
    world = World(100, a=40, b=40, c=40)
    for name in ("c", "a", "c", "b", "c", "a"):
        world.use(name)
    # Loading c for the first time, when its size was not known, had put a and b out.
    assert world.log == ["load a", "drop a", "load b", "drop b", "load a"]


def test_a_large_one_puts_out_as_many_as_it_must() -> None:
    world = World(100, a=30, b=30, c=90)
    for name in ("a", "b", "c"):
        world.use(name)
    assert world.log == ["drop c", "load a", "load b", "drop a", "drop b", "load c"]


def test_one_that_never_fits_is_refused_by_the_setting() -> None:
    with pytest.raises(MaskwireError, match=r"models\.weight_bytes") as refused:
        World(100, a=101)
    assert refused.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_weights_that_cannot_be_read_again_fail_the_call_and_later_ones_may_succeed() -> None:
    world = World(100, a=60, b=60)
    world.engines["a"].is_broken = True
    with (
        structlog.testing.capture_logs() as lines,
        pytest.raises(MaskwireError, match="model a cannot be loaded now; the server's log"),
    ):
        world.use("a")
    assert [(line["model"], line["reason"]) for line in lines] == [("a", "the file is gone")]
    assert world.loading.ever == ["a", "b", "a"]
    assert not world.loading.now, "it is not said to load for ever"
    assert world.residency.state_of("a") is LoadState.FAILED
    world.engines["a"].is_broken = False
    world.use("a")
    assert world.residency.state_of("a") is LoadState.LOADED
    world.use("b")


def test_it_is_told_whose_weights_are_loaded() -> None:
    world = World(100, a=60, b=60)
    states = [world.residency.state_of(name) for name in world.engines]
    assert states == [LoadState.ON_DEMAND, LoadState.LOADED]
    world.loading.tell = world.residency.state_of
    world.use("a")
    assert world.loading.told == [LoadState.LOADING]
    states = [world.residency.state_of(name) for name in world.engines]
    assert states == [LoadState.LOADED, LoadState.ON_DEMAND]
