"""Reading a subscription's schema file, and the errors about it."""

from __future__ import annotations

from stream_ad.errors import ConfigError
from stream_ad.settings import Subscription

__all__ = ["bad_schema", "missing_library", "read_schema_file"]


def read_schema_file(subscription: Subscription) -> bytes:
    """The file's bytes. ConfigError when it cannot be read."""
    path = subscription.schema_file
    assert path is not None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{_location(subscription)} cannot be read: {error.strerror}") from None


def bad_schema(subscription: Subscription, expected: str, found: str, *, hint: str = "") -> ConfigError:
    return ConfigError(f"{_location(subscription)}: expected {expected}, found {found}", hint=hint)


def missing_library(subscription: Subscription, library: str) -> ConfigError:
    """Trap: the extra to install has the format's name, not the library's."""
    return ConfigError(
        f"subscription of {subscription.topic!r}: format {subscription.format!r} needs {library}, "
        "which is not installed",
        hint=f"pip install 'stream-ad[{subscription.format}]'",
    )


def _location(subscription: Subscription) -> str:
    return f"subscription of {subscription.topic!r}: schema_file {subscription.schema_file}"
