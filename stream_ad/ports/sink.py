"""Where outputs go: stores, topics, people."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from stream_ad.records import (
    Notification,
    Outputs,
)

__all__ = ["Notifier", "RecordPublisher", "Sink"]


@runtime_checkable
class Sink(Protocol):
    """Takes what the pipeline puts out; writing the same thing twice leaves one copy.

    `write` returns when everything is durable. UnavailableError = nothing is lost, call again with the same outputs;
    any other error is final. Called from one thread at a time.
    """

    def write(self, outputs: Outputs) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class Notifier(Protocol):
    """One receiver of messages for people.

    `send` returns when the receiver has taken the message. UnavailableError = it may have or not, send it again later.
    Called from one thread at a time; it comes back within a minute.
    """

    @property
    def service(self) -> str:
        """What kind of receiver it is, without its address."""
        ...

    def send(self, notification: Notification) -> None: ...


class RecordPublisher(Protocol):
    """Sends raw records to topics. `send` may block while the broker is slower than the caller."""

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None = None,
        *,
        partition: int | None = None,
    ) -> None:
        """partition: chosen by the key when None. An earlier failure is raised by the next `send` or by `flush`."""
        ...

    def flush(self) -> None:
        """Returns when everything sent so far is acknowledged."""
        ...

    def close(self) -> None:
        """Flushes first."""
        ...
