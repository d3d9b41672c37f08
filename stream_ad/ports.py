"""The Protocols through which the pipeline meets the world; no adapter and no numerics is named here."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stream_ad.records import (
    Alert,
    DeadLetter,
    Notification,
    Outputs,
    ScoreBatch,
    ScoreExtent,
    ScoreTrace,
    SeriesStatus,
    SourceRecord,
)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

__all__ = [
    "AlertReader",
    "AssignmentListener",
    "Checkpoint",
    "Clock",
    "DeadLetterReader",
    "Fitted",
    "Notifier",
    "Profile",
    "ProfileStore",
    "ScoreReader",
    "ScoredSlots",
    "Scorer",
    "Session",
    "Sink",
    "Source",
    "Standing",
    "StandingReader",
    "StateStore",
    "StatusReader",
    "Window",
]


@dataclass(frozen=True, slots=True)
class Window:
    """The last rows of one series, ending at a closed slot.

    rows: float32 [window, channel], oldest first; NaN = no reading (also before the series' first slot).
    end_slot: number of the last row's slot; 0 is the series' first slot.
    emit_from, emit_to: the half-open range of slots to score now, all <= end_slot; an empty range only refills
        the session (start of a series, recovery).
    """

    rows: Float32
    end_slot: int
    emit_from: int
    emit_to: int


@dataclass(frozen=True, slots=True)
class ScoredSlots:
    """What a scorer says of `n` consecutive slots from `first_slot` on.

    raw: float64 [n], >= 0, higher = more anomalous, not yet calibrated.
    expected, lower, upper: float32 [n, channel], in the units of the input.
    attribution: float32 [n, channel], >= 0, each row sums to 1.
    """

    first_slot: int
    raw: Float64
    expected: Float32
    lower: Float32
    upper: Float32
    attribution: Float32


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a scorer learned of one series.

    arrays: everything `Scorer.open` needs, plain arrays (they are stored as safetensors).
    held_out: float64 [m] raw scores of consecutive normal slots, each scored without its own neighbourhood in
        the memory: what calibration reads.
    """

    arrays: Mapping[str, NDArray[np.generic]]
    held_out: Float64


@runtime_checkable
class Session(Protocol):
    """The running state of one series inside a scorer; rebuilt from rows alone, never stored."""

    @property
    def channels(self) -> int: ...


@runtime_checkable
class Scorer(Protocol):
    """Turns windows into raw scores.

    Windows of one session arrive in order, their ends `hop_steps` apart, aligned to multiples of the hop
    (end_slot + 1 is a multiple of hop_steps). A slot's score is a function of the rows in the `lookback_steps` up to
    the end of the window that emits it: a fresh session fed with that much scores as one fed from the start.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def window_steps(self) -> int: ...
    @property
    def hop_steps(self) -> int: ...
    @property
    def delay_steps(self) -> int: ...
    @property
    def lookback_steps(self) -> int: ...

    def fit(self, history: Float32) -> Fitted:
        """history: float32 [n, channel], n >= window_steps, NaN = no reading. Labels are never seen."""
        ...

    def open(self, arrays: Mapping[str, NDArray[np.generic]]) -> Session:
        """A fresh session over what `fit` returned."""
        ...

    def score(self, batch: Sequence[tuple[Session, Window]]) -> list[ScoredSlots]:
        """One result per window, in order; results do not depend on what else is in the batch (1e-4 relative)."""
        ...


@dataclass(frozen=True, slots=True)
class Profile:
    """What is a series' own: written once, never changed, named by its version.

    slots: how many slots of history it was fitted on; capacity: how many it would use at most.
    history_end_ns: event time of the last fitted slot, None when the history had no times.
    """

    series: str
    channels: tuple[str, ...]
    step_ns: int
    scorer: str
    scorer_version: str
    version: str
    slots: int
    capacity: int
    history_end_ns: int | None
    fitted: Fitted

    @property
    def origin(self) -> str:
        """ "fit" = from a history handed over, "auto" = filled as the stream went; the version begins with it."""
        return self.version.partition("-")[0]


class ProfileStore(Protocol):
    """Versioned, immutable profiles and the pointer to the promoted one of each series."""

    def save(self, profile: Profile, *, promote: bool) -> None:
        """Writes the version whole or not at all; `promote` then moves the series' pointer to it."""
        ...

    def load(self, series: str, scorer: str, version: str | None = None) -> Profile | None:
        """The named version, or the promoted one; None when there is none. ModelError when it is not ours."""
        ...

    def series(self, scorer: str) -> list[str]:
        """Series that have a promoted profile."""
        ...


class Clock(Protocol):
    """Wall-clock time, for duties that are not event time (silence, watchdog)."""

    def now_ns(self) -> int: ...
    def monotonic_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a partition stands. `next_offset` is the first record not yet answered for in the sinks; `replay_from` the
    record from which a restart must read to have its windows back (<= next_offset). `note` is what else the committer
    wants back, at most 3,800 bytes of UTF-8."""

    next_offset: int
    replay_from: int
    note: str = ""


class AssignmentListener(Protocol):
    """Told by a source, between polls, which partitions come and go."""

    async def assigned(self, topic: str, partition: int) -> int | None:
        """Called before the first record of the partition. Reading begins at the returned offset; None = where the
        source would begin by itself."""
        ...

    async def revoked(self, partitions: Sequence[tuple[str, int]], *, lost: bool) -> None:
        """`lost` = another consumer may own them already: write nothing more."""
        ...


@runtime_checkable
class Source(Protocol):
    """Records in the order of each partition."""

    async def start(self, listener: AssignmentListener) -> None: ...

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        """The next records, empty when none came within timeout_s (a live source), None when there will be no more."""
        ...

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None: ...

    async def holds(self) -> bool:
        """False = another consumer may own what was assigned here: write nothing more, the next `poll` tells. Asked
        before each write. UnavailableError = not to be known now."""
        ...

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        """What `commit` last stored; None = never, or a source that cannot be read again."""
        ...

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Where reading stands in a partition: `position` is the next record to read, `end` the one after the newest."""

    position: int
    end: int

    @property
    def lag(self) -> int:
        return max(0, self.end - self.position)


@runtime_checkable
class StandingReader(Protocol):
    """A source that knows how much there is to read; asked beside the polls, on their event loop."""

    async def standing(self) -> Mapping[tuple[str, int], Standing] | None:
        """Of the partitions that are ours; None while they are being shared out. UnavailableError = no answer."""
        ...


@runtime_checkable
class TopicReader(Protocol):
    """A source whose topics can change while it is read; asked between polls, on their event loop."""

    async def subscribe(self, topics: Sequence[str]) -> None:
        """From now on these (at least one); the listener is told what goes and what comes, within the next polls.
        UnavailableError = nothing changed, ask again."""
        ...


class SubscriptionStore(Protocol):
    """What people subscribe to while workers run: topic or pattern -> how it is read, as they wrote it."""

    def all(self) -> dict[str, bytes]: ...

    def put(self, topic: str, how: bytes | None) -> None:
        """None = no longer. Durable when it returns."""
        ...

    def topics(self) -> dict[str, int]:
        """Every topic there is, and its partitions."""
        ...

    def close(self) -> None: ...


class StateStore(Protocol):
    """The small state of each series, kept beside the log it belongs to."""

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        """Series -> newest state saved for it."""
        ...

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        """Durable when it returns."""
        ...

    async def stop(self) -> None:
        """Gives back what it holds; the last call."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Takes what the pipeline puts out; writing the same thing twice leaves one copy.

    `write` returns when everything is durable. UnavailableError = nothing is lost, call again with the same outputs;
    any other error is final. Called from one thread at a time.
    """

    def write(self, outputs: Outputs) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class Notifier(Protocol):
    """One receiver of messages for people.

    `send` returns when the receiver has taken the message. UnavailableError = it may have or not, send it again later.
    Called from one thread at a time; it comes back within a minute.
    """

    @property
    def service(self) -> str:
        """What kind of receiver it is, without its address."""
        ...

    def send(self, notification: Notification) -> None: ...


class ScoreReader(Protocol):
    """Score history. Times are half-open: start <= t < stop."""

    def scores(self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True) -> list[ScoreBatch]:
        """In time order; empty when there is nothing. Batches of one series may differ in channels; without detail
        they have none (and come much sooner)."""
        ...

    def score_pages(
        self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True
    ) -> Generator[ScoreBatch, None, None]:
        """What `scores` tells, read page by page as it is taken, so that a long range never lies in memory whole.

        Each page is one moment's view of the store. Close the iterator, or take it to its end.
        """
        ...

    def score_extent(self, series: str, start_ns: int, stop_ns: int) -> ScoreExtent | None:
        """How many slots there are and when the first and the last is; None when there is none. Much cheaper than
        reading them."""
        ...

    def score_trace(self, series: str, start_ns: int, stop_ns: int, *, max_points: int) -> ScoreTrace:
        """The score alone, for a line of at most max_points (>= 2) points; thinned out where the store lies.

        Every point is a stored slot, in time order, each once. Up to max_points slots come whole. Of more, the time
        from the first to the last slot is cut into max_points // 2 buckets of the same length (the last may be
        shorter), and each gives the slots of its highest and its lowest score (which may be one; of equals any). So no
        peak is lost and nothing is averaged. Slots whose score is not a number have no point.
        """
        ...

    def score_counts(self) -> dict[str, int]:
        """Series -> number of scored slots."""
        ...


class AlertReader(Protocol):
    """Alert history, the newest state of each id, ordered by start; withdrawn ones are left out."""

    def alerts(self, series: str | None, start_ns: int, stop_ns: int) -> list[Alert]: ...

    def alert(self, alert_id: str) -> Alert | None:
        """The newest state of one alert; None when there is no such, or it was withdrawn."""
        ...


class StatusReader(Protocol):
    """Where workers say how far each series is."""

    def statuses(self) -> list[SeriesStatus]: ...


class DeadLetterReader(Protocol):
    """What could not be used, kept to be looked at and sent again."""

    def read_dead_letters(self) -> Iterator[DeadLetter]:
        """All there were when reading began, each once, those of a source partition in the order they were told.

        They come one by one: together they may be more than memory holds.
        """
        ...

    def close(self) -> None: ...
