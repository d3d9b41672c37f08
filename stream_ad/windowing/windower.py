"""The slots of one series, and the queue of work that closed slots ask for.

Work is captured (rows copied) at the reading that makes it due, so what is scored depends on the log alone, however
much of it one poll brought.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from stream_ad.ports import Profile, Window
from stream_ad.windowing.channels import Channels
from stream_ad.windowing.config import WindowingConfig
from stream_ad.windowing.grid import Grid
from stream_ad.windowing.slot_buffer import SlotBuffer
from stream_ad.windowing.tasks import FitTask, ScoreTask, TaskKind

__all__ = ["Windower"]

FILLED_OVER = 4  # look-backs: over a shorter gap a history that is being filled goes on
LEAST_SHARE = 8  # a first profile wants readings in one slot of so many, counted over a window


@dataclass(slots=True)
class Windower:
    """Grid and rows, and what is due of them.

    Slots emitted_from ... next_emit - 1 have been emitted; next_end is the end of the next window. While a profile is
    filled, its history begins at slot `history_start` and the next one is fitted once it has `next_fit_slots` slots.
    late_slots: closed slots that late data changed.
    """

    config: WindowingConfig
    channels: Channels
    grid: Grid | None = None
    rows: SlotBuffer = field(default_factory=lambda: SlotBuffer(0))
    next_end: int = 0
    next_emit: int = 0
    emitted_from: int | None = None
    history_start: int = 0
    next_fit_slots: int | None = None
    late_slots: set[int] = field(default_factory=set)
    queue: list[ScoreTask | FitTask] = field(default_factory=list)

    def begin(self, profile: Profile | None) -> None:
        """Windows are told from the first one on where there is a profile, else once one is filled."""
        self.next_end = self.config.hop - 1
        if profile is None:
            self.next_fit_slots = self.config.window
            return
        self.emitted_from = 0
        if profile.origin == "auto" and profile.slots < self.config.memory:
            self.next_fit_slots = 2 * profile.slots  # goes on filling, from this stream's own rows

    def start_over(self, profile: Profile | None) -> None:
        """Another scorer goes on, on its own hop, behind what was told; without a profile one is filled from the rows
        that there are."""
        self.emitted_from = self.next_fit_slots = None
        begin = max(self.next_emit, self.rows.base)
        if begin == 0:
            self.begin(profile)
            return
        hop = self.config.hop
        self.next_end = (begin + self.config.delay) // hop * hop + hop - 1
        if profile is not None:
            self.emitted_from = self.next_emit = begin
            return
        self.next_end -= hop  # the profile first, then the window that tells
        self.history_start = -(-self.rows.base // hop) * hop
        self.next_fit_slots = self.config.window

    def enqueue_ready(self) -> None:
        """Queues what the slots closed by now ask for."""
        assert self.grid is not None
        hop = self.config.hop
        while self.grid.closed > self.next_end:
            if self.late_slots:
                self._enqueue_late()
            end = self.next_end
            if self.emitted_from is not None:
                stop = max(self.next_emit, end - self.config.delay + 1)
                self.queue.append(self._work([self._window(end, self.next_emit, stop)], "live"))
                self.next_emit = stop
            if self.next_fit_slots is not None and end + 1 - self.history_start >= self.next_fit_slots:
                self._enqueue_fit(end)
            self.next_end = end + hop
        self.rows.drop_before(self.need_from)

    def _window(self, end: int, emit_from: int, emit_to: int) -> Window:
        return Window(self.rows.window(end + 1 - self.config.window, end + 1), end, emit_from, emit_to)

    def _work(self, windows: Iterable[Window], kind: TaskKind, late_slots: Iterable[int] = ()) -> ScoreTask:
        windower = tuple(windows)
        seen = tuple(self.rows.seen(window.emit_from, window.emit_to) for window in windower)
        return ScoreTask(windower, seen, kind, frozenset(late_slots))

    def _enqueue_fit(self, end: int) -> None:
        assert self.grid is not None
        least = self.config.window // LEAST_SHARE
        if np.isfinite(self.rows.window(self.history_start, end + 1)).any(axis=1).sum() < least:
            self._wait_for_readings(end)
            return
        if not self.channels.fixed:
            self.rows.reorder(self.channels.fix())
        history = self.rows.window(self.history_start, end + 1)
        after = self._work(self._refill(end + self.config.hop), "recall")
        self.queue.append(FitTask(history, self.grid.time_of(end), after))
        if self.emitted_from is None:  # what was told before by another scorer goes on where that ended
            oldest = end + 1 + self.config.hop - self.config.window
            start = max(self.next_emit, oldest) if self.next_emit else end + 1
            self.emitted_from = self.next_emit = start
        following = 2 * (end + 1 - self.history_start)
        self.next_fit_slots = following if following <= self.config.memory else None

    def _wait_for_readings(self, end: int) -> None:
        """Too few to fit on: the history goes on, or moves on when it is as long as one may be."""
        hop = self.config.hop
        self.next_fit_slots = end + 1 - self.history_start + hop
        if self.next_fit_slots > 2 * self.config.window:
            self.history_start += hop
            self.next_fit_slots -= hop

    def _refill(self, before_end: int) -> Iterator[Window]:
        """Windows that bring a fresh session to where it may score the window that ends at `before_end`."""
        hop = self.config.hop
        first = max(hop - 1, before_end - hop * math.ceil((self.config.lookback - 1) / hop))
        for end in range(first, before_end, hop):
            yield self._window(end, 0, 0)

    def _rescored(self, slot: int, ends_before: int) -> Iterator[Window]:
        """Windows before `ends_before` that a change of `slot` touches, telling their own slots again."""
        hop, delay = self.config.hop, self.config.delay
        first = slot // hop * hop + hop - 1
        yield from self._refill(min(first, ends_before))
        for end in range(first, ends_before, hop):
            stop = max(self.emitted_from or 0, min(end - delay + 1, self.next_emit))
            yield self._window(end, min(stop, max(self.emitted_from or 0, end - delay + 1 - hop)), stop)

    def _enqueue_late(self) -> None:
        late_slots, self.late_slots = self.late_slots, set()
        if self.emitted_from is None or min(late_slots) > self.next_end - self.config.hop:
            return  # in no window yet
        self.queue.append(self._work(self._rescored(min(late_slots), self.next_end), "revise", late_slots))

    def exceeds_gap(self, apart: int) -> bool:
        """Whether a reading so many slots after the newest one leaves slots between that no window has to be scored
        for: all that came before it is told by then, and further back than late data can make a window look."""
        filling = 0 if self.next_fit_slots is None else FILLED_OVER * self.config.lookback
        return apart > max(self.config.lateness + self._back + self._until_told, filling)

    @property
    def _back(self) -> int:
        """Slots before the newest closed one that are looked at when the oldest that late data may move is scored."""
        return self.config.revise + self.config.lookback + 2 * self.config.hop

    @property
    def _until_told(self) -> int:
        """Slots that a series moves on from a slot until this one is told, at most."""
        return self.config.lateness + self.config.delay + 2 * self.config.hop

    def skip_gap(self, slot: int) -> None:
        """Before a reading far ahead of all others: tells what waits, then leaves the empty slots out.

        Nothing is lost by that: to a session, look-back slots without a reading are as good as none.
        """
        assert self.grid is not None
        if self.grid.max_slot < 0 or not self.exceeds_gap(slot - self.grid.max_slot):
            return
        hop = self.config.hop
        self.grid.max_slot += self._until_told
        self.enqueue_ready()
        start = (slot - self.config.lateness - self._back) // hop * hop
        self.next_end, self.next_emit = start + hop - 1, 0 if self.emitted_from is None else start
        self.rows = SlotBuffer(len(self.channels.names), start)
        self.grid.max_slot = start
        if self.next_fit_slots is not None:
            self.history_start = slot // hop * hop
        if self.emitted_from is not None:
            self.queue.append(self._work((), "recall"))

    @property
    def need_from(self) -> int:
        """The oldest slot whose readings may still be asked for."""
        if self.next_fit_slots is not None or self.grid is None:
            return self.history_start
        return max(0, min(self.grid.closed, self.next_emit) - self._back)

    @property
    def revisable_from(self) -> int:
        """The oldest slot whose score late data may still move."""
        if self.grid is None:
            return 0
        hop = self.config.hop
        return max(0, (self.grid.closed - self.config.revise) // hop * hop - self.config.delay)

    @property
    def uncaptured_late_slots(self) -> range:
        """Told slots that late data may move which no work has captured yet."""
        if self.emitted_from is None or not self.late_slots:
            return range(0)
        hop = self.config.hop
        return range(max(self.emitted_from, min(self.late_slots) // hop * hop - self.config.delay), self.next_emit)

    def provisional(self) -> ScoreTask | None:
        """Work that tells the slots still waiting with what is there; nothing of the series' own course changes."""
        if self.grid is None or self.emitted_from is None:
            return None
        hop, last = self.config.hop, self.grid.max_slot
        late_slots = set(self.late_slots)
        first = min(*late_slots, self.next_end) if late_slots else self.next_end
        windows = list(self._rescored(first, self.next_end)) if late_slots else list(self._refill(self.next_end))
        end, emitted = self.next_end, self.next_emit
        while emitted <= last:
            stop = min(last + 1, max(emitted, end - self.config.delay + 1))
            windows.append(self._window(end, emitted, stop))
            emitted, end = stop, end + hop
        return self._work(windows, "provisional", late_slots)

    def warm_up(self) -> None:
        """After reading back: the session is refilled, what late data may revise is scored again silently. Slots that
        late data changed and no work has captured are named: there may have been no reading to tell before."""
        if self.grid is None or self.emitted_from is None:
            return
        revisable = max(self.emitted_from, self.grid.closed - self.config.revise)
        self.queue.append(self._work(self._rescored(revisable, self.next_end), "recall", self.late_slots))
