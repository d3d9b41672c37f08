"""What one route still has to tell: which alert events are for it, and when they may go out together.

Everything here follows from the events, in the order of the log, and from the times handed in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from stream_ad.durations import duration_ns, rate_per_s
from stream_ad.records import Alert, AlertState
from stream_ad.settings import NotifyRoute
from stream_ad.settings.quiet_hours import muted_until_ns, parse_mute

__all__ = ["Batch", "Outbox", "Partition"]

Partition = tuple[str, int]
MAX_WAITING = 2_000  # alerts kept whole; those beyond are counted
MAX_ENDED = 10_000  # alerts that are over and still known, so that an event written twice is told once
RETRY_NS, RETRY_MAX_NS = 1_000_000_000, 300_000_000_000
_RANK = {AlertState.OPEN: 0, AlertState.UPDATE: 1, AlertState.RESOLVED: 2, AlertState.WITHDRAWN: 2}
_LEVEL = {"normal": 0, "warning": 1, "silent": 1, "critical": 2}
_HELD = {"mute": "the route was muted", "rate": "more messages than its rate", "failure": "the receiver did not answer"}


@dataclass(frozen=True, slots=True)
class _Entry:
    """An alert in its newest state. offset: of the first event it stands for."""

    alert: Alert
    partition: Partition
    offset: int
    held: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Known:
    partition: Partition
    first_offset: int
    updated_ns: int
    rank: int
    told: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes into one message."""

    alerts: tuple[Alert, ...]
    held: tuple[str, ...]
    unlisted: int


