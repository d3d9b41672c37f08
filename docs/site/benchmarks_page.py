"""Writes docs/benchmarks.md from benchmarks/results/: `python docs/site/benchmarks_page.py docs/benchmarks.md`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
_HEAD = """\
# Benchmarks

The latest results of `benchmarks/`, on a machine with two cores that also runs the broker and the store. Each script
prints its machine, versions and seed, and writes its result to `benchmarks/results/`; `make docs` generates this page
from those files.

Goals that were not reached: 100,000 observations/s in columns (below is what two cores reached); an alert within a
second of what the settings ask, at half load, with the default hop of 16 (with 64 it is); 10,000 live series of 5
channels in 2 GB. 1,500 series of 38 channels need 2.2 GB with the default hop (1.8 with 64). [Sizing](scaling.md)
explains what follows from the figures.
"""


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def accuracy() -> str:
    tables = result("accuracy")["summary"]["tables"]
    names = {
        "universal": "default",
        "without-imputer": "default, without the imputer",
        "memory": "memory of the signal's levels, no network",
        "control": "adaptive level and first difference, no network",
        "ar": "autoregression",
        "pca": "principal components",
        "kmeans": "k-means over windows",
        "iforest": "isolation forest",
        "hst": "half-space trees",
        "seasonal": "seasonal residuals",
        "random": "random",
    }
    rows: list[list[object]] = []
    for name, said in names.items():
        published, others = tables["published"][name], tables["others"][name]
        rows.append([said, *(f"{one:.3f}" for one in (published["vus_pr"], others["vus_pr"], published["pa_f1"]))])
    return (
        "## Accuracy\n\nMean VUS-PR over 25 public series and 88 others; only the metrics read labels.  "
        "Point-adjusted F1 (of the 25) says little, as the random row shows. "
        "More: [accuracy](accuracy.md).\n\n" + table(["", "25 series", "88 others", "point-adjusted F1"], rows)
    )


def throughput() -> str:
    found = result("throughput")
    rows: list[list[object]] = [
        [one["case"], f"{one['observations_per_s']:,.0f}", f"{one['worker_cpu_s_per_million']:.0f}"]
        for one in found["cases"]
    ]
    waits: list[list[object]] = [
        [
            case,
            *(
                f"{one[span][part]:.2f}"
                for span in ("beyond_settings_s", "beyond_settings_from_the_start_s")
                for part in ("median", "p99")
            ),
        ]
        for case, one in found["latency"].items()
    ]
    return (
        "## From topic to store\n\n38 channels.\n\n"
        + table(["", "observations/s", "CPU seconds of the workers per million"], rows)
        + "\n## From produce to alert\n\nLatency beyond what the settings ask for, in seconds, at 10,000 "
        "observations/s of 200 series. In its first ten seconds a worker also loads the profiles.\n\n"
        + table(["", "median", "99%", "median from the start", "99% from the start"], waits)
    )


def trust() -> str:
    drills, soak = result("drills"), result("soak")
    hostile = result("hostile")["runs"]

    def all_of(name: str) -> str:
        return f"{sum(one[name] for one in hostile):,}"

    def thirds(name: str, digits: int = 0) -> str:
        found = soak["summary"][name]
        return f"{found['first_third']:,.{digits}f} and {found['last_third']:,.{digits}f}"

    lines = [
        "## Faults and hostile records",
        f"{drills['faults']:,} overlapping faults over {drills['slots']:,} scores: lost {drills['lost']}, doubled "
        f"{drills['duplicate']}, differing {drills['differing']}; alerts lost {drills['alerts_lost']}, doubled "
        f"{drills['alerts_doubled']}.",
        f"{all_of('sent')} hostile records in {len(hostile)} runs: {all_of('crashes')} crashes, "
        f"{all_of('unaccounted')} unaccounted for, {all_of('dead_lettered')} dead-lettered; scores of the "
        f"{all_of('good_sent')} good ones that differ from a clean run's: {all_of('good_differing')}.",
        f"An hour at half load, {soak['observations']:,} observations (median of the first and of the last third): the "
        f"worker's memory {thirds('worker_mib')} MiB; lag {thirds('lag')} records; age of the newest score "
        f"{thirds('age_s', 2)} s.",
        "![Memory, lag and latency over an hour](../benchmarks/results/soak.png)",
    ]
    return "\n\n".join(lines) + "\n"


def memory() -> str:
    rows: list[list[object]] = [
        [one["channels"], f"{one['kib_a_series']:,.0f}", f"{one['profile_kib']:,.0f}", f"{one['series_in_2_gb']:,}"]
        for one in result("memory")["results"]
    ]
    workers: list[list[object]] = [
        [
            f"{one['series']:,} of {one['channels']} channels, hop {one['hop']}",
            *(f"{each:,.0f}" for each in (one["drained_mb"]["most_resident"], *at_rest(one))),
        ]
        for one in map(result, ("live-series", "live-series-hop64", "live-series-5-channels"))
    ]
    return (
        "## Memory of a live series\n\n"
        + table(["channels", "KiB per series", "of which profile", "series in 2 GB"], rows)
        + "\nA whole worker with this many live series that drained a backlog, in MB; all processes of a machine "
        "share the library files.\n\n" + table(["", "maximum", "at rest", "private", "library files"], workers)
    )


def at_rest(one: dict[str, Any]) -> list[float]:
    return [one["at_rest_mb"][part] for part in ("resident", "own", "files")]


def history() -> str:
    found = result("history")
    rows: list[list[object]] = [
        [store, one["line"]["all"]["p50_ms"], one["line"]["all"]["p95_ms"], one["line"]["whole range"]["p95_ms"]]
        for store, one in found["results"].items()
    ]
    slots, points = found["environment"]["slots"], found["environment"]["points"]
    return (
        f"## History\n\n{slots:,} scores of a series, downsampled to {points:,} points without losing a peak, ms.\n\n"
        + table(["store", "median", "95% quantile", "95% of the whole range"], rows)
    )


def page() -> str:
    return "\n".join([_HEAD, accuracy(), throughput(), trust(), memory(), history()])
