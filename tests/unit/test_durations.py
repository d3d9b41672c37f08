"""Durations and rates: what is read as what, against pandas where it knows the words too."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.durations import duration_ns, rate_per_s

PANDAS = {
    "ns": "ns",
    "us": "us",
    "ms": "ms",
    "s": "s",
    "min": "min",
    "m": "min",
    "h": "h",
    "d": "D",
    "D": "D",
    "w": "W",
}
NUMBER = st.one_of(st.integers(0, 10_000).map(str), st.decimals(0, 1000, places=2).map(str))


@given(st.lists(st.tuples(NUMBER, st.sampled_from(sorted(PANDAS)), st.sampled_from(["", " "])), min_size=1, max_size=3))
def test_as_pandas_reads_them(parts: list[tuple[str, str, str]]) -> None:
    text = "".join(f"{number}{space}{unit}{space}" for number, unit, space in parts)
    expected = sum(pd.Timedelta(f"{number}{PANDAS[unit]}").value for number, unit, _ in parts)
    if not 1 <= expected < 2**63:
        with pytest.raises(ValueError, match="positive"):
            duration_ns(text)
        return
    assert abs(duration_ns(text) - expected) <= len(parts) + 1e-15 * expected  # pandas rounds each part


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1h30min", 5400 * 10**9), ("2 days", 172_800 * 10**9), ("1 Week", 604_800 * 10**9), ("10µs", 10_000)],
)
def test_words(text: str, ns: int) -> None:
    assert duration_ns(text) == ns


@pytest.mark.parametrize(
    "text", ["", " ", "5", "soon", "-1s", "1x", "1s2", "0s", "1e3s", "inf s", "0.1ns", "1 s;", "99999999999w", "h"]
)
def test_invalid_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a .*duration"):
        duration_ns(text)


def test_rates() -> None:
    assert rate_per_s("1 per week") == pytest.approx(1 / 604_800)
    assert rate_per_s("2 per 12h") == pytest.approx(2 / 43_200)
    for text in ("1", "1 per", "0 per day", "x per day", "1 per moon"):
        with pytest.raises(ValueError, match="expected"):
            rate_per_s(text)
