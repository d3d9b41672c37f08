"""What flows through the product: frozen records, times in integer nanoseconds UTC, NaN = no reading.

One tensor order: batch, window, channel. Scores travel as one columnar batch per series, so that a slot of
200 channels costs arrays and not 200 objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SILENT_RULE",
    "Alert",
    "AlertChannel",
    "AlertState",
    "Block",
    "DeadLetter",
    "GroupLag",
    "Notification",
    "Observation",
    "Outputs",
    "ScoreBatch",
    "ScoreExtent",
    "ScoreTrace",
    "SeriesStatus",
    "SourcePosition",
    "SourceRecord",
    "Table",
    "severity",
]


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """Where a record came from. `offset` is the record's own, not that of the next read."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """Bytes as they were read; `timestamp_ns` is the source's own time of the record (Kafka's timestamp)."""

    position: SourcePosition
    timestamp_ns: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Observation:
    """Readings of one series at one event time. `values` holds finite floats or NaN (a masked reading)."""

    series: str
    event_time_ns: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Readings of one series at n event times, the same channels at each.

    event_time_ns: int64 [n]; values: float64 [n, channel], finite or NaN (a masked reading).
    """

    series: str
    event_time_ns: NDArray[np.int64]
    channels: tuple[str, ...]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.event_time_ns)

    def observation(self, row: int) -> Observation:
        values = dict(zip(self.channels, self.values[row].tolist(), strict=True))
        return Observation(self.series, int(self.event_time_ns[row]), values)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of one series in the file's order (times may repeat and run backwards).

    times_ns: int64 [n], None where the file has no time column. values: float32 [n, channel], NaN = no reading.
    labels: int8 [n], None where the file has no label column.
    """

    series: str
    channels: tuple[str, ...]
    times_ns: NDArray[np.int64] | None
    values: NDArray[np.float32]
    labels: NDArray[np.int8] | None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record, or a reading of one, that could not be used; nothing is dropped without one of these.

    original_size, original_key_size: bytes of the record's value and key before they were cut; None = they are whole.
    """

    record: SourceRecord
    reason: str
    detail: str
    original_size: int | None = None
    original_key_size: int | None = None

    @property
    def whole(self) -> bool:
        """The record's key and value are what came from the source."""
        return self.original_size is None and self.original_key_size is None


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBatch:
    """Scores of n consecutive-in-time slots of one series.

    event_time_ns: int64 [n]; score: float64 [n], 1 = the threshold, higher = more anomalous.
    value, expected, lower, upper, attribution: float32 [n, channel]; value NaN = no reading, which `imputed` marks;
    each row of attribution sums to 1. revision: int32 [n], 0 first, higher when late data changed the score.
    alert_id: [n], "" outside an episode.
    """

    series: str
    channels: tuple[str, ...]
    event_time_ns: NDArray[np.int64]
    score: NDArray[np.float64]
    value: NDArray[np.float32]
    expected: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    attribution: NDArray[np.float32]
    revision: NDArray[np.int32]
    alert_id: tuple[str, ...]
    model_version: str

    def __len__(self) -> int:
        return len(self.event_time_ns)

    @property
    def imputed(self) -> NDArray[np.bool_]:
        """bool [n, channel]: True where there was no reading."""
        return np.isnan(self.value)


@dataclass(frozen=True, slots=True)
class ScoreExtent:
    """How many slots a range of scores holds, and the times of its first and last."""

    slots: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTrace:
    """Scores of one series as a plot draws them: slots of a range that keep its peaks.

    event_time_ns: int64 [n], rising; score: float64 [n]. slots: how many of the range have a score; n where
    it was not thinned.
    """

    series: str
    slots: int
    event_time_ns: NDArray[np.int64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.event_time_ns)


def severity(score: float) -> Literal["normal", "warning", "critical"]:
    """The word beside a score: over its threshold, or twice over it."""
    if score >= 2.0:
        return "critical"
    return "warning" if score >= 1.0 else "normal"


SILENT_RULE = "silent"


class AlertState(StrEnum):
    """WITHDRAWN: opened early on a silent series, and what came after it said otherwise; histories leave it out."""

    OPEN = "open"
    UPDATE = "update"
    RESOLVED = "resolved"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class AlertChannel:
    """One channel that drives an alert, at the episode's peak."""

    channel: str
    attribution: float
    actual: float | None
    expected: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Alert:
    """An episode of scores over the threshold. `id` = hash(series, rule, start): the same after any restart.

    Rule SILENT_RULE: an episode without readings, from the last slot that had one; it has no peak and no channels.
    start_ns: first slot of the episode; likely_start_ns: where the score began to rise; detected_ns: the slot at
    which the episode opened; end_ns: last slot, None while it is open.
    """

    id: str
    series: str
    rule: str
    state: AlertState
    start_ns: int
    likely_start_ns: int
    detected_ns: int
    end_ns: int | None
    updated_ns: int
    peak_score: float
    peak_ns: int
    channels: tuple[AlertChannel, ...]
    model_version: str
    revision: int = 0

    @property
    def severity(self) -> str:
        return SILENT_RULE if self.rule == SILENT_RULE else severity(self.peak_score)


@dataclass(frozen=True, slots=True)
class Notification:
    """A message for people, the same in plain text and in Markdown. title: plain, one line, fit for a phone."""

    title: str
    text: str
    markdown: str
    kind: Literal["info", "success", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class SeriesStatus:
    """How far a series is; `ready_in_slots` counts slots until the first score (0 = scoring)."""

    series: str
    state: Literal["filling", "scoring"]
    channels: tuple[str, ...]
    step_ns: int | None
    slots_seen: int
    ready_in_slots: int
    memory_slots: int
    memory_capacity: int
    profile_version: str
    first_score_ns: int | None
    last_score_ns: int | None
    open_alerts: int
    detail: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupLag:
    """How far a group is behind in one partition; `committed` None = it never committed there."""

    topic: str
    partition: int
    committed: int | None
    beginning: int
    end: int

    @property
    def lag(self) -> int:
        return max(0, self.end - max(self.beginning, self.committed or 0))


@dataclass(slots=True)
class Outputs:
    """What the pipeline puts out between two deliveries; the one record that grows."""

    scores: list[ScoreBatch] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    statuses: list[SeriesStatus] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.scores or self.alerts or self.dead_letters or self.statuses)

    def extend(self, other: Outputs) -> None:
        self.scores.extend(other.scores)
        self.alerts.extend(other.alerts)
        self.dead_letters.extend(other.dead_letters)
        self.statuses.extend(other.statuses)
