"""The outbox of one route: which alert events it still has to send, and when they may leave in one message.

Pure: everything follows from the events, in log order, and from the times that the caller passes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from stream_ad.backoff import Backoff
from stream_ad.durations import duration_ns, rate_per_s
from stream_ad.records import Alert, AlertState, Partition
from stream_ad.settings import NotifyRoute
from stream_ad.settings.quiet_hours import muted_until_ns, parse_mute

__all__ = ["Batch", "Outbox"]

MAX_WAITING = 2_000  # alerts kept in full; those beyond only count as overflow
MAX_ENDED = 10_000  # ended alerts kept for deduplication
RETRY_NS, RETRY_MAX_NS = 1_000_000_000, 300_000_000_000
_RANK = {AlertState.OPEN: 0, AlertState.UPDATE: 1, AlertState.RESOLVED: 2, AlertState.WITHDRAWN: 2}
_LEVEL = {"normal": 0, "warning": 1, "silent": 1, "critical": 2}
_WHY = {"mute": "the route was muted", "rate": "more messages than its rate", "failure": "the receiver did not answer"}


@dataclass(frozen=True, slots=True)
class _Entry:
    """An alert in its newest state. offset: of its first unsent event; suppressed: reasons why it had to wait."""

    alert: Alert
    partition: Partition
    offset: int
    suppressed: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Known:
    """An alert whose events were read. notified: its receiver got, or will get, one of them."""

    partition: Partition
    first_offset: int
    updated_ns: int
    rank: int
    notified: bool = False


@dataclass(slots=True)
class _Queue:
    """Unsent events. overflow: of each partition the offset of the first event beyond MAX_WAITING, and their number."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    overflow: dict[Partition, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries) + sum(count for _, count in self.overflow.values())

    def add_overflow(self, partition: Partition, offset: int, count: int) -> None:
        self.overflow.setdefault(partition, [offset, 0])[1] += count

    def offsets(self, partition: Partition) -> list[int]:
        overflow = [self.overflow[partition][0]] if partition in self.overflow else []
        return overflow + [entry.offset for entry in self.entries.values() if entry.partition == partition]

    def forget(self, partition: Partition) -> None:
        self.entries = {key: entry for key, entry in self.entries.items() if entry.partition != partition}
        self.overflow.pop(partition, None)


@dataclass(frozen=True, slots=True)
class Batch:
    """The content of one message. suppressed: why it is late, in words; unlisted: number of overflow events."""

    alerts: tuple[Alert, ...]
    suppressed: tuple[str, ...]
    unlisted: int


