"""/metrics, /healthz and /readyz over a real socket."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from stream_ad_connectors.host.clock import SystemClock

from stream_ad.errors import ConfigError, UnavailableError
from stream_ad.observability.endpoints import HealthServer
from stream_ad.observability.instrumented import Instrumentation, instrument_sink
from stream_ad.observability.metrics import Metrics
from stream_ad.observability.worker_health import WorkerHealth
from stream_ad.ports import PartitionLag
from stream_ad.records import AlertState, DeadLetter, Outputs, SourcePosition, SourceRecord
from tests.support.services.process import free_ports, http_get
from tests.support.sink_samples import SinkPromises, alert, batch


class Case:
    def __init__(self) -> None:
        self.health = WorkerHealth(SystemClock(), assignment_stable=True)
        self.metrics = Metrics(self.health)
        self.watch = Instrumentation(self.health, self.metrics)
        self.port = free_ports(1)[0]

    def server(self) -> closing[HealthServer]:
        return closing(HealthServer("127.0.0.1", self.port, self.health, self.metrics.registry))

    def get(self, path: str) -> tuple[int, str]:
        return http_get(self.port, path)

    def scrape(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_health_and_readiness_give_reasons() -> None:
    case = Case()
    with case.server():
        assert case.get("/healthz") == (200, '{"status": "ok", "reasons": []}')
        assert case.get("/readyz")[0] == 200
        case.health.assignment_stable = False
        status, body = case.get("/readyz")
        assert status == 503
        assert json.loads(body)["reasons"] == ["partitions are not assigned yet"]
        case.health.stalled = "no progress"
        assert case.get("/healthz") == (503, '{"status": "stalled", "reasons": ["no progress"]}')
        assert case.get("/other")[0] == 404


def test_a_scrape_shows_delivered_outputs_and_the_lag() -> None:
    case = Case()
    first, revised = batch("s", [1, 2, 3]), batch("s", [2, 3], revision=1)
    dead = DeadLetter(SourceRecord(SourcePosition("t", 0, 1), 0, None, b"x"), "empty", "")
    opened = alert(SinkPromises(), "1", "s", AlertState.OPEN)
    case.metrics.delivered(Outputs(scores=[first, revised], alerts=[opened], dead_letters=[dead, dead]))
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


class Flaky:
    """A sink that is unavailable until `up`."""

    def __init__(self) -> None:
        self.up = False

    def write(self, outputs: Outputs) -> None:
        if not self.up:
            raise UnavailableError("no answer", hint="wait")

    def close(self) -> None: ...


def test_an_unavailable_sink_counts_as_paused_until_it_recovers() -> None:
    case = Case()
    flaky = Flaky()
    sink = instrument_sink(flaky, "influxdb", case.watch)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            sink.write(Outputs())
    with case.server():
        seen = case.scrape()
        assert seen["stream_ad_unavailable_total", (("part", "influxdb"),)] == 3
        assert seen["stream_ad_paused", ()] == 1
        assert json.loads(case.get("/healthz")[1])["status"] == "waiting"
        flaky.up = True
        sink.write(Outputs())
        seen = case.scrape()
        assert seen["stream_ad_paused", ()] == 0
        assert seen["stream_ad_write_seconds_count", (("part", "influxdb"),)] == 4
        assert case.health.actions == {}


def test_a_port_in_use_is_an_error_with_a_hint() -> None:
    case = Case()
    with case.server(), pytest.raises(ConfigError, match=rf"port {case.port} cannot be bound.*a different port"):
        case.server()
