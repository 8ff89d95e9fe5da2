"""Which models' weights are in a device's memory, where they do not all fit into what they may use.

Engines stay as they are, with their trackers and everything that refers to them; only the weights
come and go. Everything here runs on the one thread that owns the device, between the calls of the
engines, so that no model in use is ever without its weights and none is loaded twice at once.
"""

from __future__ import annotations

import enum
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog

from .engine import SegmentationEngine
from .errors import ErrorCode, MaskwireError
from .observer import Observer

Value = TypeVar("Value")

_log = structlog.get_logger(__name__)


class LoadState(enum.Enum):
    """Where a model's weights are."""

    LOADED = enum.auto()
    """On the device."""
    LOADING = enum.auto()
    """On their way to it."""
    ON_DEMAND = enum.auto()
    """Not on it: whoever uses the model next loads them."""
    FAILED = enum.auto()
    """Not on it, because they could not be read; whoever uses the model next tries again."""


class WeightResidency:
    """Keeps the weights of one device's models within a budget; the least recently used go first.

    Used on the thread that owns the device only, but for `state_of`.
    """

    def __init__(self, budget_bytes: int, observer: Observer) -> None:
        """Take the budget.

        Args:
            budget_bytes: Most bytes of weights on the device; 0 sets no limit.
            observer: Hears what is loaded.
        """
        self._budget_bytes = budget_bytes
        self._observer = observer
        self._resident: OrderedDict[str, SegmentationEngine] = OrderedDict()
        self._states: dict[str, LoadState] = {}

    def state_of(self, name: str) -> LoadState:
        """Return where a model's weights are; asked on any thread."""
        return self._states.get(name, LoadState.ON_DEMAND)

    @property
    def resident_bytes(self) -> int:
        """Bytes of the weights that are loaded."""
        return sum(engine.weight_bytes for engine in self._resident.values())

    def load(self, name: str, load: Callable[[], SegmentationEngine]) -> SegmentationEngine:
        """Load a model for the first time, when its size is not known yet.

        Where there is a budget, all others make room first.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` as `load` raises it, or where the model alone is
                larger than the budget.
        """
        if self._budget_bytes:
            self._make_room(self._budget_bytes)
        with self._loading(name):
            engine = load()
            if self._budget_bytes and engine.weight_bytes > self._budget_bytes:
                engine.close()
                raise MaskwireError(
                    ErrorCode.MODEL_UNAVAILABLE,
                    f"the weights of model {name} take {engine.weight_bytes} bytes, more than "
                    f"models.weight_bytes ({self._budget_bytes}) allows",
                    resource=name,
                )
        self._keep(name, engine)
        return engine

    def run(self, engine: SegmentationEngine, function: Callable[[], Value]) -> Value:
        """Run a call of an engine with its weights in place.

        Raises:
            MaskwireError: `MODEL_UNAVAILABLE` where they cannot be loaded.
        """
        name = engine.description.name
        if name in self._resident:
            self._resident.move_to_end(name)
        else:
            self._make_room(engine.weight_bytes)
            with self._loading(name), _saying_why(name):
                engine.load_weights()
            self._keep(name, engine)
        return function()

    @contextmanager
    def _loading(self, name: str) -> Iterator[None]:
        self._states[name] = LoadState.LOADING
        self._observer.model_loading(name, is_loading=True)
        started = time.perf_counter()
        try:
            yield
            self._observer.model_loaded(name, time.perf_counter() - started)
        except BaseException:
            self._states[name] = LoadState.FAILED
            raise
        finally:
            self._observer.model_loading(name, is_loading=False)

    def _keep(self, name: str, engine: SegmentationEngine) -> None:
        self._resident[name] = engine
        self._states[name] = LoadState.LOADED
        self._observer.weights_changed(name, engine.weight_bytes)

    def _make_room(self, size_bytes: int) -> None:
        while self._resident and self.resident_bytes + size_bytes > self._budget_bytes > 0:
            name, engine = self._resident.popitem(last=False)
            engine.drop_weights()
            self._states[name] = LoadState.ON_DEMAND
            self._observer.weights_changed(name, 0)


@contextmanager
def _saying_why(name: str) -> Iterator[None]:
    """Tell the log, and not whoever called, about files of the server that cannot be read."""
    try:
        yield
    except MaskwireError as error:
        _log.error("weights cannot be loaded again", model=name, reason=error.message)
        raise MaskwireError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"the weights of model {name} cannot be loaded now; the server's log says why",
            resource=name,
        ) from error
