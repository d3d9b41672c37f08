"""Coverage of prediction intervals on held-back normal data: of one pass and of draws, and what draws cost.

    make bench-bands DATA=DIR ARGS="[--seed S] [--jobs N] [--draws D]"

Every series' train part: z-scored on its first 70%, errors of that part fit the series' intervals, the last 30% is held
back. One pass: the 16 rows that end 16 rows before a window's end, under 16-step stripes (as the default scorer
sees them). Draws: all rows hidden by one stripe mask, intervals between their quantiles. No labels are read.
`score` is the interval score of the 90% intervals (Gneiting, Raftery 2007, eq. 43) in z-scores, lower is better; the
table has its median over series.
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
from stream_ad_models.imputer.conditioning import condition
from stream_ad_models.imputer.imputer import UniversalImputer
from stream_ad_models.imputer.intervals import INTERVAL_LEVELS, series_intervals
from stream_ad_models.imputer.masks import complementary_stripes
from stream_ad_models.research.sampler import Solver, impute_masked, sample_targets
from stream_ad_models.scorer.normaliser import Normaliser

from benchmarks.accuracy.harness import Results, environment, parser_of, run
from stream_ad.errors import DataError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

WINDOW, HOP, STRIPE = 128, 16, 16
HISTORY_SHARE = 0.7
MOST_WINDOWS = 400
DRAWN_WINDOWS, DRAWN_CHANNELS = 2, 2
SAMPLERS: dict[str, tuple[Solver, int, int]] = {  # solver, steps, network passes a draw
    "heun 6": ("heun", 6, 11),
    "heun 12": ("heun", 12, 23),
    "dpm++ 6": ("dpm++", 6, 6),
    "dpm++ 12": ("dpm++", 12, 12),
}


@dataclass(frozen=True)
class State:
    """One series. row: all variants are measured at once."""

    dataset: str
    series: str
    seed: int
    draws: int
    row: str = "bands"

    @property
    def key(self) -> str:
        return f"{self.seed}/{self.draws}/{self.dataset}/{self.series}"


def measure(task: State, data: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    started = time.perf_counter()
    history, held = _parts(data / task.dataset / f"{task.series}.train.parquet")
    imputer = UniversalImputer.load()
    (fit_error, fit_std), (error, std) = (_block_errors(imputer, part) for part in (history, held))
    card = np.array([imputer.interval_factor(level) for level in INTERVAL_LEVELS])
    own = series_intervals((fit_error / fit_std).reshape(-1, fit_error.shape[2]), card.tolist())
    factors = {"one pass, card": np.broadcast_to(card[:, None], own.shape), "one pass, series": own}
    variants = {name: _judged(error, [half * std for half in factor]) for name, factor in factors.items()}
    variants |= _draws(imputer, held, task, factors)
    return {
        "table": "bands",
        "row": task.row,
        "dataset": task.dataset,
        "series": task.series,
        "channels": held.shape[1],
        "variants": variants,
        "within_90": variants["one pass, series"]["0.9"],
        "seconds": round(time.perf_counter() - started, 2),
    }


def _parts(path: Path) -> tuple[Float32, Float32]:
    """History and held-back rows of the moving channels, z-scored; the latter begin with a window of context."""
    frame = pd.read_parquet(path)
    rows = frame.drop(columns=["timestamp", "label"], errors="ignore").to_numpy(np.float32)
    middle = int(HISTORY_SHARE * len(rows))
    if middle < 2 * WINDOW or len(rows) - middle < WINDOW:
        raise DataError(f"expected {2 * WINDOW} rows of history and {WINDOW} held back, found {len(rows)} in all")
    normaliser = Normaliser.fit(rows[:middle])
    moving = normaliser.scored & ~normaliser.constant
    if not moving.any():
        raise DataError("expected a channel that moves, found none")
    z = normaliser.apply(rows)[:, moving]
    return z[:middle], z[middle - WINDOW + HOP :]


def _windows(rows: Float32, most: int) -> Float32:
    ends = np.arange(WINDOW, len(rows) + 1, HOP)
    picked = ends[np.unique(np.linspace(0, len(ends) - 1, min(most, len(ends))).astype(int))]
    return np.stack([rows[end - WINDOW : end] for end in picked])


def _block_errors(imputer: UniversalImputer, rows: Float32) -> tuple[Float32, Float32]:
    """Errors and predictive standard deviations of each window's block: float32 [window, hop, channel]."""
    block = slice(WINDOW - 2 * HOP, WINDOW - HOP)
    visible = next(mask for mask in complementary_stripes(WINDOW, STRIPE) if not mask[block].any())
    windows = _windows(rows, MOST_WINDOWS)
    errors, stds = [], []
    for first in range(0, len(windows), 64):
        part = windows[first : first + 64]
        imputed = impute_masked(imputer, part, np.broadcast_to(visible[:, None], part.shape))
        errors.append((part - imputed.mean)[:, block])
        stds.append(imputed.std[:, block])
    return np.concatenate(errors), np.concatenate(stds)


