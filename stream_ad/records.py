"""The values that flow through the product: frozen records, times in integer nanoseconds UTC, NaN = no reading.

One axis order: batch, window, channel. Scores travel as columnar batches of one series: a slot of 200 channels costs
arrays, not 200 objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Literal

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
    "Partition",
    "ScoreBatch",
    "ScoreExtent",
    "ScoreTrace",
    "SeriesStatus",
    "SourcePosition",
    "SourceRecord",
    "Table",
    "severity",
]

SILENT_RULE: Final = "silent"

Partition = tuple[str, int]
"""Topic and partition number."""


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """Topic, partition and offset of one record. `offset` is the record's own, not the next one to read."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One undecoded record. timestamp_ns: the time the source gives it (Kafka's record timestamp), <= 0 = unknown."""

    position: SourcePosition
    timestamp_ns: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Observation:
    """The readings of one series at one event time. values: channel -> finite float, or NaN (a masked reading)."""

    series: str
    event_time_ns: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The readings of one series at n event times, with the same channels at each.

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
    """The rows of one series in the order of its file; times may repeat and run backwards.

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
    """A record of which at least one part could not be used. The product drops nothing without a dead letter.

    original_size, original_key_size: bytes of the record's value and key before truncation; None = not truncated.
    """

    record: SourceRecord
    reason: str
    detail: str
    original_size: int | None = None
    original_key_size: int | None = None

    @property
    def whole(self) -> bool:
        """Whether the record's key and value are untruncated."""
        return self.original_size is None and self.original_key_size is None


_SLOT_ARRAYS = ("event_time_ns", "score", "value", "expected", "lower", "upper", "attribution", "revision")


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBatch:
    """Scores of n slots of one series, in time order.

    event_time_ns: int64 [n]; score: float64 [n], 1 = the threshold, higher = more anomalous.
    value, expected, lower, upper, attribution: float32 [n, channel]; value NaN = no reading, see `imputed`; each row
    of attribution sums to 1. revision: int32 [n], 0 first, one more each time the slot's score is emitted again.
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

    def select(self, mask: NDArray[np.bool_]) -> ScoreBatch:
        """The slots where `mask`, bool [n], is True."""
        return self if mask.all() else self._at(np.flatnonzero(mask))

    def head(self, count: int) -> ScoreBatch:
        """At most the first `count` slots."""
        return self._at(np.arange(min(count, len(self))))

    @staticmethod
    def merge(batches: Sequence[ScoreBatch]) -> ScoreBatch:
        """One batch of at least one, of one series and one set of channels: in time order, each slot once, in its
        highest revision."""
        arrays: dict[str, Any] = {n: np.concatenate([getattr(batch, n) for batch in batches]) for n in _SLOT_ARRAYS}
        ids = tuple(alert_id for batch in batches for alert_id in batch.alert_id)
        order = np.lexsort((arrays["revision"], arrays["event_time_ns"]))
        times = arrays["event_time_ns"][order]
        newest = order[np.append(times[1:] != times[:-1], True)]
        return replace(batches[-1], **arrays, alert_id=ids)._at(newest)

    def _at(self, rows: NDArray[np.intp]) -> ScoreBatch:
        arrays = {name: getattr(self, name)[rows] for name in _SLOT_ARRAYS}
        return replace(self, **arrays, alert_id=tuple(self.alert_id[row] for row in rows.tolist()))


@dataclass(frozen=True, slots=True)
class ScoreExtent:
    """The number of scored slots in a range, and the event times of its first and last slot."""

    slots: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTrace:
    """The scores of one series, downsampled for a plot such that peaks stay.

    event_time_ns: int64 [n], rising; score: float64 [n]. slots: number of scored slots in the range; equal to n when
    nothing was left out.
    """

    series: str
    slots: int
    event_time_ns: NDArray[np.int64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.event_time_ns)


def severity(score: float) -> Literal["normal", "warning", "critical"]:
    """A score is a warning from the threshold (1.0) on, and critical from twice the threshold on."""
    if score >= 2.0:
        return "critical"
    return "warning" if score >= 1.0 else "normal"


class AlertState(StrEnum):
    """WITHDRAWN: a provisional score opened the alert and later data retracted it; alert histories leave it out."""

    OPEN = "open"
    UPDATE = "update"
    RESOLVED = "resolved"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class AlertChannel:
    """One of the channels that drive an alert, with its values at the episode's peak. actual None = no reading."""

    channel: str
    attribution: float
    actual: float | None
    expected: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Alert:
    """An episode of scores over the threshold. `id` is a hash of series, rule and start: the same after any restart.

    Rule SILENT_RULE: an episode without readings that starts at the last slot with one; it has no peak, no channels.
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
    """A message for people, the same in plain text and in Markdown. title: one line of plain text, fit for a phone."""

    title: str
    text: str
    markdown: str
    kind: Literal["info", "success", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class SeriesStatus:
    """Progress of one series. ready_in_slots: slots until its first score, 0 = scoring."""

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
    """A consumer group's lag in one partition. committed: None = the group never committed an offset there."""

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
    """What the pipeline emits between two deliveries. The one mutable record: its lists grow."""

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
