"""Reading scores, alerts and statuses from InfluxDB."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stream_ad.records import Alert, AlertState, ScoreBatch, ScoreExtent, ScoreTrace, SeriesStatus
from stream_ad.serde.alerts import alert_from_json
from stream_ad_connectors._downsampling import bucket_ns, check_max_points
from stream_ad_connectors.influxdb.client import InfluxConnection, joined
from stream_ad_connectors.influxdb.line_protocol import MARK, untag

__all__ = ["InfluxReader"]

PAGE_SLOTS = 20_000
DETAIL_SLOTS = 2000
_DETAIL = ("value", "expected", "lower", "upper", "attribution")
_RANGE = "from(bucket: bucket) |> range(start: time(v: from_ns), stop: time(v: to_ns))"
_ALWAYS = "from(bucket: bucket) |> range(start: 1677-09-22T00:00:00Z, stop: 2262-04-11T00:00:00Z)"
_PIVOT = 'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
_SLOTS = f"""{_RANGE}
  |> filter(fn: (r) => r._measurement == "score" and r.series == series)
  |> filter(fn: (r) => r._field == "score" or r._field == "revision" or r._field == "model_version"
      or r._field == "alert_id")
  |> {_PIVOT} |> keep(columns: ["_time", "score", "revision", "model_version", "alert_id"])"""
_CHANNELS = f"""{_RANGE}
  |> filter(fn: (r) => r._measurement == "score" and r.series == series)
  |> filter(fn: (r) => r._field == "value" or r._field == "expected" or r._field == "lower" or r._field == "upper"
      or r._field == "attribution" or r._field == "imputed")
  |> {_PIVOT} |> keep(columns: ["_time", "channel", "value", "expected", "lower", "upper", "attribution", "imputed"])"""
# The storage engine computes `from |> range |> filter |> window |> max` itself, but only if nothing else reads the same
# table: so each yield has its own, and no variable shares one.
_FIELD = f"""{_RANGE}
  |> filter(fn: (r) => r._measurement == "score" and r.series == series and r._field == field)"""
_EXTENT = f"""{_FIELD} |> first() |> keep(columns: ["_time"]) |> yield(name: "first")
{_FIELD} |> last() |> keep(columns: ["_time"]) |> yield(name: "last")
{_FIELD} |> count() |> keep(columns: ["_value"]) |> yield(name: "count")"""
_WHOLE = f"""{_FIELD} |> keep(columns: ["_time", "_value"])"""
_BUCKETS = "window(every: duration(v: every_ns), offset: duration(v: offset_ns))"
_EXTREMES = "\n".join(
    f'{_FIELD} |> {_BUCKETS} |> {choose}() |> group() |> keep(columns: ["_time", "_value"]) |> yield(name: "{choose}")'
    for choose in ("max", "min")
)
_COUNTS = f"""{_ALWAYS}
  |> filter(fn: (r) => r._measurement == "score" and r._field == "score")
  |> count() |> keep(columns: ["series", "_value"])"""
_ALERTS = f"""{_RANGE}
  |> filter(fn: (r) => r._measurement == "alert" and r._field == "alert"%s)
  |> keep(columns: ["_time", "_value"]) |> rename(columns: {{_value: "alert"}})"""
_ALERT_BY_ID = f"""{_ALWAYS}
  |> filter(fn: (r) => r._measurement == "alert" and r._field == "id" and r._value == alert_id)
  |> keep(columns: ["_time", "series"])"""
_STATUSES = f"""{_ALWAYS}
  |> filter(fn: (r) => r._measurement == "status" and r._field == "status")
  |> last() |> keep(columns: ["series", "_value"]) |> rename(columns: {{_value: "status"}})"""


_TIME = {"_time": pa.timestamp("ns", tz="UTC")}
_SLOT_COLUMNS = {
    **_TIME,
    "score": pa.float64(),
    "revision": pa.int32(),
    "model_version": pa.string(),
    "alert_id": pa.string(),
}
_LINE_COLUMNS = {**_TIME, "_value": pa.float64()}
_EXTENT_COLUMNS = {**_TIME, "_value": pa.int64()}
_CHANNEL_COLUMNS = {**_TIME, "channel": pa.string(), **dict.fromkeys(_DETAIL, pa.float64()), "imputed": pa.bool_()}


class InfluxReader:
    """ScoreReader, AlertReader and StatusReader. Names reach a query only as bound parameters."""

    def __init__(self, connection: InfluxConnection) -> None:
        self._connection = connection

    def scores(self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True) -> list[ScoreBatch]:
        """Channels are sorted by name; without channel detail in the store, batches have no channels."""
        return list(self.score_pages(series, start_ns, stop_ns, detail=detail))

    def score_pages(
        self, series: str, start_ns: int, stop_ns: int, *, detail: bool = True
    ) -> Generator[ScoreBatch, None, None]:
        for first_ns, end_ns in self._ranges(series, start_ns, stop_ns):
            yield from self._page(series, first_ns, end_ns, detail)

    def score_extent(self, series: str, start_ns: int, stop_ns: int) -> ScoreExtent | None:
        return self._extent("revision", series, start_ns, stop_ns)  # every slot has this field

    def score_trace(self, series: str, start_ns: int, stop_ns: int, *, max_points: int) -> ScoreTrace:
        check_max_points(max_points)
        extent = self._extent("score", series, start_ns, stop_ns)
        if extent is None:
            return ScoreTrace(series, 0, np.empty(0, dtype=np.int64), np.empty(0))
        params = _params(series, extent.first_ns, extent.last_ns + 1) | {"field": "score"}
        whole = extent.slots <= max_points
        found = self._connection.query(_WHOLE, params, _LINE_COLUMNS) if whole else None
        if found is None or len(found) > max_points:  # a worker wrote more in the meantime
            every_ns = bucket_ns(extent.first_ns, extent.last_ns, max_points)
            params |= {"every_ns": every_ns, "offset_ns": extent.first_ns % every_ns}
            found = self._connection.query(_EXTREMES, params, _LINE_COLUMNS)
        times, rows = np.unique(_times_ns(found), return_index=True)
        return ScoreTrace(series, extent.slots, times, found["_value"].to_numpy()[rows])

    def _extent(self, field: str, series: str, start_ns: int, stop_ns: int) -> ScoreExtent | None:
        if start_ns >= stop_ns:
            return None
        params = _params(series, start_ns, stop_ns) | {"field": field}
        found = self._connection.query(_EXTENT, params, _EXTENT_COLUMNS)
        if not len(found):
            return None
        ends = _times_ns(found.filter(found["_time"].is_valid()))
        return ScoreExtent(sum(found["_value"].drop_null().to_pylist()), int(ends.min()), int(ends.max()))

    def _ranges(self, series: str, start_ns: int, stop_ns: int) -> Iterator[tuple[int, int]]:
        """Half-open ranges of at most PAGE_SLOTS slots, in order, so that no query of a long range times out."""
        extent = self.score_extent(series, start_ns, stop_ns)
        if extent is None:
            return
        if extent.slots <= PAGE_SLOTS:
            yield extent.first_ns, extent.last_ns + 1
            return
        middle_ns = (extent.first_ns + extent.last_ns) // 2 + 1
        yield from self._ranges(series, extent.first_ns, middle_ns)
        yield from self._ranges(series, middle_ns, extent.last_ns + 1)

    def _page(self, series: str, start_ns: int, stop_ns: int, detail: bool) -> list[ScoreBatch]:
        params = _params(series, start_ns, stop_ns)
        slots = self._connection.query(_SLOTS, params, _SLOT_COLUMNS).sort_by("_time")
        if not len(slots):
            return []
        times = _times_ns(slots)
        pages = [
            self._connection.query(_CHANNELS, {**params, "from_ns": first, "to_ns": last + 1}, _CHANNEL_COLUMNS)
            for first, last in (_pages(times) if detail else ())
        ]
        return list(_batches(series, slots, *_detail(joined(pages, _CHANNEL_COLUMNS), times)))

    def score_counts(self) -> dict[str, int]:
        found = self._connection.query(_COUNTS, {}, {"series": pa.string(), "_value": pa.int64()})
        return {untag(row["series"]): row["_value"] for row in found.to_pylist()}

    def alerts(self, series: str | None, start_ns: int, stop_ns: int) -> list[Alert]:
        if start_ns >= stop_ns:
            return []
        params: dict[str, str | int] = {"from_ns": start_ns, "to_ns": stop_ns}
        if series is not None:
            params["series"] = _tag(series)
        flux = _ALERTS % ("" if series is None else " and r.series == series")
        found = self._connection.query(flux, params, {"alert": pa.string()})
        alerts = [alert_from_json(text) for text in found["alert"].to_pylist()]
        alerts = [alert for alert in alerts if alert.state is not AlertState.WITHDRAWN]
        return sorted(alerts, key=lambda alert: (alert.start_ns, alert.series, alert.id))

    def alert(self, alert_id: str) -> Alert | None:
        columns = {**_TIME, "series": pa.string()}
        found = self._connection.query(_ALERT_BY_ID, {"alert_id": alert_id}, columns)
        for time_ns, tag in zip(_times_ns(found).tolist(), found["series"].to_pylist(), strict=True):
            for alert in self.alerts(untag(tag), time_ns, time_ns + 1):
                if alert.id == alert_id:
                    return alert
        return None

    def statuses(self) -> list[SeriesStatus]:
        found = self._connection.query(_STATUSES, {}, {"status": pa.string()})
        statuses = [msgspec.json.decode(text, type=SeriesStatus) for text in found["status"].to_pylist()]
        return sorted(statuses, key=lambda status: status.series)


def _params(series: str, start_ns: int, stop_ns: int) -> dict[str, str | int]:
    return {"series": _tag(series), "from_ns": start_ns, "to_ns": stop_ns}


def _tag(name: str) -> str:
    return name + MARK if not name or name[-1] in ("\\", MARK) else name


def _pages(times: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """First and last time of each part whose channels one query reads."""
    for start in range(0, len(times), DETAIL_SLOTS):
        yield int(times[start]), int(times[min(start + DETAIL_SLOTS, len(times)) - 1])


def _times_ns(table: Any) -> NDArray[np.int64]:
    return np.asarray(table["_time"].cast(pa.int64()).to_numpy())


def _detail(
    table: Any, times: NDArray[np.int64]
) -> tuple[list[str], dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """Channel names, float32 [slot, channel] per field, and bool [slot, channel]: True = the slot has the channel."""
    encoded = table["channel"].combine_chunks().dictionary_encode()
    order = np.argsort(np.array(encoded.dictionary.to_pylist(), dtype=object))
    names = [untag(encoded.dictionary[int(k)].as_py()) for k in order]
    moments = _times_ns(table)
    rows = np.searchsorted(times, moments)
    known = times[np.minimum(rows, len(times) - 1)] == moments  # False: no slot point, because of a partial write
    rows, columns = rows[known], np.argsort(order)[encoded.indices.to_numpy()][known]
    present = np.zeros((len(times), len(names)), dtype=bool)
    present[rows, columns] = True
    arrays = {}
    for name in _DETAIL:
        arrays[name] = np.full((len(times), len(names)), np.nan, dtype=np.float32)
        arrays[name][rows, columns] = table[name].to_numpy()[known].astype(np.float32)
    imputed = table["imputed"].to_numpy()[known].astype(bool)
    arrays["value"][rows[imputed], columns[imputed]] = np.nan
    return names, arrays, present


def _batches(
    series: str,
    slots: Any,
    channels: list[str],
    arrays: dict[str, NDArray[np.float32]],
    present: NDArray[np.bool_],
) -> Iterator[ScoreBatch]:
    """A batch for each run of slots with the same channels and model version."""
    versions = np.array(slots["model_version"].to_pylist(), dtype=object)
    changes = (present[1:] != present[:-1]).any(axis=1) | (versions[1:] != versions[:-1])
    cuts = [0, *(np.flatnonzero(changes) + 1).tolist(), len(slots)]
    times, scores, revisions = _times_ns(slots), slots["score"].to_numpy(), slots["revision"].to_numpy()
    alerts = slots["alert_id"].to_pylist()
    for first, last in pairwise(cuts):
        columns = np.flatnonzero(present[first])
        part = {name: array[first:last, columns] for name, array in arrays.items()}
        yield ScoreBatch(
            series=series,
            channels=tuple(channels[c] for c in columns),
            event_time_ns=times[first:last],
            score=scores[first:last],
            revision=revisions[first:last],
            alert_id=tuple(alerts[first:last]),
            model_version=str(versions[first]),
            **part,
        )
