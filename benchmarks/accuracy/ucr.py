"""UCR anomaly archive: is the highest score of the test part within 100 rows of the one anomaly?

    make bench-ucr DATA=DIR ARGS="[--rows universal,left-discord]"

DIR/UCR: one channel each; the name ends in <train rows>_<begin>_<end>, counted in the whole series; the test part
starts at <train rows>.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.lib.about import about, argument_parser, write_result
from benchmarks.lib.episodes import Scored
from benchmarks.lib.peers import PEERS

Float64 = NDArray[np.float64]

NEAR = 100
_NAME = re.compile(r"(?P<name>.*)_(?P<train>\d+)_(?P<begin>\d+)_(?P<end>\d+)$")


@dataclass(frozen=True, slots=True)
class Case:
    """begin, end: rows of the test part."""

    name: str
    fitted: Float64
    rows: Float64
    begin: int
    end: int


def load(data: Path) -> list[Case]:
    out = []
    for path in sorted((data / "UCR").glob("*.test.parquet")):
        stem = path.name.removesuffix(".test.parquet")
        match = _NAME.match(stem)
        if match is None:
            raise SystemExit(f"{path}: expected a name that ends in <train rows>_<begin>_<end>")
        fitted, rows = (
            pd.read_parquet(path.with_name(f"{stem}.{part}.parquet")).drop(columns="label", errors="ignore")
            for part in ("train", "test")
        )
        train = int(match["train"])
        begin, end = int(match["begin"]) - train, int(match["end"]) - train
        out.append(Case(stem, fitted.to_numpy(np.float64)[:, -1:], rows.to_numpy(np.float64)[:, -1:], begin, end))
    if not out:
        raise SystemExit(f"expected {data}/UCR/*.test.parquet, found none")
    return out


def left_discord(fitted: Float64, rows: Float64) -> Scored:
    """Distance of each z-normalised window to its nearest one before it (Yeh et al. 2016; stumpy), at the length of the
    series' own period by autocorrelation."""
    import stumpy

    whole = np.concatenate([fitted, rows])[:, 0]
    window = period(fitted[:, 0])
    profile = stumpy.stump(whole, m=window)
    left = profile[:, 2].astype(np.int64)
    score = np.zeros(len(whole))
    for start in range(len(left)):
        if left[start] >= 0:
            one, other = (whole[at : at + window] for at in (start, left[start]))
            score[start + window // 2] = float(np.linalg.norm(_z(one) - _z(other)))
    score = score[len(fitted) :]
    return Scored(score, score[:, None])


def _z(window: Float64) -> Float64:
    return np.asarray((window - window.mean()) / max(float(window.std()), 1e-8))


def period(values: Float64, shortest: int = 16, longest: int = 400) -> int:
    """The lag of the highest peak of the autocorrelation, or `longest` // 4 without one."""
    centred = values - values.mean()
    spectrum = np.fft.rfft(centred, 2 * len(centred))
    power = np.fft.irfft(spectrum * np.conj(spectrum))[: longest + 1]
    peaks = [
        lag
        for lag in range(shortest, min(longest, len(values) // 3))
        if power[lag] > power[lag - 1] and power[lag] >= power[lag + 1]
    ]
    return max(peaks, key=lambda lag: float(power[lag])) if peaks else longest // 4


ROWS: Mapping[str, Callable[[Float64, Float64], Scored]] = {**PEERS, "left-discord": left_discord}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory of labelled series, with UCR in it")
    parser.add_argument("--rows", default=",".join(ROWS), help="comma-separated")
    arguments = parser.parse_args()
    cases = load(arguments.data)
    result: dict[str, Any] = {"environment": about(), "results": {}}
    table = Table("row", "hits", "of", title="UCR archive")
    for row in arguments.rows.split(","):
        hits = {}
        for case in cases:
            at = int(np.argmax(ROWS[row](case.fitted, case.rows).score))
            hits[case.name] = case.begin - NEAR <= at <= case.end + NEAR
        result["results"][row] = {"hits": sum(hits.values()), "of": len(hits), "series": hits}
        table.add_row(row, str(sum(hits.values())), str(len(hits)))
        print(f"{row}: {sum(hits.values())} of {len(hits)}", file=sys.stderr, flush=True)
        write_result(arguments.out, result)
    Console(file=sys.stdout, width=100).print(table)


if __name__ == "__main__":
    main()
