"""History: scores, alerts, statuses and dead letters, read back."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol

from stream_ad.records import (
    Alert,
    DeadLetter,
    ScoreBatch,
    ScoreExtent,
    ScoreTrace,
    SeriesStatus,
    Table,
)

__all__ = ["AlertReader", "DeadLetterReader", "HistoryReader", "ScoreReader", "StatusReader"]


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


class HistoryReader(Protocol):
    """Raw readings of the past, as another program stored them."""

    def series(self, measurement: str, series_tag: str) -> list[str]: ...

    def read(self, series: str, start_ns: int, stop_ns: int, *, measurement: str, series_tag: str) -> Table:
        """Half-open: start <= t < stop."""
        ...
