"""Score history for a plot: a line of few points out of a million stored slots, from InfluxDB and the embedded store.

    make bench-history ARGS="[--slots N] [--points P] [--asked A] [--channels C] [--seed S]"

A series of N slots with C channels is written through the product's own sinks, with a second one of a tenth of that.
Then A periods, the whole range among them, of random lengths (log-uniform, from P slots up) and places are asked for
as a line of at most P points; each answer must hold the highest score of its period. Also: the count and ends of a
period, and a page of raw slots. InfluxDB is the one that the tests use. Nothing waits between two questions, so the
store's caches are warm.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stream_ad_connectors.influxdb.store import InfluxStore
from stream_ad_connectors.sqlite.store import SqliteStore

from benchmarks.lib.about import about, argument_parser, write_result
from stream_ad.records import Outputs, ScoreBatch
from stream_ad.settings import InfluxSettings, Settings
from tests.support.services.influxdb import create_bucket, delete_bucket, running_influxdb

TARGET_MS = 300
START_NS = 1_767_225_600_000_000_000
STEP_NS = 1_000_000_000
WRITE = 5_000
Store = InfluxStore | SqliteStore


def part(series: str, first: int, scores: np.ndarray[Any, Any], channels: int, rng: np.random.Generator) -> ScoreBatch:
    """As a worker writes it: expected value, interval and attribution for each channel."""
    n = len(scores)
    value = rng.normal(size=(n, channels)).astype(np.float32)
    return ScoreBatch(
        series=series,
        channels=tuple(f"channel-{number}" for number in range(channels)),
        event_time_ns=START_NS + (first + np.arange(n)) * STEP_NS,
        score=scores,
        value=value,
        expected=value * np.float32(0.9),
        lower=value - 1,
        upper=value + 1,
        attribution=np.full((n, channels), 1 / channels, dtype=np.float32),
        revision=np.zeros(n, dtype=np.int32),
        alert_id=("",) * n,
        model_version="universal-1",
    )


def fill(store: Store, scores: np.ndarray[Any, Any], channels: int, rng: np.random.Generator) -> float:
    """Seconds it took."""
    begun = time.monotonic()
    for name, values in (("history", scores), ("beside", scores[: len(scores) // 10])):
        for first in range(0, len(values), WRITE):
            chunk = values[first : first + WRITE]
            store.write(Outputs(scores=[part(name, first, chunk, channels, rng)]))
    return time.monotonic() - begun


def periods(slots: int, points: int, asked: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """First slot and the one after the last; every tenth is the whole range."""
    found = []
    for number in range(asked):
        length = slots if number % 10 == 0 else int(np.exp(rng.uniform(np.log(points), np.log(slots))))
        first = int(rng.integers(0, slots - length + 1))
        found.append((first, first + length))
    return found


def timed(ask: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    answer = ask()
    return (time.perf_counter() - begun) * 1000, answer


def quantiles(times_ms: list[float]) -> dict[str, Any]:
    names = {"p50_ms": 0.5, "p95_ms": 0.95, "max_ms": 1.0}
    return {"asked": len(times_ms), **{name: round(float(np.quantile(times_ms, q)), 1) for name, q in names.items()}}


def measure(store: Store, scores: np.ndarray[Any, Any], points: int, asked: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    lines: dict[str, list[float]] = {"all": [], "whole range": []}
    extents: list[float] = []
    for first, stop in periods(len(scores), points, asked, rng):
        span = (START_NS + first * STEP_NS, START_NS + stop * STEP_NS)
        took, trace = timed(lambda span=span: store.reader.score_trace("history", *span, max_points=points))  # type: ignore[misc]
        if trace.slots != stop - first or len(trace) > points or trace.score.max() != scores[first:stop].max():
            raise SystemExit(f"slots {first} to {stop}: a wrong answer of {len(trace)} points of {trace.slots} slots")
        lines["all"].append(took)
        if stop - first == len(scores):
            lines["whole range"].append(took)
        extents.append(timed(lambda span=span: store.reader.score_extent("history", *span))[0])  # type: ignore[misc]
    end_ns = START_NS + len(scores) * STEP_NS
    pages = store.reader.score_pages("history", START_NS, end_ns, detail=False)
    took, page = timed(lambda: next(pages))
    return {
        "line": {name: quantiles(times) for name, times in lines.items()},
        "extent": quantiles(extents),
        "first_page": {"slots": len(page), "ms": round(took, 1)},
    }


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--slots", type=int, default=1_000_000)
    parser.add_argument("--points", type=int, default=2_000)
    parser.add_argument("--asked", type=int, default=300)
    parser.add_argument("--channels", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    head = about(
        ("stream-ad", "numpy", "influxdb-client", "pyarrow"), **{k: v for k, v in vars(given).items() if k != "out"}
    )
    scores = np.random.default_rng(given.seed).exponential(0.3, given.slots)
    results: dict[str, Any] = {}

    def run(name: str, store: Store) -> None:
        filled_s = fill(store, scores, given.channels, np.random.default_rng(given.seed))
        results[name] = {
            "written_s": round(filled_s, 1),
            **measure(store, scores, given.points, given.asked, given.seed),
        }
        store.close()
        print(json.dumps({name: results[name]}), flush=True)

    with running_influxdb() as server:
        bucket = create_bucket(server, f"history-{time.time_ns()}")
        try:
            run("influxdb", InfluxStore(Settings(influxdb=InfluxSettings(**vars(bucket)))))
        finally:
            delete_bucket(bucket)
    with tempfile.TemporaryDirectory() as directory:
        run("embedded", SqliteStore(Path(directory) / "store.db"))
    target = {"influxdb_line_p95_ms": TARGET_MS, "met": results["influxdb"]["line"]["all"]["p95_ms"] < TARGET_MS}
    write_result(given.out, {"environment": head, "target": target, "results": results})


if __name__ == "__main__":
    main()
