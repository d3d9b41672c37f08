"""Absence alerts: series without readings, by processing time, next to the event-time path.

Only a partition that was processed up to its log-end offset can show an absence, and only up to the time when the
broker reported that offset. Hence neither a store that is down, nor a backlog, nor an unreachable broker makes a
series absent (ADR 12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from stream_ad.detection.episodes import alert_id
from stream_ad.errors import ModelError
from stream_ad.records import SILENT_RULE, Alert, AlertState

__all__ = ["AbsenceMonitor", "LiveSeries"]

KEY_PREFIX = "\0silent\0"  # of a series' entry in the state store; no series name holds a zero byte


class _Absence(msgspec.Struct, rename={"delivered": "told"}):
    """since_ns: event time of the last slot with a reading. delivered: the sinks hold the alert."""

    since_ns: int
    delivered: bool


class LiveSeries(NamedTuple):
    """newest_ns: event time of the last slot with a reading, None before the first; last_seen_s: monotonic time."""

    series: str
    newest_ns: int | None
    last_seen_s: float


@dataclass(slots=True)
class AbsenceMonitor:
    """The absences of one partition. after_s None = none begins, but restored ones still end.

    dormant: restored series without a record since the start -> event time of their last slot with a reading.
    caught_up_s: monotonic time of the newest log-end offset that processing has passed.
    """

    after_s: float | None
    absences: dict[str, _Absence] = field(default_factory=dict)
    dormant: dict[str, int] = field(default_factory=dict)
    caught_up_s: float | None = None
    _first_caught_up_s: float | None = None
    _pending_probe: tuple[int, float] | None = None
    _in_delivery: list[str] = field(default_factory=list)
    _changed: set[str] = field(default_factory=set)

    @classmethod
    def restore(
        cls, after_s: float | None, states: dict[str, bytes], newest_of: Callable[[bytes], int | None]
    ) -> AbsenceMonitor:
        """Removes the entries from `states` that `AbsenceMonitor.states` returned before.

        newest_of: event time of the newest slot with a reading in a series' snapshot. ModelError for unreadable bytes.
        """
        monitor = cls(after_s)
        for key in [key for key in states if key.startswith(KEY_PREFIX)]:
            body, name = states.pop(key), key.removeprefix(KEY_PREFIX)
            if body:
                try:
                    monitor.absences[name] = msgspec.msgpack.decode(body, type=_Absence)
                except msgspec.DecodeError as error:
                    raise ModelError(f"absence of series {name!r} cannot be read: {error}") from error
        if after_s is not None:
            for name in states.keys() - monitor.absences.keys():
                newest = newest_of(states[name])
                if newest is not None:
                    monitor.dormant[name] = newest
        return monitor

    @property
    def changed(self) -> bool:
        """Whether `states` has entries to store."""
        return bool(self._changed)

    def states(self) -> dict[str, bytes]:
        """State-store entries of the changes since the last call; b"" deletes an entry."""
        changed, self._changed = self._changed, set()
        encode, absences = msgspec.msgpack.encode, self.absences
        return {KEY_PREFIX + name: encode(absences[name]) if name in absences else b"" for name in changed}

    def activate(self, name: str) -> int | None:
        """Called at the first record of a series. The `since_ns` of its absence, None when it is not absent."""
        self.dormant.pop(name, None)
        return self.absences[name].since_ns if name in self.absences else None

    def probe(self, end: int, at_s: float) -> None:
        """`end` was the log-end offset at monotonic time `at_s`. A pending probe with a lower offset stays."""
        if self._pending_probe is None or end < self._pending_probe[0]:
            self._pending_probe = (end, at_s)

    def caught_up(self, position: int) -> bool:
        """Whether processing has passed the pending probe's offset; then `caught_up_s` advances to its time."""
        if self._pending_probe is None or position < self._pending_probe[0]:
            return False
        self.caught_up_s, self._pending_probe = self._pending_probe[1], None
        if self._first_caught_up_s is None:
            self._first_caught_up_s = self.caught_up_s
        return True

    def due(self, live: Iterable[LiveSeries]) -> list[Alert]:
        """Alerts to open as of `caught_up_s`, including restored ones that the sinks may lack.

        The caller must deliver them before the next call, which marks them as delivered.
        """
        self._confirm_delivery()
        alerts = [self._alert(name, one.since_ns) for name, one in self.absences.items() if not one.delivered]
        if self.after_s is not None and self.caught_up_s is not None and self._first_caught_up_s is not None:
            latest_s = self.caught_up_s - self.after_s
            alerts += [
                self._begin(one.series, one.newest_ns)
                for one in live
                if one.newest_ns is not None and one.last_seen_s <= latest_s and one.series not in self.absences
            ]
            if self._first_caught_up_s <= latest_s:
                alerts += [self._begin(name, newest) for name, newest in self.dormant.items()]
                self.dormant = {}
        self._in_delivery = [alert.series for alert in alerts]
        return alerts

    def resolve(self, name: str, end_ns: int) -> Alert:
        """RESOLVED: the series has a reading in a later slot, at end_ns. Late readings must not resolve an absence."""
        alert = self._alert(name, self.absences.pop(name).since_ns)
        self._changed.add(name)
        return replace(alert, state=AlertState.RESOLVED, end_ns=end_ns, updated_ns=max(end_ns, alert.updated_ns))

    def _confirm_delivery(self) -> None:
        """The caller passed the last alerts to the sinks; the next checkpoint flushes these before it stores this."""
        for name in self._in_delivery:
            if name in self.absences:
                self.absences[name].delivered = True
                self._changed.add(name)
        self._in_delivery = []

    def _begin(self, name: str, since_ns: int) -> Alert:
        self.absences[name] = _Absence(since_ns, delivered=False)
        self._changed.add(name)
        return self._alert(name, since_ns)

    def _alert(self, name: str, since_ns: int) -> Alert:
        """A function of series and log alone, so that writing it again overwrites it."""
        detected_ns = since_ns + int((self.after_s or 0) * 1e9)
        return Alert(
            id=alert_id(name, SILENT_RULE, since_ns),
            series=name,
            rule=SILENT_RULE,
            state=AlertState.OPEN,
            start_ns=since_ns,
            likely_start_ns=since_ns,
            detected_ns=detected_ns,
            end_ns=None,
            updated_ns=detected_ns,
            peak_score=0.0,
            peak_ns=since_ns,
            channels=(),
            model_version="",
        )
