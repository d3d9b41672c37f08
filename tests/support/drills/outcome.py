"""The store's contents after a drill, compared with those of an undisturbed run of the same log."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream_ad.ports import AlertReader, ScoreReader
from stream_ad.records import Alert, ScoreBatch

__all__ = ["Outcome", "compare"]

EVER_NS = 2**62
SAME = 1e-4
_COUNTED = ("lost", "duplicate", "differing", "alerts_lost", "alerts_doubled", "alerts_differing", "crashes")


@dataclass
class Outcome:
    """lost, duplicate and differing count slots: missing, present only here, or with another score, value, band (from
    1e-4 on, relative), revision, alert or model. events_repeated: on the alerts topic, whose delivery is at least once.
    recovery_s: per burst of faults, from its end to the first new score in the store.
    crashes: workers that ended unexpectedly; gave_up: that ended with a message (reasons) and were restarted;
    not_in_time: that did not end within the grace period after SIGTERM."""

    seed: int
    store: str
    faults: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0
    records: int = 0
    slots: int = 0
    revised: int = 0
    lost: int = 0
    duplicate: int = 0
    differing: int = 0
    alerts: int = 0
    alerts_lost: int = 0
    alerts_doubled: int = 0
    alerts_differing: int = 0
    events_repeated: int = 0
    dead_letters: int = 0
    dead_letters_lost: int = 0
    crashes: int = 0
    gave_up: int = 0
    not_in_time: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not any(getattr(self, name) for name in (*_COUNTED, "dead_letters_lost"))

    def as_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "by_kind": dict(self.by_kind),
            "reasons": dict(self.reasons),
            "recovery_s": [round(s, 2) for s in self.recovery_s],
        }

    def note(self, line: str) -> None:
        """Keep the line, of the first 25 differences only."""
        if len(self.notes) < 25:
            self.notes.append(line)


def compare(
    outcome: Outcome,
    series: list[str],
    found: tuple[ScoreReader, AlertReader],
    wanted: tuple[ScoreReader, AlertReader],
    *,
    revisions: bool = True,
) -> None:
    """revisions: they are a function of the log alone (no speculative emission of silent series)."""
    for name in series:
        _compare_scores(
            outcome,
            name,
            _slots(found[0].scores(name, 0, EVER_NS)),
            _slots(wanted[0].scores(name, 0, EVER_NS)),
            revisions,
        )
    _compare_alerts(outcome, found[1].alerts(None, 0, EVER_NS), wanted[1].alerts(None, 0, EVER_NS))


def _slots(batches: list[ScoreBatch]) -> dict[int, list[dict[str, Any]]]:
    slots: dict[int, list[dict[str, Any]]] = {}
    for batch in batches:
        order = sorted(range(len(batch.channels)), key=lambda k: batch.channels[k])  # stores order them differently
        channels = tuple(batch.channels[k] for k in order)
        columns = (batch.value, batch.expected, batch.lower, batch.upper, batch.attribution)
        arrays = np.stack(columns, axis=1)[:, :, order]
        for row, time_ns in enumerate(batch.event_time_ns.tolist()):
            slots.setdefault(time_ns, []).append(
                {
                    "score": float(batch.score[row]),
                    "revision": int(batch.revision[row]),
                    "alert": batch.alert_id[row],
                    "model": batch.model_version,
                    "channels": channels,
                    "arrays": arrays[row],
                }
            )
    return slots


def _compare_scores(
    outcome: Outcome,
    series: str,
    found: dict[int, list[dict[str, Any]]],
    wanted: dict[int, list[dict[str, Any]]],
    revisions: bool,
) -> None:
    outcome.slots += len(wanted)
    for time_ns in sorted(found.keys() | wanted.keys()):
        there = found.get(time_ns, [])
        if time_ns not in wanted:
            outcome.duplicate += len(there)
            outcome.note(f"{series} {time_ns}: not in the undisturbed run, revision {there[0]['revision']}")
            continue
        outcome.revised += wanted[time_ns][0]["revision"] > 0
        outcome.duplicate += max(0, len(there) - 1)
        if not there:
            outcome.lost += 1
            outcome.note(f"{series} {time_ns}: lost")
            continue
        what = _difference(there[0], wanted[time_ns][0], revisions)
        if what:
            outcome.differing += 1
            outcome.note(f"{series} {time_ns}: {what}")


def _difference(found: dict[str, Any], wanted: dict[str, Any], revisions: bool) -> str:
    """Description of the first difference, "" without one. A band's values are compared relative to the widest one."""
    for name in ("channels", "model", "alert", *(("revision",) if revisions else ())):
        if found[name] != wanted[name]:
            return f"{name}: expected {wanted[name]!r}, found {found[name]!r} (score {wanted['score']:.6g})"
    if not np.isclose(found["score"], wanted["score"], rtol=SAME, atol=0, equal_nan=True):
        return f"score: expected {wanted['score']!r}, found {found['score']!r}, revision {found['revision']}"
    scale = np.nanmax(np.abs(wanted["arrays"][:4]), axis=0, initial=1e-6)
    limits = SAME * np.vstack([np.broadcast_to(scale, (4, len(scale))), np.ones((1, len(scale)))])
    held, asked = found["arrays"], wanted["arrays"]
    if (np.isnan(held) != np.isnan(asked)).any() or (np.abs(held - asked) > limits).any():
        return f"values: expected {asked.tolist()}, found {held.tolist()}"
    return ""


def _compare_alerts(outcome: Outcome, found: list[Alert], wanted: list[Alert]) -> None:
    there, asked = {alert.id: alert for alert in found}, {alert.id: alert for alert in wanted}
    outcome.alerts += len(asked)
    outcome.alerts_lost += len(asked.keys() - there.keys())
    outcome.alerts_doubled += len(found) - len(asked.keys() & there.keys())
    for alert_id in asked.keys() - there.keys():
        outcome.note(f"alert lost: {asked[alert_id]}")
    for alert_id in there.keys() - asked.keys():
        outcome.note(f"alert doubled: {there[alert_id]}")
    for alert_id in asked.keys() & there.keys():
        one, other = there[alert_id], asked[alert_id]
        same = (one.state, one.end_ns, one.peak_ns) == (other.state, other.end_ns, other.peak_ns)
        if not same or not np.isclose(one.peak_score, other.peak_score, rtol=SAME):
            outcome.alerts_differing += 1
            outcome.note(f"alert: expected {other}, found {one}")
