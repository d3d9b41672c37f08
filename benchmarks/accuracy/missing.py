"""Accuracy with readings missing from what is scored: at random, in blocks, whole channels.

    make bench-missing DATA=DIR ARGS="[--seed S] [--jobs N] [--rows universal,memory]"

Series: at most 4 of each data set, evenly spaced among those with an anomaly among the first 4,000 scored rows; these
alone are scored, the last 8,000 rows before them fitted. Nothing is missing from the fitted part; 10, 30 and 50% are
hidden from the scored one: each reading by chance, blocks of 20 to 100 rows of a channel, or that share of the
channels for good (series of several channels only; at least one goes and one stays). `universal` takes the gaps as
they are; every other row, and the default itself as `universal-filled`, sees the last reading before, which for a
channel that is gone is the fitted part's last. VUS-PR over the scored rows, mean of three draws (one hidden spike
is a whole series); loss = 1 - mean / mean with nothing missing, over the same series.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.harness import ROWS, Result, build, filled, run
from benchmarks.accuracy.trials import (
    FittedOnce,
    Trial,
    few_of_each,
    opened,
    readings,
    score_frames,
    split_of,
    with_readings,
)
from stream_ad.offline.accuracy import vus_pr

Float32 = NDArray[np.float32]

METRICS = 2
DRAWS = 3
MOST_SERIES, MOST_ROWS = 4, 4000
SHARES = (0.1, 0.3, 0.5)
KINDS = ("random", "blocks", "channels")
BLOCK_ROWS = (20, 100)
OWN = "universal"
FILLED = f"{OWN}-filled"
DEFAULT = (OWN, FILLED, "memory", "control", "ar", "pca")

ROWS[FILLED] = partial(build, OWN)


def hidden(shape: tuple[int, int], kind: str, share: float, rng: np.random.Generator) -> NDArray[np.bool_] | None:
    """bool [row, channel], True = hidden; None where the kind has no meaning: channels of a series of one."""
    rows, channels = shape
    if kind == "nothing":
        return np.zeros(shape, np.bool_)
    if kind == "random":
        return np.asarray(rng.random(shape) < share)
    out = np.zeros(shape, np.bool_)
    if kind == "channels":
        if channels < 2:
            return None
        gone = min(max(round(share * channels), 1), channels - 1)
        out[:, rng.choice(channels, gone, replace=False)] = True
        return out
    while out.mean() < share:
        length = int(rng.integers(BLOCK_ROWS[0], BLOCK_ROWS[1] + 1))
        start, channel = int(rng.integers(1 - length, rows)), int(rng.integers(channels))
        out[max(start, 0) : start + length, channel] = True
    return out


def carried_on(values: Float32, last: Float32) -> Float32:
    """Each gap holds the reading before it; `last` float32 [channel] comes before the first row."""
    frame = pd.DataFrame(np.concatenate([last[None], values]))
    return frame.ffill().to_numpy(np.float32)[1:]


def measure(trial: Trial, data: Path) -> Result:
    task = trial.task
    split = split_of(task, data, MOST_ROWS)
    values = readings(split.test)
    last = pd.DataFrame(readings(split.train)).ffill().to_numpy(np.float32)[-1]
    scorer = FittedOnce(build(trial.row, trial.seed))
    found: dict[str, float] = {}
    started = time.perf_counter()
    for kind, share in [("nothing", 0.0), *((kind, share) for kind in KINDS for share in SHARES)]:
        each = []
        for draw in range(DRAWS if share else 1):
            name = f"{task.dataset}/{task.series}/{kind}/{share}/{draw}"
            mask = hidden(values.shape, kind, share, np.random.default_rng([trial.seed, crc32(name.encode())]))
            if mask is None:
                break
            seen = np.where(mask, np.float32(np.nan), values)
            test = with_readings(split.test, seen if trial.row == OWN else carried_on(seen, last))
            score = score_frames(split.train, test, scorer, task.dataset, task.series).score
            each.append(vus_pr(split.labels, filled(score), split.window))
        if each:
            found[name_of(kind, share)] = float(np.mean(each))
    return asdict(trial) | {
        "dataset": task.dataset,
        "vus_pr": found,
        "nothing": found["nothing"],
        "rows": len(values),
        "seconds": round(time.perf_counter() - started, 2),
    }


def name_of(kind: str, share: float) -> str:
    return kind if kind == "nothing" else f"{kind} {share:.0%}"


def summary(table: dict[str, list[Result]]) -> Result:
    """By row and column: mean VUS-PR and the loss against nothing missing over the series that have the column."""
    columns = ["nothing", *(name_of(kind, share) for kind in KINDS for share in SHARES)]
    out: Result = {}
    for row, results in table.items():
        out[row] = {}
        for column in columns:
            both = [(r["vus_pr"][column], r["nothing"]) for r in results if column in r["vus_pr"]]
            if both:
                mean, whole = np.mean(both, axis=0)
                out[row][column] = {"vus_pr": float(mean), "loss": float(1 - mean / whole), "series": len(both)}
    return out


def show(found: Result) -> None:
    columns = list(next(iter(found.values())))
    width = max(map(len, found))
    for title, figure in (("VUS-PR, mean over series", "vus_pr"), ("loss against nothing missing", "loss")):
        print(f"\n{title}\n{'':{width}s} " + " ".join(f"{column:>12s}" for column in columns))
        for row, cells in found.items():
            print(f"{row:{width}s} " + " ".join(f"{cells[c][figure]:12.3f}" for c in columns), flush=True)


def by_dataset(results: Sequence[Result]) -> None:
    """The default with 30% missing at random and with nothing missing."""
    column = name_of("random", 0.3)
    print(f"\n{OWN}: VUS-PR with nothing missing, {column}")
    for dataset in sorted({r["dataset"] for r in results}):
        mine = [r["vus_pr"] for r in results if r["dataset"] == dataset]
        whole, part = np.mean([each["nothing"] for each in mine]), np.mean([each[column] for each in mine])
        print(f"{dataset:24s} {whole:.3f} {part:.3f} ({len(mine)})", flush=True)


def main() -> None:
    arguments, rows, results = opened(__doc__, DEFAULT, METRICS)
    tasks = few_of_each(arguments.data, MOST_SERIES, MOST_ROWS)
    trials = [Trial("missing", row, arguments.seed, task) for row in rows for task in tasks]
    run(trials, measure, arguments.data, results, arguments.jobs, show="nothing")
    table = results.table("missing", rows)
    results.write(found := summary(table))
    show(found)
    by_dataset(table.get(OWN, []))


if __name__ == "__main__":
    main()
