from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from maskwire_server.observability.logging import configure_logging
from maskwire_server.settings import LoggingSettings


@pytest.fixture(autouse=True)
def _restored_logging():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _configured(**settings) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(LoggingSettings(**settings), stream)
    return stream


def test_lines_are_json_with_time_level_name_and_what_the_context_binds():
    stream = _configured(format="json")
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger("a.name").info("an event", count=3)
    [line] = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "an event",
        "level": "info",
        "logger": "a.name",
        "count": 3,
        "request_id": "r-1",
    }


def test_loggers_of_libraries_write_the_same_form():
    stream = _configured(format="json")
    logging.getLogger("a.library").warning("took %d ms", 5)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["logger"], line["level"]) == ("took 5 ms", "a.library", "warning")


def test_a_traceback_is_part_of_its_line():
    stream = _configured(format="json")
    try:
        raise ValueError("the cause")
    except ValueError as error:
        structlog.get_logger().error("failed", exc_info=error)
    [line] = stream.getvalue().splitlines()
    assert "ValueError: the cause" in json.loads(line)["exception"]


def test_lines_below_the_level_are_not_written():
    stream = _configured(format="json", level="warning")
    structlog.get_logger().info("quiet")
    logging.getLogger("a.library").info("quiet")
    assert stream.getvalue() == ""


def test_auto_is_json_where_no_person_reads_and_console_writes_plain_lines():
    stream = _configured(format="auto")
    structlog.get_logger().info("an event")
    assert json.loads(stream.getvalue())["event"] == "an event"
    stream = _configured(format="console")
    structlog.get_logger().info("an event", count=3)
    assert "an event" in stream.getvalue()
    assert "count=3" in stream.getvalue()
