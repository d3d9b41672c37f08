"""Known anomalies in later normal data: what each row finds of which kind, and which channel it names.

    make bench-injected DATA=DIR ARGS="[--seed S] [--jobs N] [--rows universal,memory]"

Series: at most 24, evenly spaced among those of DIR whose train part holds 1,500 rows or more, none labelled, and a
channel with more than two different readings; their first 6,000 rows. The first 60% are fitted; the rest is scored
once as it is and once for each kind of `benchmarks.lib.injection`, an anomaly in every 400 rows, at
least 100 rows
apart, with 512 fitted rows before it as a lead-in that is not measured. AP is of rows. Attribution: of the injected
slots over the 99% quantile of the held-out scores, the share where an injected channel comes first, or among three.
Shift: the share of normal rows over that quantile, which would be 1% had nothing moved.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from stream_ad_models.baselines.base import Arrays, ErrorFunction, Learned, PointErrors, PointwiseScorer
from stream_ad_models.baselines.control import differences

from benchmarks.accuracy.harness import ROWS, Result, build, filled, run
from benchmarks.accuracy.trials import (
    FittedOnce,
    channels_of,
    evenly,
    interval,
    opened,
    readings,
    score_frames,
    with_readings,
)
from benchmarks.lib.injection import CONTEXTUAL, KINDS, inject, moving_channels
from stream_ad.errors import DataError
from stream_ad.offline.accuracy import auc_pr
from stream_ad.offline.backtest import Scored

METRICS = 1
MOST_SERIES, MOST_ROWS, LEAST_ROWS = 24, 6000, 1500
FITTED_SHARE = 0.6
LEAD, APART, EVERY = 512, 100, 400
STEP_S = 1.0  # of rows without times, as here
OWN = "universal"
NO_NETWORK = ("memory", "control", "first-difference", "ar")


class FirstDifferenceScorer(PointwiseScorer):
    """The control's second component alone."""

    name = "first-difference"

    def learn(self, z: NDArray[np.float64]) -> Learned:
        return Learned({}, [differences(z)])

    def error_function(self, arrays: Arrays) -> ErrorFunction:
        return lambda z, _: PointErrors([differences(z)], np.zeros_like(z), np.ones_like(z))


ROWS["first-difference"] = FirstDifferenceScorer


@dataclass(frozen=True)
class Trial:
    """One series under one scorer, every kind."""

    row: str
    dataset: str
    series: str
    seed: int
    table: str = "injected"

    @property
    def key(self) -> str:
        return f"{self.row}/{self.seed}/{self.dataset}/{self.series}"


@dataclass(frozen=True)
class Change:
    """values: float32 [row, channel]; label: bool [row]; channels: bool [row, channel], those changed in the row."""

    values: NDArray[np.float32]
    label: NDArray[np.bool_]
    channels: NDArray[np.bool_]


def change(values: NDArray[np.float32], kind: str, rng: np.random.Generator) -> Change | None:
    """One anomaly in every EVERY rows; None when the kind changes nothing in this series."""
    out, named = values.copy(), np.zeros(values.shape, np.bool_)
    for start in range(0, max(len(values) - EVERY, 0) + 1, EVERY):
        within = (start + APART, min(start + EVERY, len(values)))
        try:
            rows, label, channels = inject(rng, values, kind, within=within)
        except DataError:
            continue  # such as freezing what stood still
        out[label] = rows[label]
        named[np.ix_(label, channels)] = True
    return Change(out, np.asarray(named.any(axis=1)), named) if named.any() else None


