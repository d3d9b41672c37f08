"""How log lines look: for people, or one JSON object an event, our own and the libraries' alike."""

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
    """time (UTC), level, logger, message; then the fields a call gave by `extra`; `error` where something was raised.

    What JSON cannot hold becomes its text, so a line is always written.
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
        """The brokers' clients tell of a cut line with a trace, which says nothing to who runs a worker."""
        if record.exc_info and record.name.partition(".")[0] in _CLIENTS:
            told = f"{record.getMessage()} ({record.exc_info[1]!r})"
            record = copy(record)
            record.msg, record.args = told, ()
            record.exc_info = record.exc_text = None
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def format_logs(log_format: LogFormat) -> None:
    """Gives every handler of the root logger the format, and warnings a way into the log."""
    formatter = JsonFormatter() if log_format == "json" else _TextFormatter(TEXT)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
    logging.captureWarnings(True)
