"""Makes the Grafana dashboards beside this file: service, sessions, jobs, devices.

`python -m deploy.grafana.dashboards` writes them anew; edit here, not in the JSON.
"""

from __future__ import annotations

from pathlib import Path

from .panels import Dashboard, Panel, Query, Row, level, matchers, mean, quantiles, rate, to_json

FOLDER = Path(__file__).parent


def _service() -> Dashboard:
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


def _sessions() -> Dashboard:
    return Dashboard(
        "maskwire-sessions",
        "Maskwire: live sessions",
        (
            Row(
                "Sessions",
                (
                    Panel(
                        "Live sessions and places",
                        "short",
                        (
                            Query(level("maskwire_sessions_active", "instance"), "{{instance}}"),
                            Query("sum(maskwire_sessions_limit)", "places in all"),
                        ),
                    ),
                    Panel(
                        "Places taken",
                        "percentunit",
                        (Query("maskwire:sessions:utilisation", "taken"),),
                        "New sessions are refused beyond 100 % of a server.",
                    ),
                    Panel(
                        "Ends by reason",
                        "ops",
                        (Query(rate("maskwire_sessions_ended_total", "reason"), "{{reason}}"),),
                    ),
                    Panel(
                        "Memory of sessions",
                        "bytes",
                        (Query(level("maskwire_sessions_bytes", "instance"), "{{instance}}"),),
                    ),
                ),
            ),
            Row(
                "Frames",
                (
                    Panel(
                        "Frames by outcome",
                        "ops",
                        (Query(rate("maskwire_session_frames_total", "outcome"), "{{outcome}}"),),
                    ),
                    Panel(
                        "Frames that newer ones overtook",
                        "percentunit",
                        (Query("maskwire:frames_dropped:ratio_rate5m", "dropped"),),
                    ),
                    Panel("Arrival to answer", "s", quantiles("maskwire_frame_seconds", "model")),
                ),
            ),
            Row(
                "Where the time goes",
                (
                    Panel(
                        "Tracking, per call",
                        "s",
                        quantiles("maskwire_stage_seconds", "model", 'stage="track"'),
                    ),
                    Panel(
                        "Stored videos in work",
                        "short",
                        (Query(level("maskwire_videos", "instance"), "{{instance}}"),),
                    ),
                    Panel(
                        "How long sessions last, median",
                        "s",
                        (quantiles("maskwire_session_seconds", "instance")[0],),
                    ),
                ),
            ),
        ),
    )


def _jobs() -> Dashboard:
    return Dashboard(
        "maskwire-jobs",
        "Maskwire: jobs",
        (
            Row(
                "Queues",
                (
                    Panel(
                        "Jobs that wait",
                        "short",
                        (Query("queue:maskwire_job_queue_depth:max", "{{queue}}"),),
                    ),
                    Panel(
                        "Workers",
                        "short",
                        (Query(level("maskwire_job_workers", "queue"), "{{queue}}"),),
                    ),
                    Panel(
                        "Submission to first attempt, 95th percentile",
                        "s",
                        (Query("queue:maskwire_job_wait_seconds:p95_30m", "{{queue}}"),),
                    ),
                ),
            ),
            Row(
                "Attempts",
                (
                    Panel(
                        "Attempts by outcome",
                        "ops",
                        (Query(rate("maskwire_job_attempts_total", "outcome"), "{{outcome}}"),),
                        is_stacked=True,
                    ),
                    Panel(
                        "Time of an attempt",
                        "s",
                        quantiles("maskwire_job_attempt_seconds", "method"),
                    ),
                    Panel(
                        "Jobs done",
                        "ops",
                        (
                            Query(
                                rate("maskwire_jobs_finished_total", "method, state"),
                                "{{method}} {{state}}",
                            ),
                        ),
                    ),
                ),
            ),
            Row(
                "Workers and reports",
                (
                    Panel(
                        "Child processes that ended",
                        "ops",
                        (Query(rate("maskwire_job_child_restarts_total", "reason"), "{{reason}}"),),
                    ),
                    Panel(
                        "Reports of ends",
                        "ops",
                        (Query(rate("maskwire_webhooks_total", "outcome"), "{{outcome}}"),),
                    ),
                ),
            ),
        ),
    )


def _devices() -> Dashboard:
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


def dashboards() -> dict[str, str]:
    """Return the JSON of each dashboard by the name of its file."""
    made = (_service(), _sessions(), _jobs(), _devices())
    return {f"{board.identifier}.json": to_json(board) for board in made}


def write() -> None:
    """Write every dashboard beside this file."""
    for name, content in dashboards().items():
        (FOLDER / name).write_text(content)


if __name__ == "__main__":
    write()
