"""What every Kafka adapter shares: connection options, muted client logs, and the mapping to the error tree."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kafka.errors import KafkaError

from stream_ad.errors import AccessError, ConfigError, DataError, StreamAdError, UnavailableError
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.private_api import force_close
from stream_ad_connectors.kafka.security import bootstrap_servers, security_options

__all__ = [
    "abandon",
    "async_options",
    "kafka_error",
    "missing_topic",
    "muted_client_logs",
    "python_options",
    "timeout_ms",
]

_ABANDON_S = 2.0
_LOGGERS = ("kafka", "aiokafka")
_mute_lock = threading.Lock()
_mute_depth = 0
_levels: list[int] = []
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
    """Arguments of every kafka-python client."""
    return {
        "bootstrap_servers": bootstrap_servers(settings),
        "bootstrap_timeout_ms": timeout_ms(settings),
        "request_timeout_ms": timeout_ms(settings),
        "reconnect_backoff_max_ms": 1000,
        "client_id": "stream-ad",
        **security_options(settings),
    }


def async_options(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments of every aiokafka client."""
    return {
        "bootstrap_servers": bootstrap_servers(settings),
        "request_timeout_ms": timeout_ms(settings),
        "client_id": "stream-ad",
        **security_options(settings),
    }


@contextmanager
def muted_client_logs() -> Iterator[None]:
    """Mutes both client libraries while a connection is opened: the error raised afterwards holds all they log.

    Several threads may be inside at once: the first to enter sets the levels, the last to leave restores them.
    """
    global _mute_depth, _levels  # noqa: PLW0603  # the log levels of a process are global too
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with _mute_lock:
        _mute_depth += 1
        if _mute_depth == 1:
            _levels = [logger.level for logger in loggers]
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        with _mute_lock:
            _mute_depth -= 1
            if _mute_depth == 0:
                for logger, level in zip(loggers, _levels, strict=True):
                    logger.setLevel(level)


def missing_topic(topic: str, partitions: int = 1) -> ConfigError:
    return ConfigError(
        f"topic {topic!r} does not exist on the broker",
        hint=f"create it: kafka-topics.sh --bootstrap-server BROKER --create --topic {topic} --partitions {partitions};"
        f" or replay a file to it: stream-ad replay FILE --topic {topic} --create",
    )


def abandon(producer: Any) -> None:
    """Closes a kafka-python producer and drops its buffered records.

    Trap: `close` alone waits for those records, and when that fails it leaks its thread and its connection.
    """
    force_close(producer)
    with muted_client_logs(), suppress(KafkaError, OSError):
        producer.close(timeout=_ABANDON_S)


def kafka_error(error: BaseException, settings: KafkaSettings, doing: str) -> StreamAdError:
    """The tree's error for an error of kafka-python, aiokafka or the socket layer.

    Each library has its own classes under the same names, so the names decide.
    """
    names = [cls.__name__ for cls in type(error).__mro__]
    what = f"{doing}: {type(error).__name__}" + (f": {error}" if str(error) else "")
    where = settings.bootstrap
    if any(name.endswith(_ACCESS) for name in names):
        return AccessError(f"{what} (broker {where})", hint="grant the rights or fix the credentials on the broker")
    if _CONFIG.intersection(names):
        return ConfigError(what, hint="fix the [kafka] section or the topic's settings")
    if _DATA.intersection(names):
        return DataError(what)
    retriable = bool(getattr(error, "retriable", False)) or "RetriableError" in names
    if retriable or isinstance(error, OSError | TimeoutError) or _TRANSIENT.intersection(names):
        return UnavailableError(
            f"{doing}: no answer from Kafka at {where} ({type(error).__name__})",
            hint="is the broker running and kafka.bootstrap right?",
        )
    return StreamAdError(what)
