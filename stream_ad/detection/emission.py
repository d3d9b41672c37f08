"""Scored slots to what the outside is told: score batches with revisions and alert ids, and alert events."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ad.detection.calibration import Calibration
from stream_ad.detection.episodes import EpisodeRule, EpisodeTracker
from stream_ad.ports import ScoredSlots, Window
from stream_ad.records import Alert, AlertState, Outputs, ScoreBatch
from stream_ad.windowing.grid import Grid
from stream_ad.windowing.tasks import ScoreTask

__all__ = ["EmittedScores", "Emitter", "Scoring", "merge_batches"]

SAME = 5e-5  # a score that moved less than this (relative) is not told again
NOISE = 1e-6  # and by less than this, in other batches, without any cause
MAX_INTERVALS = 64


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a series is scored now. next_emit: the first slot that is not told yet."""

    grid: Grid
    channels: tuple[str, ...]
    calibration: Calibration
    model_version: str
    next_emit: int


class EmittedScores:
    """Score and revision of the last `capacity` slots that were told, in a ring made when the first is.

    A slot is stale once its score, scored again now, would differ from what was told: after late data that moved it too
    little, or under a new profile.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._make(0)

    def _make(self, size: int) -> None:
        self._slot = np.full(size, -1, dtype=np.int64)
        self._score = np.full(size, np.nan, dtype=np.float64)
        self._revision = np.zeros(size, dtype=np.int32)
        self._stale = np.zeros(size, dtype=np.bool_)

    def of(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Score (NaN = not told, or too long ago) and revision of each slot."""
        if not len(self._slot):
            return np.full(len(slots), np.nan), np.zeros(len(slots), dtype=np.int32)
        at = slots % self._capacity
        known = self._slot[at] == slots
        return np.where(known, self._score[at], np.nan), np.where(known, self._revision[at], 0).astype(np.int32)

    def set(self, slots: NDArray[np.int64], score: NDArray[np.float64], revision: NDArray[np.int32]) -> None:
        if not len(self._slot):
            self._make(self._capacity)
        at = slots % self._capacity
        self._slot[at], self._score[at], self._revision[at], self._stale[at] = slots, score, revision, False

    def mark(self, slots: NDArray[np.int64], stale: NDArray[np.bool_]) -> None:
        """Of slots that are known: whether they are stale."""
        self._stale[slots % self._capacity] = stale

    def mark_all(self) -> None:
        """All that is known is stale."""
        self._stale[:] = self._slot >= 0

    def scores(self, slots: range, stale_from: int) -> dict[int, float]:
        """Slot -> score, of the known ones among `slots` and of the stale ones from `stale_from` on."""
        among = (self._slot >= slots.start) & (self._slot < slots.stop)
        at = np.flatnonzero((among | (self._stale & (self._slot >= stale_from))) & ~np.isnan(self._score))
        return dict(zip(self._slot[at].tolist(), self._score[at].tolist(), strict=True))

    def revised(self) -> dict[int, int]:
        """Slot -> revision, for those told more than once."""
        at = np.flatnonzero(self._revision)
        return dict(zip(self._slot[at].tolist(), self._revision[at].tolist(), strict=True))


