"""Series that fell silent, by the wall clock: alerts of their own kind, beside the event-time path.

Silence is told of a partition that was read to its end alone, and counts up to when that was so. Hence neither a store
that was down, nor a backlog, nor a broker that is away makes a series silent.
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

MARK = "\0silent\0"  # before a series' name in the state store; no name holds a zero byte


class _Silence(msgspec.Struct):
    """since_ns: event time of the last slot that had a reading. told: the sinks have the alert."""

    since_ns: int
    told: bool


class LiveSeries(NamedTuple):
    """newest_ns: event time of the last slot with a reading, None before there is one; last_seen_s: monotonic."""

    series: str
    newest_ns: int | None
    last_seen_s: float


@dataclass(slots=True)
class AbsenceMonitor:
    """The silences of one partition; after_s None = none is opened, those that are open still end.

    dormant: names with a state of which nothing was read since the start -> event time of their last slot.
    """

    after_s: float | None
    open: dict[str, _Silence] = field(default_factory=dict)
    dormant: dict[str, int] = field(default_factory=dict)
    heard_s: float | None = None
    _asked: tuple[int, float] | None = None
    _began_s: float | None = None
    _telling: list[str] = field(default_factory=list)
    _changed: set[str] = field(default_factory=set)

    @classmethod
    def restore(
        cls, after_s: float | None, states: dict[str, bytes], newest_of: Callable[[bytes], int | None]
    ) -> AbsenceMonitor:
        """Takes its own entries out of `states`, what `states()` gave before; newest_of: the event time of
        the last slot in the state of a series. ModelError when one cannot be read."""
        watch = cls(after_s)
        for key in [key for key in states if key.startswith(MARK)]:
            body, name = states.pop(key), key.removeprefix(MARK)
            if body:
                try:
                    watch.open[name] = msgspec.msgpack.decode(body, type=_Silence)
                except msgspec.DecodeError as error:
                    raise ModelError(f"silence of series {name!r} cannot be read: {error}") from error
        if after_s is not None:
            for name in states.keys() - watch.open.keys():
                newest = newest_of(states[name])
                if newest is not None:
                    watch.dormant[name] = newest
        return watch

    def states(self) -> dict[str, bytes]:
        """What to store, beside the series' own states, of the changes since the last call."""
        changed, self._changed = self._changed, set()
        return {MARK + name: msgspec.msgpack.encode(self.open[name]) if name in self.open else b"" for name in changed}

    def since_ns(self, name: str) -> int | None:
        """Called when a series comes to life: since when it is held for silent; None = it is not."""
        self.dormant.pop(name, None)
        return self.open[name].since_ns if name in self.open else None

    def probe(self, end: int, at_s: float) -> None:
        """At `at_s` (monotonic) there were records below `end`. An older question that is still open stands."""
        if self._asked is None or end < self._asked[0]:
            self._asked = (end, at_s)

    def caught_up(self, next_offset: int) -> bool:
        """Whether all records there were at the time of the question are processed now: then `heard_s` moved on."""
        if self._asked is None or next_offset < self._asked[0]:
            return False
        self.heard_s, self._asked = self._asked[1], None
        if self._began_s is None:
            self._began_s = self.heard_s
        return True

    def due(self, live: Iterable[LiveSeries]) -> list[Alert]:
        """Alerts to open, by `heard_s`, those of a restored watch that may not have been told among them."""
        self._tell()
        alerts = [self._alert(name, one.since_ns) for name, one in self.open.items() if not one.told]
        if self.after_s is not None and self.heard_s is not None and self._began_s is not None:
            latest_s = self.heard_s - self.after_s
            alerts += [
                self._opened(one.series, one.newest_ns)
                for one in live
                if one.newest_ns is not None and one.last_seen_s <= latest_s and one.series not in self.open
            ]
            if self._began_s <= latest_s:
                alerts += [self._opened(name, newest) for name, newest in self.dormant.items()]
                self.dormant = {}
        self._telling = [alert.series for alert in alerts]
        return alerts

    def ended(self, name: str, end_ns: int) -> Alert:
        """RESOLVED: a silent series has a reading in a later slot, the one at end_ns; late readings are not enough."""
        since_ns = self.open.pop(name).since_ns
        self._changed.add(name)
        alert = self._alert(name, since_ns)
        return replace(alert, state=AlertState.RESOLVED, end_ns=end_ns, updated_ns=max(end_ns, alert.updated_ns))

    def _tell(self) -> None:
        """What the last call gave was handed to the sinks: the next checkpoint flushes them before it stores this."""
        for name in self._telling:
            if name in self.open:
                self.open[name].told = True
                self._changed.add(name)
        self._telling = []

    def _opened(self, name: str, since_ns: int) -> Alert:
        self.open[name] = _Silence(since_ns, told=False)
        self._changed.add(name)
        return self._alert(name, since_ns)

    def _alert(self, name: str, since_ns: int) -> Alert:
        """A function of series and log alone, so that a repetition overwrites."""
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
