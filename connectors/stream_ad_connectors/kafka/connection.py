"""What every Kafka adapter shares: connection options, quiet probing and the way into the error tree."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kafka.errors import KafkaError

from stream_ad.errors import AccessError, ConfigError, DataError, StreamAdError, UnavailableError
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.security import bootstrap_servers, security_options

__all__ = ["abandon", "async_options", "kafka_error", "missing_topic", "python_options", "quiet", "timeout_ms"]

_ABANDON_S = 2.0
_ACCESS = (
    "AuthorizationFailedError",
    "AuthenticationFailedError",
    "AuthenticationFailed",
    "AuthorizationError",
    "AuthorizationFailed",
)
_CONFIG = frozenset(
    {
        "AuthenticationMethodNotSupported",
        "IncompatibleBrokerVersion",
        "InvalidConfigurationError",
        "InvalidGroupIdError",
        "InvalidPartitionsError",
        "InvalidReplicationFactorError",
        "InvalidSessionTimeoutError",
        "InvalidTopicError",
        "KafkaConfigurationError",
        "PolicyViolationError",
        "UnsupportedSaslMechanismError",
        "UnsupportedVersionError",
    }
)
_DATA = frozenset(
    {
        "CorruptRecordError",
        "CorruptRecordException",
        "InvalidRecordError",
        "InvalidTimestampError",
        "MessageSizeTooLargeError",
        "RecordListTooLargeError",
        "RecordTooLargeError",
    }
)
_TRANSIENT = frozenset({"KafkaTimeoutError", "KafkaConnectionError", "NoBrokersAvailable", "NodeNotReadyError"})


def timeout_ms(settings: KafkaSettings) -> int:
    return max(1, int(settings.request_timeout_s * 1000))


def python_options(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments that every client of kafka-python takes."""
    return {
        "bootstrap_servers": bootstrap_servers(settings),
        "bootstrap_timeout_ms": timeout_ms(settings),
        "request_timeout_ms": timeout_ms(settings),
        "reconnect_backoff_max_ms": 1000,
        "client_id": "stream-ad",
        **security_options(settings),
    }


def async_options(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments that every client of aiokafka takes."""
    return {
        "bootstrap_servers": bootstrap_servers(settings),
        "request_timeout_ms": timeout_ms(settings),
        "client_id": "stream-ad",
        **security_options(settings),
    }


class _Quiet:
    """Counts who wants quiet, as several threads may at once: the first sets the levels, the last sets them back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._levels: dict[str, int] = {}

    def enter(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._levels = {name: logging.getLogger(name).level for name in ("kafka", "aiokafka")}
                for name in self._levels:
                    logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                for name, level in self._levels.items():
                    logging.getLogger(name).setLevel(level)


_QUIET = _Quiet()


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps both client libraries from logging while a connection is tried: the error raised afterwards says it all."""
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()


def missing_topic(topic: str, partitions: int = 1) -> ConfigError:
    return ConfigError(
        f"topic {topic!r} does not exist on the broker",
        hint=f"create it: kafka-topics.sh --bootstrap-server BROKER --create --topic {topic} --partitions {partitions};"
        f" or send it a file: stream-ad replay FILE --topic {topic} --create",
    )


def abandon(producer: Any) -> None:
    """Ends a kafka-python producer and gives up what it still holds.

    Trap: its `close` waits for that first, and when this fails it leaves its thread and its connection behind.
    """
    sender = getattr(producer, "_sender", None)
    if sender is not None:
        sender.force_close()
    with quiet(), suppress(KafkaError, OSError):
        producer.close(timeout=_ABANDON_S)


def kafka_error(error: BaseException, settings: KafkaSettings, doing: str) -> StreamAdError:
    """The tree's error for one of kafka-python, aiokafka or the socket layer.

    Both libraries have a tree of their own under the same class names, so names decide.
    """
    names = [cls.__name__ for cls in type(error).__mro__]
    what = f"{doing}: {type(error).__name__}" + (f": {error}" if str(error) else "")
    where = settings.bootstrap
    if any(name.endswith(_ACCESS) for name in names):
        return AccessError(f"{what} (broker {where})", hint="grant the rights or mend the credentials on the broker")
    if _CONFIG.intersection(names):
        return ConfigError(what, hint="mend the [kafka] section or the topic's settings")
    if _DATA.intersection(names):
        return DataError(what)
    retriable = bool(getattr(error, "retriable", False)) or "RetriableError" in names
    if retriable or isinstance(error, OSError | TimeoutError) or _TRANSIENT.intersection(names):
        return UnavailableError(
            f"{doing}: no answer from Kafka at {where} ({type(error).__name__})",
            hint="is the broker running and kafka.bootstrap right?",
        )
    return StreamAdError(what)
