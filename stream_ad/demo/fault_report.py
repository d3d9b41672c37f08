"""What a detector made of known faults: found or missed, after how long, and what it raised for nothing.

Everything is counted by events (faults and alert episodes), never point by point and without "point adjustment". One
alert that never ends would find every fault, so the report also states for how long alerts stood outside the faults.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from stream_ad.records import Alert

__all__ = ["TABLE_HEADER", "FaultOutcome", "FaultSpan", "Report", "SeriesCounts", "Verdict", "make_report"]

TABLE_HEADER = ("series", "fault", "channels", "verdict", "after", "peak", "alert names")


@dataclass(frozen=True, slots=True)
class FaultSpan:
    """A known fault: `start_ns` is its first slot, `end_ns` its last (both inclusive, as in an alert)."""

    series: str
    kind: str
    channels: tuple[str, ...]
    start_ns: int
    end_ns: int
    description: str = ""

    def __post_init__(self) -> None:
        if self.end_ns < self.start_ns:
            raise ValueError(f"expected end_ns >= start_ns, found {self.start_ns} and {self.end_ns}")


class Verdict(StrEnum):
    """PENDING: not found, but its span and tolerance have not passed yet, so it is not missed either."""

    FOUND = "found"
    MISSED = "missed"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class FaultOutcome:
    """What became of one fault; the fields after `verdict` are None unless it was found.

    delay_ns: from the fault's first slot to the slot at which the alert opened; negative when the alert stood already,
    which is luck rather than detection. named: the channel to which the alert attributes most.
    """

    fault: FaultSpan
    verdict: Verdict
    alert: Alert | None = None
    delay_ns: int | None = None
    named: str | None = None

    @property
    def named_rightly(self) -> bool:
        return self.named in self.fault.channels


@dataclass(frozen=True, slots=True)
class SeriesCounts:
    """Events of one series, or of all. `outside_ns`: time under alert outside every fault and its tolerance."""

    found: int = 0
    missed: int = 0
    pending: int = 0
    true_alerts: int = 0
    false_alerts: int = 0
    outside_ns: int = 0

    @property
    def precision(self) -> float | None:
        """Share of the alerts that overlap a fault; None without alerts."""
        total = self.true_alerts + self.false_alerts
        return self.true_alerts / total if total else None

    @property
    def recall(self) -> float | None:
        """Share of the faults that were found, without the pending ones; None without such faults."""
        total = self.found + self.missed
        return self.found / total if total else None

    def __add__(self, other: SeriesCounts) -> SeriesCounts:
        return SeriesCounts(
            found=self.found + other.found,
            missed=self.missed + other.missed,
            pending=self.pending + other.pending,
            true_alerts=self.true_alerts + other.true_alerts,
            false_alerts=self.false_alerts + other.false_alerts,
            outside_ns=self.outside_ns + other.outside_ns,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Outcomes by series and time, false alarms likewise, and the counts."""

    outcomes: tuple[FaultOutcome, ...]
    false_alarms: tuple[Alert, ...]
    by_series: dict[str, SeriesCounts]

    @property
    def total(self) -> SeriesCounts:
        return sum(self.by_series.values(), SeriesCounts())

    def table(self) -> list[tuple[str, ...]]:
        """One row of text per fault, under TABLE_HEADER."""
        return [_row(outcome) for outcome in self.outcomes]


