"""Raw scores of slots to score batches with revisions and alert ids, and to alert events."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stream_ad.detection.calibration import Calibration
from stream_ad.detection.emitted_scores import EmittedScores
from stream_ad.detection.episodes import EpisodeRule, EpisodeTracker
from stream_ad.ports import ScoredSlots, Window
from stream_ad.records import Alert, AlertState, Outputs, ScoreBatch
from stream_ad.windowing.grid import Grid
from stream_ad.windowing.tasks import ScoreTask

__all__ = ["Emitter", "Scoring"]

REVISION_TOLERANCE = 5e-5  # a score that moved by less (relative) is not emitted again
ROUNDING = 1e-6  # a score may move by less without a cause, in another batch
MAX_INTERVALS = 64


@dataclass(frozen=True, slots=True)
class Scoring:
    """What turns a series' raw scores into a batch at present. next_emit: its first slot not emitted on time yet."""

    grid: Grid
    channels: tuple[str, ...]
    calibration: Calibration
    model_version: str
    next_emit: int


@dataclass(slots=True)
class Emitter:
    """Turns raw scores of one series into batches with revisions and alert ids.

    Episodes advance only on on-time scores, so alerts are a function of the log; speculative scores run on a copy of
    the tracker, and alerts opened there are retracted if on-time data disagree. speculative: these alerts by id.
    alert_intervals: (alert id, first, last event time) of the newest slots with an alert id.
    """

    series: str
    rule: EpisodeRule
    emitted: EmittedScores
    step_ns: int = 1_000_000_000
    speculative: dict[str, Alert] = field(default_factory=dict)
    alert_intervals: list[tuple[str, int, int]] = field(default_factory=list)
    first_emitted_ns: int | None = None
    last_emitted_ns: int | None = None
    _tracker: EpisodeTracker | None = None
    _speculative_tracker: EpisodeTracker | None = None

    @property
    def tracker(self) -> EpisodeTracker:
        if self._tracker is None:
            self._tracker = EpisodeTracker(self.series, self.rule, self.step_ns)
        return self._tracker

    def begin(self, task: ScoreTask) -> None:
        """Called before the first result of each task."""
        self._speculative_tracker = copy.deepcopy(self.tracker) if task.kind == "provisional" else None

    def emit(self, scoring: Scoring, task: ScoreTask, number: int, scored: ScoredSlots, out: Outputs) -> None:
        """Adds to `out` the slots of the task's window `number` that are new or revised."""
        seen = task.seen[number]
        if not seen.any():
            return
        batch, slots = _batch(self.series, scoring, task.windows[number], seen, scored)
        before, revision = self.emitted.lookup(slots)
        known = ~np.isnan(before)
        if task.kind == "replay":
            # The snapshot holds the last emitted score of late slots; one that it lacks was not emitted.
            lost = ~known & ~np.isin(slots, list(task.late_slots))
            self.emitted.store(slots[lost], batch.score[lost], revision[lost])
            return
        self.first_emitted_ns = self.first_emitted_ns or int(batch.event_time_ns[0])
        self.last_emitted_ns = max(self.last_emitted_ns or 0, int(batch.event_time_ns[-1]))
        ids = self._advance_episodes(scoring.next_emit, task, batch, slots, out)
        revision = np.where(known, revision + 1, 0).astype(np.int32)
        batch = replace(batch, revision=revision, alert_id=tuple(ids))
        changed = np.ones(len(slots), dtype=bool)
        if task.kind != "live":
            moved = np.abs(batch.score - before) / np.maximum(np.abs(before), 1e-3)
            changed = ~known | (moved > REVISION_TOLERANCE) | np.isin(slots, list(task.late_slots))
            self.emitted.set_stale(slots[~changed], moved[~changed] > ROUNDING)
        if changed.any():
            self.emitted.store(slots[changed], batch.score[changed], revision[changed])
            out.scores.append(batch.select(changed))

    def _advance_episodes(
        self, next_emit: int, task: ScoreTask, batch: ScoreBatch, slots: NDArray[np.int64], out: Outputs
    ) -> Sequence[str]:
        """The alert id of each slot; adds alert events to `out`."""
        if task.kind == "live":
            events, ids = self.tracker.advance(batch)
            self._remember(batch, ids)
            out.alerts.extend(self._reconcile(events, int(batch.event_time_ns[-1])))
            return ids
        ids = [self._id_at(int(t)) for t in batch.event_time_ns]
        fresh = slots >= next_emit
        if self._speculative_tracker is not None and fresh.any():
            events, new_ids = self._speculative_tracker.advance(batch.select(fresh))
            for position, alert_id in zip(np.flatnonzero(fresh), new_ids, strict=True):
                ids[position] = alert_id
            for event in events:
                if event.state is AlertState.OPEN and event.id not in self.speculative:
                    self.speculative[event.id] = event
                    out.alerts.append(event)
        return ids

    def _reconcile(self, events: Sequence[Alert], now_ns: int) -> list[Alert]:
        """On-time events without the openings already emitted as speculative; retracts speculative alerts that
        on-time data up to `now_ns` did not open."""
        emitted = [e for e in events if e.state is not AlertState.OPEN or self.speculative.pop(e.id, None) is None]
        for alert in [a for a in self.speculative.values() if a.detected_ns <= now_ns]:
            del self.speculative[alert.id]
            withdrawn = replace(alert, state=AlertState.WITHDRAWN, end_ns=alert.start_ns, updated_ns=now_ns)
            emitted.append(replace(withdrawn, revision=alert.revision + 1))
        return emitted

    def _remember(self, batch: ScoreBatch, ids: Sequence[str]) -> None:
        for time_ns, alert_id in zip(batch.event_time_ns.tolist(), ids, strict=True):
            if not alert_id:
                continue
            if self.alert_intervals and self.alert_intervals[-1][0] == alert_id:
                self.alert_intervals[-1] = (alert_id, self.alert_intervals[-1][1], time_ns)
            else:
                self.alert_intervals = [*self.alert_intervals[-MAX_INTERVALS + 1 :], (alert_id, time_ns, time_ns)]

    def _id_at(self, time_ns: int) -> str:
        return next((alert_id for alert_id, first, last in self.alert_intervals if first <= time_ns <= last), "")


def _batch(
    series: str, scoring: Scoring, window: Window, seen: NDArray[np.bool_], scored: ScoredSlots
) -> tuple[ScoreBatch, NDArray[np.int64]]:
    """The seen slots of a window to emit, and their numbers (int64 [n]); without revisions and alert ids yet."""
    first = len(window.rows) - 1 - window.end_slot  # row of slot 0
    values = window.rows[first + window.emit_from : first + window.emit_to]
    slots = np.arange(window.emit_from, window.emit_to, dtype=np.int64)[seen]
    return ScoreBatch(
        series=series,
        channels=scoring.channels,
        event_time_ns=scoring.grid.anchor_ns + slots * scoring.grid.step_ns,
        score=scoring.calibration.score(scored.raw[seen]),
        value=values[seen],
        expected=scored.expected[seen],
        lower=scored.lower[seen],
        upper=scored.upper[seen],
        attribution=scored.attribution[seen],
        revision=np.zeros(len(slots), dtype=np.int32),
        alert_id=("",) * len(slots),
        model_version=scoring.model_version,
    ), slots