class Outbox:
    """Times are wall-clock nanoseconds.

    `begin` takes the waiting events out; `sent` or `failed` reports the result; `add` may be called in between.
    """

    def __init__(self, route: NotifyRoute) -> None:
        self.route = route
        self._mutes, self._zone = [parse_mute(text) for text in route.mute], ZoneInfo(route.time_zone)
        self._wait_ns = duration_ns(route.group_wait)
        self._spacing_ns = int(1e9 / rate_per_s(route.rate))
        self._burst = max(1, int(float(re.split(r" per ", route.rate)[0])))
        self.rate_full_ns = 0  # when the whole burst of the rate is available again
        self.suppressed: Counter[str] = Counter()  # events that had to wait, by reason
        self._known: dict[str, _Known] = {}
        self._waiting, self._sending = _Queue(), _Queue()
        self._first_ns: int | None = None  # when the oldest waiting event came
        self._backoff, self._retry_ns = Backoff(RETRY_NS, RETRY_MAX_NS), 0

    # ---- events in

    def add(self, partition: Partition, offset: int, alert: Alert, now_ns: int, *, replayed: bool = False) -> None:
        """replayed: the event was processed before a restart; it only restores what the outbox knows."""
        known = self._known.get(alert.id)
        rank = _RANK[alert.state]
        if known is not None and (alert.updated_ns, rank) <= (known.updated_ns, known.rank):
            return  # a duplicate
        if known is None or known.rank == 2:
            known = _Known(partition, offset, alert.updated_ns, rank)
        matches = self._matches(alert, known)
        known.updated_ns, known.rank = alert.updated_ns, rank
        self._remember(alert.id, known)
        if replayed:
            known.notified = known.notified or matches
        else:
            self._enqueue(_Entry(alert, partition, offset), known, matches, now_ns)

    def _matches(self, alert: Alert, known: _Known) -> bool:
        route = self.route
        if not any(fnmatchcase(alert.series, pattern) for pattern in route.series):
            return False
        if route.rules and alert.rule not in route.rules:
            return False
        if alert.state is AlertState.WITHDRAWN:
            return known.notified
        if _LEVEL[alert.severity] < _LEVEL[route.min_severity]:
            return False
        if alert.state is AlertState.UPDATE and not known.notified:  # it reached min_severity only now
            return "open" in route.states
        return alert.state.value in route.states

    def _enqueue(self, entry: _Entry, known: _Known, matches: bool, now_ns: int) -> None:
        alert, entries = entry.alert, self._waiting.entries
        if alert.id in entries:
            if alert.state is AlertState.WITHDRAWN and alert.id not in self._sending.entries:
                del entries[alert.id]  # withdrawn before any notification
                known.notified = False
                self._reset_if_empty()
            else:
                entries[alert.id] = replace(entries[alert.id], alert=alert)
        elif matches:
            known.notified = True
            if self._first_ns is None:
                self._first_ns = now_ns
            if len(entries) < MAX_WAITING:
                entries[alert.id] = entry
            else:
                self._waiting.add_overflow(entry.partition, entry.offset, 1)

    def _reset_if_empty(self) -> None:
        if not self._waiting:
            self._first_ns = None

    def _remember(self, alert_id: str, known: _Known) -> None:
        """Keeps alerts in the order of their last event; of the ended ones, the oldest are forgotten."""
        self._known.pop(alert_id, None)
        self._known[alert_id] = known
        if len(self._known) > 2 * MAX_ENDED:
            ended = [key for key, one in self._known.items() if one.rank == 2]
            for key in ended[: max(0, len(ended) - MAX_ENDED)]:
                del self._known[key]

    # ---- messages out

    @property
    def waiting(self) -> int:
        """Number of unsent events."""
        return len(self._waiting) + len(self._sending)

    def due_ns(self, now_ns: int, *, flush: bool = False) -> int | None:
        """When the next message may leave (<= now_ns: now). None = there is none, or one is in flight.

        flush: does not wait for further events of the group.
        """
        if self._first_ns is None or self._sending:
            return None
        grouped_ns = self._first_ns if flush else self._first_ns + self._wait_ns
        if now_ns < grouped_ns:
            return grouped_ns
        for reason, until_ns in self._obstacles(now_ns):
            if until_ns > now_ns:
                self._suppress(reason)
                return until_ns
        return now_ns

    def _obstacles(self, now_ns: int) -> Iterator[tuple[str, int]]:
        yield "failure", self._retry_ns
        yield "mute", muted_until_ns(self._mutes, self._zone, now_ns) or 0
        yield "rate", self.rate_full_ns - (self._burst - 1) * self._spacing_ns

    def _suppress(self, reason: str) -> None:
        for alert_id, entry in self._waiting.entries.items():
            if reason not in entry.suppressed:
                self.suppressed[reason] += 1
                self._waiting.entries[alert_id] = replace(entry, suppressed=entry.suppressed | {reason})

    def begin(self) -> Batch:
        """Takes all waiting events out."""
        self._sending, self._waiting = self._waiting, _Queue()
        self._first_ns = None
        entries = self._sending.entries.values()
        reasons = {reason for entry in entries for reason in entry.suppressed}
        return Batch(
            tuple(entry.alert for entry in entries),
            tuple(words for reason, words in _WHY.items() if reason in reasons),
            len(self._sending) - len(entries),
        )

    def sent(self, now_ns: int) -> None:
        """The receiver accepted the message."""
        self._sending = _Queue()
        self._retry_ns = 0
        self._backoff.reset()
        self.rate_full_ns = max(self.rate_full_ns, now_ns) + self._spacing_ns

    def failed(self, now_ns: int, retry_after_ns: int = 0) -> None:
        """The message is sent again later, together with the events that came meanwhile."""
        self._retry_ns = now_ns + int(self._backoff.next_wait(retry_after_ns))
        newer, self._waiting, self._sending = self._waiting, self._sending, _Queue()
        for alert_id, entry in newer.entries.items():
            before = self._waiting.entries.get(alert_id)
            self._waiting.entries[alert_id] = entry if before is None else replace(before, alert=entry.alert)
        for partition, (offset, count) in newer.overflow.items():
            self._waiting.add_overflow(partition, offset, count)
        self._first_ns = now_ns - self._wait_ns if self._waiting else None

    # ---- offsets

    def next_offset(self, partition: Partition, position: int) -> int:
        """Offset of the first unsent event; `position` (the next record to read) when all are sent."""
        return min(self._waiting.offsets(partition) + self._sending.offsets(partition), default=position)

    def replay_offset(self, partition: Partition, position: int) -> int:
        """Offset of the first event of all open alerts: a restart reads from here to know them again."""
        offsets = (one.first_offset for one in self._known.values() if one.partition == partition and one.rank < 2)
        return min(offsets, default=position)

    def forget(self, partition: Partition) -> None:
        """Drops everything of a revoked partition."""
        self._known = {key: one for key, one in self._known.items() if one.partition != partition}
        self._waiting.forget(partition)
        self._sending.forget(partition)
        self._reset_if_empty()
