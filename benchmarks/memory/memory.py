"""Memory of a live series, by its number of channels.

    make bench-memory ARGS="[--only C] [--seed S]"

For each number of channels a separate process starts series, one chunk after the other, through the pipeline: a
separate profile each (fitted on 4,096 slots, the most a stream fills by itself; copies of one, so that nothing is
shared), then so many slots that every ring is full. The resident memory between two chunks, by their series, is what
one more live series costs; the memory of the process before its first series is reported too. The targets are computed
from both. No broker and no store: live_series.py measures a whole worker.
"""

from __future__ import annotations

import gc
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import msgspec
import numpy as np
import psutil

from benchmarks.lib.about import about, argument_parser, write_result
from benchmarks.lib.synthetic_load import Load
from stream_ad.detection.profiles import fit_profile
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.ports import Fitted, Profile
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.settings import Settings, Subscription
from stream_ad.wiring import build_scorer

TARGETS = {5: 10_000, 38: 1_500}  # live series that a worker should hold in 2 GB
LIMIT_MIB = 2 * 10**9 / 2**20
CHUNK = {1: 200, 5: 100, 38: 200, 200: 30}  # a small one finds room that others left free: too low a figure
CHUNKS = 3
HISTORY, ROWS = 4096, 64


class Profiles:
    """A separate profile for each requested series, all copies of one."""

    def __init__(self, model: Profile) -> None:
        self._model = model

    def load(self, series: str, scorer: str, version: str | None = None) -> Profile:
        fitted = self._model.fitted
        own = Fitted({name: np.array(values) for name, values in fitted.arrays.items()}, fitted.held_out.copy())
        return replace(self._model, series=series, fitted=own)

    def save(self, profile: Profile, *, promote: bool) -> None: ...

    def series(self, scorer: str) -> list[str]:
        return []


def resident_mib() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss / 2**20)


def measure(channels: int, seed: int) -> dict[str, Any]:
    settings = Settings(subscription=(Subscription(topic="t", step="1s"),))
    scorer, load = build_scorer(settings), Load(1, channels, 2048, HISTORY, seed)
    values, names = load.values(0).astype(np.float32), [f"channel-{number:03d}" for number in range(channels)]
    model = fit_profile(
        scorer,
        "model",
        names,
        values[:HISTORY],
        step_ns=10**9,
        origin="fit",
        capacity=HISTORY,
        history_end_ns=None,
    )
    stream = values[HISTORY:]
    pipeline = Pipeline(settings, scorer, Profiles(model))
    steps = (scorer.lookback_steps + settings.detector.revise_steps + 4 * scorer.hop_steps) // ROWS + 1
    before, found, offset = resident_mib(), [], 0
    for chunk in range(CHUNKS):
        for step in range(steps):
            first = step * ROWS
            columns = dict(zip(names, stream[first : first + ROWS].T.tolist(), strict=True))
            times = [(10**6 + first + row) * 1000 for row in range(ROWS)]
            for number in range(CHUNK[channels]):
                body = {"series": f"series-{chunk}-{number}", "times": times, "values": columns}
                record = SourceRecord(SourcePosition("t", 0, offset), 0, None, msgspec.json.encode(body))
                pipeline.process([record])
                offset += 1
        found.append(resident_mib())
    each = (found[-1] - found[0]) / ((CHUNKS - 1) * CHUNK[channels])
    target = TARGETS.get(channels)
    return {
        "channels": channels,
        "process_mib": round(before),
        "kib_a_series": round(each * 1024, 1),
        "profile_kib": round(sum(array.nbytes for array in model.fitted.arrays.values()) / 1024, 1),
        "series_in_2_gb": round((LIMIT_MIB - before) / each),
        **({"target_series": target, "target_mib": round(before + target * each)} if target else {}),
    }


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--only", type=int, choices=sorted(CHUNK), help="this number of channels alone")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    head, begun, results = about(seed=given.seed, history=HISTORY), time.monotonic(), []
    for channels in [given.only] if given.only else sorted(CHUNK):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            results.append(process.submit(measure, channels, given.seed).result())
        print(json.dumps(results[-1]), flush=True)
    head["wall_s"] = round(time.monotonic() - begun)
    write_result(given.out, {"environment": head, "results": results})


if __name__ == "__main__":
    main()
