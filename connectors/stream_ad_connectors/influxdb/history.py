"""Raw history from an InfluxDB bucket, for `fit`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute

from stream_ad.errors import DataError
from stream_ad.records import Table
from stream_ad.settings import Settings
from stream_ad_connectors.influxdb.client import InfluxConnection

__all__ = ["InfluxHistoryReader", "flux_string"]

_COLUMNS = {"_time": pa.timestamp("ns", tz="UTC"), "_field": pa.string(), "_value": pa.string()}


def flux_string(text: str) -> str:
    """A Flux string literal of any text: quotes, backslashes and ${ } are escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r") + '"'


class InfluxHistoryReader:
    """Reads a measurement of one series (a tag's value) as a table: its fields are the channels.

    Trap: no down-sampling and no paging, so the range must fit in memory. Booleans and texts are no readings.
    """

    def __init__(self, settings: Settings, *, bucket: str | None = None) -> None:
        self._connection = InfluxConnection(settings)
        self._bucket = bucket or self._connection.bucket

    def series(self, measurement: str, series_tag: str) -> list[str]:
        """The values of the tag within the measurement."""
        tag = flux_string(series_tag)
        flux = f"""from(bucket: bucket) |> range(start: 1677-09-22T00:00:00Z, stop: 2262-04-11T00:00:00Z)
  |> filter(fn: (r) => r._measurement == measurement and exists r[{tag}])
  |> keep(columns: [{tag}]) |> group() |> distinct(column: {tag}) |> sort()"""
        params = {"bucket": self._bucket, "measurement": measurement}
        return [
            str(name) for name in self._connection.query(flux, params, {"_value": pa.string()})["_value"].to_pylist()
        ]

    def read(
        self,
        series: str,
        start_ns: int,
        stop_ns: int,
        *,
        measurement: str,
        series_tag: str,
        fields: Sequence[str] = (),
    ) -> Table:
        """Rows in time order, start <= t < stop; NaN where a field has no value. DataError when there are none."""
        flux = f"""from(bucket: bucket) |> range(start: time(v: from_ns), stop: time(v: to_ns))
  |> filter(fn: (r) => r._measurement == measurement and r[{flux_string(series_tag)}] == series)
  |> keep(columns: ["_time", "_field", "_value"])"""
        where = {"bucket": self._bucket, "measurement": measurement, "series": series}
        found = self._connection.query(flux, {**where, "from_ns": start_ns, "to_ns": stop_ns}, _COLUMNS)
        if fields:
            found = found.filter(pa.compute.is_in(found["_field"], pa.array(list(fields))))
        if not len(found):
            raise DataError(
                f"no readings of series {series!r} in measurement {measurement!r} of bucket {self._bucket!r}"
            )
        return _table(series, found)

    def close(self) -> None:
        self._connection.close()


def _table(series: str, found: pa.Table) -> Table:
    moments = np.asarray(found["_time"].cast(pa.int64()).to_numpy())
    names = np.array(found["_field"].to_pylist(), dtype=object)
    times, rows = np.unique(moments, return_inverse=True)
    channels = sorted(set(names))
    values = np.full((len(times), len(channels)), np.nan, dtype=np.float32)
    texts = found["_value"]
    for column, channel in enumerate(channels):
        mine = names == channel
        try:
            numbers = texts.filter(pa.array(mine)).cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid as error:
            raise DataError(
                f"field {channel!r} of series {series!r} contains something that is not a number",
                hint="name the fields to read",
            ) from error
        values[rows[mine], column] = numbers
    return Table(series=series, channels=tuple(channels), times_ns=times, values=values, labels=None)
