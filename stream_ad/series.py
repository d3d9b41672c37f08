"""One series from readings to windows: its grid, its rows, and the queue of work that closed slots ask for.

Work is captured (rows copied) at the reading that makes it due, so what is scored depends on the log alone, however
much of it one poll brought.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_ad.calibration import Calibration
from stream_ad.errors import ModelError
from stream_ad.grid import Grid, Placement, infer_step_ns
from stream_ad.ports import Profile, Scorer, Session, Window
from stream_ad.records import Block, Observation
from stream_ad.rows import RowStore
from stream_ad.series_rules import SeriesRules
from stream_ad.telling import Scoring, Teller
from stream_ad.work import FitWork, Why, WindowWork

__all__ = ["Key", "Series"]

MAX_WAITING = 4096
MAX_QUEUED = 32  # pieces of work, each of at most a look-back of windows
LEAST_SHARE = 8  # a first profile wants readings in one slot of so many, counted over a window


@dataclass(frozen=True, slots=True)
class Key:
    """A series of one partition; the same name in another partition is another stream."""

    topic: str
    partition: int
    series: str


@dataclass(slots=True)
class Series:
    """State of one series.

    Slots told_from ... next_emit - 1 have been told; next_end is the end of the next window. While a profile is filled,
    its history begins at slot `origin` and the next one is fitted once it has `next_fit` slots. resume_offset is set
    while a restart reads back: records before it only bring the rows back.
    """

    key: Key
    rules: SeriesRules
    scorer: Scorer
    teller: Teller
    channels: list[str] = field(default_factory=list)
    channels_fixed: bool = False
    grid: Grid | None = None
    rows: RowStore = field(default_factory=lambda: RowStore(0))
    profile: Profile | None = None
    calibration: Calibration | None = None
    session: Session | None = None
    next_end: int = 0
    next_emit: int = 0
    told_from: int | None = None
    origin: int = 0
    next_fit: int | None = None
    flushed: bool = True
    resume_offset: int | None = None
    back_grid: Grid | None = None
    dirty: set[int] = field(default_factory=set)
    queue: list[WindowWork | FitWork] = field(default_factory=list)
    parked_to: int = 0
    last_seen_s: float = 0.0
    silent_ns: int | None = None  # held for silent since the slot of this time
    returned_ns: int | None = None  # and the first slot with a reading after it
    _index: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[Observation, int]] = field(default_factory=list)

    def begin(self, profile: Profile | None) -> None:
        """Starts with the promoted profile, or by filling one as the stream goes."""
        hop = self.scorer.hop_steps
        self.next_end = hop - 1
        if profile is not None:
            self.adopt_channels(profile.channels)
            self.use(profile)
            self.told_from = 0
            if profile.origin == "auto" and profile.slots < self.rules.memory_steps:
                self.next_fit = 2 * profile.slots  # goes on filling, from this stream's own rows
        else:
            self.adopt_channels(self.rules.channels)
            self.next_fit = self.scorer.window_steps

    def adopt_channels(self, channels: tuple[str, ...]) -> None:
        self.channels = list(channels)
        self.channels_fixed = bool(channels)
        self._index = {name: i for i, name in enumerate(self.channels)}
        self.rows = RowStore(len(self.channels), self.rows.base)

    def use(self, profile: Profile) -> None:
        """Scores with `profile` from the next window on; its session starts empty."""
        self.profile = profile
        step_ns = self.grid.step_ns if self.grid else (self.rules.step_ns or profile.step_ns or 1_000_000_000)
        self.calibration = Calibration.fit(profile.fitted.held_out, step_ns / 1e9, self.rules.false_alarms_per_s)
        try:
            self.session = self.scorer.open(profile.fitted.arrays)
        except (LookupError, TypeError, ValueError) as error:  # arrays of other names, kinds or shapes
            raise ModelError(
                f"profile {profile.version!r} of series {self.key.series!r}: its arrays are none of scorer "
                f"{self.scorer.name!r} ({error})",
                mend="fit the series again",
            ) from error

    @property
    def scoring(self) -> Scoring:
        """What the teller needs to know; there must be a grid and a profile."""
        assert self.grid is not None
        assert self.calibration is not None
        assert self.profile is not None
        version = f"{self.scorer.name}-{self.scorer.version}/{self.profile.version}"
        return Scoring(self.grid, tuple(self.channels), self.calibration, version, self.next_emit)

    @property
    def newest_ns(self) -> int | None:
        """Event time of the newest slot that had a reading; None before the first."""
        if self.grid is not None and self.grid.max_slot >= 0:
            return self.grid.time_of(self.grid.max_slot)
        return max((observation.event_time_ns for observation, _ in self.waiting), default=None)

    # ---- readings in

    def observe(self, observation: Observation, offset: int) -> tuple[str, str] | None:
        """Takes one observation. A returned (reason, detail) says what of it could not be used."""
        if self.resume_offset is not None:
            if offset < self.resume_offset:
                self._read_back(observation, offset)
                return None
            self.resume()
        self.flushed = False
        if self.grid is not None:
            return self._place(observation, offset)
        times = [o.event_time_ns for o, _ in self.waiting]
        full = len(times) >= MAX_WAITING
        if full and self.rules.step_ns is None and observation.event_time_ns in times:
            return "no_step", f"expected readings at different times to infer the step, found {len(times)} at a few"
        self.waiting.append((observation, offset))
        times.append(observation.event_time_ns)
        step_ns = self.rules.step_ns or infer_step_ns(times)
        if step_ns is not None and (full or Grid.ready(times, step_ns, self.rules.lateness_steps)):
            self._anchor(step_ns, min(times))
        return None

    def observe_all(
        self, block: Block, offsets: NDArray[np.int64], relieve: Callable[[], None]
    ) -> list[tuple[int, str, str]]:
        """Takes the observations of a block, each of the record with that offset: the same as one by one.

        Returns row, reason and detail of what could not be used. `relieve` does what is queued: called where times run
        to and fro, as each such reading may ask for a whole look-back of windows.
        """
        if self.silent_ns is None and self._put_block(block, offsets):
            return []
        problems = []
        for row, offset in enumerate(offsets.tolist()):
            problem = self.observe(block.observation(row), offset)
            if len(self.queue) > MAX_QUEUED:
                relieve()
            if self.silent_ns is not None and self.returned_ns is None and (self.newest_ns or 0) > self.silent_ns:
                self.returned_ns = self.newest_ns
            if problem is not None:
                problems.append((row, *problem))
        return problems

    def _put_block(self, block: Block, offsets: NDArray[np.int64]) -> bool:
        """Rising open slots of known channels go in at once: no later reading changes what an earlier one makes due."""
        grid = self.grid
        if grid is None or self.resume_offset is not None or not self._index.keys() >= set(block.channels):
            return False
        slots = grid.slots_of(block.event_time_ns)
        newest = grid.max_slot if grid.max_slot >= 0 else int(slots[0]) - 1
        apart = np.diff(slots, prepend=newest)
        if slots[0] < max(grid.closed, self.rows.base) or (apart[1:] < 1).any():
            return False
        if (apart >= 4 * self.scorer.lookback_steps).any():
            return False
        self.flushed = False
        indices = np.array([self._index[name] for name in block.channels], np.intp)
        self.rows.put_all(slots, indices, block.values.astype(np.float32), offsets)
        grid.max_slot = max(grid.max_slot, int(slots[-1]))
        self._capture()
        return True

    def _anchor(self, step_ns: int, anchor_ns: int) -> None:
        self.grid = Grid(step_ns, anchor_ns, self.rules.lateness_steps, self.rules.revise_steps)
        if self.profile is not None:
            self.use(self.profile)  # the alarm rate is per second: the step just became known
        self.teller.step_ns = step_ns
        waiting, self.waiting = self.waiting, []
        for observation, offset in waiting:
            self._place(observation, offset)

    def _place(self, observation: Observation, offset: int) -> tuple[str, str] | None:
        assert self.grid is not None
        if not self.channels_fixed:
            self._learn_channels(observation)
        problem = self._unknown(observation)  # also those over the limit, while channels are still found
        indices, values = self._row(observation)
        if not len(indices):
            return problem
        self._jump_to(self.grid.slot_of(observation.event_time_ns))
        slot, placement = self.grid.place(observation.event_time_ns)
        if placement is Placement.LATE or not self.rows.put(slot, indices, values, offset):
            late = self.grid.closed - slot
            return "late", f"expected at most {self.rules.revise_steps} slots behind, found {late}"
        if placement is Placement.REVISION:
            self.dirty.add(slot)
        else:
            self._capture()
        return problem

    def _row(self, observation: Observation) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        index = self._index
        pairs = [(index[name], value) for name, value in observation.values.items() if name in index]
        if not pairs:
            return np.empty(0, np.intp), np.empty(0, np.float32)
        indices, values = zip(*pairs, strict=True)
        return np.array(indices, np.intp), np.array(values, np.float32)

    def _unknown(self, observation: Observation) -> tuple[str, str] | None:
        unknown = [name for name in observation.values if name not in self._index]
        if not unknown:
            return None
        found = ", ".join(repr(name[:40]) for name in unknown[:5])
        return (
            "unknown_channel",
            f"expected channels of {self.key.series!r} ({len(self.channels)} known), found {found}",
        )

    def _learn_channels(self, observation: Observation) -> None:
        new = [name for name in observation.values if name not in self._index]
        new = new[: self.rules.max_channels - len(self.channels)]
        if new:
            order = list(range(len(self.channels)))
            for name in new:
                self._index[name] = len(self.channels)
                order.append(len(self.channels))
                self.channels.append(name)
            self.rows.reorder(order)

    def _fix_channels(self) -> None:
        """Channels that were found get a fixed order, which must not depend on the order of arrival."""
        order = sorted(range(len(self.channels)), key=lambda i: self.channels[i])
        self.channels = [self.channels[i] for i in order]
        self._index = {name: i for i, name in enumerate(self.channels)}
        self.rows.reorder(order)
        self.channels_fixed = True

    # ---- work out

    def _capture(self) -> None:
        """Queues what the slots closed by now ask for."""
        assert self.grid is not None
        hop = self.scorer.hop_steps
        while self.grid.closed > self.next_end:
            if self.dirty:
                self._capture_revision()
            end = self.next_end
            if self.told_from is not None:
                stop = max(self.next_emit, end - self.scorer.delay_steps + 1)
                self.queue.append(self._work([self._window(end, self.next_emit, stop)], "live"))
                self.next_emit = stop
            if self.next_fit is not None and end + 1 - self.origin >= self.next_fit:
                self._capture_fit(end)
            self.next_end = end + hop
        self.rows.drop_before(self.need_from)

    def _window(self, end: int, emit_from: int, emit_to: int) -> Window:
        return Window(self.rows.window(end + 1 - self.scorer.window_steps, end + 1), end, emit_from, emit_to)

    def _work(self, windows: Iterable[Window], why: Why, dirty: Iterable[int] = ()) -> WindowWork:
        due = tuple(windows)
        seen = tuple(self.rows.seen(window.emit_from, window.emit_to) for window in due)
        return WindowWork(due, seen, why, frozenset(dirty))

    def _capture_fit(self, end: int) -> None:
        assert self.grid is not None
        least = self.scorer.window_steps // LEAST_SHARE
        if np.isfinite(self.rows.window(self.origin, end + 1)).any(axis=1).sum() < least:
            self._wait_for_readings(end)
            return
        if not self.channels_fixed:
            self._fix_channels()
        history = self.rows.window(self.origin, end + 1)
        after = self._work(self._refill(end + self.scorer.hop_steps), "recall")
        self.queue.append(FitWork(history, self.grid.time_of(end), after))
        if self.told_from is None:
            self.told_from = self.next_emit = end + 1
        following = 2 * (end + 1 - self.origin)
        self.next_fit = following if following <= self.rules.memory_steps else None

    def _wait_for_readings(self, end: int) -> None:
        """Too few to fit on: the history goes on, or moves on when it is as long as one may be."""
        hop = self.scorer.hop_steps
        self.next_fit = end + 1 - self.origin + hop
        if self.next_fit > 2 * self.scorer.window_steps:
            self.origin += hop
            self.next_fit -= hop

    def _refill(self, before_end: int) -> Iterator[Window]:
        """Windows that bring a fresh session to where it may score the window that ends at `before_end`."""
        hop = self.scorer.hop_steps
        first = max(hop - 1, before_end - hop * math.ceil((self.scorer.lookback_steps - 1) / hop))
        for end in range(first, before_end, hop):
            yield self._window(end, 0, 0)

    def _rescored(self, slot: int, ends_before: int) -> Iterator[Window]:
        """Windows before `ends_before` that a change of `slot` touches, telling their own slots again."""
        hop, delay = self.scorer.hop_steps, self.scorer.delay_steps
        first = slot // hop * hop + hop - 1
        yield from self._refill(min(first, ends_before))
        for end in range(first, ends_before, hop):
            stop = max(self.told_from or 0, min(end - delay + 1, self.next_emit))
            yield self._window(end, min(stop, max(self.told_from or 0, end - delay + 1 - hop)), stop)

    def _capture_revision(self) -> None:
        dirty, self.dirty = self.dirty, set()
        if self.told_from is None or min(dirty) > self.next_end - self.scorer.hop_steps:
            return  # in no window yet
        self.queue.append(self._work(self._rescored(min(dirty), self.next_end), "revise", dirty))

    def _jump_to(self, slot: int) -> None:
        """Before a reading far ahead of all others: tells what waits, then leaves the empty slots out.

        Nothing is lost by that: to a session, look-back slots without a reading are as good as none.
        """
        assert self.grid is not None
        scorer, hop = self.scorer, self.scorer.hop_steps
        if slot - self.grid.max_slot < 4 * scorer.lookback_steps or self.grid.max_slot < 0:
            return
        self.grid.max_slot += self.rules.lateness_steps + scorer.delay_steps + 2 * hop
        self._capture()
        start = (slot - self.rules.lateness_steps - scorer.lookback_steps) // hop * hop
        self.next_end, self.next_emit = start + hop - 1, start
        self.rows = RowStore(len(self.channels), start)
        self.grid.max_slot = start
        if self.next_fit is not None:
            self.origin = slot // hop * hop
        if self.told_from is not None:
            self.queue.append(self._work((), "recall"))

    @property
    def need_from(self) -> int:
        """The oldest slot whose readings may still be asked for."""
        if self.next_fit is not None or self.grid is None:
            return self.origin
        back = self.rules.revise_steps + self.scorer.lookback_steps + 2 * self.scorer.hop_steps
        return max(0, min(self.grid.closed, self.next_emit) - back)

    def provisional(self) -> WindowWork | None:
        """Work that tells the slots still waiting with what is there; nothing of the series' own course changes."""
        if self.flushed or self.grid is None or self.told_from is None or self.resume_offset is not None:
            return None
        self.flushed = True
        hop, last = self.scorer.hop_steps, self.grid.max_slot
        dirty = set(self.dirty)
        first = min(*dirty, self.next_end) if dirty else self.next_end
        windows = list(self._rescored(first, self.next_end)) if dirty else list(self._refill(self.next_end))
        end, told = self.next_end, self.next_emit
        while told <= last:
            stop = min(last + 1, max(told, end - self.scorer.delay_steps + 1))
            windows.append(self._window(end, told, stop))
            told, end = stop, end + hop
        return self._work(windows, "provisional", dirty)

    # ---- restart

    def pin(self) -> int | None:
        """Offset of the oldest record that a restart must read again; None when there is none."""
        if self.grid is None:
            return self.waiting[0][1] if self.waiting else None
        return self.rows.pin(self.need_from)

    def _read_back(self, observation: Observation, offset: int) -> None:
        """Puts a record's readings back where they were; its outputs are in the sinks already."""
        if self.back_grid is None:
            return
        indices, values = self._row(observation)
        if len(indices):
            slot, placement = self.back_grid.place(observation.event_time_ns)
            if placement is not Placement.LATE:
                self.rows.put(slot, indices, values, offset)

    def resume(self) -> None:
        """Goes live after reading back: the session is refilled, what late data may revise is scored again silently."""
        self.resume_offset = self.back_grid = None
        if self.grid is None or self.told_from is None:
            return
        revisable = max(self.told_from, self.grid.closed - self.rules.revise_steps)
        self.queue.append(self._work(self._rescored(revisable, self.next_end), "recall"))
