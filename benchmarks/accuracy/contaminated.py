"""Accuracy when the history that is fitted holds anomalies that nobody marked.

    make bench-contaminated DATA=DIR ARGS="[--seed S] [--jobs N] [--rows universal,memory]"

Series: at most 4 of each data set, evenly spaced among those with an anomaly among the first 4,000 scored rows; these
alone are scored, the last 8,000 rows before them fitted. Anomalies (levels, spikes, noise, segments of another time, by
turns) are put into the fitted part until 0, 1, 5, 10 and 20% of its rows are theirs. VUS-PR; loss = 1 - mean / mean
with none put in. Anomalies already in a history add to this.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.harness import Result, build, filled, run
from benchmarks.accuracy.trials import Trial, few_of_each, opened, readings, score_frames, split_of, with_readings
from benchmarks.lib.injection import inject
from stream_ad.errors import DataError
from stream_ad.offline.accuracy import vus_pr

Float32 = NDArray[np.float32]

METRICS = 1
MOST_SERIES, MOST_ROWS = 4, 4000
SHARES = (0.0, 0.01, 0.05, 0.1, 0.2)
KINDS = ("level", "spike", "noise", "segment")
MOST_ANOMALIES = 2000  # spikes are short: 20% of 8,000 rows take hundreds
OWN = "universal"
DEFAULT = (OWN, "memory", "control", "pca", "ar")


def contaminated(rows: Float32, share: float, rng: np.random.Generator) -> tuple[Float32, float]:
    """`rows` float32 [n, channel] with anomalies, and the share of them that was reached."""
    marked = np.zeros(len(rows), np.bool_)
    for number in range(MOST_ANOMALIES):
        if marked.mean() >= share:
            break
        try:
            injected = inject(rng, rows, KINDS[number % len(KINDS)])
        except DataError:
            continue  # a kind that this series cannot have
        rows, marked = injected.rows, marked | injected.label
    return rows, float(marked.mean())


def measure(trial: Trial, data: Path) -> Result:
    task = trial.task
    split = split_of(task, data, MOST_ROWS)
    scorer = build(trial.row, trial.seed)
    found, reached = {}, {}
    started = time.perf_counter()
    for share in SHARES:
        name = f"{task.dataset}/{task.series}/{share}"
        rng = np.random.default_rng([trial.seed, crc32(name.encode())])
        rows, reached[name_of(share)] = contaminated(readings(split.train), share, rng)
        train = with_readings(split.train, rows)
        score = score_frames(train, split.test, scorer, task.dataset, task.series).score
        found[name_of(share)] = vus_pr(split.labels, filled(score), split.window)
    return asdict(trial) | {
        "dataset": task.dataset,
        "vus_pr": found,
        "clean": found[name_of(0.0)],
        "reached": reached,
        "seconds": round(time.perf_counter() - started, 2),
    }


def name_of(share: float) -> str:
    return f"{share:.0%}"


def summary(table: dict[str, list[Result]]) -> Result:
    """By row and share: mean VUS-PR over series, and the loss against a clean history."""
    out: Result = {}
    for row, results in table.items():
        means = {name_of(share): float(np.mean([r["vus_pr"][name_of(share)] for r in results])) for share in SHARES}
        clean = means[name_of(0.0)]
        out[row] = {share: {"vus_pr": mean, "loss": 1 - mean / clean} for share, mean in means.items()}
        out[row]["series"] = len(results)
    return out


def show(found: Result, shares: Sequence[str]) -> None:
    width = max(map(len, found))
    for title, figure in (("VUS-PR, mean over series", "vus_pr"), ("loss against a clean history", "loss")):
        print(f"\n{title}\n{'':{width}s} " + " ".join(f"{share:>6s}" for share in shares))
        for row, cells in found.items():
            print(f"{row:{width}s} " + " ".join(f"{cells[share][figure]:6.3f}" for share in shares), flush=True)


def main() -> None:
    arguments, rows, results = opened(__doc__, DEFAULT, METRICS)
    tasks = few_of_each(arguments.data, MOST_SERIES, MOST_ROWS)
    trials = [Trial("contaminated", row, arguments.seed, task) for row in rows for task in tasks]
    run(trials, measure, arguments.data, results, arguments.jobs, show="clean")
    results.write(found := summary(results.table("contaminated", rows)))
    show(found, [name_of(share) for share in SHARES])


if __name__ == "__main__":
    main()
