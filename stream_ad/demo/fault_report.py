"""Compares alerts to the known faults: found or missed, after which delay, and false alarms.

It counts events (faults and alert episodes), not points, and without "point adjustment". Because one endless alert
would find every fault, the report also states how long alerts were open outside the faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from stream_ad.demo.plant import Fault
from stream_ad.records import Alert

__all__ = ["FaultOutcome", "Report", "Verdict", "make_report"]


class Verdict(StrEnum):
    """PENDING: not found, but the fault and the tolerance have not passed yet."""

    FOUND = "found"
    MISSED = "missed"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class FaultOutcome:
    """The outcome of one fault. alert: the one that found it. delay_ns: from the first slot of the fault to the slot at
    which the alert opened; negative when it was open already, which is luck rather than detection."""

    fault: Fault
    verdict: Verdict
    alert: Alert | None = None
    delay_ns: int | None = None

    @property
    def named(self) -> str | None:
        """The channel with the largest attribution in the alert."""
        if self.alert is None or not self.alert.channels:
            return None
        return max(self.alert.channels, key=lambda channel: channel.attribution).channel

    @property
    def named_correctly(self) -> bool:
        return self.named in self.fault.channels


@dataclass(frozen=True, slots=True)
class Report:
    """Outcomes and false alarms, ordered by series and time. outside_ns: time under alert outside every fault."""

    outcomes: tuple[FaultOutcome, ...]
    false_alarms: tuple[Alert, ...]
    true_alerts: int
    outside_ns: int

    def count(self, verdict: Verdict) -> int:
        return sum(outcome.verdict is verdict for outcome in self.outcomes)


def make_report(
    faults: Iterable[Fault],
    alerts: Iterable[Alert],
    *,
    start_ns: int,
    step_ns: int,
    until_ns: int,
    tolerance_steps: int = 0,
) -> Report:
    """Matches alerts to faults of the same series, as known once the slot `until_ns` is scored.

    start_ns: event time of slot 0. A fault is found by the first alert that overlaps its slots or the tolerance_steps
    after them (for a detector's delay, and for a window that still holds the fault). An alert that overlaps no fault is
    a false alarm. Faults that begin after `until_ns` are left out. The newest state of each alert counts; an open alert
    lasts until `until_ns`.
    """
    spans: list[tuple[Fault, int, int]] = []
    for fault in sorted(faults, key=lambda fault: (fault.series, fault.start_slot)):
        first_ns = start_ns + fault.start_slot * step_ns
        if first_ns <= until_ns:
            spans.append((fault, first_ns, start_ns + (fault.end_slot - 1 + tolerance_steps) * step_ns))
    newest = sorted(_newest(alerts), key=lambda alert: (alert.series, alert.detected_ns, alert.start_ns, alert.id))

    def overlaps(alert: Alert, fault: Fault, first_ns: int, last_ns: int) -> bool:
        return alert.series == fault.series and alert.start_ns <= last_ns and _end_ns(alert, until_ns) >= first_ns

    outcomes = []
    for fault, first_ns, last_ns in spans:
        found = next((alert for alert in newest if overlaps(alert, fault, first_ns, last_ns)), None)
        if found is not None:
            outcomes.append(FaultOutcome(fault, Verdict.FOUND, found, found.detected_ns - first_ns))
        else:
            outcomes.append(FaultOutcome(fault, Verdict.PENDING if until_ns < last_ns else Verdict.MISSED))
    false_alarms = tuple(alert for alert in newest if not any(overlaps(alert, *span) for span in spans))
    outside_ns = sum(
        _length_outside(
            [(alert.start_ns, _end_ns(alert, until_ns) + step_ns) for alert in newest if alert.series == series],
            [(first_ns, last_ns + step_ns) for fault, first_ns, last_ns in spans if fault.series == series],
        )
        for series in {alert.series for alert in newest}
    )
    return Report(tuple(outcomes), false_alarms, len(newest) - len(false_alarms), outside_ns)


def _newest(alerts: Iterable[Alert]) -> Iterable[Alert]:
    """The last state of each alert, by revision and time of update."""
    ordered = sorted(alerts, key=lambda alert: (alert.revision, alert.updated_ns))
    return {alert.id: alert for alert in ordered}.values()


def _end_ns(alert: Alert, until_ns: int) -> int:
    return max(alert.start_ns, until_ns if alert.end_ns is None else alert.end_ns)


def _length_outside(spans: Sequence[tuple[int, int]], holes: Sequence[tuple[int, int]]) -> int:
    """Length of the union of `spans` outside all `holes`; intervals are half-open."""
    edges = sorted({edge for pair in [*spans, *holes] for edge in pair})
    total = 0
    for left, right in pairwise(edges):
        inside = any(start <= left < end for start, end in spans)
        if inside and not any(start <= left < end for start, end in holes):
            total += right - left
    return total
