"""/metrics, /healthz and /readyz over a real socket."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from stream_ad_connectors.host.clock import SystemClock

from stream_ad.errors import ConfigError, UnavailableError
from stream_ad.observability.endpoints import HealthServer
from stream_ad.observability.instrumented import Instrumentation, InstrumentedSink
from stream_ad.observability.metrics import Metrics
from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.ports import PartitionLag
from stream_ad.records import AlertState, DeadLetter, Outputs, SourcePosition, SourceRecord
from tests.support.services.process import free_ports, http_get
from tests.support.sink_samples import SinkPromises, alert, batch


class Case:
    def __init__(self) -> None:
        self.health = WorkerHealth(SystemClock(), settled=True)
        self.meters = Metrics(self.health)
        self.watch = Instrumentation(self.health, self.meters)
        self.port = free_ports(1)[0]

    def server(self) -> HealthServer:
        return HealthServer("127.0.0.1", self.port, self.health, self.meters.registry)

    def get(self, path: str) -> tuple[int, str]:
        return http_get(self.port, path)

    def scrape(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_health_and_readiness_say_why_not() -> None:
    case = Case()
    with case.server():
        assert case.get("/healthz") == (200, '{"status": "ok", "reasons": []}')
        assert case.get("/readyz")[0] == 200
        case.health.settled = False
        status, body = case.get("/readyz")
        assert status == 503
        assert json.loads(body)["reasons"] == ["partitions are not shared out yet"]
        case.health.stalled = "nothing moves"
        assert case.get("/healthz") == (503, '{"status": "stalled", "reasons": ["nothing moves"]}')
        assert case.get("/other")[0] == 404


def test_a_scrape_shows_what_was_delivered_and_where_reading_stands() -> None:
    case = Case()
    told, again = batch("s", [1, 2, 3]), batch("s", [2, 3], revision=1)
    letter = DeadLetter(SourceRecord(SourcePosition("t", 0, 1), 0, None, b"x"), "empty", "")
    opened = alert(SinkPromises(), "1", "s", AlertState.OPEN)
    case.meters.delivered(Outputs(scores=[told, again], alerts=[opened], dead_letters=[letter, letter]))
    case.health.lags = {("t", 3): PartitionLag(10, 25)}
    with case.server():
        seen = case.scrape()
        case.health.lags = {}
        assert ("stream_ad_lag_records", (("partition", "3"), ("topic", "t"))) not in case.scrape()
    assert seen["stream_ad_scores_total", ()] == 3
    assert seen["stream_ad_revisions_total", ()] == 2
    assert seen["stream_ad_alerts_total", (("rule", opened.rule), ("state", "open"))] == 1
    assert seen["stream_ad_dead_letters_total", (("reason", "empty"),)] == 2
    assert seen["stream_ad_lag_records", (("partition", "3"), ("topic", "t"))] == 15
    assert seen["process_resident_memory_bytes", ()] > 1e6


class Moody:
    """A sink that answers when it feels like it."""

    def __init__(self) -> None:
        self.well = False

    def write(self, outputs: Outputs) -> None:
        if not self.well:
            raise UnavailableError("no answer", hint="wait")

    def close(self) -> None: ...


def test_a_sink_that_does_not_answer_pauses_until_it_does() -> None:
    case = Case()
    moody = Moody()
    sink = InstrumentedSink(moody, "influxdb", case.watch)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            sink.write(Outputs())
    with case.server():
        seen = case.scrape()
        assert seen["stream_ad_unavailable_total", (("part", "influxdb"),)] == 3
        assert seen["stream_ad_paused", ()] == 1
        assert json.loads(case.get("/healthz")[1])["status"] == "waiting"
        moody.well = True
        sink.write(Outputs())
        seen = case.scrape()
        assert seen["stream_ad_paused", ()] == 0
        assert seen["stream_ad_write_seconds_count", (("part", "influxdb"),)] == 4
        assert case.health.actions == {}


def test_a_taken_port_is_refused_with_the_mend() -> None:
    case = Case()
    with case.server(), pytest.raises(ConfigError, match=rf"port {case.port} cannot be bound.*of its own"):
        case.server()
