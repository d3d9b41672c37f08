"""Parquet and CSV as users have them: odd names, odd times, holes, text where numbers belong."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_ad_connectors.files.source import FileSource
from stream_ad_connectors.files.tables import read_table, series_of

from stream_ad.errors import DataError
from stream_ad.records import Table
from stream_ad.serde.encoder import encode_observation, table_records, table_times

START_NS = 1_735_689_600_000_000_000


def csv(tmp_path: Path, text: str, name: str = "pump.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("machine-1-3.test.parquet", "machine-1-3"),
        ("machine-1-3.train.csv", "machine-1-3"),
        ("a.b c.csv.gz", "a.b c"),
        ("plain.parquet", "plain"),
        ("test.csv", "test"),
        (".test.csv", ".test"),
    ],
)
def test_the_series_is_the_name(name: str, series: str) -> None:
    assert series_of(Path("dir.test") / name) == series


def test_parquet_as_in_the_layout(tmp_path: Path) -> None:
    values = np.array([[0.1, np.nan], [2.0, 3.0]], dtype=np.float32)
    frame = pd.DataFrame(values, columns=["a", "größe, m"])
    frame.insert(0, "timestamp", [1_735_689_600_000, 1_735_689_600_250])
    frame["label"] = np.array([0, 1], dtype=np.int8)
    frame.to_parquet(tmp_path / "m.test.parquet")
    table = read_table(tmp_path / "m.test.parquet")
    assert (table.series, table.channels, len(table)) == ("m", ("a", "größe, m"), 2)
    np.testing.assert_array_equal(table.values, values)
    assert table.values.dtype == np.float32
    assert table.times_ns is not None
    assert table.times_ns.tolist() == [START_NS, START_NS + 250_000_000]
    assert table.labels is not None
    assert table.labels.tolist() == [0, 1]
    assert table.labels.dtype == np.int8


def test_parquet_of_other_kinds(tmp_path: Path) -> None:
    """Timestamps with a zone, integers, booleans, nulls, an all-null column, and no rows at all."""
    frame = pd.DataFrame(
        {
            "time": pd.to_datetime([START_NS + 1, START_NS + 10**9], utc=True).tz_convert("Europe/Berlin"),
            "whole": pd.array([1, None], dtype="Int64"),
            "flag": [True, False],
            "nothing": [None, None],
        }
    )
    frame.to_parquet(tmp_path / "odd.parquet")
    table = read_table(tmp_path / "odd.parquet", series="mine")
    assert table.series == "mine"
    assert table.times_ns is not None
    assert table.times_ns.tolist() == [START_NS + 1, START_NS + 10**9]
    np.testing.assert_array_equal(table.values, [[1, 1, np.nan], [np.nan, 0, np.nan]])
    assert table.labels is None
    frame.iloc[:0].to_parquet(tmp_path / "none.parquet")
    assert read_table(tmp_path / "none.parquet").values.shape == (0, 3)


@pytest.mark.parametrize(
    ("column", "unit", "expected"),
    [
        (["1735689600000", "1735689600250"], "ms", [0, 250_000_000]),
        (["1735689600", "1735689601"], "s", [0, 10**9]),
        (["1735689600.25", "1735689601"], "s", [250_000_000, 10**9]),
        (["1735689600000000001", "1735689600000000002"], "ns", [1, 2]),
        (["2025-01-01T00:00:00.123456789Z", "2025-01-01 02:00:00+01:00"], "ms", [123_456_789, 3600 * 10**9]),
        (["2025-01-01", "2025-01-01T00:00:01"], "s", [0, 10**9]),
    ],
)
def test_times_of_csv(tmp_path: Path, column: list[str], unit: str, expected: list[int]) -> None:
    path = csv(tmp_path, "timestamp,a\n" + "".join(f"{time},1\n" for time in column))
    table = read_table(path, time_unit=unit)  # type: ignore[arg-type]
    assert table.times_ns is not None
    assert (table.times_ns - START_NS).tolist() == expected


def test_csv_with_holes_a_bom_and_compression(tmp_path: Path) -> None:
    text = '\ufeff"a, b",label,c\n1.5,0,\nNaN,1,-2e3\n'
    path = tmp_path / "x.train.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    table = read_table(path)
    assert (table.series, table.channels, table.times_ns) == ("x", ("a, b", "c"), None)
    np.testing.assert_array_equal(table.values, np.array([[1.5, np.nan], [np.nan, -2000.0]], dtype=np.float32))
    assert table.labels is not None
    assert table.labels.tolist() == [0, 1]


def test_a_column_that_turns_to_fractions_late(tmp_path: Path) -> None:
    """Further down than any reader looks to guess a type."""
    path = csv(tmp_path, "a,b\n" + "1,2\n" * 400_000 + "1.5,\n")
    table = read_table(path)
    np.testing.assert_array_equal(table.values[-1], [1.5, np.nan])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,state,b,mode\n1,on,2,x\n", r"not numeric: \['state', 'mode'\]"),
        ("a,a\n1,2\n", r"named twice: \['a'\]"),
        (",a\n0,2\n", "column 1 has no name"),
        ("timestamp,a\n1,2\n,3\n", "timestamp, row 1: expected a time"),
        ("timestamp,a\n2025-01-01,2\nyesterday,3\n", "row 1: expected an ISO-8601 time, found 'yesterday'"),
        ("timestamp,a\n1e30,2\n", "out of range"),
        ("timestamp,a\n9223372036854775807,2\n", "out of range"),
        ("timestamp,label\n1,0\n", "column per channel"),
        ("label,a\n0,1\n0.5,1\n", "column label, row 1"),
        ("a,b\n1,2\n1,2,3\n", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(DataError, match=found):
        read_table(csv(tmp_path, text))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_table(tmp_path / "missing.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(csv(tmp_path, "a,b\n", "text.parquet"))
    with pytest.raises(DataError, match=r"expected a \.parquet"):
        read_table(csv(tmp_path, "a\n1\n", "data.json"))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"a,b\n\xff\xfe\x00,1\n")
    with pytest.raises(DataError):
        read_table(binary)
    pd.DataFrame({"a": [1.0], "text": ["x"], "when": pd.to_datetime(["2025-01-01"])}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"not numeric: \['text', 'when'\]"):
        read_table(tmp_path / "t.parquet")


def test_an_observation_in_every_time_format() -> None:
    def time_of(time_ns: int, time_format: str) -> object:
        record = encode_observation("s", time_ns, ("a",), [1.0], time_format)  # type: ignore[arg-type]
        return msgspec.json.decode(record)["time"]

    assert time_of(START_NS, "s") == 1_735_689_600
    assert time_of(START_NS + 250_000_000, "ms") == 1_735_689_600_250
    assert time_of(START_NS + 7, "ns") == START_NS + 7
    assert time_of(START_NS + 7, "iso") == "2025-01-01T00:00:00.000000007Z"
    assert time_of(-1, "iso") == "1969-12-31T23:59:59.999999999Z"
    with pytest.raises(DataError, match="whole ms"):
        time_of(START_NS + 7, "ms")


@given(st.lists(st.floats(width=32, allow_infinity=False), min_size=1, max_size=5))
def test_values_pass_bit_for_bit(values: list[float]) -> None:
    row = np.array(values, dtype=np.float32)
    channels = [f"c {i}," for i in range(len(row))]
    decoded = msgspec.json.decode(encode_observation('s"\n', 0, channels, row))
    found = [np.nan if value is None else value for value in decoded["values"].values()]
    assert list(decoded["values"]) == channels
    np.testing.assert_array_equal(np.array(found, dtype=np.float32), row)


def test_a_table_without_times_needs_a_start_and_a_step() -> None:
    table = Table("s", ("a",), None, np.zeros((3, 1), dtype=np.float32), None)
    assert table_times(table, 5, 10).tolist() == [5, 15, 25]
    assert [time for time, _ in table_records(table, 0, 10**9, first_row=1)] == [10**9, 2 * 10**9]
    for start_ns, step_ns in ((None, 1), (0, None), (0, 0)):
        with pytest.raises(DataError):
            FileSource([table], start_ns=start_ns, step_ns=step_ns)
    with pytest.raises(DataError, match="two of"):
        FileSource([table, table], start_ns=0, step_ns=1)
