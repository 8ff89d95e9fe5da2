"""The dashboard of devices and models."""

from __future__ import annotations

from ..panels import Dashboard, Panel, Query, Row, level, matchers, mean, rate


def devices() -> Dashboard:
    """Return the dashboard."""
    return Dashboard(
        "maskwire-devices",
        "Maskwire: devices and models",
        (
            Row(
                "Executors",
                (
                    Panel(
                        "Busy",
                        "percentunit",
                        (
                            Query(
                                rate("maskwire_executor_busy_seconds_total", "instance, executor"),
                                "{{instance}} {{executor}}",
                            ),
                        ),
                        "Threads at work; a device has one, so that 100 % is all it can do.",
                    ),
                    Panel(
                        "Work that waits",
                        "short",
                        (
                            Query(
                                level("maskwire_queue_depth", "instance, executor"),
                                "{{instance}} {{executor}}",
                            ),
                        ),
                    ),
                    Panel(
                        "Work that runs",
                        "short",
                        (
                            Query(
                                level("maskwire_executor_running", "instance, executor"),
                                "{{instance}} {{executor}}",
                            ),
                        ),
                    ),
                ),
            ),
            Row(
                "Memory",
                (
                    Panel(
                        "Device memory",
                        "bytes",
                        (
                            Query(
                                "maskwire_device_memory_bytes" + matchers(),
                                "{{instance}} {{device}} {{kind}}",
                            ),
                        ),
                    ),
                    Panel(
                        "Device memory in use",
                        "percentunit",
                        (
                            Query(
                                "instance_device:maskwire_device_memory:utilisation" + matchers(),
                                "{{instance}} {{device}}",
                            ),
                        ),
                    ),
                    Panel(
                        "Weights",
                        "bytes",
                        (Query(level("maskwire_model_weights_bytes", "model"), "{{model}}"),),
                        is_stacked=True,
                    ),
                ),
            ),
            Row(
                "Models",
                (
                    Panel(
                        "Served",
                        "short",
                        (
                            Query(
                                "count by (model, device, precision) (maskwire_model_info)",
                                "{{model}} on {{device}}, {{precision}}",
                            ),
                        ),
                    ),
                    Panel(
                        "Loads",
                        "ops",
                        (Query(rate("maskwire_model_load_seconds_count", "model"), "{{model}}"),),
                    ),
                    Panel(
                        "Loading now",
                        "short",
                        (Query("sum by (model) (maskwire_model_loading)", "{{model}}"),),
                    ),
                    Panel(
                        "Objects per call of a decoder, mean",
                        "short",
                        (Query(mean("maskwire_decode_batch_objects", "model"), "{{model}}"),),
                    ),
                ),
            ),
        ),
    )
