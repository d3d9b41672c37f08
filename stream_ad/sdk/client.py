"""`Client`: publishes readings to a running installation, streams topics and alerts, reads scores."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path
from time import time_ns
from types import TracebackType
from typing import TYPE_CHECKING

import pandas as pd

from stream_ad.errors import ConfigError, DataError
from stream_ad.records import Alert, Observation
from stream_ad.runtime.replay import Encoder, subscription_for
from stream_ad.sdk.frames import alert_frame, check_slots, score_frame, trace_frame
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import Settings, Subscription, load_settings
from stream_ad.timestamps import END_NS, Moment, moment_ns, range_ns
from stream_ad.wiring import (
    Store,
    embedded,
    matching_topics,
    open_publisher,
    open_store,
    open_subscriptions,
    open_tail,
    resolve_subscriptions,
)
from stream_ad.wiring.subscriptions import subscription_from, subscription_json

if TYPE_CHECKING:
    from stream_ad.ports import RecordPublisher, RecordTail

__all__ = ["Client", "need_broker", "observation_record"]

log = logging.getLogger(__name__)
POLL_S = 1.0  # interval at which `alerts` polls the store where there is no broker


class Client:
    """A connection to the broker and the store of an installation.

    It publishes readings, subscribes the workers to topics, streams alerts and reads stored scores. The broker and the
    store are opened on first use and closed by `close`, or at the end of a `with` block. A `Moment` is text such as
    "-1h" or ISO-8601 (no zone = UTC), integer nanoseconds since 1970, or a datetime. Not thread-safe, except
    `unfollow`.

    Parameters
    ----------
    config : str, Path, Settings or None, default None
        Path of a TOML file, or settings. None = ./stream-ad.toml if it exists, and the environment.

    Raises
    ------
    ConfigError
        The configuration is wrong, or an operation needs a broker and the settings have none.
    UnavailableError
        The broker or the store does not respond.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from stream_ad import Client
    >>> from stream_ad.records import Outputs, ScoreBatch
    >>> from stream_ad.settings import Settings
    >>> from stream_ad.wiring import open_store
    >>> folder = tempfile.TemporaryDirectory()
    >>> settings = Settings(store={"path": f"{folder.name}/store.db"})

    A worker writes scores and alerts; here three slots of one channel:

    >>> times, ones = np.arange(3) * 10**9, np.ones((3, 1), np.float32)
    >>> batch = ScoreBatch(
    ...     "pump-1", ("pressure",), times, np.array([0.2, 0.4, 2.5]), ones, ones, ones, ones, ones,
    ...     np.zeros(3, np.int32), ("", "", ""), "universal/1",
    ... )
    >>> store = open_store(settings)
    >>> store.sink.write(Outputs(scores=[batch]))
    >>> store.sink.close()

    >>> with Client(settings) as client:
    ...     frame = client.scores("pump-1", start=0)
    ...     alerts = list(client.alerts("pump-1"))
    >>> frame["severity"].tolist()
    ['normal', 'normal', 'critical']
    >>> print(frame.index[2], frame["score"].iloc[2])
    1970-01-01 00:00:02+00:00 2.5
    >>> alerts
    []
    >>> folder.cleanup()
    """

    def __init__(self, config: str | Path | Settings | None = None) -> None:
        self.settings = config if isinstance(config, Settings) else load_settings(Path(config) if config else None)
        self._store: Store | None = None
        self._subscribed: Settings | None = None
        self._publisher: RecordPublisher | None = None
        self._encoders: dict[str, Encoder] = {}
        self._tails: list[RecordTail] = []
        self._unfollowed = threading.Event()

    # ---- publishing

    def publish(self, topic: str, series: str, values: Mapping[str, float | None], time: Moment | None = None) -> None:
        """Sends one observation to a topic, asynchronously: `flush` waits for the acknowledgements.

        Parameters
        ----------
        topic : str
            An existing topic.
        series : str
            Name of the series; also the key of the record.
        values : mapping of str to float or None
            Channel -> reading; None or NaN = no reading.
        time : Moment, default None
            Event time; None = now.

        Raises
        ------
        ConfigError
            The topic does not exist, or there is no broker.
        DataError
            `values` is empty, or the topic's time unit cannot represent `time`.
        UnavailableError
            Delivery failed; an earlier record's failure is raised by the next call or by `flush`.
        """
        if topic not in self._encoders:
            known = subscription_for(self.settings, topic) or subscription_for(self._current(), topic)
            self._encoders[topic] = Encoder(known)
        record = observation_record(self._encoders[topic], series, values, time)
        if self._publisher is None:
            need_broker(self.settings, "publishing")
            self._publisher = open_publisher(self.settings)
        self._publisher.send(topic, *record)

    def flush(self) -> None:
        """Waits until the broker has acknowledged every published record. UnavailableError."""
        if self._publisher is not None:
            self._publisher.flush()

    # ---- subscriptions and streams

    def subscribe(self, topic_or_pattern: str, **fields: object) -> Iterator[Observation]:
        """Subscribes the workers to a topic, within seconds and without a restart, and streams its observations.

        The stream begins with the records published after this call and never ends. It belongs to no consumer group and
        commits nothing; it logs and skips records that cannot be decoded.

        Parameters
        ----------
        topic_or_pattern : str
            A topic, or a shell pattern such as "sensors.*" that also matches topics created later.
        **fields : object
            Keys of [[subscription]]: step, time_unit, values_field, ... Not for topics of the config.

        Raises
        ------
        ConfigError
            The topic does not exist, no topic matches, or a key is wrong.
        """
        need_broker(self.settings, "subscribing")
        topics = matching_topics(self.settings, topic_or_pattern)
        if topic_or_pattern in {one.topic for one in self.settings.subscription}:
            if fields:
                raise ConfigError(f"the config defines topic {topic_or_pattern!r}", hint="leave out the keys")
        else:
            self._put_subscription(topic_or_pattern, subscription_json(subscription_from(topic_or_pattern, fields)))
        return self._observations(self._tail(topics))

    def unsubscribe(self, topic_or_pattern: str) -> None:
        """Ends a subscription made by `subscribe`; scores and states stay. ConfigError: no such subscription."""
        self._put_subscription(topic_or_pattern, None)

    def _put_subscription(self, topic: str, fields: bytes | None) -> None:
        with closing(open_subscriptions(self.settings)) as store:
            if fields is None and topic not in store.all():
                raise ConfigError(f"topic {topic!r} was not subscribed to at run time")
            store.put(topic, fields)
        self._subscribed = None

    def _current(self) -> Settings:
        if self._subscribed is None:
            self._subscribed = resolve_subscriptions(self.settings)
        return self._subscribed

    def _observations(self, tail: RecordTail) -> Iterator[Observation]:
        decoders: dict[str, Decoder] = {}
        for record in tail.follow():
            topic = record.position.topic
            if topic not in decoders:
                subscription = subscription_for(self._current(), topic) or Subscription(topic=topic)
                decoders[topic] = Decoder(subscription, self.settings.detector)
            observations, dead = decoders[topic].decode(record)
            for failure in dead:
                log.warning("%s: skipped: %s: %s", record.position, failure.reason, failure.detail)
            yield from observations

    def alerts(
        self, series: str | None = None, start: Moment | None = None, *, follow: bool = False
    ) -> Iterator[Alert]:
        """Reads alerts in the order of their start, each in its newest state; with `follow`, streams new events.

        Parameters
        ----------
        series : str, default None
            Only this series.
        start : Moment, default None
            Only alerts that began at or after this time. None = all; with `follow` alone, none of the past.
        follow : bool, default False
            After the past alerts, yield every event (open, update, resolved) as it arrives, without end: from the
            alerts topic, or from the embedded store where there is no broker.
        """
        start_ns = 0 if start is None else moment_ns(start, name="start")
        if not follow:
            return iter(self._opened().alerts.alerts(series, start_ns, END_NS))
        events = self._polled_alerts(series) if embedded(self.settings) else self._topic_alerts(series)
        past = [] if start is None else self._opened().alerts.alerts(series, start_ns, END_NS)
        return chain(past, events)

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
        """Changes between two polls of the store; of several changes of one alert, the newest."""
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
        """Alerts that began with start <= time < stop (None = open), each in its newest state, one row each.

        Index `start` (UTC); columns series, severity, state, rule, likely_start, end (NaT = open), peak_score, the
        channel with the largest attribution with its actual and expected value, model_version, id.
        """
        start_ns, stop_ns = range_ns(start, stop)
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
        """Reads the scores of one series in a time range, the newest revision of each slot.

        Parameters
        ----------
        series : str
            Name of the series.
        start, stop : Moment, default None
            The half-open range start <= time < stop; None = open.
        channels : bool, default False
            Add value.<channel>, expected.<channel>, lower., upper. and attribution.; NaN = no reading.
        max_points : int, default None
            Downsample in the store to at most this many points, keeping the highest and lowest score of each bucket.

        Returns
        -------
        DataFrame
            Index `time` (UTC); columns score (1 = the threshold), severity, revision, alert_id, model_version; with
            `max_points` score and severity only. Empty when no score is stored.

        Raises
        ------
        DataError
            More than 1,000,000 slots (100,000 with channels): use `max_points` or `score_pages`.
        """
        start_ns, stop_ns = range_ns(start, stop)
        reader = self._opened().scores
        if max_points is not None:
            if channels:
                raise ConfigError("max_points downsamples the score alone", hint="leave out channels, or max_points")
            return trace_frame(reader.score_trace(series, start_ns, stop_ns, max_points=max_points))
        check_slots(reader.score_extent(series, start_ns, stop_ns), series, channels=channels)
        return score_frame(reader.scores(series, start_ns, stop_ns, detail=channels), channels=channels)

    def score_pages(
        self, series: str, start: Moment | None = None, stop: Moment | None = None, *, channels: bool = False
    ) -> Iterator[pd.DataFrame]:
        """Reads `scores` of a range of any length, page by page on demand: frames of some thousand rows, in time order.

        Each frame holds one set of channels, so the columns of two frames may differ.
        """
        start_ns, stop_ns = range_ns(start, stop)
        for page in self._opened().scores.score_pages(series, start_ns, stop_ns, detail=channels):
            yield score_frame([page], channels=channels)

    # ---- closing

    def unfollow(self) -> None:
        """Ends every stream of this client, present and future; thread-safe."""
        self._unfollowed.set()
        for tail in list(self._tails):
            tail.end()

    def close(self) -> None:
        """Flushes published records, then closes the broker and the store."""
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


def observation_record(
    encoder: Encoder, series: str, values: Mapping[str, float | None], time: Moment | None
) -> tuple[bytes, bytes, int]:
    """Key, value and timestamp (ms) of the record of one observation; time None = now. DataError."""
    if not values:
        raise DataError(f"expected at least one reading of series {series!r}, found none")
    now_ns = time_ns()
    event_ns = now_ns - now_ns % encoder.quantum_ns if time is None else moment_ns(time, now_ns=now_ns)
    row = [float("nan") if value is None else float(value) for value in values.values()]
    return series.encode(), encoder.encode(series, event_ns, list(values), row), max(now_ns, event_ns) // 1_000_000


def need_broker(settings: Settings, operation: str) -> None:
    """ConfigError when the settings have no broker."""
    if embedded(settings):
        raise ConfigError(f"{operation} needs a broker, and kafka.bootstrap is not set", hint="set kafka.bootstrap")
