"""The slots of one series, and the queue of tasks for the windows that closed slots complete.

A task is captured, rows copied, at the observation that makes it ready. So what is scored depends on the log alone,
however much of it one poll returned (ADR 2).
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

KEPT_GAP_LOOKBACKS = 4  # while a profile is filled, gaps up to so many look-backs stay in its history
MIN_SEEN_SHARE = 8  # a first profile needs readings in one slot of so many, counted over a window


@dataclass(slots=True)
class Windower:
    """Grid, rows and ready tasks of one series.

    The slots emitted_from ... next_emit - 1 have been emitted; emitted_from None = there is no profile yet. next_end:
    last slot of the next window. late_slots: closed slots that late data changed. While a profile is filled, its
    history begins at slot `history_start`, and a fit is queued once it has `next_fit_slots` slots.
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
        """Emits from the first slot on with a profile; without one, once one is filled from the stream."""
        self.next_end = self.config.hop - 1
        if profile is None:
            self.next_fit_slots = self.config.window
            return
        self.emitted_from = 0
        if profile.origin == "auto" and profile.slots < self.config.memory:
            self.next_fit_slots = 2 * profile.slots  # refits from this stream's own rows

    def change_scorer(self, profile: Profile | None) -> None:
        """Continues with another scorer, on its own hop, after the slots already emitted; without a profile, one is
        filled from the buffered rows."""
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
        self.next_end -= hop  # first the fit, then the window that emits
        self.history_start = -(-self.rows.base // hop) * hop
        self.next_fit_slots = self.config.window

    def enqueue_ready(self) -> None:
        """Queues the tasks of every window whose slots are all closed."""
        assert self.grid is not None
        hop = self.config.hop
        while self.grid.closed > self.next_end:
            if self.late_slots:
                self._enqueue_late()
            end = self.next_end
            if self.emitted_from is not None:
                stop = max(self.next_emit, end - self.config.delay + 1)
                self.queue.append(self._task([self._window(end, self.next_emit, stop)], "live"))
                self.next_emit = stop
            if self.next_fit_slots is not None and end + 1 - self.history_start >= self.next_fit_slots:
                self._enqueue_fit(end)
            self.next_end = end + hop
        self.rows.drop_before(self.need_from)

    def _window(self, end: int, emit_from: int, emit_to: int) -> Window:
        return Window(self.rows.window(end + 1 - self.config.window, end + 1), end, emit_from, emit_to)

    def _task(self, windows: Iterable[Window], kind: TaskKind, late_slots: Iterable[int] = ()) -> ScoreTask:
        captured = tuple(windows)
        seen = tuple(self.rows.seen(window.emit_from, window.emit_to) for window in captured)
        return ScoreTask(captured, seen, kind, frozenset(late_slots))

    def _enqueue_fit(self, end: int) -> None:
        assert self.grid is not None
        with_readings = np.isfinite(self.rows.window(self.history_start, end + 1)).any(axis=1).sum()
        if with_readings < self.config.window // MIN_SEEN_SHARE:
            self._postpone_fit(end)
            return
        if not self.channels.fixed:
            self.rows.reorder(self.channels.fix())
        history = self.rows.window(self.history_start, end + 1)
        warm_up = self._task(self._warm_up_windows(end + self.config.hop), "replay")
        self.queue.append(FitTask(history, self.grid.time_of(end), warm_up))
        if self.emitted_from is None:  # after another scorer, emission continues where that one ended
            oldest = end + 1 + self.config.hop - self.config.window
            self.emitted_from = self.next_emit = max(self.next_emit, oldest) if self.next_emit else end + 1
        following = 2 * (end + 1 - self.history_start)
        self.next_fit_slots = following if following <= self.config.memory else None

    def _postpone_fit(self, end: int) -> None:
        """Waits for another hop; once the history spans two windows, it moves on instead of growing."""
        hop = self.config.hop
        self.next_fit_slots = end + 1 - self.history_start + hop
        if self.next_fit_slots > 2 * self.config.window:
            self.history_start += hop
            self.next_fit_slots -= hop

    def _warm_up_windows(self, before_end: int) -> Iterator[Window]:
        """Windows that prepare a fresh session to score the window that ends at `before_end`."""
        hop = self.config.hop
        first = max(hop - 1, before_end - hop * math.ceil((self.config.lookback - 1) / hop))
        for end in range(first, before_end, hop):
            yield self._window(end, 0, 0)

    def _rescored_windows(self, slot: int, ends_before: int) -> Iterator[Window]:
        """Warm-up, then the windows before `ends_before` that contain `slot`, each emitting its own slots again."""
        hop, delay = self.config.hop, self.config.delay
        first = slot // hop * hop + hop - 1
        yield from self._warm_up_windows(min(first, ends_before))
        for end in range(first, ends_before, hop):
            stop = max(self.emitted_from or 0, min(end - delay + 1, self.next_emit))
            yield self._window(end, min(stop, max(self.emitted_from or 0, end - delay + 1 - hop)), stop)

    def _enqueue_late(self) -> None:
        late_slots, self.late_slots = self.late_slots, set()
        if self.emitted_from is None or min(late_slots) > self.next_end - self.config.hop:
            return  # no window has contained them yet
        self.queue.append(self._task(self._rescored_windows(min(late_slots), self.next_end), "late", late_slots))

    def exceeds_gap(self, slots: int) -> bool:
        """True when a gap of `slots` is so long that none of the skipped slots can affect a score: everything pending
        has been emitted, and the gap exceeds lateness + revision horizon + look-back."""
        filling = 0 if self.next_fit_slots is None else KEPT_GAP_LOOKBACKS * self.config.lookback
        return slots > max(self.config.lateness + self._reach_back + self._emit_lag, filling)

    @property
    def _reach_back(self) -> int:
        """How far before the newest closed slot readings can matter: to revise the oldest slot that late data may."""
        return self.config.revise + self.config.lookback + 2 * self.config.hop

    @property
    def _emit_lag(self) -> int:
        """At most so many slots pass between a slot and its emission."""
        return self.config.lateness + self.config.delay + 2 * self.config.hop

    def skip_gap(self, slot: int) -> None:
        """Before an observation at `slot`, far ahead of all others: emits the pending slots, then skips the empty ones.

        No score changes: to a session, look-back slots without a reading are as good as none.
        """
        assert self.grid is not None
        if self.grid.max_slot < 0 or not self.exceeds_gap(slot - self.grid.max_slot):
            return
        hop = self.config.hop
        self.grid.max_slot += self._emit_lag
        self.enqueue_ready()
        start = (slot - self.config.lateness - self._reach_back) // hop * hop
        self.next_end, self.next_emit = start + hop - 1, 0 if self.emitted_from is None else start
        self.rows = SlotBuffer(len(self.channels.names), start)
        self.grid.max_slot = start
        if self.next_fit_slots is not None:
            self.history_start = slot // hop * hop
        if self.emitted_from is not None:
            self.queue.append(self._task((), "replay"))

    @property
    def need_from(self) -> int:
        """The oldest slot whose readings a later task may need."""
        if self.next_fit_slots is not None or self.grid is None:
            return self.history_start
        return max(0, min(self.grid.closed, self.next_emit) - self._reach_back)

    @property
    def revisable_from(self) -> int:
        """The oldest slot whose score late data may still revise."""
        if self.grid is None:
            return 0
        hop = self.config.hop
        return max(0, (self.grid.closed - self.config.revise) // hop * hop - self.config.delay)

    @property
    def uncaptured_late_slots(self) -> range:
        """The emitted slots whose score `late_slots` may move, while no task has captured these yet."""
        if self.emitted_from is None or not self.late_slots:
            return range(0)
        hop = self.config.hop
        return range(max(self.emitted_from, min(self.late_slots) // hop * hop - self.config.delay), self.next_emit)

    def provisional(self) -> ScoreTask | None:
        """Speculative task for a silent series: scores the slots still inside the delay with the data at hand, in a
        throw-away session; live state is unchanged."""
        if self.grid is None or self.emitted_from is None:
            return None
        hop, end, emitted = self.config.hop, self.next_end, self.next_emit
        if self.late_slots:
            windows = list(self._rescored_windows(min(*self.late_slots, end), end))
        else:
            windows = list(self._warm_up_windows(end))
        while emitted <= self.grid.max_slot:
            stop = min(self.grid.max_slot + 1, max(emitted, end - self.config.delay + 1))
            windows.append(self._window(end, emitted, stop))
            emitted, end = stop, end + hop
        return self._task(windows, "provisional", self.late_slots)

    def warm_up(self) -> None:
        """Queued once after replay: warms up the scorer session over the look-back and recomputes, without emitting,
        the slots that late data may still revise. `late_slots` are excluded from the recomputed baseline: their last
        emitted score comes from the snapshot."""
        if self.grid is None or self.emitted_from is None:
            return
        revisable = max(self.emitted_from, self.grid.closed - self.config.revise)
        self.queue.append(self._task(self._rescored_windows(revisable, self.next_end), "replay", self.late_slots))
