"""Every error that the product raises on purpose, one tree:

StreamAdError                 exit code 1
├── ConfigError               exit code 2: a setting is missing, broken or contradicts another
│   └── OptionError           an argument of the SDK is wrong; also a ValueError
├── UnavailableError          a broker, store or file cannot be reached; `retry_after_s` when it named a time
├── AccessError               a broker or store refused our credentials or rights
├── DataError                 the user's data cannot be used
│   ├── TableError            a frame or array given to the SDK cannot be used; also a ValueError and a TypeError
│   └── RecordError           one record of a stream cannot be used; it becomes a dead-letter record
└── ModelError                weights or a profile are missing, foreign or of another version
"""

from __future__ import annotations

__all__ = [
    "SHOWN_CHARS",
    "AccessError",
    "ConfigError",
    "DataError",
    "ModelError",
    "OptionError",
    "RecordError",
    "StreamAdError",
    "TableError",
    "UnavailableError",
    "describe_found",
    "shorten",
]

SHOWN_CHARS = 80


class StreamAdError(Exception):
    """Base of all errors that a user may want to catch. hint: what the user can do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} — {self.hint}" if self.hint else self.message


class ConfigError(StreamAdError):
    """A setting is missing, broken or contradicts another."""

    exit_code = 2


class OptionError(ConfigError, ValueError):
    """An argument of the SDK is wrong; a ValueError, as scikit-learn users expect."""


class UnavailableError(StreamAdError):
    """A dependency cannot be reached now; retrying may help. retry_after_s: when it asked for a pause."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class AccessError(StreamAdError):
    """A dependency refused the credentials or rights; retrying does not help."""


class DataError(StreamAdError):
    """The user's data cannot be used."""


class TableError(DataError, ValueError, TypeError):
    """A frame or array given to the SDK cannot be used; a ValueError and a TypeError, whichever the caller expects."""


class RecordError(DataError):
    """One record of a stream cannot be used. reason: a stable word for the dead-letter header and the metrics."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ModelError(StreamAdError):
    """Weights or a profile are missing, foreign or of another version."""


def describe_found(found: object) -> str:
    """Text of a found value for an error message: scalars in at most 80 characters, containers by their size."""
    if isinstance(found, dict):
        return f"an object of {len(found)} fields"
    if isinstance(found, list):
        return f"an array of {len(found)} elements"
    if isinstance(found, str):
        return "text " + shorten(repr(found[: SHOWN_CHARS + 1]))
    if isinstance(found, int) and abs(found) >= 1 << 128:
        return f"an integer of {found.bit_length()} bits"
    return {"None": "null", "True": "true", "False": "false"}.get(repr(found), shorten(repr(found)))


def shorten(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
