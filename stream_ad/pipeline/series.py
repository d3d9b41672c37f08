"""One series from readings to work: which readings wait, are placed, or are read back after a restart."""

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
from stream_ad.records import Block, Observation
from stream_ad.windowing.channels import Channels
from stream_ad.windowing.grid import Grid, Placement, infer_step_ns
from stream_ad.windowing.slot_buffer import SlotBuffer
from stream_ad.windowing.tasks import ScoreTask
from stream_ad.windowing.windower import Windower

__all__ = ["Series", "SeriesKey"]

log = logging.getLogger(__name__)

MAX_WAITING = 4096
MAX_QUEUED = 32  # pieces of work, each of at most a look-back of windows


@cache
def _warn(scorer: str, expected: str, found: str) -> None:
    """Once for all series that it is true of."""
    log.warning(
        "there are profiles of another version of scorer %r: new ones are filled as the streams go, `stream-ad fit` "
        "makes them at once; expected version %s, found %s",
        *(scorer, expected, found),
    )


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """A series of one partition; the same name in another partition is another stream."""

    topic: str
    partition: int
    series: str

    @property
    def place(self) -> tuple[str, int]:
        """Its partition."""
        return self.topic, self.partition


@dataclass(slots=True)
class Series:
    """State of one series.

    waiting: readings, each with its record's offset, until there is a grid. replay_until is set while a restart reads
    back: records before it only bring the rows back. snapshot_rows_to: see `recovery`.
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
    silent_ns: int | None = None  # held for silent since the slot of this time
    returned_ns: int | None = None  # and the first slot with a reading after it
    pre_grid: list[tuple[Observation, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channels = Channels(self.config.max_channels)
        self.windower = Windower(self.config.windowing, self.channels)

    def begin(self, profile: Profile | None) -> None:
        """Starts with the promoted profile, or by filling one as the stream goes."""
        profile = self._fitting(profile)
        self.adopt_channels(profile.channels if profile else self.config.channels)
        if profile is not None:
            self.use(profile)
        self.windower.begin(profile)

    def start_over(self, profile: Profile | None) -> None:
        """What was told so far came of another scorer: goes on with the promoted profile, or fills one from the rows
        that are read back."""
        profile = self._fitting(profile)
        if profile is not None and profile.channels != tuple(self.channels.names):
            profile = None  # the rows are of these channels
        if profile is not None:
            self.use(profile)
        self.windower.start_over(profile)

    def _fitting(self, profile: Profile | None) -> Profile | None:
        """None in place of a profile that another version of the scorer fitted: it means something else."""
        if profile is None or profile.scorer_version == self.scorer.version:
            return profile
        _warn(self.scorer.name, self.scorer.version, profile.scorer_version)
        return None

    def adopt_channels(self, channels: tuple[str, ...]) -> None:
        self.channels.adopt(channels)
        self.windower.rows = SlotBuffer(len(channels), self.windower.rows.base)

    def use(self, profile: Profile) -> None:
        """Scores with `profile` from the next window on; its session starts empty."""
        grid = self.windower.grid
        self.profile = profile
        step_ns = grid.step_ns if grid else (self.config.step_ns or profile.step_ns or 1_000_000_000)
        self.calibration = Calibration.fit(profile.fitted.held_out, step_ns / 1e9, self.config.false_alarms_per_s)
        if grid is not None:  # nothing is calibrated again, and these are a tenth of the series' memory
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
        """What the teller needs to know; there must be a grid and a profile."""
        grid = self.windower.grid
        assert grid is not None
        assert self.calibration is not None
        assert self.profile is not None
        version = f"{self.scorer.name}-{self.scorer.version}/{self.profile.version}"
        return Scoring(grid, tuple(self.channels.names), self.calibration, version, self.windower.next_emit)

    @property
    def newest_ns(self) -> int | None:
        """Event time of the newest slot that had a reading; None before the first."""
        grid = self.windower.grid
        if grid is not None and grid.max_slot >= 0:
            return grid.time_of(grid.max_slot)
        return max((observation.event_time_ns for observation, _ in self.pre_grid), default=None)

    # ---- readings in

    def observe(self, observation: Observation, offset: int) -> tuple[str, str] | None:
        """Takes one observation. A returned (reason, detail) says what of it could not be used."""
        if self.replay_until is not None:
            if offset < self.replay_until:
                self._replay(observation, offset)
                return None
            self.go_live()
        self.provisional_emitted = False
        if self.windower.grid is not None:
            return self._place(observation, offset)
        times = [o.event_time_ns for o, _ in self.pre_grid]
        full = len(times) >= MAX_WAITING
        if full and self.config.step_ns is None and observation.event_time_ns in times:
            return "no_step", f"expected readings at different times to infer the step, found {len(times)} at a few"
        self.pre_grid.append((observation, offset))
        times.append(observation.event_time_ns)
        step_ns = self.config.step_ns or infer_step_ns(times)
        if step_ns is not None and (full or Grid.ready(times, step_ns, self.config.windowing.lateness)):
            self._anchor(step_ns, min(times))
        return None

    def observe_all(
        self, block: Block, offsets: NDArray[np.int64], drain: Callable[[], None]
    ) -> list[tuple[int, str, str]]:
        """Takes the observations of a block, each of the record with that offset: the same as one by one.

        Returns row, reason and detail of what could not be used. `drain` does what is queued: called where times run
        to and fro, as each such reading may ask for a whole look-back of windows.
        """
        if self.silent_ns is None and self._put_block(block, offsets):
            return []
        problems = []
        for row, offset in enumerate(offsets.tolist()):
            problem = self.observe(block.observation(row), offset)
            if len(self.windower.queue) > MAX_QUEUED:
                drain()
            if self.silent_ns is not None and self.returned_ns is None and (self.newest_ns or 0) > self.silent_ns:
                self.returned_ns = self.newest_ns
            if problem is not None:
                problems.append((row, *problem))
        return problems

    def _put_block(self, block: Block, offsets: NDArray[np.int64]) -> bool:
        """Rising open slots of known channels go in at once: no later reading changes what an earlier one makes due."""
        windower, grid = self.windower, self.windower.grid
        indices = self.channels.indices(block.channels)
        if grid is None or self.replay_until is not None or indices is None:
            return False
        slots = grid.slots_of(block.event_time_ns)
        first, last = int(slots[0]), int(slots[-1])
        apart = slots[1:] - slots[:-1]
        if first < max(grid.closed, windower.rows.base) or (apart < 1).any():
            return False
        begins = 1 if grid.max_slot < 0 else first - grid.max_slot
        if windower.exceeds_gap(int(apart.max(initial=begins))):
            return False
        self.provisional_emitted = False
        windower.rows.put_all(slots, indices, block.values.astype(np.float32), offsets)
        grid.max_slot = max(grid.max_slot, last)
        windower.enqueue_ready()
        return True

    def _anchor(self, step_ns: int, anchor_ns: int) -> None:
        lead = self.config.phase_steps(self.key.series)
        anchor_ns -= lead * step_ns
        self.windower.grid = Grid(step_ns, anchor_ns, self.config.windowing.lateness, self.config.windowing.revise)
        if lead:
            self.windower.history_start = self.scorer.hop_steps  # a first profile wants a whole window of readings
        if self.profile is not None:
            self.use(self.profile)  # the alarm rate is per second: the step just became known
        self.emitter.step_ns = step_ns
        pre_grid, self.pre_grid = sorted(self.pre_grid, key=lambda pair: pair[0].event_time_ns), []
        for observation, offset in pre_grid:  # from the anchor on: a lone old reading is leapt away from
            self._place(observation, offset)

    def _place(self, observation: Observation, offset: int) -> tuple[str, str] | None:
        windower, grid = self.windower, self.windower.grid
        assert grid is not None
        order = None if self.channels.fixed else self.channels.learn(observation)
        if order is not None:
            windower.rows.reorder(order)
        problem = self._unknown(observation)  # also those over the limit, while channels are still found
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
        return (
            "unknown_channel",
            f"expected channels of {self.key.series!r} ({len(self.channels.names)} known), found {found}",
        )

    def provisional(self) -> ScoreTask | None:
        """`Windower.provisional`, once until more is read."""
        if self.provisional_emitted or self.replay_until is not None:
            return None
        work = self.windower.provisional()
        self.provisional_emitted = work is not None
        return work

    # ---- restart

    def min_required_offset(self) -> int | None:
        """Offset of the oldest record that a restart must read again; None when there is none."""
        if self.windower.grid is None:
            return self.pre_grid[0][1] if self.pre_grid else None
        return self.windower.rows.min_required_offset(self.windower.need_from)

    def _replay(self, observation: Observation, offset: int) -> None:
        """Puts a record's readings back where they were; its outputs are in the sinks already."""
        if self.replay_grid is None:
            return
        indices, values = self.channels.row(observation)
        if len(indices):
            slot, placement = self.replay_grid.place(observation.event_time_ns)
            if placement is not Placement.LATE:
                self.windower.rows.put(slot, indices, values, offset)

    def go_live(self) -> None:
        """Goes live after reading back."""
        self.replay_until = self.replay_grid = None
        self.windower.warm_up()
