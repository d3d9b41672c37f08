"""The demo's report against a naive twin that looks at every slot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.demo.fault_report import TABLE_HEADER, FaultSpan, SeriesCounts, Verdict, make_report
from stream_ad.records import Alert, AlertChannel, AlertState

STEP = 10
UNTIL = 60


def alert(
    start: int, end: int | None, *, series: str = "a", ident: str = "", detected: int | None = None, revision: int = 0
) -> Alert:
    """Times in slots."""
    at = start if detected is None else detected
    return Alert(
        id=ident or f"{series}-{start}-{end}-{at}",
        series=series,
        rule="score",
        state=AlertState.OPEN if end is None else AlertState.RESOLVED,
        start_ns=start * STEP,
        likely_start_ns=start * STEP,
        detected_ns=at * STEP,
        end_ns=None if end is None else end * STEP,
        updated_ns=(start if end is None else end) * STEP,
        peak_score=2.5,
        peak_ns=start * STEP,
        channels=(AlertChannel("x", 0.3, 1.0, 0.0, -1.0, 1.0), AlertChannel("y", 0.7, None, 0.0, -1.0, 1.0)),
        model_version="m",
        revision=revision,
    )


def fault(start: int, end: int, *, series: str = "a", channels: tuple[str, ...] = ("y",)) -> FaultSpan:
    return FaultSpan(series, "drift", channels, start * STEP, end * STEP)


@st.composite
def spans(draw: st.DrawFn, open_ended: bool) -> list[tuple[str, int, int | None, int]]:
    """Series, first slot, last slot (None = open) and slot of detection, some after UNTIL, overlaps included."""
    found = []
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, UNTIL + 5))
        end = None if open_ended and start <= UNTIL and draw(st.booleans()) else start + draw(st.integers(0, 12))
        found.append((draw(st.sampled_from("ab")), start, end, start + draw(st.integers(0, 3))))
    return found


def naive(faults: list[FaultSpan], alerts: list[Alert], tolerance: int) -> dict[str, SeriesCounts]:
    """Sets of slots instead of intervals."""
    counts = {}
    faults = [f for f in faults if f.start_ns <= UNTIL * STEP]
    for series in {f.series for f in faults} | {a.series for a in alerts}:
        under = {}
        for a in alerts:
            if a.series == series:
                last = UNTIL if a.end_ns is None else a.end_ns // STEP
                under[a.id] = set(range(a.start_ns // STEP, last + 1))
        wide = [
            (f, set(range(f.start_ns // STEP, f.end_ns // STEP + tolerance + 1))) for f in faults if f.series == series
        ]
        hit = [any(slots & alerted for alerted in under.values()) for _, slots in wide]
        late = [max(slots) > UNTIL for _, slots in wide]
        anywhere: set[int] = set().union(*(slots for _, slots in wide))
        true = sum(bool(alerted & anywhere) for alerted in under.values())
        alerted_slots: set[int] = set().union(*under.values())
        counts[series] = SeriesCounts(
            found=sum(hit),
            missed=sum(not h and not wait for h, wait in zip(hit, late, strict=True)),
            pending=sum(not h and wait for h, wait in zip(hit, late, strict=True)),
            true_alerts=true,
            false_alerts=len(under) - true,
            outside_ns=len(alerted_slots - anywhere) * STEP,
        )
    return counts


@given(spans(open_ended=False), spans(open_ended=True), st.integers(0, 6))
def test_counts_equal_the_naive_twin(
    faulty: list[tuple[str, int, int | None, int]], raised: list[tuple[str, int, int | None, int]], tolerance: int
) -> None:
    faults = [fault(start, end or 0, series=series) for series, start, end, _ in faulty]
    alerts = [
        alert(start, end, series=series, detected=at, ident=str(i)) for i, (series, start, end, at) in enumerate(raised)
    ]
    report = make_report(faults, alerts, until_ns=UNTIL * STEP, step_ns=STEP, tolerance_ns=tolerance * STEP)
    expected = naive(faults, alerts, tolerance)
    assert report.by_series == expected
    assert report.total == sum(expected.values(), SeriesCounts())
    assert len(report.false_alarms) == report.total.false_alerts
    for outcome in report.outcomes:
        meeting = [
            a.detected_ns
            for a in alerts
            if a.series == outcome.fault.series
            and a.start_ns <= outcome.fault.end_ns + tolerance * STEP
            and (a.end_ns is None or a.end_ns >= outcome.fault.start_ns)
            and (a.end_ns is not None or outcome.fault.start_ns <= UNTIL * STEP)
        ]
        assert outcome.delay_ns == (min(meeting) - outcome.fault.start_ns if meeting else None)
        assert (outcome.verdict is Verdict.FOUND) == bool(meeting)


def test_found_missed_pending_and_false() -> None:
    faults = [fault(10, 14), fault(30, 31, channels=("x",)), fault(58, 64), fault(61, 70)]
    alerts = [alert(12, 13), alert(20, 21), alert(33, 35, detected=34)]
    report = make_report(faults, alerts, until_ns=UNTIL * STEP, step_ns=STEP, tolerance_ns=2 * STEP)
    assert [outcome.verdict for outcome in report.outcomes] == [Verdict.FOUND, Verdict.FOUND, Verdict.PENDING]
    assert [outcome.delay_ns for outcome in report.outcomes] == [2 * STEP, 4 * STEP, None]
    assert [outcome.named_rightly for outcome in report.outcomes] == [True, False, False]
    assert [a.start_ns for a in report.false_alarms] == [20 * STEP]
    assert report.total.precision == pytest.approx(2 / 3)
    assert report.total.recall == 1.0
    assert report.total.outside_ns == 4 * STEP  # slots 20, 21 and 34, 35
    strict = make_report(faults, alerts, until_ns=UNTIL * STEP, step_ns=STEP)
    assert [outcome.verdict for outcome in strict.outcomes] == [Verdict.FOUND, Verdict.MISSED, Verdict.PENDING]
    assert strict.total.recall == 0.5
    over = make_report([fault(55, UNTIL)], [], until_ns=UNTIL * STEP, step_ns=STEP)
    assert over.outcomes[0].verdict is Verdict.MISSED, "its last slot has been scored"


def test_an_alert_that_never_ends_shows_itself() -> None:
    report = make_report([fault(10, 19), fault(40, 49)], [alert(0, None)], until_ns=UNTIL * STEP, step_ns=STEP)
    assert report.total.recall == report.total.precision == 1.0
    assert report.total.outside_ns == 41 * STEP
    assert [outcome.delay_ns for outcome in report.outcomes] == [-10 * STEP, -40 * STEP]
    assert [row[4] for row in report.table()] == ["stood already", "stood already"]


def test_the_newest_state_of_an_alert_counts() -> None:
    states = [alert(12, 13, ident="one"), alert(12, None, ident="one"), alert(12, 50, ident="one", revision=1)]
    report = make_report([fault(45, 46)], states, until_ns=UNTIL * STEP, step_ns=STEP)
    assert report.total == SeriesCounts(found=1, true_alerts=1, outside_ns=37 * STEP)
    assert report == make_report([fault(45, 46)], states[::-1], until_ns=UNTIL * STEP, step_ns=STEP)


def test_series_do_not_mix_and_nothing_gives_no_rates() -> None:
    report = make_report([fault(10, 11)], [alert(10, 11, series="b")], until_ns=UNTIL * STEP, step_ns=STEP)
    assert report.by_series == {"a": SeriesCounts(missed=1), "b": SeriesCounts(false_alerts=1, outside_ns=2 * STEP)}
    assert report.by_series["a"].precision is None
    assert report.by_series["b"].recall is None
    empty = make_report([], [], until_ns=0, step_ns=STEP)
    assert (empty.total, empty.table()) == (SeriesCounts(), [])


def test_the_table_is_text_for_people() -> None:
    second = 10**9
    spans_s = [
        FaultSpan("a", "drift", ("x", "y"), 0, second),
        FaultSpan("a", "spike_burst", ("x",), 50 * second, 60 * second),
    ]
    raised = Alert(
        id="1", series="a", rule="score", state=AlertState.RESOLVED, start_ns=second, likely_start_ns=0,
        detected_ns=75 * second, end_ns=80 * second, updated_ns=80 * second, peak_score=3.04, peak_ns=76 * second,
        channels=(AlertChannel("y", 1.0, 1.0, 0.0, -1.0, 1.0),), model_version="m",
    )  # fmt: skip
    report = make_report(spans_s, [raised], until_ns=90 * second, step_ns=second)
    assert report.table() == [
        ("a", "drift", "x, y", "found", "1 min 15 s", "3.0", "y"),
        ("a", "spike_burst", "x", "found", "25 s", "3.0", "y (another)"),
    ]
    assert {len(row) for row in report.table()} == {len(TABLE_HEADER)}


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="tolerance_ns"):
        make_report([], [], until_ns=0, step_ns=STEP, tolerance_ns=-1)
    with pytest.raises(ValueError, match="step_ns"):
        make_report([], [], until_ns=0, step_ns=0)
    with pytest.raises(ValueError, match="end_ns"):
        fault(3, 2)
