"""The store of scores, alerts and statuses in InfluxDB 2."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from time import time_ns

from stream_ad.records import Alert, Outputs, ScoreBatch, ScoreExtent, ScoreTrace, SeriesStatus
from stream_ad.settings import Settings
from stream_ad_connectors.influxdb.client import InfluxConnection
from stream_ad_connectors.influxdb.line_protocol import alert_lines, score_lines, status_lines
from stream_ad_connectors.influxdb.reader import InfluxReader

__all__ = ["InfluxStore"]


class InfluxStore:
    """Sink, ScoreReader, AlertReader and StatusReader over one bucket; the points are told in `influx_lines`.

    Writing again overwrites: series, rule or channel, and time name a point. InfluxDB cannot compare before it writes,
    so that a newer revision is never left overwritten by an older one rests on order: one partition has one owner, its
    outputs are written in the order of the log, each `write` returns before the next begins, and offsets are committed
    after it. A worker that takes over re-reads from the last commit and so ends at the same newest revisions; one that
    lost the partition is told `lost=True` and writes nothing more. Dead letters are the broker's, not written here.

    Traps: a field is overwritten alone, so a reading of an older revision would stand beside a newer `imputed=true`
    (the reader hides it); points older than the bucket's retention are passed over, see `InfluxConnection.write`.
    """

    def __init__(self, settings: Settings, *, clock_ns: Callable[[], int] = time_ns) -> None:
        self._connection = InfluxConnection(settings)
        self._reader = InfluxReader(self._connection)
        self._channel_detail = settings.influxdb.channel_detail == "all"
        self._clock_ns = clock_ns

    def write(self, outputs: Outputs) -> None:
        self._connection.write(self._lines(outputs))

    def close(self) -> None:
        """Nothing is pending between two writes."""
        self._connection.close()

    def check(self) -> str:
        """One line on the store, or an error that says what to mend."""
        return self._connection.check()

    @property
    def points_too_old(self) -> int:
        """Points passed over because the bucket does not keep their time."""
        return self._connection.points_too_old

    def scores(self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True) -> list[ScoreBatch]:
        return self._reader.scores(series, start_ns, stop_ns, detail=detail)

    def score_pages(
        self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True
    ) -> Generator[ScoreBatch, None, None]:
        return self._reader.score_pages(series, start_ns, stop_ns, detail=detail)

    def score_extent(self, series: str, start_ns: int, stop_ns: int) -> ScoreExtent | None:
        return self._reader.score_extent(series, start_ns, stop_ns)

    def score_trace(self, series: str, start_ns: int, stop_ns: int, *, max_points: int) -> ScoreTrace:
        return self._reader.score_trace(series, start_ns, stop_ns, max_points=max_points)

    def score_counts(self) -> dict[str, int]:
        return self._reader.score_counts()

    def alerts(self, series: str | None, start_ns: int, stop_ns: int) -> list[Alert]:
        return self._reader.alerts(series, start_ns, stop_ns)

    def alert(self, alert_id: str) -> Alert | None:
        return self._reader.alert(alert_id)

    def statuses(self) -> list[SeriesStatus]:
        return self._reader.statuses()

    def _lines(self, outputs: Outputs) -> Iterator[str]:
        for batch in outputs.scores:
            yield from score_lines(batch, channel_detail=self._channel_detail)
        yield from alert_lines(outputs.alerts)
        yield from status_lines(outputs.statuses, self._clock_ns())