def make_report(
    faults: Iterable[FaultSpan], alerts: Iterable[Alert], *, until_ns: int, step_ns: int, tolerance_ns: int = 0
) -> Report:
    """Match `alerts` to `faults` of the same series, as known when the slot `until_ns` has been scored.

    A fault is found by the first alert whose episode [start_ns, end_ns] meets [fault.start_ns, fault.end_ns +
    tolerance_ns]; an alert that meets no fault is a false alarm. `tolerance_ns` allows for a detector that answers
    late, and for a window that still holds the fault when it is over; 0 is strict. Faults that begin after `until_ns`
    are left out. Of several states of one alert (same id) the newest counts; an open alert lasts until `until_ns`.
    """
    if tolerance_ns < 0 or step_ns <= 0:
        raise ValueError(f"expected tolerance_ns >= 0 and step_ns > 0, found {tolerance_ns} and {step_ns}")
    faults_of: dict[str, list[FaultSpan]] = defaultdict(list)
    alerts_of: dict[str, list[Alert]] = defaultdict(list)
    for fault in sorted(faults, key=lambda fault: (fault.start_ns, fault.end_ns)):
        if fault.start_ns <= until_ns:
            faults_of[fault.series].append(fault)
    for alert in sorted(_newest(alerts), key=lambda alert: (alert.detected_ns, alert.start_ns, alert.id)):
        alerts_of[alert.series].append(alert)
    outcomes: list[FaultOutcome] = []
    false_alarms: list[Alert] = []
    by_series: dict[str, SeriesCounts] = {}
    for series in sorted(faults_of.keys() | alerts_of.keys()):
        raised = alerts_of[series]
        mine = [_outcome(fault, raised, until_ns, tolerance_ns) for fault in faults_of[series]]
        windows = [(fault.start_ns, fault.end_ns + tolerance_ns) for fault in faults_of[series]]
        wrong = [alert for alert in raised if not any(_meets(alert, *window, until_ns) for window in windows)]
        spans = [(alert.start_ns, _end_ns(alert, until_ns) + step_ns) for alert in raised]
        outside_ns = _length_outside(spans, [(start, end + step_ns) for start, end in windows])
        by_series[series] = _counts(mine, len(raised) - len(wrong), len(wrong), outside_ns)
        outcomes += mine
        false_alarms += wrong
    return Report(tuple(outcomes), tuple(false_alarms), by_series)


def _counts(outcomes: Sequence[FaultOutcome], true_alerts: int, false_alerts: int, outside_ns: int) -> SeriesCounts:
    verdicts = [outcome.verdict for outcome in outcomes]
    return SeriesCounts(
        found=verdicts.count(Verdict.FOUND),
        missed=verdicts.count(Verdict.MISSED),
        pending=verdicts.count(Verdict.PENDING),
        true_alerts=true_alerts,
        false_alerts=false_alerts,
        outside_ns=outside_ns,
    )


def _newest(alerts: Iterable[Alert]) -> list[Alert]:
    """The last state of each alert, by revision and time of update; at a tie the one that comes later."""
    newest: dict[str, Alert] = {}
    for alert in alerts:
        known = newest.get(alert.id)
        if known is None or (known.revision, known.updated_ns) <= (alert.revision, alert.updated_ns):
            newest[alert.id] = alert
    return list(newest.values())


def _end_ns(alert: Alert, until_ns: int) -> int:
    """The last slot of the episode; an open one goes on until `until_ns`, and none ends before it starts."""
    return max(alert.start_ns, until_ns if alert.end_ns is None else alert.end_ns)


def _meets(alert: Alert, start_ns: int, end_ns: int, until_ns: int) -> bool:
    return alert.start_ns <= end_ns and _end_ns(alert, until_ns) >= start_ns


def _outcome(fault: FaultSpan, alerts: Sequence[Alert], until_ns: int, tolerance_ns: int) -> FaultOutcome:
    """`alerts` are of the fault's series, in the order in which they opened."""
    last_ns = fault.end_ns + tolerance_ns
    for alert in alerts:
        if _meets(alert, fault.start_ns, last_ns, until_ns):
            named = max(alert.channels, key=lambda channel: channel.attribution).channel if alert.channels else None
            return FaultOutcome(fault, Verdict.FOUND, alert, alert.detected_ns - fault.start_ns, named)
    return FaultOutcome(fault, Verdict.PENDING if until_ns < last_ns else Verdict.MISSED)


def _length_outside(spans: Sequence[tuple[int, int]], holes: Sequence[tuple[int, int]]) -> int:
    """Length of the union of `spans` that lies in none of `holes`; all are half-open [start, end)."""
    edges = sorted({edge for pair in [*spans, *holes] for edge in pair})
    total = 0
    for left, right in pairwise(edges):
        in_span = any(start <= left < end for start, end in spans)
        if in_span and not any(start <= left < end for start, end in holes):
            total += right - left
    return total


def _row(outcome: FaultOutcome) -> tuple[str, ...]:
    fault, alert = outcome.fault, outcome.alert
    after = "" if outcome.delay_ns is None else _duration(outcome.delay_ns)
    peak = "" if alert is None else f"{alert.peak_score:.1f}"
    named = "" if outcome.named is None else outcome.named + ("" if outcome.named_rightly else " (another)")
    return fault.series, fault.kind, ", ".join(fault.channels), outcome.verdict.value, after, peak, named


def _duration(ns: int) -> str:
    """A delay for people: the two largest units, or that the alert stood already."""
    if ns < 0:
        return "stood already"
    seconds = round(ns / 1e9)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
