"""Readings as the product's JSON records: `{"series": ..., "time": ..., "values": {channel: number | null}}`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ad.errors import DataError
from stream_ad.records import Table
from stream_ad.settings import TimeUnit
from stream_ad.timestamps import UNIT_NS, iso_utc

__all__ = ["TimeFormat", "encode_observation", "table_records", "table_times"]

TimeFormat = TimeUnit | Literal["iso"]
_ENCODER = msgspec.json.Encoder()


def encode_observation(
    series: str,
    time_ns: int,
    channels: Iterable[str],
    row: Sequence[float] | NDArray[np.floating],
    time_format: TimeFormat = "ms",
) -> bytes:
    """One observation as JSON; time is a number in the given unit or ISO text of nine digits ("iso").

    NaN and infinities become null. DataError when the unit cannot hold the time: rounding would move a reading into
    another slot.
    """
    readings = row.tolist() if isinstance(row, np.ndarray) else row
    values = dict(zip(channels, readings, strict=True))
    return _ENCODER.encode({"series": series, "time": _time(time_ns, time_format), "values": values})


def _time(time_ns: int, time_format: TimeFormat) -> int | str:
    if time_format == "iso":
        return iso_utc(time_ns, 9)
    number, rest = divmod(time_ns, UNIT_NS[time_format])
    if rest:
        raise DataError(f"expected a time in whole {time_format}, found {time_ns} ns", hint="use a finer time unit")
    return number


def table_times(table: Table, start_ns: int | None = None, step_ns: int | None = None) -> NDArray[np.int64]:
    """int64 [n]: the table's own times; without them start_ns + row * step_ns. DataError when neither is there."""
    if table.times_ns is not None:
        return table.times_ns
    if start_ns is None or step_ns is None:
        raise DataError(
            f"series {table.series!r} has no times", hint="add a column `timestamp`, or give its start and its step"
        )
    if step_ns <= 0:
        raise DataError(f"series {table.series!r}: expected a positive step, found {step_ns} ns")
    return start_ns + step_ns * np.arange(len(table), dtype=np.int64)


def table_records(
    table: Table,
    start_ns: int | None = None,
    step_ns: int | None = None,
    *,
    first_row: int = 0,
    time_format: TimeFormat = "ms",
) -> Iterator[tuple[int, bytes]]:
    """(event time, JSON record) of every row from `first_row` on, in the file's order, encoded when asked for."""
    times = table_times(table, start_ns, step_ns)
    for row in range(first_row, len(table)):
        time_ns = int(times[row])
        yield time_ns, encode_observation(table.series, time_ns, table.channels, table.values[row], time_format)
