"""The demo's report against a naive version that looks at every slot."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from stream_ad.demo.fault_report import Report, Verdict, make_report
from stream_ad.demo.plant import Fault, FaultKind
from stream_ad.demo.summary import COLUMNS, fault_row
from stream_ad.records import Alert, AlertChannel, AlertState

S = 1_000_000_000
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


def fault(start: int, end: int, *, series: str = "a", channels: tuple[str, ...] = ("y",)) -> Fault:
    """Slots start to end, both inclusive."""
    return Fault(FaultKind.DRIFT, series, channels, start, end + 1, (1.0,) * len(channels), "drifts")


def report_of(faults: list[Fault], alerts: list[Alert], tolerance: int = 0, until: int = UNTIL) -> Report:
    return make_report(faults, alerts, start_ns=0, step_ns=STEP, until_ns=until * STEP, tolerance_steps=tolerance)


class Counts(NamedTuple):
    found: int = 0
    missed: int = 0
    pending: int = 0
    true_alerts: int = 0
    false_alerts: int = 0
    outside_ns: int = 0


def counts(report: Report) -> Counts:
    verdicts = (report.count(verdict) for verdict in (Verdict.FOUND, Verdict.MISSED, Verdict.PENDING))
    return Counts(*verdicts, report.true_alerts, len(report.false_alarms), report.outside_ns)


@st.composite
def spans(draw: st.DrawFn, open_ended: bool) -> list[tuple[str, int, int | None, int]]:
    """Series, first slot, last slot (None = open) and slot of detection, some after UNTIL, overlaps included."""
    found = []
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, UNTIL + 5))
        end = None if open_ended and start <= UNTIL and draw(st.booleans()) else start + draw(st.integers(0, 12))
        found.append((draw(st.sampled_from("ab")), start, end, start + draw(st.integers(0, 3))))
    return found


def naive(faults: list[Fault], alerts: list[Alert], tolerance: int) -> dict[str, Counts]:
    """Sets of slots instead of intervals."""
    counted = {}
    faults = [f for f in faults if f.start_slot <= UNTIL]
    for series in {f.series for f in faults} | {a.series for a in alerts}:
        under = {}
        for a in alerts:
            if a.series == series:
                last = UNTIL if a.end_ns is None else a.end_ns // STEP
                under[a.id] = set(range(a.start_ns // STEP, last + 1))
        wide = [set(range(f.start_slot, f.end_slot + tolerance)) for f in faults if f.series == series]
        hit = [any(slots & alerted for alerted in under.values()) for slots in wide]
        late = [max(slots) > UNTIL for slots in wide]
        anywhere: set[int] = set().union(*wide)
        true = sum(bool(alerted & anywhere) for alerted in under.values())
        alerted_slots: set[int] = set().union(*under.values())
        counted[series] = Counts(
            found=sum(hit),
            missed=sum(not h and not wait for h, wait in zip(hit, late, strict=True)),
            pending=sum(not h and wait for h, wait in zip(hit, late, strict=True)),
            true_alerts=true,
            false_alerts=len(under) - true,
            outside_ns=len(alerted_slots - anywhere) * STEP,
        )
    return counted


@given(spans(open_ended=False), spans(open_ended=True), st.integers(0, 6))
def test_counts_equal_the_naive_version(
    faulty: list[tuple[str, int, int | None, int]], raised: list[tuple[str, int, int | None, int]], tolerance: int
) -> None:
    faults = [fault(start, end or 0, series=series) for series, start, end, _ in faulty]
    alerts = [
        alert(start, end, series=series, detected=at, ident=str(i)) for i, (series, start, end, at) in enumerate(raised)
    ]
    report = report_of(faults, alerts, tolerance)
    expected = naive(faults, alerts, tolerance)
    for series in "ab":
        own = [f for f in faults if f.series == series], [a for a in alerts if a.series == series]
        assert counts(report_of(*own, tolerance)) == expected.get(series, Counts())
    assert counts(report) == Counts(*map(sum, zip(Counts(), *expected.values(), strict=True)))
    for outcome in report.outcomes:
        first, last = outcome.fault.start_slot * STEP, (outcome.fault.end_slot - 1) * STEP
        meeting = [
            a.detected_ns
            for a in alerts
            if a.series == outcome.fault.series
            and a.start_ns <= last + tolerance * STEP
            and (a.end_ns is None or a.end_ns >= first)
            and (a.end_ns is not None or first <= UNTIL * STEP)
        ]
        assert outcome.delay_ns == (min(meeting) - first if meeting else None)
        assert (outcome.verdict is Verdict.FOUND) == bool(meeting)


def test_found_missed_pending_and_false() -> None:
    faults = [fault(10, 14), fault(30, 31, channels=("x",)), fault(58, 64), fault(61, 70)]
    alerts = [alert(12, 13), alert(20, 21), alert(33, 35, detected=34)]
    report = report_of(faults, alerts, 2)
    assert [outcome.verdict for outcome in report.outcomes] == [Verdict.FOUND, Verdict.FOUND, Verdict.PENDING]
    assert [outcome.delay_ns for outcome in report.outcomes] == [2 * STEP, 4 * STEP, None]
    assert [outcome.named_correctly for outcome in report.outcomes] == [True, False, False]
    assert [a.start_ns for a in report.false_alarms] == [20 * STEP]
    assert counts(report) == Counts(found=2, pending=1, true_alerts=2, false_alerts=1, outside_ns=4 * STEP)
    strict = report_of(faults, alerts)
    assert [outcome.verdict for outcome in strict.outcomes] == [Verdict.FOUND, Verdict.MISSED, Verdict.PENDING]
    over = report_of([fault(55, UNTIL)], [])
    assert over.outcomes[0].verdict is Verdict.MISSED, "its last slot has been scored"


def test_an_alert_that_never_ends_is_counted_outside_the_faults() -> None:
    report = report_of([fault(10, 19), fault(40, 49)], [alert(0, None)])
    assert counts(report) == Counts(found=2, true_alerts=1, outside_ns=41 * STEP)
    assert [outcome.delay_ns for outcome in report.outcomes] == [-10 * STEP, -40 * STEP]
    assert [fault_row(outcome, {})[3] for outcome in report.outcomes] == ["-0.0 s", "-0.0 s"]


def test_the_newest_state_of_an_alert_counts() -> None:
    states = [alert(12, 13, ident="one"), alert(12, None, ident="one"), alert(12, 50, ident="one", revision=1)]
    report = report_of([fault(45, 46)], states)
    assert counts(report) == Counts(found=1, true_alerts=1, outside_ns=37 * STEP)
    assert report == report_of([fault(45, 46)], states[::-1])


def test_series_do_not_mix() -> None:
    report = report_of([fault(10, 11)], [alert(10, 11, series="b")])
    assert counts(report) == Counts(missed=1, false_alerts=1, outside_ns=2 * STEP)
    assert counts(report_of([], [], until=0)) == Counts()


def test_a_row_is_text_for_people() -> None:
    raised = Alert(
        id="1", series="a", rule="score", state=AlertState.RESOLVED, start_ns=1 * S, likely_start_ns=0,
        detected_ns=75 * S, end_ns=80 * S, updated_ns=80 * S, peak_score=3.04, peak_ns=76 * S,
        channels=(AlertChannel("y", 1.0, 1.0, 0.0, -1.0, 1.0),), model_version="m",
    )  # fmt: skip
    faults = [fault(0, 1, channels=("x", "y")), fault(50, 60, channels=("x",)), fault(80, 81), fault(85, 86)]
    report = make_report(faults, [raised], start_ns=0, step_ns=S, until_ns=90 * S)
    assert [fault_row(outcome, {"1": 2.5}) for outcome in report.outcomes] == [
        ("a", "drifts", "found", "75.0 s", "77.5 s", "3.0", "y"),
        ("a", "drifts", "found", "25.0 s", "27.5 s", "3.0", "y (another)"),
        ("a", "drifts", "found", "-5.0 s", "before it", "3.0", "y"),
        ("a", "drifts", "missed", "", "", "", ""),
    ]
    assert len(COLUMNS) == 7