def _judged(error: Float32, halves: list[Float64], middle: Float64 | float = 0.0) -> dict[str, float]:
    """Share of the readings inside each interval, and the 90% one's interval score. error: reading - mean, NaN = none;
    halves: half-widths by level about `middle`, which is relative to the mean."""
    seen = ~np.isnan(error)
    off = np.abs(np.where(seen, error, 0.0) - middle)
    out = {str(level): float((off <= half)[seen].mean()) for level, half in zip(INTERVAL_LEVELS, halves, strict=True)}
    half = np.broadcast_to(halves[1], error.shape)
    return out | {"score": float((2 * half + 2 / 0.1 * np.maximum(off - half, 0.0))[seen].mean())}


def _draws(
    imputer: UniversalImputer, held: Float32, task: State, factors: dict[str, Float64]
) -> dict[str, dict[str, float]]:
    """Each sampler's intervals on a few windows, and those of one pass on the same points."""
    windows = np.nan_to_num(_windows(held, DRAWN_WINDOWS)[:, :, :DRAWN_CHANNELS])
    visible = complementary_stripes(WINDOW, STRIPE)[1]
    mask = np.broadcast_to(visible[:, None], windows.shape)
    hidden = ~visible
    imputed = impute_masked(imputer, windows, mask)
    error = (windows - imputed.mean)[:, hidden]
    out = {}
    for name, factor in factors.items():
        halves = [half[: windows.shape[2]] * imputed.std[:, hidden] for half in factor]
        out[f"{name}, same points"] = _judged(error, halves) | {"passes": 1.0}
    rows = torch.from_numpy(windows.transpose(0, 2, 1).reshape(-1, WINDOW, 1).copy()).repeat(task.draws, 1, 1)
    given = condition(rows, torch.from_numpy(np.broadcast_to(visible[:, None], rows.shape).copy()))
    for name, (solver, steps, passes) in SAMPLERS.items():
        generator = torch.Generator().manual_seed(task.seed)
        with torch.inference_mode():
            drawn = sample_targets(imputer.model, given, steps, generator, solver) * given.scale + given.centre
        shape = (task.draws, len(windows), windows.shape[2], WINDOW)
        draws = drawn.reshape(shape).numpy().transpose(0, 1, 3, 2)[:, :, hidden]
        out[name] = _of_draws(draws, windows[:, hidden]) | {"passes": float(passes * task.draws)}
    return out


def _of_draws(draws: Float32, truth: Float32) -> dict[str, float]:
    """draws: [draw, ...]; quantiles at p (n + 1), so that few draws do not make intervals narrow."""
    bounds = [
        np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull") for level in INTERVAL_LEVELS
    ]
    out = {
        str(level): float(((truth >= low) & (truth <= high)).mean())
        for level, (low, high) in zip(INTERVAL_LEVELS, bounds, strict=True)
    }
    low, high = bounds[1]
    beyond = np.maximum(low - truth, 0.0) + np.maximum(truth - high, 0.0)
    return out | {"score": float((high - low + 2 / 0.1 * beyond).mean())}


def _mean_coverage(results: list[dict[str, Any]], name: str, dataset: str) -> Float64:
    shares = [
        [r["variants"][name][str(level)] for level in INTERVAL_LEVELS] for r in results if r["dataset"] == dataset
    ]
    return np.asarray(np.mean(shares, axis=0))


def show(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage in % by data set (mean over its series) and over data sets, and whether each is within 3 points."""
    datasets = sorted({result["dataset"] for result in results})
    names = list(results[0]["variants"])
    counts = {dataset: sum(result["dataset"] == dataset for result in results) for dataset in datasets}
    print(f"\nreadings inside the {', '.join(f'{level:.0%}' for level in INTERVAL_LEVELS)} intervals, % (series)")
    print(
        f"{'':30s}"
        + "".join(f"{d[:10] + f' ({n})':>18s}" for d, n in counts.items())
        + f"{'all sets':>18s}  off  score"
    )
    summary: dict[str, Any] = {}
    for name in names:
        cells = np.array([_mean_coverage(results, name, dataset) for dataset in datasets])
        off = int((np.abs(cells - INTERVAL_LEVELS) > 0.03).sum())
        mean = cells.mean(axis=0)
        score = float(np.median([r["variants"][name]["score"] for r in results]))
        text = "".join(f"{'  '.join(f'{100 * share:4.1f}' for share in row):>18s}" for row in [*cells, mean])
        print(f"{name:30s}{text}  {off:2d}/{cells.size} {score:.3f}")
        summary[name] = {"by_dataset": dict(zip(datasets, cells.tolist(), strict=True)), "off": off, "score": score}
    return summary


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=100)
    arguments = parser.parse_args()
    about = environment([arguments.seed], ()) | {"measures": 1, "scorers": {"bands": UniversalImputer.load().version}}
    print(json.dumps(about), flush=True)
    results = Results(arguments.out, about)
    tasks = [
        State(path.parent.name, path.name.removesuffix(".train.parquet"), arguments.seed, arguments.draws)
        for path in sorted(arguments.data.glob("*/*.train.parquet"))
    ]
    run(tasks, measure, arguments.data, results, arguments.jobs, show="within_90")
    wanted = {task.key for task in tasks}
    results.write(show([result for key, result in results.found.items() if key in wanted]))


if __name__ == "__main__":
    main()
