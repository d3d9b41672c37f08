"""The Sink contract for alerts, statuses and dead letters; part of SINK_CHECKS in check_sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stream_ad.records import SILENT_RULE, Alert, AlertState, DeadLetter, Outputs, SourcePosition, SourceRecord
from tests.support.sink_samples import AWKWARD_NAMES, FAR_NS, SinkPromises, SinkUnderTest, alert, eventually, status


def an_alert_shows_its_newest_state(target: SinkUnderTest, promises: SinkPromises) -> None:
    """open -> update -> resolved, one write each, then two in one write, then everything again."""
    series = promises.name("s")
    first = [
        alert(promises, "1", series, AlertState.OPEN, length=1),
        alert(promises, "1", series, AlertState.UPDATE, length=2),
        alert(promises, "1", series, AlertState.RESOLVED, length=9),
    ]
    second = [
        alert(promises, "2", series, AlertState.OPEN, slot=20, length=1),
        alert(promises, "2", series, AlertState.UPDATE, slot=20, length=4),
    ]
    for one in first:
        target.sink.write(Outputs(alerts=[one]))
        _expect(target, promises, series, [one])
    target.sink.write(Outputs(alerts=second))
    _expect(target, promises, series, [first[-1], second[-1]])
    target.sink.write(Outputs(alerts=[*first, *second]))
    _expect(target, promises, series, [first[-1], second[-1]])


def an_older_alert_state_is_ignored(target: SinkUnderTest, promises: SinkPromises) -> None:
    """A replay writes the open state again; a revision counts for more than a later update."""
    if not promises.keeps_newer:
        return
    series = promises.name("s")
    opened = alert(promises, "1", series, AlertState.OPEN, length=1)
    resolved = alert(promises, "1", series, AlertState.RESOLVED, length=5)
    revised = alert(promises, "1", series, AlertState.RESOLVED, length=4, revision=1)
    target.sink.write(Outputs(alerts=[resolved]))
    target.sink.write(Outputs(alerts=[opened]))
    _expect(target, promises, series, [resolved])
    target.sink.write(Outputs(alerts=[revised]))
    target.sink.write(Outputs(alerts=[opened, resolved]))
    _expect(target, promises, series, [revised])


def resolved_in_the_slot_of_its_opening(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Two states with one `updated_ns`: the later state stands."""
    series = promises.name("s")
    written = (AlertState.OPEN, AlertState.UPDATE, AlertState.RESOLVED)
    states = [alert(promises, "1", series, state) for state in written]
    target.sink.write(Outputs(alerts=states))
    _expect(target, promises, series, [states[-1]])


def a_withdrawn_alert_is_left_out(target: SinkUnderTest, promises: SinkPromises) -> None:
    """It was opened early and did not come true."""
    series = promises.name("s")
    kept = alert(promises, "1", series, AlertState.OPEN, length=1)
    early = alert(promises, "2", series, AlertState.OPEN, slot=5, length=1)
    target.sink.write(Outputs(alerts=[kept, early]))
    _expect(target, promises, series, [kept, early])
    target.sink.write(
        Outputs(alerts=[alert(promises, "2", series, AlertState.WITHDRAWN, slot=5, length=1, revision=1)])
    )
    _expect(target, promises, series, [kept])
    if target.alerts is not None:
        assert target.alerts.alert(early.id) is None


def alert_ranges_are_half_open_in_start(target: SinkUnderTest, promises: SinkPromises) -> None:
    """`alerts(series, start, stop)` selects by the episode's start, for one series or all, ordered by start."""
    here, there = promises.name("s"), promises.name("s2")
    early = alert(promises, "1", here, AlertState.RESOLVED, slot=0, length=50)
    middle = alert(promises, "2", there, AlertState.UPDATE, slot=10, length=3)
    late = alert(promises, "3", here, AlertState.OPEN, slot=20, length=1)
    target.sink.write(Outputs(alerts=[late, early, middle]))
    _expect(target, promises, here, [early, late])
    reader = target.alerts
    if reader is None:
        return
    ours = {early.id, middle.id, late.id}

    def between(series: str | None, start: int, stop: int) -> list[Alert]:
        found = reader.alerts(series, promises.time_ns(start), promises.time_ns(stop))
        return [one for one in found if one.id in ours]

    assert between(None, 0, 21) == [early, middle, late]
    assert between(None, 0, 20) == [early, middle]
    assert between(None, 1, 20) == [middle]
    assert between(here, 0, 20) == [early]
    assert between(here, 20, 21) == [late]
    assert between(here, 5, 5) == []


