"""Scores, alerts and statuses in InfluxDB 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import time_ns

from stream_ad.records import Outputs
from stream_ad.settings import Settings
from stream_ad_connectors.influxdb.client import InfluxConnection
from stream_ad_connectors.influxdb.line_protocol import alert_lines, score_lines, status_lines
from stream_ad_connectors.influxdb.reader import InfluxReader

__all__ = ["InfluxStore"]


class InfluxStore:
    """Sink over one bucket; `reader` reads it. `line_protocol` describes the points.

    A second write overwrites: series, rule or channel, and time identify a point. InfluxDB cannot compare before it
    writes, so only the order keeps an older revision from replacing a newer one: one partition has one owner, its
    outputs are written in log order, each `write` returns before the next begins, and offsets are committed after it.
    A new owner replays from the last commit and so ends at the same newest revisions; a worker that lost the partition
    gets `lost=True` and writes nothing more. Dead-letter records go to the broker only.

    Traps: each field is overwritten separately, so the value of an older revision may remain next to a newer
    `imputed=true` (the reader hides it); points older than the bucket's retention are dropped, see
    `InfluxConnection.write`.
    """

    def __init__(self, settings: Settings, *, clock_ns: Callable[[], int] = time_ns) -> None:
        self._connection = InfluxConnection(settings)
        self.reader = InfluxReader(self._connection)
        self._channel_detail = settings.influxdb.channel_detail == "all"
        self._clock_ns = clock_ns

    def write(self, outputs: Outputs) -> None:
        self._connection.write(self._lines(outputs))

    def close(self) -> None:
        """Loses nothing: no point is pending between two writes."""
        self._connection.close()

    def check(self) -> str:
        """One line on the store, or an error with a hint."""
        return self._connection.check()

    @property
    def points_too_old(self) -> int:
        """Number of points dropped because they are older than the bucket's retention."""
        return self._connection.points_too_old

    def _lines(self, outputs: Outputs) -> Iterator[str]:
        for batch in outputs.scores:
            yield from score_lines(batch, channel_detail=self._channel_detail)
        yield from alert_lines(outputs.alerts)
        yield from status_lines(outputs.statuses, self._clock_ns())
