"""The producer that all publish requests share."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from stream_ad.errors import StreamAdError, UnavailableError
from stream_ad.ports import RecordPublisher
from stream_ad.runtime.replay import Encoder
from stream_ad.sdk.client import need_broker, observation_record
from stream_ad.settings import Settings
from stream_ad.timestamps import Moment
from stream_ad.wiring import open_publisher, resolve_subscriptions

__all__ = ["SharedPublisher"]

SUBSCRIPTIONS_S = 2.0  # age at which the subscriptions of run time are read again
WAIT_S, CLOSE_S = 30.0, 5.0  # for earlier requests


class SharedPublisher:
    """One producer, opened by the first request and closed by `close`; thread-safe.

    Requests publish one after another, so that each waits for and reports the failures of its records only. After a
    failure the producer is closed; the next request opens a new one, which fails at once while the broker is down.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._publisher: RecordPublisher | None = None
        self._subscribed, self._read_s = settings, float("-inf")

    def publish(
        self, topic: str, observations: Sequence[tuple[str, Mapping[str, float | None], Moment | None]]
    ) -> None:
        """Publishes (series, values, time), and waits until the broker has acknowledged them.

        ConfigError: the topic is not subscribed or does not exist; DataError: a time the topic cannot represent;
        UnavailableError: the broker does not respond, or earlier requests take too long.
        """
        if not self._lock.acquire(timeout=WAIT_S):
            raise UnavailableError(f"earlier publish requests took over {WAIT_S:.0f} s", retry_after_s=5)
        try:
            encoder = Encoder(self._current().subscription_of(topic))
            records = [observation_record(encoder, *one) for one in observations]
            self._send(topic, records)
        finally:
            self._lock.release()

    def refresh(self) -> None:
        """Reads the subscriptions again at the next request."""
        self._read_s = float("-inf")

    def close(self) -> None:
        """Closes the producer; it does not wait long for a request that is blocked by a broker failure."""
        if not self._lock.acquire(timeout=CLOSE_S):
            return
        try:
            publisher, self._publisher = self._publisher, None
            if publisher is not None:
                publisher.close()
        finally:
            self._lock.release()

    def _current(self) -> Settings:
        if time.monotonic() - self._read_s > SUBSCRIPTIONS_S:
            self._subscribed, self._read_s = resolve_subscriptions(self._settings), time.monotonic()
        return self._subscribed

    def _send(self, topic: str, records: Sequence[tuple[bytes, bytes, int]]) -> None:
        need_broker(self._settings, "publishing")
        if self._publisher is None:
            self._publisher = open_publisher(self._settings)
        try:
            for record in records:
                self._publisher.send(topic, *record)
            self._publisher.flush()
        except Exception:
            publisher, self._publisher = self._publisher, None
            with suppress(StreamAdError):
                publisher.close()
            raise
