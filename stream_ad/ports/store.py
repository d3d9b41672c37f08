"""Contracts of readers: scores, alerts, statuses, dead letters and the history of other programs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol

from stream_ad.records import Alert, DeadLetter, ScoreBatch, ScoreExtent, ScoreTrace, SeriesStatus, Table

__all__ = ["AlertReader", "DeadLetterReader", "HistoryReader", "ScoreReader", "StatusReader"]


class ScoreReader(Protocol):
    """Reads stored scores. Time ranges are half-open: start <= t < stop."""

    def scores(self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True) -> list[ScoreBatch]:
        """Batches in time order; empty when no slot is stored. Batches of one series may differ in channels; without
        detail they have no channels, which is much faster."""
        ...

    def score_pages(
        self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True
    ) -> Generator[ScoreBatch, None, None]:
        """`scores`, read page by page on demand, so that a long range never is in memory as a whole.

        Each page is a consistent view of the store. Trap: exhaust or close the generator, or it keeps its resources.
        """
        ...

    def score_extent(self, series: str, start_ns: int, stop_ns: int) -> ScoreExtent | None:
        """Number, first and last time of the scored slots, much cheaper than reading them; None = no slot."""
        ...

    def score_trace(self, series: str, start_ns: int, stop_ns: int, *, max_points: int) -> ScoreTrace:
        """The score alone, downsampled in the store to at most max_points (>= 2) points.

        Every point is a stored slot, in time order, each once. A range of up to max_points slots is returned whole.
        Otherwise the time from the first to the last slot is cut into max_points // 2 buckets of equal length (the
        last may be shorter), and each returns the slots of its highest and its lowest score, which may be the same;
        of equal scores any. So no peak is lost and nothing is averaged. Slots with a NaN score have no point.
        """
        ...

    def score_counts(self) -> dict[str, int]:
        """Series -> number of scored slots."""
        ...


class AlertReader(Protocol):
    """Reads stored alerts: the newest state of each id, ordered by start, without withdrawn ones."""

    def alerts(self, series: str | None, start_ns: int, stop_ns: int) -> list[Alert]: ...

    def alert(self, alert_id: str) -> Alert | None:
        """The newest state of one alert; None when it does not exist or was withdrawn."""
        ...


class StatusReader(Protocol):
    """Reads the status of each series, as the workers last wrote it."""

    def statuses(self) -> list[SeriesStatus]: ...


class DeadLetterReader(Protocol):
    """Reads the dead-letter records, for inspection and to replay them."""

    def read_dead_letters(self) -> Iterator[DeadLetter]:
        """Every dead letter that existed when reading began, once each; those of a source partition in emission order.

        They arrive one by one, because all together may exceed the memory.
        """
        ...

    def close(self) -> None: ...


class HistoryReader(Protocol):
    """Reads past measurements that another program stored."""

    def series(self, measurement: str, series_tag: str) -> list[str]: ...

    def read(self, series: str, start_ns: int, stop_ns: int, *, measurement: str, series_tag: str) -> Table:
        """Half-open: start <= t < stop."""
        ...
