"""The dashboard of jobs."""

from __future__ import annotations

from ..panels import Dashboard, Panel, Query, Row, level, quantiles, rate


def jobs() -> Dashboard:
    """Return the dashboard."""
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