def measure(trial: Trial, data: Path) -> Result:
    frame = pd.read_parquet(data / trial.dataset / f"{trial.series}.train.parquet")
    frame = frame[channels_of(frame)].iloc[:MOST_ROWS]
    cut = int(FITTED_SHARE * len(frame))
    lead = min(LEAD, cut)
    scorer = FittedOnce(build(trial.row, trial.seed))
    later = readings(frame)[cut:]
    kinds: dict[str, Result] = {}
    started = time.perf_counter()
    for kind in KINDS:
        if kind == "correlation" and moving_channels(later).sum() < 2:
            continue  # nothing to leave
        rng = np.random.default_rng([trial.seed, crc32(f"{trial.dataset}/{trial.series}/{kind}".encode())])
        changed = change(later, kind, rng)
        if changed is None:
            continue
        values = np.concatenate([readings(frame)[cut - lead : cut], changed.values])
        scored = score_frames(
            frame.iloc[:cut],
            with_readings(frame.iloc[cut - lead :], values),
            scorer,
            trial.dataset,
            trial.series,
        )
        score = filled(scored.score)[lead:]
        kinds[kind] = {"ap": auc_pr(changed.label, score), "share": float(changed.label.mean())} | attributed(
            scored.attribution[lead:], score > scorer.held_out_q99(STEP_S), changed, moving_channels(later)
        )
    plain = score_frames(frame.iloc[:cut], frame.iloc[cut - lead :], scorer, trial.dataset, trial.series)
    return asdict(trial) | {
        "kinds": kinds,
        "contextual": float(np.mean([kinds[kind]["ap"] for kind in CONTEXTUAL if kind in kinds])),
        "over_edge": float(np.mean(filled(plain.score)[lead:] > scorer.held_out_q99(STEP_S))),
        "sum_error": _sum_error(plain),
        "rows": len(frame),
        "channels": int(moving_channels(later).sum()),
        "seconds": round(time.perf_counter() - started, 2),
    }


def attributed(
    attribution: NDArray[np.float32], over: NDArray[np.bool_], changed: Change, moving: NDArray[np.bool_]
) -> Result:
    """Of the injected slots over the held-out 99% quantile: their number, how often an injected channel is first or
    among the first three, and how often in a random order of the moving channels."""
    at = np.flatnonzero(over & changed.label)
    order = np.argsort(-attribution[at], axis=1, kind="stable")
    hit = np.take_along_axis(changed.channels[at], order, axis=1)
    count, true = int(moving.sum()), changed.channels[at].sum(axis=1)
    misses = [comb(count - int(n), 3) / comb(count, 3) if count >= 3 else 0.0 for n in true]
    return {
        "slots": len(at),
        "first": int(hit[:, :1].any(axis=1).sum()),
        "three": int(hit[:, :3].any(axis=1).sum()),
        "first_by_chance": float((true / max(count, 1)).sum()),
        "three_by_chance": float(len(at) - sum(misses)),
    }


def _sum_error(scored: Scored) -> float:
    """Largest distance of an attribution's sum from 1."""
    sums = scored.attribution[~np.isnan(scored.score)].sum(axis=1)
    return float(np.abs(sums - 1).max())


def choose(data: Path) -> list[tuple[str, str]]:
    """(dataset, series), chosen without a look at any test part."""
    found = []
    for path in sorted(data.glob("*/*.train.parquet")):
        frame = pd.read_parquet(path)
        labelled = "label" in frame and frame["label"].any()
        values = readings(frame.iloc[:MOST_ROWS])
        later = values[int(FITTED_SHARE * len(values)) :]
        if len(frame) >= LEAST_ROWS and not labelled and any(len(np.unique(c[~np.isnan(c)])) > 2 for c in later.T):
            found.append((path.parent.name, path.name.removesuffix(".train.parquet")))
    return evenly(found, MOST_SERIES)


# ---- tables


