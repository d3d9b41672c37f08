"""Secrets stay out of logs, whoever logs: the Kafka libraries print whole requests and settings at debug level."""

from __future__ import annotations

import logging
import threading
from typing import Any

__all__ = ["SHOWN", "keep_out_of_logs"]

SHOWN = "***"
_lock = threading.Lock()
_hidden: tuple[str, ...] = ()  # every way a secret may be spelled, the longest first


def keep_out_of_logs(secret: str) -> None:
    """From now on no log record of this process shows `secret`, in text or as bytes are printed; SHOWN stands there.

    Trap: tracebacks are not looked through, only messages; so an error must not hold a secret.
    """
    global _hidden  # noqa: PLW0603  # the log records of a process are one thing
    spelled = repr(secret.encode())[2:-1]
    spellings = {secret, repr(secret)[1:-1], spelled, spelled.replace("'", "\\'")}
    with _lock:
        if not spellings - set(_hidden):
            return
        if not _hidden:
            logging.setLogRecordFactory(_Factory(logging.getLogRecordFactory()))
        _hidden = tuple(sorted({*_hidden, *spellings}, key=len, reverse=True))


class _Factory:
    """Makes records as the factory before it did, and looks through what they say."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._before(*args, **kwargs)
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a wrong format: the handler tells of it
            return record
        if any(spelling in text for spelling in _hidden):
            for spelling in _hidden:
                text = text.replace(spelling, SHOWN)
            record.msg, record.args = text, ()
        return record
