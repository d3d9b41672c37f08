"""Each algorithm written the obvious, slow way; the product's code must return the same."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stream_ad.detection.episodes import EpisodeRule
from stream_ad.errors import RecordError
from stream_ad.records import Observation, severity
from stream_ad.timestamps import event_time_ns


def decode(value: bytes, key: str, record_ns: int, ahead_ns: int) -> tuple[list[Observation], set[str]]:
    """Default field names, unit ms, no limits on size or number: observations and the reasons of the faults."""
    document = json.loads(value)
    observations: list[Observation] = []
    reasons: set[str] = set()
    for element in document if isinstance(document, list) else [document]:
        try:
            for row in _rows(element, reasons, record_ns, ahead_ns, key):
                observations.append(row)
        except RecordError as error:
            reasons.add(error.reason)
    return observations, reasons


def _rows(element: Any, reasons: set[str], record_ns: int, ahead_ns: int, key: str) -> list[Observation]:
    values, times = element.get("values"), element.get("times")
    if values is None:
        raise RecordError("missing_field", "values")
    if not isinstance(values, dict):
        raise RecordError("wrong_type", "values")
    series = element["series"] if element.get("series") is not None else key
    if element.get("time") is not None or times is None:
        _check_series(series)
        time_ns = _time(element.get("time"), record_ns, ahead_ns)
        _check_names(values)
        return [Observation(series, time_ns, {k: _reading(v) for k, v in values.items()})]
    if not all(isinstance(v, list) for v in values.values()) or not isinstance(times, list):
        raise RecordError("wrong_type", "columns")
    _check_series(series)
    _check_names(values)
    if any(len(v) != len(times) for v in values.values()):
        raise RecordError("wrong_length", "columns")
    if not times:
        raise RecordError("no_values", "columns")
    table = [{k: _reading(v[i]) for k, v in values.items()} for i in range(len(times))]
    rows = []
    for time, readings in zip(times, table, strict=True):
        try:
            rows.append(Observation(series, _time(time, record_ns, ahead_ns), readings))
        except RecordError as error:
            reasons.add(error.reason)
    return rows


def _check_series(series: Any) -> None:
    if not isinstance(series, str):
        raise RecordError("wrong_type", "series")
    _check_name(series)


def _check_names(values: dict[str, Any]) -> None:
    if not values:
        raise RecordError("no_values", "values")
    for name in values:
        _check_name(name)


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= 256 or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise RecordError("bad_name", name)


def _time(time: Any, record_ns: int, ahead_ns: int) -> int:
    if time is None:
        raise RecordError("missing_field", "time")
    time_ns = event_time_ns(time, "ms", "time")
    if time_ns > record_ns + ahead_ns:
        raise RecordError("future", "time")
    return time_ns


def _reading(reading: Any) -> float:
    if reading is None:
        return math.nan
    if type(reading) not in (int, float):
        raise RecordError("wrong_type", "reading")
    return float(reading) if abs(reading) <= 3.4028234663852886e38 else math.nan


def cluster_peaks(raw: Sequence[float], level: float, run: int) -> list[float]:
    """Highest score of each cluster over `level`; `run` slots not over it separate two clusters."""
    peaks: list[float] = []
    quiet = run
    for score in raw:
        if score <= level:
            quiet += 1
            continue
        if quiet >= run:
            peaks.append(score)
        peaks[-1] = max(peaks[-1], score)
        quiet = 0
    return peaks


def quantile_level(raw: Sequence[float], clusters: float, run: int) -> float:
    """The highest candidate level that at least this many clusters exceed, else the one that most clusters exceed."""
    ordered = sorted(raw, reverse=True)
    best_level, best = 0.0, -1
    rank = 1.0
    while rank <= max(len(ordered) // 2, 1):
        level = ordered[int(rank)]
        found = len(cluster_peaks(raw, level, run))
        if found >= clusters:
            return level
        if found > best:
            best_level, best = level, found
        rank = max(rank + 1, rank * 1.1)
    return best_level


@dataclass(frozen=True)
class Event:
    """The part of an alert that follows from times and scores alone."""

    state: str
    start_ns: int
    likely_start_ns: int
    detected_ns: int
    end_ns: int | None
    updated_ns: int
    peak_score: float
    peak_ns: int


def episodes(
    times: Sequence[int], scores: Sequence[float], rule: EpisodeRule, step_ns: int
) -> tuple[list[Event], list[bool]]:
    """All events, and per slot whether it carries an id, from the whole record of scores at once."""
    wait = max(rule.cooldown_steps, 1)
    cuts = [i for i in range(1, len(times)) if times[i] - times[i - 1] > wait * step_ns]
    events: list[Event] = []
    marked = [False] * len(times)
    for first, end in zip([0, *cuts], [*cuts, len(times)], strict=True):
        at = first
        while at < end:
            opened = _opening(scores, at, end, rule)
            if opened is None:
                break
            at = _one_episode(times, scores, opened, (first, end), rule, events, marked)
    return events, marked


def _opening(scores: Sequence[float], at: int, end: int, rule: EpisodeRule) -> tuple[int, int] | None:
    """Start and opening slot of the first run long enough from `at` on."""
    over: list[int] = []
    for i in range(at, end):
        if scores[i] < rule.exit:
            over = []
        elif scores[i] >= rule.enter:
            over.append(i)
            if len(over) == rule.min_length_steps:
                return over[0], i
    return None


def _one_episode(
    times: Sequence[int],
    scores: Sequence[float],
    opened: tuple[int, int],
    segment: tuple[int, int],
    rule: EpisodeRule,
    events: list[Event],
    marked: list[bool],
) -> int:
    """Adds one episode's events; the slot after it."""
    start, detected = opened
    first, end = segment
    wait = max(rule.cooldown_steps, 1)
    likely = start
    while likely > first and (scores[likely - 1] >= rule.exit or rule.exit / 2 <= scores[likely - 1] <= scores[likely]):
        likely -= 1
    loud = [i for i in range(start, end) if scores[i] >= rule.exit]
    last = start
    for i in loud:
        if i - last > wait:
            break
        last = i
    resolved = last + wait if last + wait < end else end  # the slot that shows it, maybe the first past a gap

    def add_event(state: str, i: int) -> float:
        peak = max(scores[start : min(i, last) + 1])
        peak_at = scores.index(peak, start)
        finish = times[last] if state == "resolved" else None
        events.append(
            Event(state, times[start], times[likely], times[detected], finish, times[i], peak, times[peak_at])
        )
        return peak

    reported = add_event("open", detected)
    for i in range(detected, last + 1):
        marked[i] = scores[i] >= rule.exit
        peak = max(scores[start : i + 1])
        if peak >= 2 * reported or (peak > reported and severity(peak) != severity(reported)):
            reported = add_event("update", i)
    if resolved < len(times):
        add_event("resolved", resolved)
    return resolved + 1 if resolved < end else end
