"""Parquet and CSV files as tables: one column per channel, times and labels separate."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stream_ad.errors import DataError
from stream_ad.records import Table
from stream_ad.settings import TimeUnit
from stream_ad.timestamps import UNIT_NS

__all__ = ["read_table", "series_of"]

TIME_COLUMNS = ("timestamp", "time")
LABEL_COLUMN = "label"
_INT64 = np.iinfo(np.int64)


def series_of(path: Path) -> str:
    """`machine-1-3.test.parquet` -> `machine-1-3`; other dots are part of the name."""
    name = path.name
    for suffix in (".gz", ".csv", ".parquet", ".test", ".train"):
        name = name.removesuffix(suffix) or name
    return name


def read_table(path: Path | str, *, series: str | None = None, time_unit: TimeUnit = "ms") -> Table:
    """The table of a .parquet, .csv or .csv.gz file; `series` replaces the name from the file.

    Times: column `timestamp`, else `time`: a number in `time_unit`, ISO text (without a zone: UTC) or a parquet
    timestamp. DataError names the file, the column and, for a bad value, its row.
    Trap: if both columns exist, `time` is a channel.
    """
    path = Path(path)
    columns = _read_columns(path)
    time_column = next((name for name in TIME_COLUMNS if name in columns), None)
    times_ns = None if time_column is None else _times_ns(columns.pop(time_column), path, time_column, time_unit)
    labels = _labels(columns.pop(LABEL_COLUMN), path) if LABEL_COLUMN in columns else None
    if not columns:
        raise DataError(f"{path}: expected a column per channel, found none")
    return Table(series or series_of(path), tuple(columns), times_ns, _values(columns, path), labels)


def _read_columns(path: Path) -> dict[str, pa.ChunkedArray]:
    name = path.name.removesuffix(".gz")
    if not name.endswith((".csv", ".parquet")) or path.name.endswith(".parquet.gz"):
        raise DataError(f"{path}: expected a .parquet, .csv or .csv.gz file")
    try:
        table = pq.ParquetFile(path).read() if name.endswith(".parquet") else _read_csv(path)
    except (pa.ArrowException, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    _check_names(table.column_names, path)
    return dict(zip(table.column_names, table.columns, strict=True))


def _check_names(names: Iterable[str], path: Path) -> None:
    names = list(names)
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('') + 1} has no name", hint="name it or leave it out (pandas: index=False)"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: columns are named twice: {repeated}")


def _read_csv(path: Path) -> pa.Table:
    """Every column but the time as float64: a type inferred from the first block would fail in a later one."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    _check_names(header, path)
    types = {name: pa.string() if name in TIME_COLUMNS else pa.float64() for name in header}
    try:
        return _parse_csv(path, types)
    except pa.ArrowInvalid:
        text = _parse_csv(path, dict.fromkeys(header, pa.string()))
    wrong = [name for name in header if name not in TIME_COLUMNS and not _casts(text.column(name), pa.float64())]
    if not wrong:  # a second time column is text as well
        raise DataError(f"{path}: cannot be read as CSV of numbers")
    raise DataError(f"{path}: columns that are not numeric: {wrong}")


def _parse_csv(path: Path, types: dict[str, pa.DataType]) -> pa.Table:
    return pc.read_csv(path, convert_options=pc.ConvertOptions(column_types=types, strings_can_be_null=True))


def _casts(column: pa.ChunkedArray, to: pa.DataType) -> bool:
    try:
        column.cast(to)
    except pa.ArrowInvalid:
        return False
    return True


def _values(columns: dict[str, pa.ChunkedArray], path: Path) -> NDArray[np.float32]:
    """float32 [n, channel]; null = NaN."""
    wrong = [name for name, column in columns.items() if not _is_numeric(column.type)]
    if wrong:
        raise DataError(f"{path}: columns that are not numeric: {wrong}")
    values = np.empty((len(next(iter(columns.values()))), len(columns)), dtype=np.float32)
    for index, column in enumerate(columns.values()):
        exact = column if pa.types.is_floating(column.type) else column.cast(pa.float64(), safe=False)
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the decoder masks
            values[:, index] = exact.to_numpy()
    return values


def _is_numeric(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in tests)


def _labels(column: pa.ChunkedArray, path: Path) -> NDArray[np.int8]:
    """int8 [n]; integers other than 0 are kept, so that they can distinguish kinds of anomalies."""
    values = column.cast(pa.float64()).to_numpy() if _is_numeric(column.type) else np.array([np.nan])
    wrong = ~np.isin(values, np.arange(-128, 128))
    if wrong.any():
        raise DataError(f"{path}: column {LABEL_COLUMN}, row {int(wrong.argmax())}: expected 0 or 1")
    return values.astype(np.int8)


def _times_ns(column: pa.ChunkedArray, path: Path, name: str, time_unit: TimeUnit) -> NDArray[np.int64]:
    """int64 [n], UTC."""
    if column.null_count:
        row = int(np.asarray(column.is_null()).argmax())
        raise DataError(f"{path}: column {name}, row {row}: expected a time, found nothing")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        number = next((kind for kind in (pa.int64(), pa.float64()) if _casts(column, kind)), None)
        if number is None:
            return _iso_times_ns(column, path, name)
        column = column.cast(number)
    try:
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            return np.asarray(column.cast(pa.timestamp("ns")).cast(pa.int64()), dtype=np.int64)
        if not _is_numeric(column.type):
            raise DataError(f"{path}: column {name}: expected a number, ISO text or a timestamp, found {column.type}")
        return _scaled(column.to_numpy(), UNIT_NS[time_unit])
    except (pa.ArrowInvalid, OverflowError) as error:
        raise DataError(f"{path}: column {name}: a time is out of range in unit {time_unit}: {error}") from error


def _scaled(times: NDArray[np.generic], unit_ns: int) -> NDArray[np.int64]:
    """Numbers in `unit_ns` as nanoseconds; whole part and fraction separately, as float64 cannot hold today in ns."""
    if not np.issubdtype(times.dtype, np.floating):
        if times.size and max(abs(int(times.max())), abs(int(times.min()))) * unit_ns > _INT64.max:
            raise OverflowError(f"{times.max()}")
        return times.astype(np.int64) * unit_ns
    exact = times.astype(np.float64)
    if not (np.abs(exact) * unit_ns < float(_INT64.max)).all():
        raise OverflowError("a number too large, infinite or NaN")
    whole = np.floor(exact)
    return whole.astype(np.int64) * unit_ns + np.rint((exact - whole) * unit_ns).astype(np.int64)


def _iso_times_ns(column: pa.ChunkedArray, path: Path, name: str) -> NDArray[np.int64]:
    times = pd.to_datetime(pd.Series(column.to_pylist(), dtype="str"), utc=True, format="ISO8601", errors="coerce")
    wrong = times.isna().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{path}: column {name}, row {row}: expected an ISO-8601 time, found {column[row].as_py()!r}")
    return np.asarray(times.dt.as_unit("ns").astype("int64"), dtype=np.int64)
