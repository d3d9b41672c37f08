"""Means, spreads over seeds and paired intervals of measured series, and their tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.harness import Result, Table

Series = tuple[str, str, str]  # table, data set, series

DRAWS = 10_000
PLAIN = ("auc_pr", "auc_roc", "vus_roc", "recall_1", "recall_3", "recall_10")
DELAYS = ("delay_1", "delay_3", "delay_10")
ADJUSTED = "pa_f1"  # reported only with that of a random scorer


def by_series(results: Sequence[Result], metric: str) -> dict[Series, float]:
    """Mean over seeds; without series that have no such figure (no event found: no delay)."""
    found = defaultdict(list)
    for r in results:
        if r.get(metric) is not None:
            found[r.get("table", ""), r["dataset"], r["series"]].append(float(r[metric]))
    return {series: float(np.mean(values)) for series, values in found.items()}


def by_dataset(values: Mapping[Series, float]) -> dict[str, float]:
    """Mean of each data set; their mean is the one in which each data set has the same weight."""
    found = defaultdict(list)
    for (_, dataset, _), value in sorted(values.items()):
        found[dataset].append(value)
    return {dataset: float(np.mean(mine)) for dataset, mine in found.items()}


def spread(results: Sequence[Result], metric: str) -> float | None:
    """Standard deviation over seeds of the mean over series; None when all series were measured with one seed alone."""
    seeds, whole = {r.get("seed", 0) for r in results}, by_series(results, metric).keys()
    of_seeds = [by_series([r for r in results if r.get("seed", 0) == seed], metric) for seed in seeds]
    means = [np.mean(list(values.values())) for values in of_seeds if values.keys() == whole]
    return float(np.std(means, ddof=1)) if len(means) > 1 else None


def summary(table: Table) -> dict[str, dict[str, Any]]:
    """Of each row: VUS-PR in means, by data set and spread over seeds; means of the rest; medians of delays."""
    found = {}
    for row, results in table.items():
        vus = by_series(results, "vus_pr")
        sets = by_dataset(vus)
        found[row] = {
            "series": len(vus),
            "vus_pr": float(np.mean(list(vus.values()))),
            "vus_pr_spread": spread(results, "vus_pr"),
            "vus_pr_sets": float(np.mean(list(sets.values()))),
            "by_dataset": sets,
        }
        for metric in (*PLAIN, ADJUSTED):
            if values := list(by_series(results, metric).values()):
                found[row][metric] = float(np.mean(values))
        for metric in DELAYS:
            if values := list(by_series(results, metric).values()):
                found[row][metric] = float(np.median(values))
    return found


def paired_interval(
    first: Mapping[Series, float], second: Mapping[Series, float], draws: int = DRAWS, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Mean difference first - second of the series that both have, with its 95% bootstrap interval.

    Series are drawn anew within each data set. Keys: "series" (equal weights), "sets" (equal weights of data sets), and
    each data set. A data set of one series has an interval of no width.
    """
    differences = defaultdict(list)
    for series in sorted(first.keys() & second.keys()):
        differences[series[1]].append(first[series] - second[series])
    if not differences:
        raise ValueError("expected series that both rows have, found none")
    rng = np.random.default_rng(seed)
    drawn = {name: _means(rng, np.array(mine), draws) for name, mine in differences.items()}
    sizes = {name: len(mine) for name, mine in differences.items()}
    found = {name: _interval(float(np.mean(differences[name])), drawn[name], sizes[name]) for name in drawn}
    total = sum(sizes.values())
    over_series = sum(sizes[name] * drawn[name] for name in drawn) / total
    every = [difference for mine in differences.values() for difference in mine]
    over_sets = np.mean(list(drawn.values()), axis=0)
    sets = float(np.mean([np.mean(mine) for mine in differences.values()]))
    return {
        "series": _interval(float(np.mean(every)), np.asarray(over_series), total),
        "sets": _interval(sets, over_sets, total),
    } | found


def _means(rng: np.random.Generator, values: np.ndarray[Any, Any], draws: int) -> np.ndarray[Any, Any]:
    return np.asarray(values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1))


def _interval(difference: float, drawn: np.ndarray[Any, Any], series: int) -> dict[str, Any]:
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return {"difference": difference, "low": low, "high": high, "series": series}


def against(table: Table, first: str, others: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`paired_interval` of the first row against the best of the others, which is chosen anew for each figure."""
    mine = by_series(table[first], "vus_pr")
    against_each = {row: paired_interval(mine, by_series(table[row], "vus_pr")) for row in others if row in table}
    found = {}
    for figure in next(iter(against_each.values()), {}):
        best = min(against_each, key=lambda row: float(against_each[row][figure]["difference"]))
        found[figure] = {"best": best} | against_each[best][figure]
    return found


def print_against(title: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    names = {"series": "mean over series", "sets": "mean over data sets"}
    print(f"\n{title}")
    for figure, d in found.items():
        interval = f"{d['difference']:+.3f}  [{d['low']:+.3f} to {d['high']:+.3f}]"
        print(f"{names.get(figure, figure):20s} {interval}  {d['series']:3d} series, {d['best']}")


def print_metrics(title: str, table: Table) -> None:
    """The other metrics; point-adjusted F1 only when the random row is among them."""
    found = summary(table)
    metrics = (*PLAIN, *DELAYS, *([ADJUSTED] if "random" in table else []))
    width = max(map(len, found), default=0)
    print(f"\n{title}\n{'':{width}s}  " + "  ".join(f"{metric:>9s}" for metric in metrics))
    for row, figures in found.items():
        cells = [_cell(figures.get(metric), metric in DELAYS) for metric in metrics]
        print(f"{row:{width}s}  " + "  ".join(f"{cell:>9s}" for cell in cells), flush=True)


def _cell(value: float | None, rows: bool) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if rows else f"{value:.3f}"


def print_table(title: str, table: Table, metric: str = "vus_pr") -> None:
    """Means of the metric for each row: over series, over data sets (equal weights), and by data set.

    ±: standard deviation of the mean over series between seeds; rows without it are the same for every seed.
    """
    datasets = sorted({r["dataset"] for results in table.values() for r in results})
    width = max(map(len, table), default=0)
    print(f"\n{title}\n{'':{width}s}  {'series':11s}   sets  " + "  ".join(f"{name[:11]:>11s}" for name in datasets))
    for name, results in table.items():
        values = by_series(results, metric)
        sets, within = by_dataset(values), spread(results, metric)
        counts = Counter(dataset for _, dataset, _ in values)
        cells = [f"{sets[d]:.3f} ({counts[d]:2d})" if d in sets else "-" for d in datasets]
        mean = f"{np.mean(list(values.values())):.3f}" + ("" if within is None else f" ±{within:.3f}")
        whole = f"{np.mean(list(sets.values())):.3f}"
        print(f"{name:{width}s}  {mean:11s}  {whole}  " + "  ".join(f"{cell:>11s}" for cell in cells), flush=True)
