"""The dashboard of the service: objectives, calls, times, caches."""

from __future__ import annotations

from ..panels import Dashboard, Panel, Query, Row, level, mean, quantiles, rate


def service() -> Dashboard:
    """Return the dashboard."""
    segment = 'grpc_method="SegmentImage"'
    return Dashboard(
        "maskwire-service",
        "Maskwire: service",
        (
            Row(
                "Objectives",
                (
                    Panel(
                        "SegmentImage slower than a second",
                        "percentunit",
                        (
                            Query("maskwire:slow_calls:ratio_rate1h", "1 h"),
                            Query("maskwire:slow_calls:ratio_rate6h", "6 h"),
                        ),
                        "The objective allows 1 %.",
                    ),
                    Panel(
                        "Calls that failed",
                        "percentunit",
                        (
                            Query("maskwire:failed_calls:ratio_rate1h", "1 h"),
                            Query("maskwire:failed_calls:ratio_rate6h", "6 h"),
                        ),
                        "The objective allows 0.1 %; live sessions are left out.",
                    ),
                    Panel(
                        "Ready",
                        "short",
                        (
                            Query(level("maskwire_ready", "role"), "{{role}}"),
                            Query(
                                "count by (version) (maskwire_build_info)", "version {{version}}"
                            ),
                        ),
                    ),
                ),
            ),
            Row(
                "Calls",
                (
                    Panel(
                        "Calls by method",
                        "reqps",
                        (
                            Query(
                                rate("grpc_server_handled_total", "grpc_method"), "{{grpc_method}}"
                            ),
                        ),
                        is_stacked=True,
                    ),
                    Panel(
                        "Calls by status",
                        "reqps",
                        (Query(rate("grpc_server_handled_total", "grpc_code"), "{{grpc_code}}"),),
                        is_stacked=True,
                    ),
                    Panel(
                        "Errors by code",
                        "reqps",
                        (Query(rate("maskwire_errors_total", "code") + " > 0", "{{code}}"),),
                    ),
                    Panel(
                        "Refused because of load",
                        "reqps",
                        (
                            Query(
                                rate("maskwire_overload_refused_total", "executor"), "{{executor}}"
                            ),
                        ),
                    ),
                ),
            ),
            Row(
                "Time",
                (
                    Panel(
                        "SegmentImage",
                        "s",
                        quantiles("grpc_server_handling_seconds", "grpc_method", segment),
                    ),
                    Panel(
                        "Mean time of each stage",
                        "s",
                        (
                            Query(
                                mean("maskwire_stage_seconds", "model, stage"),
                                "{{model}} {{stage}}",
                            ),
                        ),
                    ),
                    Panel(
                        "Waiting for an executor, 95th percentile",
                        "s",
                        (quantiles("maskwire_queue_seconds", "executor")[1],),
                    ),
                ),
            ),
            Row(
                "Caches and files",
                (
                    Panel(
                        "Hit rate",
                        "percentunit",
                        (Query("cache:maskwire_cache_hits:ratio_rate30m", "{{cache}}"),),
                    ),
                    Panel(
                        "Size of caches",
                        "bytes",
                        (Query(level("maskwire_cache_bytes", "cache"), "{{cache}}"),),
                    ),
                    Panel(
                        "Files moved",
                        "Bps",
                        (Query(rate("maskwire_file_bytes_total", "direction"), "{{direction}}"),),
                    ),
                    Panel(
                        "Stored files", "bytes", (Query("max(maskwire_stored_bytes)", "stored"),)
                    ),
                ),
            ),
        ),
    )
