"""Metrics of the process itself: its version, whether it is ready, its models and its devices."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, Histogram

_LOAD_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class ProcessMetrics:
    """The part of `Metrics` about the process.

    Attributes:
        registry: What the metrics endpoint serves.
    """

    registry: CollectorRegistry

    def _make_process_metrics(self) -> None:
        gauge = partial(Gauge, registry=self.registry)
        self._build = gauge("maskwire_build_info", "Always 1, with the version.", ("version",))
        self._models = gauge(
            "maskwire_model_info",
            "Always 1 for each model that is served, with what it is.",
            ("model", "engine", "device", "precision", "checkpoint_digest"),
        )
        self._weights = gauge(
            "maskwire_model_weights_bytes",
            "Weights of a model that are loaded now; 0 where it made room for others.",
            ("model",),
        )
        self._loading = gauge(
            "maskwire_model_loading",
            "1 while a model's weights are being loaded, at the start or again, otherwise 0.",
            ("model",),
        )
        self._loads = Histogram(
            "maskwire_model_load_seconds",
            "Time to load a model's weights, at the start or again.",
            ("model",),
            buckets=_LOAD_BUCKETS,
            registry=self.registry,
        )
        self._ready = gauge(
            "maskwire_ready",
            "Whether a server takes calls, or a worker jobs: not while it loads or drains.",
            ("role",),
        )
        self._device_memory = gauge(
            "maskwire_device_memory_bytes",
            "Memory of a device: used, by all its processes together, and limit.",
            ("device", "kind"),
        )

    def readiness_changed(self, role: str, is_ready: bool) -> None:
        """Record whether a `server` takes calls, or a `worker` jobs."""
        self._ready.labels(role).set(is_ready)

    def device_found(self, device: str, read_memory: Callable[[], tuple[int, int]]) -> None:
        """Measure a device's memory with every scrape.

        Args:
            device: Name of the device, e.g. `cuda:0`.
            read_memory: Returns the bytes that are used and those that there are; called on the
                thread of the metrics endpoint. Where it raises the samples are NaN.
        """

        def read(index: int) -> float:
            # A device that fails must not take the other metrics with it.
            try:
                return float(read_memory()[index])
            except Exception:
                return math.nan

        for index, kind in enumerate(("used", "limit")):
            self._device_memory.labels(device, kind).set_function(partial(read, index))

    def model_loading(self, model: str, *, is_loading: bool) -> None:
        """Record that loading a model's weights began or ended."""
        self._loading.labels(model).set(is_loading)

    def model_loaded(self, model: str, seconds: float) -> None:
        """Record how long loading took."""
        self._loads.labels(model).observe(seconds)

    def weights_changed(self, model: str, size_bytes: int) -> None:
        """Record the weights of a model that are loaded."""
        self._weights.labels(model).set(size_bytes)

    def version_known(self, version: str) -> None:
        """Record the version that runs."""
        self._build.labels(version).set(1)

    def model_served(
        self, model: str, engine: str, device: str, precision: str, checkpoint_digest: str
    ) -> None:
        """Record a model that is served."""
        self._models.labels(model, engine, device, precision, checkpoint_digest).set(1)
