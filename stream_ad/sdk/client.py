"""The SDK's face to a running installation: publish readings, follow topics, look up scores and alerts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pandas as pd

from stream_ad.errors import ConfigError, DataError
from stream_ad.records import Alert, Observation
from stream_ad.runtime.replay import Encoder, subscription_for
from stream_ad.sdk.frames import alert_frame, check_slots, score_frame, trace_frame
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import Settings, Subscription, load_settings
from stream_ad.timestamps import END_NS, Moment, moment_ns
from stream_ad.wiring import (
    Store,
    embedded,
    matching_topics,
    open_publisher,
    open_store,
    open_subscriptions,
    open_tail,
    subscribed,
)
from stream_ad.wiring.subscriptions import subscription_from, subscription_json

if TYPE_CHECKING:
    from stream_ad.ports import RecordPublisher, RecordTail

__all__ = ["Client"]

log = logging.getLogger(__name__)
POLL_S = 1.0  # of the store, for alerts without a broker


class Client:
    """A connection to what a config names; store and broker are opened when first used, and closed by `close`.

        with Client("stream-ad.toml") as client:
            client.publish("sensors", "pump-1", {"pressure": 3.1, "flow": None})
            frame = client.scores("pump-1", start="-1h")

    config: a path, Settings, or None (stream-ad.toml where there is one, and the environment). Not thread-safe but
    for `unfollow`.
    """

    def __init__(self, config: str | Path | Settings | None = None) -> None:
        self.settings = config if isinstance(config, Settings) else load_settings(Path(config) if config else None)
        self._store: Store | None = None
        self._subscribed: Settings | None = None
        self._publisher: RecordPublisher | None = None
        self._encoders: dict[str, Encoder] = {}
        self._tails: list[RecordTail] = []
        self._unfollowed = threading.Event()

    # ---- readings in

    def publish(self, topic: str, series: str, values: Mapping[str, float | None], time: Moment | None = None) -> None:
        """Sends one observation; time None = now. It is on its way when this returns: `flush` waits for all.

        ConfigError when the topic does not exist; a failure to send is raised by the next call or by `flush`.
        """
        if not values:
            raise DataError(f"expected at least one reading of series {series!r}, found none")
        if topic not in self._encoders:
            known = subscription_for(self.settings, topic) or subscription_for(self._current(), topic)
            self._encoders[topic] = Encoder(known)
        encoder = self._encoders[topic]
        now_ns = _now_ns()
        time_ns = now_ns - now_ns % encoder.quantum_ns if time is None else moment_ns(time, now_ns=now_ns)
        row = [float("nan") if value is None else float(value) for value in values.values()]
        record = encoder.encode(series, time_ns, list(values), row)
        self._sender().send(topic, series.encode(), record, max(now_ns, time_ns) // 1_000_000)

    def flush(self) -> None:
        """Returns when all that was published is acknowledged."""
        if self._publisher is not None:
            self._publisher.flush()

    def _sender(self) -> RecordPublisher:
        if self._publisher is None:
            self._need_broker("publishing")
            self._publisher = open_publisher(self.settings)
        return self._publisher

    # ---- what comes

    def subscribe(self, topic_or_pattern: str, **fields: object) -> Iterator[Observation]:
        """Has the workers score a topic, or all that match `sensors.*` now and later, within some seconds and without a
        restart; what comes back are its observations from the moment of the call on, without end.

        fields: keys of [[subscription]] (step, time_unit, values_field, ...). A topic that the config names stays as
        the config has it. Iterating belongs to no group and commits nothing; records that cannot be read are logged and
        passed over. ConfigError when the topic does not exist, no topic matches, or a key is wrong.
        """
        self._need_broker("subscribing")
        topics = matching_topics(self.settings, topic_or_pattern)
        if topic_or_pattern in {one.topic for one in self.settings.subscription}:
            if fields:
                raise ConfigError(f"the config says how topic {topic_or_pattern!r} is read", hint="leave the keys out")
        else:
            self._wish(topic_or_pattern, subscription_json(subscription_from(topic_or_pattern, fields)))
        return self._observations(self._tail(topics))

    def unsubscribe(self, topic_or_pattern: str) -> None:
        """Ends what `subscribe` asked for; its scores and states stay. ConfigError when nobody asked for it."""
        self._wish(topic_or_pattern, None)

    def _wish(self, topic: str, how: bytes | None) -> None:
        with closing(open_subscriptions(self.settings)) as store:
            if how is None and topic not in store.all():
                raise ConfigError(f"topic {topic!r} was not subscribed to at run time")
            store.put(topic, how)
        self._subscribed = None

    def _current(self) -> Settings:
        if self._subscribed is None:
            self._subscribed = subscribed(self.settings)
        return self._subscribed

    def _observations(self, tail: RecordTail) -> Iterator[Observation]:
        decoders: dict[str, Decoder] = {}
        for record in tail.follow():
            topic = record.position.topic
            if topic not in decoders:
                subscription = subscription_for(self._current(), topic) or Subscription(topic=topic)
                decoders[topic] = Decoder(subscription, self.settings.detector)
            observations, dead = decoders[topic].decode(record)
            for letter in dead:
                log.warning("%s: passed over: %s: %s", record.position, letter.reason, letter.detail)
            yield from observations

    def alerts(
        self, series: str | None = None, start: Moment | None = None, *, follow: bool = False
    ) -> Iterator[Alert]:
        """Alerts that began at `start` (None = ever) or later, in the order of their start, each in its newest state.

        follow: then every event (open, update, resolved) from the moment of the call on, without end: from the alerts
        topic, or without a broker from the embedded store. follow without a start leaves the past out.
        """
        start_ns = 0 if start is None else moment_ns(start, name="start")
        if not follow:
            return iter(self._opened().alerts.alerts(series, start_ns, END_NS))
        coming = self._polled_alerts(series) if embedded(self.settings) else self._topic_alerts(series)
        past = [] if start is None else self._opened().alerts.alerts(series, start_ns, END_NS)
        return _chained(past, coming)

    def _topic_alerts(self, series: str | None) -> Iterator[Alert]:
        from stream_ad.serde.alerts import alert_from_json

        tail = self._tail([self.settings.kafka.alerts_topic])

        def events() -> Iterator[Alert]:
            for record in tail.follow():
                if record.value:
                    alert = alert_from_json(record.value)
                    if series in (None, alert.series):
                        yield alert

        return events()

    def _polled_alerts(self, series: str | None) -> Iterator[Alert]:
        """States that the store did not hold a moment ago; of two changes between two polls the newer."""
        reader = self._opened().alerts
        known, ended = {alert.id: alert for alert in reader.alerts(series, 0, END_NS)}, self._unfollowed

        def events() -> Iterator[Alert]:
            while not ended.wait(POLL_S):
                for alert in reader.alerts(series, 0, END_NS):
                    if known.get(alert.id) != alert:
                        known[alert.id] = alert
                        yield alert

        return events()

    # ---- history

    def alert_frame(
        self, series: str | None = None, start: Moment | None = None, stop: Moment | None = None
    ) -> pd.DataFrame:
        """Alerts that began with start <= time < stop, each in its newest state, a row each: index `start` (UTC);
        series, severity, state, rule, likely_start, end (NaT = open), peak_score, the channel that drives it most with
        actual and expected, model_version, id."""
        start_ns, stop_ns = _range_ns(start, stop)
        return alert_frame(self._opened().alerts.alerts(series, start_ns, stop_ns))

    def scores(
        self,
        series: str,
        start: Moment | None = None,
        stop: Moment | None = None,
        *,
        channels: bool = False,
        max_points: int | None = None,
    ) -> pd.DataFrame:
        """Scores with start <= time < stop (None = open), newest revision of each slot; empty when there are none.

        Index `time` (UTC); columns score (1 = the threshold), severity, revision, alert_id, model_version. channels
        adds value.<channel>, expected., lower., upper. and attribution. of each channel; NaN = no reading.
        max_points thins a long range out where it is stored: of each part of it the highest and the lowest slot, with
        the columns score and severity alone. DataError for more than 1,000,000 slots without it (100,000 with
        channels): `score_pages` reads those.
        """
        start_ns, stop_ns = _range_ns(start, stop)
        reader = self._opened().scores
        if max_points is not None:
            if channels:
                raise ConfigError("max_points thins the score alone", hint="leave out channels, or max_points")
            return trace_frame(reader.score_trace(series, start_ns, stop_ns, max_points=max_points))
        check_slots(reader.score_extent(series, start_ns, stop_ns), series, channels=channels)
        return score_frame(reader.scores(series, start_ns, stop_ns, detail=channels), channels=channels)

    def score_pages(
        self, series: str, start: Moment | None = None, stop: Moment | None = None, *, channels: bool = False
    ) -> Iterator[pd.DataFrame]:
        """What `scores` tells, however long: frames of some thousand rows, in time order, read as they are taken.

        A frame holds one set of channels, so its columns may differ from those of the frame before.
        """
        start_ns, stop_ns = _range_ns(start, stop)
        for page in self._opened().scores.score_pages(series, start_ns, stop_ns, detail=channels):
            yield score_frame([page], channels=channels)

    # ---- house-keeping

    def unfollow(self) -> None:
        """Ends all that is followed, now and from now on; from any thread."""
        self._unfollowed.set()
        for tail in list(self._tails):
            tail.end()

    def close(self) -> None:
        """Sends what is on its way, then closes what was opened."""
        closers: list[Callable[[], None]] = [tail.close for tail in self._tails]
        if self._store is not None:
            closers.append(self._store.sink.close)
        if self._publisher is not None:
            closers.append(self._publisher.close)  # last: it may raise
        self._tails, self._store, self._publisher = [], None, None
        for close in closers:
            close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Store:
        if self._store is None:
            self._store = open_store(self.settings)
        return self._store

    def _tail(self, topics: list[str]) -> RecordTail:
        tail = open_tail(self.settings, topics)
        self._tails.append(tail)
        if self._unfollowed.is_set():
            tail.end()
        return tail

    def _need_broker(self, doing: str) -> None:
        if embedded(self.settings):
            raise ConfigError(f"{doing} needs a broker, and kafka.bootstrap is not set", hint="set kafka.bootstrap")


def _range_ns(start: Moment | None, stop: Moment | None) -> tuple[int, int]:
    start_ns = 0 if start is None else moment_ns(start, name="start")
    return start_ns, END_NS if stop is None else moment_ns(stop, name="stop")


def _now_ns() -> int:
    return time.time_ns()


def _chained(past: list[Alert], coming: Iterator[Alert]) -> Iterator[Alert]:
    yield from past
    yield from coming
