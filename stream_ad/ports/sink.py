"""Contracts of outputs: stores, topics, receivers of notifications."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from stream_ad.records import Notification, Outputs

__all__ = ["Notifier", "RecordPublisher", "Sink"]


@runtime_checkable
class Sink(Protocol):
    """Stores what the pipeline emits.

    An implementation must be idempotent: after a restart it receives the same outputs again and must keep one copy.
    The caller uses one thread at a time.

    Examples
    --------
    >>> class AlertPrinter:
    ...     def write(self, outputs):
    ...         for alert in outputs.alerts:
    ...             print(alert.series, alert.state.value)
    ...
    ...     def close(self):
    ...         pass
    >>> isinstance(AlertPrinter(), Sink)
    True
    >>> AlertPrinter().write(Outputs())
    """

    def write(self, outputs: Outputs) -> None:
        """Returns once all outputs are durable. UnavailableError: the caller keeps the outputs and calls again with
        the same; any other error is final."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Notifier(Protocol):
    """Sends notifications to one receiver. The caller uses one thread at a time."""

    @property
    def service(self) -> str:
        """The kind of receiver, without its address or credentials."""
        ...

    def send(self, notification: Notification) -> None:
        """Returns within a minute, once the receiver has accepted the notification. UnavailableError: it may or may
        not have been delivered; the caller retries later."""
        ...


class RecordPublisher(Protocol):
    """Publishes raw records to topics."""

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None = None,
        *,
        partition: int | None = None,
    ) -> None:
        """Queues one record; may block while the broker is slower than the caller. partition None = chosen by the key.
        The next `send` or `flush` raises the error of an earlier record."""
        ...

    def flush(self) -> None:
        """Returns when the broker has acknowledged every record sent so far."""
        ...

    def close(self) -> None:
        """Flushes first."""
        ...
