"""One series from observations to tasks: before there is a grid, on the grid, and in replay after a restart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stream_ad.detection.calibration import Calibration
from stream_ad.detection.emission import Emitter, Scoring
from stream_ad.errors import ModelError
from stream_ad.pipeline.series_config import SeriesConfig
from stream_ad.ports import Profile, Scorer, Session
from stream_ad.records import Block, Observation, Partition
from stream_ad.windowing.channels import Channels
from stream_ad.windowing.grid import Grid, Placement, infer_step_ns
from stream_ad.windowing.slot_buffer import SlotBuffer
from stream_ad.windowing.tasks import ScoreTask
from stream_ad.windowing.windower import Windower

__all__ = ["Series", "SeriesKey"]

log = logging.getLogger(__name__)

MAX_PRE_GRID = 4096
MAX_QUEUED = 32  # tasks, each of at most a look-back of windows


@cache
def _warn_version(scorer: str, expected: str, found: str) -> None:
    """Once per process, however many series it applies to."""
    log.warning(
        "there are profiles of another version of scorer %r: new ones are filled as the streams go, `stream-ad fit` "
        "makes them at once; expected version %s, found %s",
        *(scorer, expected, found),
    )


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """A series of one partition; the same name in another partition is another series."""

    topic: str
    partition: int
    series: str

    @property
    def topic_partition(self) -> Partition:
        return self.topic, self.partition


@dataclass(slots=True)
class Series:
    """State of one series.

    pre_grid: observations with their offsets, buffered until the step is known. replay_until: while set, records below
    this offset refill the buffer (by replay_grid) and emit nothing. snapshot_rows_to: the last snapshot contains the
    buffer up to this slot, so the log need not be replayed. provisional_emitted: nothing new since the last provisional
    scores. absent_since_ns: `since_ns` of the series' absence; returned_ns: event time of the first slot after it.
    """

    key: SeriesKey
    config: SeriesConfig
    scorer: Scorer
    emitter: Emitter
    channels: Channels = field(init=False)
    windower: Windower = field(init=False)
    profile: Profile | None = None
    calibration: Calibration | None = None
    session: Session | None = None
    provisional_emitted: bool = True
    replay_until: int | None = None
    replay_grid: Grid | None = None
    snapshot_rows_to: int = 0
    last_seen_s: float = 0.0
    absent_since_ns: int | None = None
    returned_ns: int | None = None
    pre_grid: list[tuple[Observation, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channels = Channels(self.config.max_channels)
        self.windower = Windower(self.config.windowing, self.channels)

    def begin(self, profile: Profile | None) -> None:
        """Starts with the promoted profile; without one, fills a profile from the stream."""
        profile = self._of_this_version(profile)
        self.adopt_channels(profile.channels if profile else self.config.channels)
        if profile is not None:
            self.use_profile(profile)
        self.windower.begin(profile)

    def change_scorer(self, profile: Profile | None) -> None:
        """Continues after the slots that another scorer emitted, with the promoted profile; without one, fills a
        profile from the replayed rows."""
        profile = self._of_this_version(profile)
        if profile is not None and profile.channels != tuple(self.channels.names):
            profile = None  # the rows have other channels
        if profile is not None:
            self.use_profile(profile)
        self.windower.change_scorer(profile)

    def _of_this_version(self, profile: Profile | None) -> Profile | None:
        """None instead of a profile that another version of the scorer fitted: its arrays mean something else."""
        if profile is None or profile.scorer_version == self.scorer.version:
            return profile
        _warn_version(self.scorer.name, self.scorer.version, profile.scorer_version)
        return None

    def adopt_channels(self, channels: tuple[str, ...]) -> None:
        self.channels.adopt(channels)
        self.windower.rows = SlotBuffer(len(channels), self.windower.rows.base)

    def use_profile(self, profile: Profile) -> None:
        """Scores with `profile` from the next window on; its session starts empty."""
        grid = self.windower.grid
        self.profile = profile
        step_ns = grid.step_ns if grid else (self.config.step_ns or profile.step_ns or 1_000_000_000)
        self.calibration = Calibration.fit(profile.fitted.held_out, step_ns / 1e9, self.config.false_alarms_per_s)
        if grid is not None:  # calibration is final now, and these are a tenth of the series' memory
            self.profile = replace(profile, fitted=replace(profile.fitted, held_out=np.empty(0)))
        try:
            self.session = self.scorer.open(profile.fitted.arrays)
        except (LookupError, TypeError, ValueError) as error:  # arrays of other names, kinds or shapes
            raise ModelError(
                f"profile {profile.version!r} of series {self.key.series!r}: its arrays are none of scorer "
                f"{self.scorer.name!r} ({error})",
                hint="fit the series again",
            ) from error

    @property
    def scoring(self) -> Scoring:
        """For the emitter; there must be a grid and a profile."""
        grid = self.windower.grid
        assert grid is not None
        assert self.calibration is not None
        assert self.profile is not None
        version = f"{self.scorer.name}-{self.scorer.version}/{self.profile.version}"
        return Scoring(grid, tuple(self.channels.names), self.calibration, version, self.windower.next_emit)

    @property
    def newest_ns(self) -> int | None:
        """Event time of the newest slot with a reading; None before the first."""
        grid = self.windower.grid
        if grid is not None and grid.max_slot >= 0:
            return grid.time_of(grid.max_slot)
        return max((observation.event_time_ns for observation, _ in self.pre_grid), default=None)

    # ---- observations in

    def ingest(self, block: Block, offsets: NDArray[np.int64], drain: Callable[[], None]) -> list[tuple[int, str, str]]:
        """Adds the observations of a block, each with the offset of its record: the same as one by one.

        Returns row, reason and detail of what could not be used. `drain` must run the queued tasks: each observation
        out of order may queue a whole look-back of windows.
        """
        if self.absent_since_ns is None and self._put_block(block, offsets):
            return []
        problems = []
        for row, offset in enumerate(offsets.tolist()):
            problem = self._ingest_one(block.observation(row), offset)
            if len(self.windower.queue) > MAX_QUEUED:
                drain()
            if self.absent_since_ns is not None and self.returned_ns is None:
                newest_ns = self.newest_ns or 0
                self.returned_ns = newest_ns if newest_ns > self.absent_since_ns else None
            if problem is not None:
                problems.append((row, *problem))
        return problems

    def _put_block(self, block: Block, offsets: NDArray[np.int64]) -> bool:
        """The fast path, for rising open slots of known channels: no later row changes what an earlier one completes.
        False = nothing was done."""
        windower, grid = self.windower, self.windower.grid
        indices = self.channels.indices(block.channels)
        if grid is None or self.replay_until is not None or indices is None:
            return False
        slots = grid.slots_of(block.event_time_ns)
        first, last = int(slots[0]), int(slots[-1])
        gaps = slots[1:] - slots[:-1]
        if first < max(grid.closed, windower.rows.base) or (gaps < 1).any():
            return False
        first_gap = 1 if grid.max_slot < 0 else first - grid.max_slot
        if windower.exceeds_gap(int(gaps.max(initial=first_gap))):
            return False
        self.provisional_emitted = False
        windower.rows.put_all(slots, indices, block.values.astype(np.float32), offsets)
        grid.max_slot = max(grid.max_slot, last)
        windower.enqueue_ready()
        return True

    def _ingest_one(self, observation: Observation, offset: int) -> tuple[str, str] | None:
        """Adds one observation. A returned (reason, detail) is for the part that could not be used."""
        if self.replay_until is not None:
            if offset < self.replay_until:
                self._replay(observation, offset)
                return None
            self.go_live()
        self.provisional_emitted = False
        if self.windower.grid is not None:
            return self._place(observation, offset)
        times = [o.event_time_ns for o, _ in self.pre_grid]
        full = len(times) >= MAX_PRE_GRID
        if full and self.config.step_ns is None and observation.event_time_ns in times:
            return "no_step", f"expected readings at different times to infer the step, found {len(times)} at a few"
        self.pre_grid.append((observation, offset))
        times.append(observation.event_time_ns)
        step_ns = self.config.step_ns or infer_step_ns(times)
        if step_ns is not None and (full or Grid.ready(times, step_ns, self.config.windowing.lateness)):
            self._anchor(step_ns, min(times))
        return None

    def _anchor(self, step_ns: int, anchor_ns: int) -> None:
        """Makes the grid and places the pre-grid observations on it."""
        phase = self.config.phase_steps(self.key.series)
        self.windower.grid = self.make_grid(step_ns, anchor_ns - phase * step_ns)
        if phase:
            self.windower.history_start = self.scorer.hop_steps  # a first profile needs a whole window of readings
        if self.profile is not None:
            self.use_profile(self.profile)  # calibrates again: the alarm rate is per second, and the step is known now
        self.emitter.step_ns = step_ns
        pre_grid, self.pre_grid = sorted(self.pre_grid, key=lambda pair: pair[0].event_time_ns), []
        for observation, offset in pre_grid:  # in time order, so that the gap after a lone old one is skipped
            self._place(observation, offset)

    def make_grid(self, step_ns: int, anchor_ns: int) -> Grid:
        return Grid(step_ns, anchor_ns, self.config.windowing.lateness, self.config.windowing.revise)

    def _place(self, observation: Observation, offset: int) -> tuple[str, str] | None:
        windower, grid = self.windower, self.windower.grid
        assert grid is not None
        order = None if self.channels.fixed else self.channels.learn(observation)
        if order is not None:
            windower.rows.reorder(order)
        problem = self._unknown(observation)  # while channels are still found: those over the limit
        indices, values = self.channels.row(observation)
        if not len(indices):
            return problem
        windower.skip_gap(grid.slot_of(observation.event_time_ns))
        slot, placement = grid.place(observation.event_time_ns)
        if placement is Placement.LATE or not windower.rows.put(slot, indices, values, offset):
            return "late", f"expected at most {self.config.windowing.revise} slots behind, found {grid.closed - slot}"
        if placement is Placement.REVISION:
            windower.late_slots.add(slot)
        else:
            windower.enqueue_ready()
        return problem

    def _unknown(self, observation: Observation) -> tuple[str, str] | None:
        unknown = self.channels.unknown(observation)
        if not unknown:
            return None
        found = ", ".join(repr(name[:40]) for name in unknown[:5])
        known = f"{self.key.series!r} ({len(self.channels.names)} known)"
        return "unknown_channel", f"expected channels of {known}, found {found}"

    def provisional(self) -> ScoreTask | None:
        """`Windower.provisional`, once until the next observation."""
        if self.provisional_emitted or self.replay_until is not None:
            return None
        task = self.windower.provisional()
        self.provisional_emitted = task is not None
        return task

    # ---- restart

    def min_required_offset(self) -> int | None:
        """Offset of the oldest record that a restart must replay; None when there is none."""
        if self.windower.grid is None:
            return self.pre_grid[0][1] if self.pre_grid else None
        return self.windower.rows.min_required_offset(self.windower.need_from)

    def _replay(self, observation: Observation, offset: int) -> None:
        """Refills the buffer from a record whose outputs are durable."""
        if self.replay_grid is None:
            return
        indices, values = self.channels.row(observation)
        if len(indices):
            slot, placement = self.replay_grid.place(observation.event_time_ns)
            if placement is not Placement.LATE:
                self.windower.rows.put(slot, indices, values, offset)

    def go_live(self) -> None:
        """Ends the replay."""
        self.replay_until = self.replay_grid = None
        self.windower.warm_up()
