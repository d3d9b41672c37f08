"""Calibrated scores to alerts: episodes with an enter and an exit level, a minimum length and a cooldown.

A run is an unbroken sequence of slots at or over `exit`. It becomes an episode at its `min_length_steps`-th slot at or
over `enter` (OPEN); the episode starts at the first such slot. Runs that begin before `cooldown_steps` quiet slots
(below `exit`) have passed belong to the same episode; after these it is RESOLVED. UPDATE follows when the severity
rises or the peak has doubled since the last event. All in event time: the events are a function of the slots alone,
not of how they were cut into batches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from stream_ad.errors import ConfigError, DataError
from stream_ad.records import Alert, AlertChannel, AlertState, ScoreBatch, severity

__all__ = ["EpisodeRule", "EpisodeTracker", "alert_id"]

TOP_CHANNELS = 5
UPDATE_FACTOR = 2.0  # the peak's growth that an UPDATE reports
RISE_LEVEL = 0.5  # of `exit`: rising scores from this level on count as the likely start


@dataclass(frozen=True, slots=True)
class EpisodeRule:
    """Levels and lengths, in slots, of an episode. ConfigError: exit over enter, or a number of steps too small."""

    enter: float
    exit: float
    min_length_steps: int
    cooldown_steps: int
    name: str = "threshold"

    def __post_init__(self) -> None:
        if not 0 < self.exit <= self.enter:
            raise ConfigError(f"alerts: expected 0 < exit <= enter, found exit {self.exit}, enter {self.enter}")
        if self.min_length_steps < 1 or self.cooldown_steps < 0:
            raise ConfigError(
                "alerts: expected min_length_steps >= 1 and cooldown_steps >= 0, "
                f"found {self.min_length_steps} and {self.cooldown_steps}"
            )

    @property
    def quiet_steps(self) -> int:
        """Number of quiet or missing slots that end an episode: the cooldown, but at least one."""
        return max(self.cooldown_steps, 1)


def alert_id(series: str, rule: str, start_ns: int) -> str:
    """24 hexadecimal digits: a hash, so a restart gives the same episode the same id."""
    text = f"{series}\0{rule}\0{start_ns}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=12).hexdigest()


@dataclass(slots=True)
class _Episode:
    """A run that may become an episode (detected_ns None) or is one. reported_peak: the peak of its last event."""

    start_ns: int
    likely_start_ns: int
    end_ns: int
    peak_score: float
    peak_ns: int
    channels: tuple[AlertChannel, ...]
    updated_ns: int
    model_version: str
    over: int = 0
    quiet: int = 0
    detected_ns: int | None = None
    reported_peak: float = 0.0
    updates: int = 0


class EpisodeTracker:
    """The episodes of one series under one rule. step_ns: time between slots, to recognise missing ones."""

    def __init__(self, series: str, rule: EpisodeRule, step_ns: int) -> None:
        if step_ns <= 0:
            raise DataError(f"{series!r}: expected a positive step, found {step_ns} ns")
        self._series = series
        self._rule = rule
        self._gap_ns = rule.quiet_steps * step_ns
        self._last_ns: int | None = None
        self._last_score = 0.0
        self._rise_ns = 0  # start of the rise that the last slot belongs to
        self._episode: _Episode | None = None

    @property
    def open_alert(self) -> Alert | None:
        """The alert as of the last slot; None outside an episode and before its OPEN."""
        episode = self._episode
        if episode is None or episode.detected_ns is None:
            return None
        return self._alert(episode, AlertState.UPDATE if episode.updates else AlertState.OPEN)

    def advance(self, batch: ScoreBatch) -> tuple[list[Alert], list[str]]:
        """Alert events in order, and per slot its alert id: "" below `exit`, outside episodes and before the OPEN.

        So the last slot with an id is the `end_ns` of the RESOLVED. DataError unless each slot is later than the one
        before it: for re-scored slots the caller must use a restored tracker.
        """
        if self._is_quiet(batch):
            self._skip_quiet(batch)
            return [], [""] * len(batch)
        times, scores = batch.event_time_ns.tolist(), batch.score.tolist()
        events: list[Alert] = []
        ids: list[str] = []
        for row, (time_ns, score) in enumerate(zip(times, scores, strict=True)):
            self._begin_slot(time_ns, 0.0 if math.isnan(score) else score, batch.model_version, events)
            ids.append(self._slot(batch, row, events))
        return events, ids

    def _is_quiet(self, batch: ScoreBatch) -> bool:
        """Whether no episode is open or begins, the usual case. False for times out of order: the slow path raises."""
        if self._episode is not None or not len(batch) or (batch.score >= self._rule.exit).any():
            return False
        times = batch.event_time_ns
        return bool((np.diff(times) > 0).all() and (self._last_ns is None or times[0] > self._last_ns))

    def _skip_quiet(self, batch: ScoreBatch) -> None:
        """`_begin_slot` for all slots of a quiet batch at once."""
        floor, times = self._rule.exit, batch.event_time_ns
        scores = np.fmax(batch.score, 0.0)  # NaN counts as 0
        before = np.empty_like(scores)
        before[0], before[1:] = self._last_score, scores[:-1]
        rising = (before >= floor) | ((floor * RISE_LEVEL <= before) & (before <= scores))
        first_ns = times[0] if self._last_ns is None else self._last_ns
        begins = np.flatnonzero(~rising | (np.diff(times, prepend=first_ns) > self._gap_ns))
        if len(begins):
            self._rise_ns = int(times[begins[-1]])
        self._last_ns, self._last_score = int(times[-1]), float(scores[-1])

    def _begin_slot(self, time_ns: int, score: float, version: str, events: list[Alert]) -> None:
        """Checks the order, ends an episode at a gap, updates the likely start."""
        last_ns, last, floor = self._last_ns, self._last_score, self._rule.exit
        if last_ns is not None and time_ns <= last_ns:
            raise DataError(f"{self._series!r}: expected a slot after {last_ns} ns, found {time_ns} ns")
        gap = last_ns is not None and time_ns - last_ns > self._gap_ns
        if gap and self._episode is not None:
            self._end(self._episode, time_ns, version, events)
        if gap or not (last >= floor or floor * RISE_LEVEL <= last <= score):
            self._rise_ns = time_ns
        self._last_ns, self._last_score = time_ns, score

    def _slot(self, batch: ScoreBatch, row: int, events: list[Alert]) -> str:
        """Adds the last slot to the episode; its alert id."""
        rule, score, time_ns = self._rule, self._last_score, self._last_ns or 0
        episode = self._episode
        if score < rule.exit:
            if episode is not None:
                episode.quiet += 1
                if episode.detected_ns is None or episode.quiet >= rule.quiet_steps:
                    self._end(episode, time_ns, batch.model_version, events)
            return ""
        if episode is None:
            if score < rule.enter:
                return ""
            episode = self._episode = _Episode(
                time_ns, self._rise_ns, time_ns, score, time_ns, _top_channels(batch, row), time_ns, batch.model_version
            )
        if score > episode.peak_score:
            episode.peak_score, episode.peak_ns, episode.channels = score, time_ns, _top_channels(batch, row)
        episode.end_ns, episode.quiet = time_ns, 0
        episode.over += score >= rule.enter
        self._report(episode, time_ns, batch.model_version, events)
        return "" if episode.detected_ns is None else self._id(episode)

    def _report(self, episode: _Episode, time_ns: int, version: str, events: list[Alert]) -> None:
        """OPEN once the run is long enough, UPDATE once the peak has grown enough."""
        peak = episode.peak_score
        if episode.detected_ns is None:
            if episode.over < self._rule.min_length_steps:
                return
            episode.detected_ns, state = time_ns, AlertState.OPEN
        else:
            last = episode.reported_peak
            if peak < UPDATE_FACTOR * last and (peak <= last or severity(peak) == severity(last)):
                return
            episode.updates, state = episode.updates + 1, AlertState.UPDATE
        episode.reported_peak, episode.updated_ns, episode.model_version = peak, time_ns, version
        events.append(self._alert(episode, state))

    def _end(self, episode: _Episode, time_ns: int, version: str, events: list[Alert]) -> None:
        """Drops the run; RESOLVED if it was an episode."""
        self._episode = None
        if episode.detected_ns is not None:
            episode.updated_ns, episode.model_version = time_ns, version
            events.append(self._alert(episode, AlertState.RESOLVED))

    def _id(self, episode: _Episode) -> str:
        return alert_id(self._series, self._rule.name, episode.start_ns)

    def _alert(self, episode: _Episode, state: AlertState) -> Alert:
        return Alert(
            id=self._id(episode),
            series=self._series,
            rule=self._rule.name,
            state=state,
            start_ns=episode.start_ns,
            likely_start_ns=episode.likely_start_ns,
            detected_ns=episode.start_ns if episode.detected_ns is None else episode.detected_ns,
            end_ns=episode.end_ns if state is AlertState.RESOLVED else None,
            updated_ns=episode.updated_ns,
            peak_score=episode.peak_score,
            peak_ns=episode.peak_ns,
            channels=episode.channels,
            model_version=episode.model_version,
        )

    def state(self) -> dict[str, Any]:
        """Plain JSON for `restore`, under 4 kB with names of ordinary length."""
        return {
            "last_ns": self._last_ns,
            "last_score": self._last_score,
            "rise_ns": self._rise_ns,
            "episode": None if self._episode is None else _stored(self._episode),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replaces all state. DataError unless `state` made it."""
        try:
            last_ns, last_score, rise_ns = state["last_ns"], float(state["last_score"]), int(state["rise_ns"])
            episode = None if state["episode"] is None else _restored(state["episode"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self._series!r}: expected a saved episode state, found {error!r}") from error
        self._last_ns = None if last_ns is None else int(last_ns)
        self._last_score, self._rise_ns, self._episode = last_score, rise_ns, episode


_STORED = {"reported_peak": "told"}  # field -> its name in a state, where the two differ


def _stored(episode: _Episode) -> dict[str, Any]:
    return {_STORED.get(name, name): value for name, value in asdict(episode).items()}


def _restored(saved: Mapping[str, Any]) -> _Episode:
    known = {field.name: saved[_STORED.get(field.name, field.name)] for field in fields(_Episode)}
    return _Episode(**known | {"channels": tuple(AlertChannel(**channel) for channel in saved["channels"])})


def _top_channels(batch: ScoreBatch, row: int) -> tuple[AlertChannel, ...]:
    """The channels with the largest positive shares of a slot's score, largest first, ties in channel order."""
    share = batch.attribution[row]
    top = np.argsort(-share, kind="stable")[:TOP_CHANNELS]
    return tuple(
        AlertChannel(
            channel=batch.channels[c],
            attribution=float(share[c]),
            actual=None if np.isnan(batch.value[row, c]) else float(batch.value[row, c]),
            expected=float(batch.expected[row, c]),
            lower=float(batch.lower[row, c]),
            upper=float(batch.upper[row, c]),
        )
        for c in top.tolist()
        if share[c] > 0
    )
