"""Does leaving out the strangest windows of every batch help a group model whose history holds anomalies (TabADM)?

    make bench-trimming DATA=DIR ARGS="[--seeds 2] [--trim 0.1] [--kinds level,drift]"

Per series: known anomalies of all or some kinds (benchmarks.lib.injection) are put into 0 ... 20%
of the 128-step
windows of the first 70% of its train part, and the group model is trained on that with and without trimming; then into
the last 30%, where they are to be found. Score: squared errors under 16-step stripes over their channel's mean in the
history, smoothed by the pointwise kernel. Average precision (AUC-PR), mean over seeds and series. No labels are read.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from stream_ad_models.imputer.imputer import DenoiserImputer
from stream_ad_models.pretraining.group import train_group
from stream_ad_models.scorer.normaliser import Normaliser

from benchmarks.accuracy.harness import Results, environment, parser_of, run
from benchmarks.lib.injection import KINDS, inject
from stream_ad.errors import DataError
from stream_ad.offline.accuracy import auc_pr

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SERIES = "SMD/machine-1-3,SMD/machine-3-5,JumpStarter/d2_service12"
ALL = ",".join(KINDS)
SHARES = (0.0, 0.01, 0.05, 0.10, 0.20)
WINDOW, STRIPE, FLOOR = 128, 16, 0.01
HISTORY_SHARE, HELD_ROWS, HELD_ANOMALIES = 0.7, 6000, 16
LENGTHS = (24, 96)


@dataclass(frozen=True)
class Training:
    dataset: str
    series: str
    share: float
    trim: float
    seed: int
    kinds: str = ALL
    row: str = "group"

    @property
    def key(self) -> str:
        known = "" if self.kinds == ALL else f"{self.kinds}/"
        return f"{known}{self.dataset}/{self.series}/{self.share}/{self.trim}/{self.seed}"


def measure(job: Training, data: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    started = time.perf_counter()
    frame = pd.read_parquet(data / job.dataset / f"{job.series}.train.parquet")
    rows = frame.drop(columns=["timestamp", "label"], errors="ignore").to_numpy(np.float32)
    middle = int(HISTORY_SHARE * len(rows))
    rng = np.random.default_rng([job.seed, round(100 * job.share)])
    normaliser = Normaliser.fit(rows[:middle])
    moving = normaliser.scored & ~normaliser.constant
    z = normaliser.apply(rows)[:, moving]
    kinds = job.kinds.split(",")
    history = contaminated(rng, z[:middle], job.share, kinds)
    # the same anomalies are to be found whatever the training held
    held, labels = _anomalous(np.random.default_rng(job.seed), z[middle : middle + HELD_ROWS], kinds)
    imputer = train_group([history], seed=job.seed, trim=job.trim)
    means = _squares(imputer, history).mean(axis=0) + FLOOR
    score = _smoothed((_squares(imputer, held) / means).mean(axis=1))
    return {
        "table": "trimming",
        "row": job.row,
        "dataset": job.dataset,
        "series": job.series,
        "share": job.share,
        "trim": job.trim,
        "seed": job.seed,
        "average_precision": auc_pr(labels[: len(score)].astype(np.int64), score),
        "seconds": round(time.perf_counter() - started, 2),
    }


def contaminated(rng: np.random.Generator, rows: Float32, share: float, kinds: list[str]) -> Float32:
    """One anomaly in each of `share` of the 128-step windows that the rows hold."""
    windows = len(rows) // WINDOW
    for window in rng.choice(windows, round(share * windows), replace=False):
        rows = _injected(rng, rows, int(window) * WINDOW, WINDOW, kinds)[0]
    return rows


def _anomalous(rng: np.random.Generator, rows: Float32, kinds: list[str]) -> tuple[Float32, NDArray[np.bool_]]:
    labels = np.zeros(len(rows), np.bool_)
    span = len(rows) // HELD_ANOMALIES
    for number in range(HELD_ANOMALIES):
        rows, label = _injected(rng, rows, number * span, span, kinds)
        labels |= label
    return rows, labels


def _injected(
    rng: np.random.Generator, rows: Float32, first: int, span: int, kinds: list[str]
) -> tuple[Float32, NDArray[np.bool_]]:
    """An anomaly of one of the kinds within span rows; a kind that changes nothing there gives way to another."""
    for kind in rng.permutation(kinds):
        try:
            found = inject(rng, rows, str(kind), within=(first, first + span), lengths=LENGTHS)
        except DataError:
            continue
        return found.rows, found.label
    raise DataError(f"expected room for an anomaly in rows {first} to {first + span}, found none")


def _squares(imputer: DenoiserImputer, rows: Float32) -> Float64:
    """Squared errors [n, channel] of as many whole windows as the rows hold."""
    windows = rows[: len(rows) // WINDOW * WINDOW].reshape(-1, WINDOW, rows.shape[1])
    errors = windows - imputer.impute(windows, stripe=STRIPE).mean
    return np.nan_to_num(np.square(errors.astype(np.float64))).reshape(-1, rows.shape[1])


def _smoothed(values: Float64) -> Float64:
    kernel = np.exp(-np.abs(np.arange(-32, 33)) / 8)
    return np.convolve(values, kernel / kernel.sum(), "same")


def show(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    trims = sorted({r["trim"] for r in results})
    names = sorted({f"{r['dataset']}/{r['series']}" for r in results})
    print("\naverage precision on injected anomalies, by share of contaminated windows in training")
    print(f"{'':32s}" + "".join(f"{share:>8.0%}" for share in SHARES))
    summary = {}
    for trim in trims:
        for name in [*names, "all"]:
            mine = [r for r in results if r["trim"] == trim and name in {"all", f"{r['dataset']}/{r['series']}"}]
            cells = {s: float(np.mean([r["average_precision"] for r in mine if r["share"] == s])) for s in SHARES}
            print(f"{name[:22]:22s} trim {trim:.2f} " + "".join(f"{cell:8.3f}" for cell in cells.values()))
        summary[f"trim {trim}"] = {str(share): cell for share, cell in cells.items()}
    return summary


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--series", default=SERIES, help="comma-separated DATASET/SERIES")
    parser.add_argument("--kinds", default=ALL, help="comma-separated, of %(default)s")
    parser.add_argument("--trim", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    about = environment(seeds, ()) | {"measures": 1}
    print(json.dumps(about), flush=True)
    results = Results(arguments.out, about)
    jobs = [
        Training(dataset, series, share, trim, seed, arguments.kinds)
        for seed in seeds
        for dataset, series in (name.split("/") for name in arguments.series.split(","))
        for share in SHARES
        for trim in (0.0, arguments.trim)
    ]
    run(jobs, measure, arguments.data, results, arguments.jobs, show="average_precision")
    keys = {job.key for job in jobs}
    results.write(show([result for key, result in results.found.items() if key in keys]))


if __name__ == "__main__":
    main()
