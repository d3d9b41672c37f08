"""The Prometheus metrics of a worker, and the only class that counts them.

Label values come from settings and code, never from the stream: series, channels and keys are not among them.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.records import Outputs

__all__ = ["METRICS", "MetricSpec", "Metrics"]

NAMESPACE = "stream_ad"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECORDS = (1, 10, 100, 300, 1000, 3000, 10_000, 30_000)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric. name: without namespace and suffix; watch: when an operator should act; gauges are read at the
    scrape."""

    kind: Literal["counter", "gauge", "histogram", "info"]
    name: str
    text: str
    watch: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS

    @property
    def full_name(self) -> str:
        """The name in a query."""
        return f"{NAMESPACE}_{self.name}" + {"counter": "_total", "info": "_info"}.get(self.kind, "")


_counter, _gauge = partial(MetricSpec, "counter"), partial(MetricSpec, "gauge")
_histogram, _info = partial(MetricSpec, "histogram"), partial(MetricSpec, "info")
_PLACE = ("topic", "partition")
METRICS = (
    _counter("records", "Records read, including those that a restart reads again.", "0/s while lag grows"),
    _counter("observations", "Observations decoded from records; a replayed record counts once."),
    _counter("scores", "Slots scored for the first time, durable in every sink.", "0/s while lag grows"),
    _counter(
        "revisions",
        "Revised scores: after late data, or after a provisional score of a silent series; durable in every sink.",
        "a lasting share of the scores: raise detector.allowed_lateness_steps",
    ),
    _counter("alerts", "Alert events, durable in every sink.", labels=("rule", "state")),
    _counter(
        "dead_letters",
        "Rejected records and rejected parts of records; durable in every sink.",
        "any lasting rate: stream-ad dlq list",
        ("reason",),
    ),
    _counter(
        "unavailable",
        "Calls that failed because a dependency was unavailable; they are retried, nothing is dropped.",
        "a lasting rate",
        ("part",),
    ),
    _counter("notified_alerts", "Alert events accepted by a route's receiver.", labels=("route",)),
    _counter(
        "notification_failures",
        "Messages that a receiver did not accept; they are sent again.",
        "a lasting rate: stream-ad alerts --test-notification ROUTE",
        ("route",),
    ),
    _counter(
        "notifications_held_back",
        "Alert events delayed by a mute, a rate or a failure of the receiver. They are sent later.",
        "a lasting rate of `rate`: the route is too wide, or its rate too low",
        ("route", "reason"),
    ),
    _gauge("notifications_waiting", "Unsent alert events of a route.", "over 100 for 1 h", ("route",)),
    _gauge("lag_records", "Unread records, as the broker reports them.", "growing for 10 min", _PLACE),
    _gauge(
        "watermark_delay_seconds",
        "Wall clock minus the newest event time read.",
        "over a few times what is usual: the producers stopped, or lag",
        _PLACE,
    ),
    _gauge("partitions", "Partitions assigned to this worker.", "the sum over workers below the topics' partitions"),
    _gauge("series", "Series held in memory.", "90% of detector.max_series"),
    _gauge("paused", "1 while a dependency is down and reading is paused.", "1 for 5 min"),
    _gauge("stalled", "1 while the watchdog reports a stall; the worker exits soon.", "1"),
    _gauge("ready", "1 while /readyz answers 200.", "0 for 10 min"),
    _histogram("poll_records", "Records of one non-empty poll.", buckets=RECORDS),
    _histogram(
        "stage_seconds",
        "Time of one call. poll: including the wait for records; process: decoding, windows, scoring, alerts, and "
        "within it score and fit, the numerics; flush: provisional scores of silent series; write: one sink; "
        "checkpoint: collecting the states; state, commit: storing states and offsets; load: states at an assignment; "
        "hold: asking the group whether the partitions are still assigned to this worker.",
        "p99 of process or write over 5 s",
        ("stage",),
    ),
    _histogram("write_seconds", "Time of one write to a sink, failed ones included.", "p99 over 5 s", ("part",)),
    _info("model", "Version of the product, scorer and its version.", "more than one value for an hour"),
)


class _Gauges(Collector):
    """Read at the scrape, so that the labels of a revoked partition vanish with it."""

    def __init__(self, health: WorkerHealth) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        values = self._values()
        for spec in METRICS:
            if spec.kind == "gauge":
                family = GaugeMetricFamily(spec.full_name, spec.text, labels=spec.labels)
                for labels, value in values[spec.name].items():
                    family.add_metric(labels, value)
                yield family

    def _values(self) -> Mapping[str, Mapping[tuple[str, ...], float]]:
        health, now_ns = self._health, self._health.clock.now_ns()
        return {
            "lag_records": {(t, str(p)): one.lag for (t, p), one in health.lags.items()},
            "watermark_delay_seconds": {(t, str(p)): (now_ns - ns) / 1e9 for (t, p), ns in health.newest_ns.items()},
            "partitions": {(): len(health.partitions)},
            "series": {(): health.series},
            "paused": {(): bool(health.down)},
            "stalled": {(): bool(health.stalled)},
            "ready": {(): not health.unready()},
            "notifications_waiting": {(route,): number for route, number in health.notifications_waiting.items()},
        }


class Metrics:
    """One registry per worker. Methods are called once per batch or less, from any thread."""

    def __init__(self, health: WorkerHealth) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for spec in METRICS:
            text, labels = spec.text, spec.labels
            if spec.kind == "counter":
                self._counters[spec.name] = Counter(spec.full_name, text, labels, registry=self.registry)
            elif spec.kind == "histogram":
                self._histograms[spec.name] = Histogram(
                    spec.full_name, text, labels, registry=self.registry, buckets=spec.buckets
                )
            elif spec.kind == "info":
                self._model = Info(f"{NAMESPACE}_{spec.name}", text, registry=self.registry)
        self.registry.register(_Gauges(health))
        ProcessCollector(registry=self.registry)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        histogram = self._histograms[name]
        (histogram.labels(**labels) if labels else histogram).observe(value)

    def model(self, version: str, scorer: str, scorer_version: str) -> None:
        self._model.info({"version": version, "scorer": scorer, "scorer_version": scorer_version})

    def delivered(self, outputs: Outputs) -> None:
        """Counts outputs once they are durable in every sink."""
        first = sum(int((batch.revision == 0).sum()) for batch in outputs.scores)
        self.count("scores", first)
        self.count("revisions", sum(map(len, outputs.scores)) - first)
        for (rule, state), number in Tally((a.rule, a.state.value) for a in outputs.alerts).items():
            self.count("alerts", number, rule=rule, state=state)
        for reason, number in Tally(dead.reason for dead in outputs.dead_letters).items():
            self.count("dead_letters", number, reason=reason)
