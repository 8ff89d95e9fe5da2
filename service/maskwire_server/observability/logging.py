"""The log: structured lines for people or machines on one stream.

Everything goes through here, the standard library's loggers of the dependencies included, so that
a JSON log holds nothing but JSON.
"""

from __future__ import annotations

import logging
from typing import TextIO

import structlog
from structlog.typing import Processor

from ..settings import LoggingSettings


def configure_logging(settings: LoggingSettings, stream: TextIO) -> None:
    """Send every log line of the process to `stream`; calling it again replaces the former.

    Lines carry time, level, event, the logger's name and what is bound to the context (the
    request id); tracebacks are part of the line.
    """
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    level = getattr(logging, settings.level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Loggers made at import must follow a later configuration, so none is cached.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_json_tail() if as_json else _console_tail(stream)),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)


def _json_tail() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _console_tail(stream: TextIO) -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
