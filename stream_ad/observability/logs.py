"""Log formats: text for people, or one JSON object per event; the product's lines and the libraries'."""

from __future__ import annotations

import json
import logging
from copy import copy
from datetime import UTC, datetime
from typing import Literal

__all__ = ["JsonFormatter", "LogFormat", "format_logs"]

LogFormat = Literal["text", "json"]
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_CLIENTS = frozenset({"faust", "mode", "aiokafka", "kafka", "asyncio"})
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message; then the fields of `extra`; `error` with the traceback of an exception.

    A value that JSON cannot represent is written as its text, so that no line is lost.
    """

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        event |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            event["error"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Kafka clients log a lost connection with a traceback, which is of no use to an operator: one line instead."""
        if record.exc_info and record.name.partition(".")[0] in _CLIENTS:
            message = f"{record.getMessage()} ({record.exc_info[1]!r})"
            record = copy(record)
            record.msg, record.args = message, ()
            record.exc_info = record.exc_text = None
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def format_logs(log_format: LogFormat) -> None:
    """Sets the format of every handler of the root logger, and logs Python warnings too."""
    formatter = JsonFormatter() if log_format == "json" else _TextFormatter(TEXT)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
    logging.captureWarnings(True)
