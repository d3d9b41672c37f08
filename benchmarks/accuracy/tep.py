"""Tennessee Eastman: which rows of 20 process faults are missed.

    make bench-tep DATA=DIR ARGS="[--rows universal,ridge]"

DIR/TEP: d00 without a fault, d01 ... with one from row 160 on; 500 normal rows fitted. missed: share of the rows
from 160 on that lie under the limit, mean over the faults less 3, 9 and 15, which hardly anybody finds; the limit
leaves 1% of d00's rows over it, or is the method's own (1). false: rows over the own limit, of d00 and of rows 0 to
159.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.lib.about import about, argument_parser, write_result
from benchmarks.lib.peers import PEERS

Float64 = NDArray[np.float64]

ONSET = 160
HARD = ("d03", "d09", "d15")
LIMIT_SHARE = 0.01


def load(data: Path) -> dict[str, tuple[Float64, Float64]]:
    """Series -> rows to fit and rows to score, float64 [n, 52]."""
    out = {}
    for path in sorted((data / "TEP").glob("*.test.parquet")):
        name = path.name.removesuffix(".test.parquet")
        fitted, rows = pd.read_parquet(path.with_name(f"{name}.train.parquet")), pd.read_parquet(path)
        columns = [column for column in fitted if column not in ("timestamp", "label")]
        out[name] = (fitted[columns].to_numpy(np.float64), rows[columns].to_numpy(np.float64))
    if "d00" not in out:
        raise SystemExit(f"expected {data}/TEP/d00.test.parquet and others, found {sorted(out)}")
    return out


def measure(row: str, series: dict[str, tuple[Float64, Float64]]) -> dict[str, Any]:
    scores = {name: PEERS[row](fitted, rows).score for name, (fitted, rows) in series.items()}
    limit = float(np.quantile(scores["d00"], 1 - LIMIT_SHARE))
    missed = {
        word: {name: float((score[ONSET:] <= at).mean()) for name, score in scores.items() if name != "d00"}
        for word, at in (("limit", limit), ("own", 1.0))
    }
    easy = [name for name in missed["limit"] if name not in HARD]
    return {
        "missed_limit": round(float(np.mean([missed["limit"][name] for name in easy])), 4),
        "missed_own": round(float(np.mean([missed["own"][name] for name in easy])), 4),
        "false_d00": round(float((scores["d00"] > 1).mean()), 4),
        "false_before": round(float(np.mean([(scores[name][:ONSET] > 1).mean() for name in missed["own"]])), 4),
        "by_fault": {name: round(share, 3) for name, share in missed["limit"].items()},
    }


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory of labelled series, with TEP in it")
    parser.add_argument("--rows", default=",".join(PEERS), help="comma-separated")
    arguments = parser.parse_args()
    series = load(arguments.data)
    result: dict[str, Any] = {"environment": about(), "results": {}}
    table = Table(title=f"Tennessee Eastman, {len(series) - 1} faults, rows missed")
    for column in ("row", "1% limit", "own limit", "false rows, d00", "false rows before", "3, 9, 15"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for row in arguments.rows.split(","):
        one = result["results"][row] = measure(row, series)
        hard = " ".join(f"{one['by_fault'].get(name, float('nan')):.2f}" for name in HARD)
        cells = [f"{one[name]:.3f}" for name in ("missed_limit", "missed_own", "false_d00", "false_before")]
        table.add_row(row, *cells, hard)
        print(f"{row}: {' '.join(cells)}", file=sys.stderr, flush=True)
        write_result(arguments.out, result)
    Console(file=sys.stdout, width=120).print(table)


if __name__ == "__main__":
    main()
