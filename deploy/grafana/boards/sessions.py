"""The dashboard of live sessions."""

from __future__ import annotations

from ..panels import Dashboard, Panel, Query, Row, level, quantiles, rate


def sessions() -> Dashboard:
    """Return the dashboard."""
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
