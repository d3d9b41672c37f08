"""The Prometheus metrics of a worker: what there is, and the one room where it is counted.

Labels take their values from settings and code, never from the stream: series, channels and keys are not among them.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
    """One metric. name: without namespace and suffix; watch: when to look; gauges are read at the scrape."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    text: str
    watch: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS

    @property
    def full_name(self) -> str:
        """As a query writes it."""
        return f"{NAMESPACE}_{self.name}" + {"counter": "_total", "info": "_info"}.get(self.kind, "")


_PLACE = ("topic", "partition")
METRICS = (
    MetricSpec(
        "records", "counter", "Records read, those that a restart reads again among them.", "0/s while lag grows"
    ),
    MetricSpec("observations", "counter", "Observations decoded from records, each record counted once."),
    MetricSpec("scores", "counter", "Slots told for the first time, durable in every sink.", "0/s while lag grows"),
    MetricSpec(
        "revisions",
        "counter",
        "Slots told again, after late data or ahead of it on a silent series; durable in every sink.",
        "a lasting share of the scores: raise detector.allowed_lateness_steps",
    ),
    MetricSpec("alerts", "counter", "Alert events, durable in every sink.", labels=("rule", "state")),
    MetricSpec(
        "dead_letters",
        "counter",
        "Records, or readings of one, that could not be used; durable in every sink.",
        "any lasting rate: stream-ad dlq list",
        ("reason",),
    ),
    MetricSpec(
        "unavailable",
        "counter",
        "Times something outside did not answer and will be tried again; nothing is dropped.",
        "a lasting rate",
        ("part",),
    ),
    MetricSpec("notified_alerts", "counter", "Alert events that a route's receiver has taken.", labels=("route",)),
    MetricSpec(
        "notification_failures",
        "counter",
        "Messages that a receiver did not take; they are sent again.",
        "a lasting rate: stream-ad alerts --test-notification ROUTE",
        ("route",),
    ),
    MetricSpec(
        "notifications_held_back",
        "counter",
        "Alert events that waited: mute, rate, or failure of the receiver. They are told later.",
        "a lasting rate of `rate`: the route is too wide, or its rate too low",
        ("route", "reason"),
    ),
    MetricSpec(
        "notifications_waiting", "gauge", "Alert events a route has not told yet.", "over 100 for 1 h", ("route",)
    ),
    MetricSpec("lag_records", "gauge", "Records there are to read, asked of the broker.", "growing for 10 min", _PLACE),
    MetricSpec(
        "watermark_delay_seconds",
        "gauge",
        "How far the newest event time read is behind the wall clock.",
        "over a few times what is usual: the producers stopped, or lag",
        _PLACE,
    ),
    MetricSpec(
        "partitions", "gauge", "Partitions this worker has.", "the sum over workers below the topics' partitions"
    ),
    MetricSpec("series", "gauge", "Series held in memory.", "90% of detector.max_series"),
    MetricSpec("paused", "gauge", "1 while something outside is away and reading waits for it.", "1 for 5 min"),
    MetricSpec("stalled", "gauge", "1 while the watchdog holds the worker for stuck; it exits soon.", "1"),
    MetricSpec("ready", "gauge", "1 while /readyz says yes.", "0 for 10 min"),
    MetricSpec("poll_records", "histogram", "Records in a poll that brought some.", buckets=RECORDS),
    MetricSpec(
        "stage_seconds",
        "histogram",
        "Time of one call. poll: with the wait for records; process: decoding, windows, scoring, alerts, and inside it "
        "score and fit, the numerics; flush: what waits on silent series; write: one sink; checkpoint: collecting the "
        "states; state, commit: storing states and offsets; load: states at an assignment.",
        "p99 of process or write over 5 s",
        ("stage",),
    ),
    MetricSpec(
        "write_seconds", "histogram", "Time of one write to a sink, failed ones too.", "p99 over 5 s", ("part",)
    ),
    MetricSpec("model", "info", "Version of the product, scorer and its version.", "more than one value for an hour"),
)


class _Gauges(Collector):
    """Labels follow the assignment: a partition that went to another worker leaves nothing behind."""

    def __init__(self, health: WorkerHealth) -> None:
        self._vitals = health

    def collect(self) -> Iterable[Metric]:
        values = self._values()
        for measure in METRICS:
            if measure.kind == "gauge":
                family = GaugeMetricFamily(measure.full_name, measure.text, labels=measure.labels)
                for labels, value in values[measure.name].items():
                    family.add_metric(labels, value)
                yield family

    def _values(self) -> Mapping[str, Mapping[tuple[str, ...], float]]:
        health, now_ns = self._vitals, self._vitals.clock.now_ns()
        return {
            "lag_records": {(t, str(p)): one.lag for (t, p), one in health.lags.items()},
            "watermark_delay_seconds": {(t, str(p)): (now_ns - ns) / 1e9 for (t, p), ns in health.newest_ns.items()},
            "partitions": {(): len(health.partitions)},
            "series": {(): health.series},
            "paused": {(): bool(health.away)},
            "stalled": {(): bool(health.stalled)},
            "ready": {(): not health.unready()},
            "notifications_waiting": {(route,): number for route, number in health.to_notify.items()},
        }


class Metrics:
    """One registry a worker. Methods are called once a batch or less, from any thread."""

    def __init__(self, health: WorkerHealth) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for measure in METRICS:
            text, labels = measure.text, measure.labels
            if measure.kind == "counter":
                self._counters[measure.name] = Counter(measure.full_name, text, labels, registry=self.registry)
            elif measure.kind == "histogram":
                self._histograms[measure.name] = Histogram(
                    measure.full_name, text, labels, registry=self.registry, buckets=measure.buckets
                )
            elif measure.kind == "info":
                self._model = Info(f"{NAMESPACE}_{measure.name}", text, registry=self.registry)
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
        """Counts what is durable in every sink."""
        first = sum(int((batch.revision == 0).sum()) for batch in outputs.scores)
        self.count("scores", first)
        self.count("revisions", sum(map(len, outputs.scores)) - first)
        for (rule, state), number in Tally((a.rule, a.state.value) for a in outputs.alerts).items():
            self.count("alerts", number, rule=rule, state=state)
        for reason, number in Tally(letter.reason for letter in outputs.dead_letters).items():
            self.count("dead_letters", number, reason=reason)
