"""Every error the product raises on purpose, one tree:

StreamAdError                 exit code 1
├── ConfigError               exit code 2: a setting is missing, broken or contradicts another
│   └── OptionError           an argument of the SDK is wrong; a ValueError too
├── UnavailableError          a broker, store or file cannot be reached; `retry_after_s` when it said so
├── AccessError               a broker or store refused our credentials or rights
├── DataError                 data handed over by the user cannot be used
│   ├── TableError            a frame or array handed to the SDK cannot be used; a ValueError and a TypeError too
│   └── RecordError           one record of a stream cannot be used; it goes to the dead-letter topic
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
    """Base of all errors a user may want to catch. `hint` says what the user can do about it."""

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
    """An argument of the SDK is wrong; a ValueError, as callers in the manner of scikit-learn expect."""


class UnavailableError(StreamAdError):
    """Something outside cannot be reached now; trying again may help."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class AccessError(StreamAdError):
    """Credentials or rights were refused; trying again will not help."""


class DataError(StreamAdError):
    """Data handed over by the user cannot be used."""


class TableError(DataError, ValueError, TypeError):
    """A frame or array handed to the SDK cannot be used: whichever of Python's two words a caller expects for it."""


class RecordError(DataError):
    """One record of a stream cannot be used. `reason` is a stable word for the dead-letter header and the metrics."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ModelError(StreamAdError):
    """Weights or a profile are missing, foreign or of another version."""


def describe_found(found: object) -> str:
    """A few words for a dead letter: scalars as they are (shortened to 80 characters), containers by their size."""
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