class Outbox:
    """One route's. Times are wall-clock nanoseconds.

    `begin` takes out what waits, then `sent` or `failed` says how that ended; events may come in between.
    """

    def __init__(self, route: NotifyRoute) -> None:
        self.route = route
        self._mutes, self._zone = [parse_mute(text) for text in route.mute], ZoneInfo(route.time_zone)
        self._wait_ns = duration_ns(route.group_wait)
        self._spacing_ns = int(1e9 / rate_per_s(route.rate))
        self._burst = max(1, int(float(re.split(r" per ", route.rate)[0])))
        self.full_ns = 0  # when all messages of the rate are to be had again
        self.held_back: Counter[str] = Counter()  # events that had to wait, by reason
        self._known: dict[str, _Known] = {}
        self._waiting: dict[str, _Entry] = {}
        self._sending: dict[str, _Entry] = {}
        self._beyond: dict[Partition, list[int]] = {}  # offsets: of the first event beyond MAX_WAITING; their number
        self._beyond_sending: dict[Partition, list[int]] = {}
        self._first_ns: int | None = None
        self._retry_ns, self._failures = 0, 0

    # ---- events in

    def take(self, partition: Partition, offset: int, alert: Alert, now_ns: int, *, quiet: bool = False) -> None:
        """quiet: the event was dealt with before a restart, and is only learned again."""
        known = self._known.get(alert.id)
        rank = _RANK[alert.state]
        if known is not None and (alert.updated_ns, rank) <= (known.updated_ns, known.rank):
            return  # written twice
        if known is None or known.rank == 2:
            known = _Known(partition, offset, alert.updated_ns, rank)
        wanted = self._wanted(alert, known)
        known.updated_ns, known.rank = alert.updated_ns, rank
        self._remember(alert.id, known)
        if quiet:
            known.told = known.told or wanted
        else:
            self._put(partition, offset, alert, known, wanted, now_ns)

    def _wanted(self, alert: Alert, known: _Known) -> bool:
        route = self.route
        if not any(fnmatchcase(alert.series, pattern) for pattern in route.series):
            return False
        if route.rules and alert.rule not in route.rules:
            return False
        if alert.state is AlertState.WITHDRAWN:
            return known.told
        if _LEVEL[alert.severity] < _LEVEL[route.min_severity]:
            return False
        if alert.state is AlertState.UPDATE and not known.told:  # only now bad enough
            return "open" in route.states
        return alert.state.value in route.states

    def _put(self, partition: Partition, offset: int, alert: Alert, known: _Known, wanted: bool, now_ns: int) -> None:
        waits = self._waiting.get(alert.id)
        if waits is not None:
            if alert.state is AlertState.WITHDRAWN and alert.id not in self._sending:
                self._drop(alert.id, known)
            else:
                self._waiting[alert.id] = replace(waits, alert=alert)
        elif wanted:
            known.told = True
            if self._first_ns is None:
                self._first_ns = now_ns
            if len(self._waiting) < MAX_WAITING:
                self._waiting[alert.id] = _Entry(alert, partition, offset)
            else:
                self._beyond.setdefault(partition, [offset, 0])[1] += 1

    def _drop(self, alert_id: str, known: _Known) -> None:
        """It was taken back before anybody was told of it."""
        del self._waiting[alert_id]
        known.told = False
        if not self._waiting and not self._beyond:
            self._first_ns = None

    def _remember(self, alert_id: str, known: _Known) -> None:
        """The newest last; of those that are over, the oldest are forgotten."""
        self._known.pop(alert_id, None)
        self._known[alert_id] = known
        if len(self._known) > 2 * MAX_ENDED:
            over = [key for key, one in self._known.items() if one.rank == 2]
            for key in over[: max(0, len(over) - MAX_ENDED)]:
                del self._known[key]

    # ---- messages out

    @property
    def waiting(self) -> int:
        """Events not told yet."""
        lots = (self._beyond, self._beyond_sending)
        return len(self._waiting) + len(self._sending) + sum(count for lot in lots for _, count in lot.values())

    def due_ns(self, now_ns: int, *, hurry: bool = False) -> int | None:
        """When the next message may go; now or earlier = now; None = there is none, or one is on its way.

        hurry: what waits for more of its kind waits no longer.
        """
        if self._first_ns is None or self._sending or self._beyond_sending:
            return None
        grouped_ns = self._first_ns if hurry else self._first_ns + self._wait_ns
        if now_ns < grouped_ns:
            return grouped_ns
        for reason, until_ns in self._obstacles(now_ns):
            if until_ns > now_ns:
                self._hold(reason)
                return until_ns
        return now_ns

    def _obstacles(self, now_ns: int) -> Iterator[tuple[str, int]]:
        yield "failure", self._retry_ns
        yield "mute", muted_until_ns(self._mutes, self._zone, now_ns) or 0
        yield "rate", self.full_ns - (self._burst - 1) * self._spacing_ns

    def _hold(self, reason: str) -> None:
        for alert_id, entry in self._waiting.items():
            if reason not in entry.held:
                self.held_back[reason] += 1
                self._waiting[alert_id] = replace(entry, held=entry.held | {reason})

    def begin(self) -> Batch:
        """Takes out all that waits."""
        self._sending, self._waiting = self._waiting, {}
        self._beyond_sending, self._beyond = self._beyond, {}
        self._first_ns = None
        held = {reason for entry in self._sending.values() for reason in entry.held}
        return Batch(
            tuple(entry.alert for entry in self._sending.values()),
            tuple(words for reason, words in _HELD.items() if reason in held),
            sum(count for _, count in self._beyond_sending.values()),
        )

    def sent(self, now_ns: int) -> None:
        """The receiver has it."""
        self._sending, self._beyond_sending = {}, {}
        self._retry_ns, self._failures = 0, 0
        self.full_ns = max(self.full_ns, now_ns) + self._spacing_ns

    def failed(self, now_ns: int, retry_after_ns: int = 0) -> None:
        """It goes out again later, together with what came meanwhile."""
        pause_ns = min(RETRY_NS * 2 ** min(self._failures, 30), RETRY_MAX_NS)
        self._failures += 1
        self._retry_ns = now_ns + max(pause_ns, retry_after_ns)
        newer, self._waiting, self._sending = self._waiting, self._sending, {}
        for alert_id, entry in newer.items():
            before = self._waiting.get(alert_id)
            self._waiting[alert_id] = entry if before is None else replace(before, alert=entry.alert)
        for partition, (offset, count) in self._beyond.items():
            self._beyond_sending.setdefault(partition, [offset, 0])[1] += count
        self._beyond, self._beyond_sending = self._beyond_sending, {}
        self._first_ns = now_ns - self._wait_ns if self._waiting or self._beyond else None

    # ---- places in the log

    def next_offset(self, partition: Partition, position: int) -> int:
        """The first event of a partition that is not told; `position` is the next record to read."""
        places = [e.offset for lot in (self._waiting, self._sending) for e in lot.values() if e.partition == partition]
        places += [lot[partition][0] for lot in (self._beyond, self._beyond_sending) if partition in lot]
        return min(places, default=position)

    def learned_from(self, partition: Partition, position: int) -> int:
        """The first event of the alerts that are still open, so that a restart knows them again."""
        places = (one.first_offset for one in self._known.values() if one.partition == partition and one.rank < 2)
        return min(places, default=position)

    def forget(self, partition: Partition) -> None:
        """The partition went to another member."""
        self._known = {key: one for key, one in self._known.items() if one.partition != partition}
        for lot in (self._waiting, self._sending):
            for key in [key for key, entry in lot.items() if entry.partition == partition]:
                del lot[key]
        for beyond in (self._beyond, self._beyond_sending):
            beyond.pop(partition, None)
        if not self._waiting and not self._beyond:
            self._first_ns = None