def a_silence_alert_is_separate_from_others(target: SinkUnderTest, promises: SinkPromises) -> None:
    """No peak, no channels, no model; it stands beside an episode of scores with the same start."""
    series = promises.name("s")
    scored = alert(promises, "1", series, AlertState.RESOLVED, length=1)
    bare = replace(scored, id=promises.name("2"), rule=SILENT_RULE, peak_score=0.0, channels=(), model_version="")
    opened = replace(bare, state=AlertState.OPEN, end_ns=None)
    target.sink.write(Outputs(alerts=[scored, opened]))
    _expect(target, promises, series, [scored, opened])
    target.sink.write(Outputs(alerts=[bare]))
    _expect(target, promises, series, [scored, bare])
    assert bare.severity == SILENT_RULE


def two_alerts_of_one_start_stay_two(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Same series, same start, different ids (two rules): a store keyed by series and time would lose one."""
    series = promises.name("s")
    both = [alert(promises, name, series, AlertState.OPEN, length=1) for name in ("1", "2")]
    target.sink.write(Outputs(alerts=both))
    reader = target.alerts
    if reader is None:
        return

    def check() -> None:
        found = reader.alerts(series, 0, FAR_NS)
        assert sorted(found, key=lambda one: one.id) == both

    eventually(check, promises.wait_s)


def alerts_of_awkward_names(target: SinkUnderTest, promises: SinkPromises) -> None:
    written = [alert(promises, f"id {n}", promises.name(n), AlertState.OPEN, length=1) for n in AWKWARD_NAMES]
    target.sink.write(Outputs(alerts=written))
    for one in written:
        _expect(target, promises, one.series, [one])


def a_status_is_the_latest_of_its_series(target: SinkUnderTest, promises: SinkPromises) -> None:
    names = [promises.name(name) for name in AWKWARD_NAMES]
    target.sink.write(Outputs(statuses=[status(name, 0) for name in names]))
    target.sink.write(Outputs(statuses=[status(names[0], 3), status(names[0], 4), status(names[1], 4000)]))
    wanted = [status(names[0], 4), status(names[1], 4000), *(status(name, 0) for name in names[2:])]
    reader = target.statuses
    if reader is None:
        return

    def check() -> None:
        found = {one.series: one for one in reader.statuses() if one.series in names}
        assert [found.get(name) for name in names] == wanted

    eventually(check, promises.wait_s)


def dead_letters_are_taken(target: SinkUnderTest, promises: SinkPromises) -> None:
    """Bytes that are no text, no key, no value, two reasons for one record, and the same again."""
    position = SourcePosition(promises.name("topic"), 0, 7)
    records = [
        SourceRecord(position, promises.start_ns, b"key", b"\xff\x00 not json"),
        SourceRecord(SourcePosition(position.topic, 0, 8), promises.start_ns, None, None),
        SourceRecord(SourcePosition(position.topic, 1, 7), promises.start_ns, b"", b""),
    ]
    reasons = ("not_json", "ahead")
    dead_letters = [DeadLetter(record, reason, "Größe\n2nd line") for record in records for reason in reasons]
    target.sink.write(Outputs(dead_letters=dead_letters))
    target.sink.write(Outputs(dead_letters=dead_letters))


def _expect(target: SinkUnderTest, promises: SinkPromises, series: str, wanted: Sequence[Alert]) -> None:
    reader = target.alerts
    if reader is None:
        return

    def check() -> None:
        assert reader.alerts(series, 0, FAR_NS) == list(wanted)
        assert [reader.alert(one.id) for one in wanted] == list(wanted)

    eventually(check, promises.wait_s)


ALERT_CHECKS: tuple[Callable[[SinkUnderTest, SinkPromises], None], ...] = (
    an_alert_shows_its_newest_state,
    an_older_alert_state_is_ignored,
    resolved_in_the_slot_of_its_opening,
    a_withdrawn_alert_is_left_out,
    alert_ranges_are_half_open_in_start,
    two_alerts_of_one_start_stay_two,
    alerts_of_awkward_names,
    a_silence_alert_is_separate_from_others,
    a_status_is_the_latest_of_its_series,
    dead_letters_are_taken,
)