def summary(table: dict[str, list[Result]], seed: int) -> Result:
    """Means over series; margin of the default over the no-network row with the best contextual mean."""
    context = {row: {f"{r['dataset']}/{r['series']}": r["contextual"] for r in mine} for row, mine in table.items()}
    out: Result = {"ap": {row: by_kind(mine) for row, mine in table.items()}}
    rivals = {row: float(np.mean(list(context[row].values()))) for row in NO_NETWORK if row in context}
    if OWN in context and rivals:
        best = max(rivals, key=lambda row: rivals[row])
        both = sorted(context[OWN].keys() & context[best].keys())
        margins = [context[OWN][name] - context[best][name] for name in both]
        low, high = interval(margins, seed)
        out["margin"] = {"over": best, "mean": float(np.mean(margins)), "low": low, "high": high, "series": len(both)}
    out["attribution"] = {row: attribution_shares(mine) for row, mine in table.items()}
    out["over_edge"] = {row: over_edge(mine) for row, mine in table.items()}
    out["largest_sum_error"] = max(r["sum_error"] for mine in table.values() for r in mine)
    return out


def by_kind(results: Sequence[Result]) -> Result:
    kinds = {k: [r["kinds"][k]["ap"] for r in results if k in r["kinds"]] for k in KINDS}
    return {k: float(np.mean(v)) for k, v in kinds.items() if v} | {
        "contextual": float(np.mean([r["contextual"] for r in results])),
        "chance": float(np.mean([r["kinds"][k]["share"] for r in results for k in CONTEXTUAL if k in r["kinds"]])),
    }


def attribution_shares(results: Sequence[Result]) -> Result:
    """By kind, over all slots of series with at least two moving channels: [slots, first, three, both by chance]."""
    out: Result = {}
    several = [r for r in results if r["channels"] >= 2]
    for kind in KINDS:
        mine = [r["kinds"][kind] for r in several if kind in r["kinds"]]
        slots = sum(each["slots"] for each in mine)
        names = ("first", "three", "first_by_chance", "three_by_chance")
        if slots:
            out[kind] = {"slots": slots} | {name: sum(each[name] for each in mine) / slots for name in names}
    return out


def over_edge(results: Sequence[Result]) -> Result:
    datasets = sorted({r["dataset"] for r in results})
    shares = {d: float(np.mean([r["over_edge"] for r in results if r["dataset"] == d])) for d in datasets}
    return {"all": float(np.mean([r["over_edge"] for r in results]))} | shares


def show(found: Result) -> None:
    columns = (*KINDS, "contextual", "chance")
    width = max(map(len, found["ap"]))
    print(f"\nAP of rows, mean over series\n{'':{width}s} " + " ".join(f"{name:>11s}" for name in columns))
    for row, values in found["ap"].items():
        print(f"{row:{width}s} " + " ".join(f"{values[c]:11.3f}" if c in values else f"{'-':>11s}" for c in columns))
    if margin := found.get("margin"):
        print(
            f"\n{OWN} over {margin['over']}, contextual: {margin['mean']:+.3f}, 95% interval {margin['low']:+.3f} to"
            f" {margin['high']:+.3f} over {margin['series']} series"
        )
    print("\nAn injected channel is first / among three (by chance), of the injected slots over the held-out q99")
    for row, kinds in found["attribution"].items():
        for kind, v in kinds.items():
            print(
                f"{row:{width}s} {kind:12s} {v['first']:.2f} / {v['three']:.2f}"
                f" ({v['first_by_chance']:.2f} / {v['three_by_chance']:.2f}) of {v['slots']}"
            )
    print(f"attributions sum to 1 within {found['largest_sum_error']:.1e}")
    print("\nShare of normal rows over the 99% quantile of the held-out scores")
    for row, shares in found["over_edge"].items():
        print(f"{row:{width}s} " + "  ".join(f"{name} {share:.3f}" for name, share in shares.items()), flush=True)


def main() -> None:
    arguments, rows, results = opened(__doc__, (OWN, *NO_NETWORK), METRICS)
    series = choose(arguments.data)
    trials = [Trial(row, dataset, name, arguments.seed) for row in rows for dataset, name in series]
    run(trials, measure, arguments.data, results, arguments.jobs, show="contextual")
    found = summary(results.table("injected", rows), arguments.seed)
    results.write(found)
    show(found)


if __name__ == "__main__":
    main()