@dataclass(slots=True)
class Emitter:
    """What was told of one series' episodes.

    The tracker advances on live scores alone, so its course depends on the log; scores told early, when a series falls
    silent, run through a copy. `speculative` holds alerts that only such a copy has opened.
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
    _speculative: EpisodeTracker | None = None

    @property
    def tracker(self) -> EpisodeTracker:
        if self._tracker is None:
            self._tracker = EpisodeTracker(self.series, self.rule, self.step_ns)
        return self._tracker

    def begin(self, work: ScoreTask) -> None:
        """Called before the results of one piece of work."""
        self._speculative = copy.deepcopy(self.tracker) if work.kind == "provisional" else None

    def emit(self, scoring: Scoring, work: ScoreTask, place: int, scored: ScoredSlots, out: Outputs) -> None:
        """Adds to `out` what is new of the slots of the work's window number `place`."""
        if not work.seen[place].any():
            return
        batch, slots = _batch(self.series, scoring, work.windows[place], work.seen[place], scored)
        before, revision = self.emitted.of(slots)
        if work.kind == "recall":
            # of the slots that late data changed, the state kept what was told before; the others were not told
            lost = np.isnan(before) & ~np.isin(slots, list(work.late_slots))
            self.emitted.set(slots[lost], batch.score[lost], revision[lost])
            return
        self.first_emitted_ns = self.first_emitted_ns or int(batch.event_time_ns[0])
        self.last_emitted_ns = max(self.last_emitted_ns or 0, int(batch.event_time_ns[-1]))
        ids = self._alerts(scoring.next_emit, work, batch, slots, out)
        again = ~np.isnan(before)
        revision = np.where(again, revision + 1, 0).astype(np.int32)
        batch = replace(batch, revision=revision, alert_id=tuple(ids))
        new = np.ones(len(slots), dtype=bool)
        if work.kind != "live":
            apart = np.abs(batch.score - before) / np.maximum(np.abs(before), 1e-3)
            new = ~again | (apart > SAME) | np.isin(slots, list(work.late_slots))
            self.emitted.mark(slots[~new], apart[~new] > NOISE)
        if new.any():
            self.emitted.set(slots[new], batch.score[new], revision[new])
            out.scores.append(_take(batch, new))

    def _alerts(
        self, next_emit: int, work: ScoreTask, batch: ScoreBatch, slots: NDArray[np.int64], out: Outputs
    ) -> Sequence[str]:
        if work.kind == "live":
            events, ids = self.tracker.advance(batch)
            self._remember(batch, ids)
            out.alerts.extend(self._settle(events, int(batch.event_time_ns[-1])))
            return ids
        ids = [self._id_at(int(t)) for t in batch.event_time_ns]
        fresh = slots >= next_emit
        if self._speculative is not None and fresh.any():
            events, emitted = self._speculative.advance(_take(batch, fresh))
            for position, alert_id in zip(np.flatnonzero(fresh), emitted, strict=True):
                ids[position] = alert_id
            for event in events:
                if event.state is AlertState.OPEN and event.id not in self.speculative:
                    self.speculative[event.id] = event
                    out.alerts.append(event)
        return ids

    def _settle(self, events: Sequence[Alert], now_ns: int) -> list[Alert]:
        """Live events, less the openings that were told early; early ones that did not come true are taken back."""
        emitted = [
            e for e in events if not (e.state is AlertState.OPEN and self.speculative.pop(e.id, None) is not None)
        ]
        for alert in [a for a in self.speculative.values() if a.detected_ns <= now_ns]:
            del self.speculative[alert.id]
            emitted.append(
                replace(
                    alert,
                    state=AlertState.WITHDRAWN,
                    end_ns=alert.start_ns,
                    updated_ns=now_ns,
                    revision=alert.revision + 1,
                )
            )
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

    def state(self) -> dict[str, Any]:
        return {"tracker": self.tracker.state(), "spans": self.alert_intervals, "early": self.speculative}

    def restore(
        self, tracker: dict[str, Any], alert_intervals: list[tuple[str, int, int]], speculative: dict[str, Alert]
    ) -> None:
        self.tracker.restore(tracker)
        self.alert_intervals, self.speculative = alert_intervals, speculative


def _batch(
    series: str, scoring: Scoring, window: Window, present: NDArray[np.bool_], scored: ScoredSlots
) -> tuple[ScoreBatch, NDArray[np.int64]]:
    """Scores of the slots of a window that are to be told, and these slots (int64 [n]); revision and alert ids are
    still to be set."""
    top = window.end_slot + 1
    stop = len(window.rows) - (top - window.emit_to)
    values = window.rows[len(window.rows) - (top - window.emit_from) : stop]
    slots = np.arange(window.emit_from, window.emit_to, dtype=np.int64)[present]
    return ScoreBatch(
        series=series,
        channels=scoring.channels,
        event_time_ns=scoring.grid.anchor_ns + slots * scoring.grid.step_ns,
        score=scoring.calibration.score(scored.raw[present]),
        value=values[present],
        expected=scored.expected[present],
        lower=scored.lower[present],
        upper=scored.upper[present],
        attribution=scored.attribution[present],
        revision=np.zeros(len(slots), dtype=np.int32),
        alert_id=("",) * len(slots),
        model_version=scoring.model_version,
    ), slots


def _take(batch: ScoreBatch, mask: NDArray[np.bool_]) -> ScoreBatch:
    if mask.all():
        return batch
    return replace(
        batch,
        **{
            name: getattr(batch, name)[mask]
            for name in ("event_time_ns", "score", "value", "expected", "lower", "upper", "attribution", "revision")
        },
        alert_id=tuple(i for i, keep in zip(batch.alert_id, mask, strict=True) if keep),
    )


def merge_batches(batches: Sequence[ScoreBatch]) -> ScoreBatch:
    """Batches of one series and one set of channels as one, in time order, the highest revision of each slot."""
    names = ("event_time_ns", "score", "value", "expected", "lower", "upper", "attribution", "revision")
    joined = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in names}
    order = np.lexsort((joined["revision"], joined["event_time_ns"]))
    times = joined["event_time_ns"][order]
    last = order[np.append(times[1:] != times[:-1], True)]
    ids = [alert_id for batch in batches for alert_id in batch.alert_id]
    columns = {name: column[last] for name, column in joined.items()}
    return replace(batches[-1], **columns, alert_id=tuple(ids[i] for i in last))
