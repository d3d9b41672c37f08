"""Log lines: one JSON object per event with its fields, whatever the library and the values."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from stream_ad.observability.logs import format_logs


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler of the root logger writes."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    formatters = [(one, one.formatter) for one in root.handlers]
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)
    for one, formatter in formatters:
        one.setFormatter(formatter)
    logging.captureWarnings(False)


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_object_with_its_fields(written: io.StringIO) -> None:
    format_logs("json")
    logging.getLogger("stream_ad.x").warning("read %d\nlines", 2, extra={"topic": "t", "partition": 3})
    [event] = events(written)
    assert datetime.fromisoformat(str(event.pop("time"))).utcoffset() is not None
    assert event == {
        "level": "WARNING",
        "logger": "stream_ad.x",
        "message": "read 2\nlines",
        "topic": "t",
        "partition": 3,
    }


def test_library_errors_and_odd_fields_become_json(written: io.StringIO) -> None:
    format_logs("json")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("aiokafka.client").exception("failed", extra={"what": {1, 2}})
    [event] = events(written)
    assert event["logger"] == "aiokafka.client"
    assert "ValueError: broken" in str(event["error"])
    assert event["what"] == "{1, 2}"


def test_text_has_the_time_in_utc(written: io.StringIO) -> None:
    format_logs("text")
    logging.getLogger("stream_ad.x").warning("hello")
    time, _, rest = written.getvalue().partition(" ")
    assert rest == "WARNING stream_ad.x: hello\n"
    assert time.endswith("+00:00")


@pytest.mark.parametrize("client", ["aiokafka.client", "kafka.net.transport", "asyncio"])
def test_a_clients_error_is_one_line(written: io.StringIO, client: str) -> None:
    format_logs("text")
    try:
        raise ConnectionResetError(104, "reset by peer")
    except ConnectionResetError:
        logging.getLogger(client).exception("cannot read %s", "it")
    [line] = written.getvalue().splitlines()
    assert line.endswith(f"ERROR {client}: cannot read it (ConnectionResetError(104, 'reset by peer'))")
