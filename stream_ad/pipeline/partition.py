"""One assigned partition: its consumer progress, its series, its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_ad.detection.absence import AbsenceMonitor, LiveSeries
from stream_ad.pipeline.series import Series
from stream_ad.pipeline.snapshot import snapshot
from stream_ad.ports import Checkpoint
from stream_ad.records import Alert

__all__ = ["PartitionState"]

MAX_REPLAY_RECORDS = 100_000  # a series further behind its partition keeps its rows in its snapshot, not in the log


@dataclass(slots=True)
class PartitionState:
    """Consumer progress of one partition.

    position: offset of the next record to process. committed: outputs below it are durable; while position < committed
    the partition is replaying, and dead letters must not be emitted again. states: snapshots of the series without a
    record since the assignment. touched, changed: names of the series that the next checkpoint and the next statuses
    are about.
    """

    position: int = 0
    committed: int = 0
    states: dict[str, bytes] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    absence: AbsenceMonitor = field(default_factory=lambda: AbsenceMonitor(None))

    def touch(self, name: str) -> None:
        self.touched.add(name)
        self.changed.add(name)

    def open_absences(self) -> list[Alert]:
        """New absence alerts, when processing has passed a log-end offset since the last call."""
        if not self.absence.caught_up(self.position):
            return []
        alerts = self.absence.due(LiveSeries(name, s.newest_ns, s.last_seen_s) for name, s in self.series.items())
        for alert in alerts:
            if alert.series in self.series:
                self.series[alert.series].absent_since_ns = alert.start_ns
        return alerts

    @property
    def has_progress(self) -> bool:
        """Whether a checkpoint has anything to store; False during replay."""
        return self.position > self.committed or (
            self.position == self.committed and (bool(self.touched) or self.absence.changed)
        )

    def checkpoint(self) -> tuple[dict[str, bytes], Checkpoint]:
        """Snapshots of the touched series, and the checkpoint to commit once these are durable."""
        states, replay_offset = self.absence.states(), self.position
        for name, series in self.series.items():
            oldest, live = series.min_required_offset(), series.replay_until is None
            far_behind = oldest is not None and self.position - oldest > MAX_REPLAY_RECORDS
            self_contained = live and (far_behind or series.snapshot_rows_to > series.windower.need_from)
            if oldest is not None and not self_contained:
                replay_offset = min(replay_offset, oldest)
            if name in self.touched:
                due = live and (self_contained or series.windower.grid is not None)
            else:
                due = self_contained and not series.snapshot_rows_to
            if due:
                states[name] = snapshot(series, self.position, with_rows=self_contained)
        self.touched.clear()
        self.committed = self.position
        return states, Checkpoint(self.position, replay_offset)
