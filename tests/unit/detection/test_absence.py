"""Absence alerts: once per absence, by processing time, of partitions processed to their end, also across restarts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stream_ad.detection.episodes import alert_id
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Checkpoint
from stream_ad.records import SILENT_RULE, Alert, AlertState, SourceRecord
from stream_ad.settings import AlertSettings, Settings, Subscription
from tests.support.fakes import LevelScorer, MemoryProfiles
from tests.support.pipeline_runs import SCORER, START_NS, STEP_NS, record

AFTER_S = 60
OPEN, RESOLVED = AlertState.OPEN, AlertState.RESOLVED


def settings(default: str | None = "1min", own: str | None = None) -> Settings:
    subscription = Subscription(topic="t", step="1s", time_unit="ns", silent_after=own)
    return Settings(subscription=(subscription,), alerts=AlertSettings(silent_after=default))


@dataclass
class Worker:
    """A pipeline with a clock, and what is durable of it: states, profiles and the commit. emitted: the absence alerts
    that reached the sinks."""

    states: dict[str, bytes] = field(default_factory=dict)
    committed: Checkpoint | None = None
    conf: Settings = field(default_factory=settings)
    emitted: list[Alert] = field(default_factory=list)
    now_s: float = 1000.0
    log: list[SourceRecord] = field(default_factory=list)
    scorer: LevelScorer = SCORER
    profiles: MemoryProfiles = field(default_factory=MemoryProfiles)

    def __post_init__(self) -> None:
        self.pipeline = Pipeline(self.conf, self.scorer, self.profiles)
        offset = self.pipeline.assign("t", 0, self.states, self.committed)
        again = self.log[offset:] if offset is not None else []
        self._keep(self.pipeline.process(again, self.now_s).alerts)

    def read(self, *readings: tuple[str, int]) -> None:
        """(series, slot) of each new record."""
        new = [record(len(self.log) + i, slot, {"a": 1.0}, name) for i, (name, slot) in enumerate(readings)]
        self.log += new
        self._keep(self.pipeline.process(new, self.now_s).alerts)

    def wait(self, seconds: float, *, end: int | None = None) -> None:
        """Time passes; then the broker reports the log-end offset `end` (None = that of the log)."""
        self.now_s += seconds
        self.pipeline.observe_end_offset("t", 0, len(self.log) if end is None else end, self.now_s)
        out = self.pipeline.flush(self.now_s)
        if out.alerts:
            self.save()  # as the consumer loop does: a speculative alert is checkpointed before it is delivered
        self._keep(out.alerts)

    def save(self) -> None:
        made = self.pipeline.checkpoint("t", 0)
        if made is not None:
            self.states |= made[0]
            self.committed = made[1]

    def restarted(self) -> Worker:
        kept = dict(self.states), self.committed, self.conf
        return Worker(*kept, now_s=5.0, log=list(self.log), profiles=self.profiles)

    def _keep(self, alerts: Sequence[Alert]) -> None:
        self.emitted += [alert for alert in alerts if alert.rule == SILENT_RULE]

    @property
    def events(self) -> list[tuple[str, AlertState]]:
        return [(alert.series, alert.state) for alert in self.emitted]


def test_a_silent_series_opens_one_alert_that_resolves_when_readings_return() -> None:
    worker = Worker()
    worker.read(("a", 0), ("b", 0), ("a", 1), ("b", 1))
    worker.wait(30)
    worker.read(("b", 2))
    worker.wait(31)
    assert worker.events == [("a", OPEN)]
    for _ in range(5):
        worker.read(("b", 3))
        worker.wait(50)
    worker.read(("a", 90), ("a", 91))
    assert worker.events == [("a", OPEN), ("a", RESOLVED)]
    opened, resolved = worker.emitted
    assert opened.id == resolved.id == alert_id("a", SILENT_RULE, START_NS + STEP_NS)
    assert (opened.severity, opened.start_ns) == ("silent", START_NS + STEP_NS)
    assert opened.detected_ns == opened.start_ns + AFTER_S * STEP_NS
    assert resolved.end_ns == START_NS + 90 * STEP_NS


def test_a_second_silence_is_another_alert() -> None:
    worker = Worker()
    for slot in (1, 200):
        worker.read(("a", slot))
        worker.wait(61)
    assert worker.events == [("a", OPEN), ("a", RESOLVED), ("a", OPEN)]
    assert worker.emitted[0].id != worker.emitted[2].id


def test_absence_alerts_are_off_by_default_and_set_per_topic() -> None:
    quiet, own = Worker(conf=settings(None)), Worker(conf=settings(None, "10s"))
    for worker in (quiet, own):
        worker.read(("a", 1))
        worker.wait(15)
    assert quiet.events == []
    assert own.events == [("a", OPEN)]


def test_a_partition_not_processed_to_its_end_has_no_silent_series() -> None:
    """A backlog, a store that blocks the poll loop, a broker that does not answer."""
    worker = Worker()
    worker.read(("a", 0), ("a", 1))
    worker.now_s += 3600  # the poll loop was blocked; the next flush does not know of the backlog
    assert not worker.pipeline.flush(worker.now_s).alerts
    worker.wait(1, end=len(worker.log) + 100)  # a backlog of a hundred records
    worker.wait(100, end=len(worker.log) + 100)
    assert worker.events == []
    for slot in range(2, 102):
        worker.read(("a", slot))
    worker.wait(1)
    assert worker.events == []
    worker.wait(61)
    assert worker.events == [("a", OPEN)]


def test_a_late_reading_does_not_end_a_silence() -> None:
    worker = Worker()
    worker.read(*[("a", slot) for slot in range(20)])
    worker.wait(61)
    worker.read(("a", 10))
    worker.wait(61)
    assert worker.events == [("a", OPEN)]
    worker.read(("a", 20))
    assert worker.events == [("a", OPEN), ("a", RESOLVED)]


def test_a_restart_neither_repeats_nor_loses_an_absence() -> None:
    worker = Worker()
    worker.read(("a", 0), ("a", 1), ("b", 0), ("b", 1))
    worker.wait(61)
    worker.wait(5)
    worker.save()
    assert sorted(worker.events) == [("a", OPEN), ("b", OPEN)]
    second = worker.restarted()
    for _ in range(4):
        second.wait(100)
    assert second.events == []
    second.read(("a", 300))
    assert second.events == [("a", RESOLVED)]
    second.save()
    third = second.restarted()
    third.wait(1)
    third.wait(61)
    assert third.events == [("a", OPEN)]
    assert third.emitted[0].start_ns == START_NS + 300 * STEP_NS


def test_a_crash_before_delivery_repeats_the_alert_under_the_same_id() -> None:
    worker = Worker()
    worker.read(("a", 0), ("a", 1))
    worker.wait(61)  # the alert is in the state, but maybe not in the sinks
    second = worker.restarted()
    second.wait(1)
    assert second.events == [("a", OPEN)]
    assert second.emitted == worker.emitted
    second.wait(5)
    second.save()
    assert second.restarted().events == []


def test_a_crash_after_the_return_resolves_the_alert_again_identically() -> None:
    worker = Worker()
    worker.read(("a", 0), ("a", 1))
    worker.wait(61)
    worker.wait(5)
    worker.save()
    worker.read(("a", 70), ("a", 71))
    second = worker.restarted()
    assert second.events == [("a", RESOLVED)]
    assert second.emitted[0] == worker.emitted[-1]


def test_a_series_known_only_from_its_snapshot_falls_silent_too() -> None:
    """No record of it is replayed after a restart: its readings are below the replay offset."""
    worker = Worker()
    worker.read(("a", 0), ("a", 1))
    worker.save()
    assert worker.committed is not None
    end = worker.committed.next_offset
    second = Worker(dict(worker.states), Checkpoint(end, end), worker.conf, now_s=5.0, log=list(worker.log))
    second.wait(1)
    second.wait(59)
    assert second.events == []
    second.wait(2)
    assert second.events == [("a", OPEN)]
    assert second.emitted[0].id == alert_id("a", SILENT_RULE, START_NS + STEP_NS)
    second.save()
    third = second.restarted()
    third.wait(1)
    third.read(("a", 5))
    assert third.events == [("a", OPEN), ("a", RESOLVED)]


def test_a_revoked_partition_opens_no_absence_alerts() -> None:
    worker = Worker()
    worker.read(("a", 0), ("a", 1))
    worker.pipeline.revoke("t", 0)
    worker.wait(61)
    assert worker.events == []


def test_the_command_line_describes_an_absence() -> None:
    from stream_ad.cli.alerts import _cells, _line

    worker = Worker()
    worker.read(("a", 0), ("a", 1))
    worker.wait(61)
    worker.read(("a", 90))
    opened, resolved = worker.emitted
    assert "open a silent peak - since 2023-11-14T22:13:21Z no readings" in _line(opened)
    assert "readings resumed" in _line(resolved)
    assert _cells(opened)[3:7] == ["silent", "-", "-", "no readings"]
