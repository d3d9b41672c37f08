"""Masks secrets in all log records: at debug level the Kafka libraries log whole requests and settings."""

from __future__ import annotations

import logging
import threading
from typing import Any

__all__ = ["SHOWN", "keep_out_of_logs"]

SHOWN = "***"
_lock = threading.Lock()
_hidden: tuple[str, ...] = ()  # every spelling of a secret, the longest first


def keep_out_of_logs(secret: str) -> None:
    """From now on every log message of this process shows SHOWN for `secret`, as text and as the repr of bytes.

    Trap: this covers messages only, not tracebacks; so an error must not contain a secret.
    """
    global _hidden  # noqa: PLW0603  # log records are global to a process
    as_bytes = repr(secret.encode())[2:-1]
    spellings = {secret, repr(secret)[1:-1], as_bytes, as_bytes.replace("'", "\\'")}
    with _lock:
        if not spellings - set(_hidden):
            return
        if not _hidden:
            logging.setLogRecordFactory(_Factory(logging.getLogRecordFactory()))
        _hidden = tuple(sorted({*_hidden, *spellings}, key=len, reverse=True))


class _Factory:
    """Creates records with the previous factory, and masks their messages."""

    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._previous(*args, **kwargs)
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a wrong format string: the handler reports it
            return record
        if any(spelling in text for spelling in _hidden):
            for spelling in _hidden:
                text = text.replace(spelling, SHOWN)
            record.msg, record.args = text, ()
        return record
