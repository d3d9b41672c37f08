"""Cost of scoring: slots a second, memory, seconds of fitting and training; a CSDI network in the same run.

    make bench-cost ARGS="[--seed S] [--seconds S] [--only TEXT]"

Every figure comes through the Scorer port: `fit` on 5,000 rows, `open`, then `score` of windows one hop apart, as many
at once as `backtest` gives (4,096 rows). A point is a slot of all its channels. The series are sums of sines and noise:
no reading missing, no channel constant. Each configuration runs in a separate process; `workers` are such processes
side by side, their rates added. points_per_s is by the clock, so a busy machine lowers it; points_per_cpu_s is by the
processor time the process used. CSDI: whole windows, each gives 50 points (benchmarks/speed/csdi.py).
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.harness import environment
from benchmarks.lib.about import argument_parser, write_result
from benchmarks.speed.cost_cases import CSDI_WINDOWS, MAIN_CHANNELS, Configuration, configurations, make
from benchmarks.speed.csdi import CsdiScorer, CsdiSession
from stream_ad.ports import Scorer, Session, Window

Float32 = NDArray[np.float32]
Result = dict[str, Any]

HISTORY_ROWS = 5000
BATCH_ROWS = 4096
GROUP_SERIES, GROUP_ROWS = 4, 5000
FEWEST_BATCHES, MOST_BATCHES = 3, 40


def series(rng: np.random.Generator, rows: int, channels: int) -> Float32:
    """Each channel two different sines and noise, float32 [rows, channel]."""
    steps = np.arange(rows)[:, None]
    sines = (np.sin(2 * np.pi * steps / rng.uniform(8, 400, channels) + rng.uniform(0, 6, channels)) for _ in range(2))
    return (sum(sines) + 0.3 * rng.standard_normal((rows, channels))).astype(np.float32)


def batches(scorer: Scorer, sessions: Sequence[Session], rows: Float32) -> Iterator[list[tuple[Session, Window]]]:
    """Endless: the sessions go through the same rows, over and over, one hop at a time, all at the same position."""
    hop, width, delay = scorer.hop_steps, scorer.window_steps, scorer.delay_steps
    each = max(1, BATCH_ROWS // hop // len(sessions))
    begin = -(-width // hop)  # the first window that lies wholly in the stream
    length = len(rows) // hop * hop - width
    while True:
        batch = []
        for number in range(begin, begin + each):
            end = number * hop - 1
            at = (end + 1 - width) % length
            emit = max(end + 1 - hop - delay, 0), max(end + 1 - delay, 0)
            batch += [(session, Window(rows[at : at + width], end, *emit)) for session in sessions]
        begin += each
        yield batch


_barrier: Barrier | None = None


def _start(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - a barrier reaches a worker only by inheritance
    _barrier = barrier


def measure(configuration: Configuration, seed: int, seconds: float) -> Result:
    """One worker: fit, then batches for so many seconds; medians over them."""
    import torch

    torch.set_num_threads(configuration.threads)
    rng = np.random.default_rng([seed, configuration.channels])
    history, rows = (series(rng, HISTORY_ROWS, configuration.channels) for _ in range(2))
    scorer = make(configuration, seed)
    if isinstance(scorer, CsdiScorer):
        arrays = {"centre": history.mean(axis=0), "scale": history.std(axis=0)}
        return _measure_csdi(configuration, scorer, scorer.open(arrays), rows, seconds)
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = scorer.fit(history)
    fit_s, fit_cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    sessions = [scorer.open(fitted.arrays) for _ in range(configuration.series)]
    stream = batches(scorer, sessions, rows)
    _wait()
    scorer.score(next(stream))  # allocations, caches
    rates: list[float] = []
    cpu_rates: list[float] = []
    began = time.perf_counter()
    while len(rates) < FEWEST_BATCHES or (time.perf_counter() - began < seconds and len(rates) < MOST_BATCHES):
        batch = next(stream)
        wall, cpu = time.perf_counter(), time.process_time()
        slots = sum(len(scored.raw) for scored in scorer.score(batch))
        rates.append(slots / (time.perf_counter() - wall))
        cpu_rates.append(slots / (time.process_time() - cpu))
    return {
        "points_per_s": statistics.median(rates),
        "points_per_cpu_s": statistics.median(cpu_rates),
        "batches": len(rates),
        "windows_per_batch": len(batch),
        "hop": scorer.hop_steps,
        "fit_s": round(fit_s, 3),
        "fit_cpu_s": round(fit_cpu_s, 3),
        "peak_mb": _peak_mb(),
    }


def _measure_csdi(
    configuration: Configuration, scorer: CsdiScorer, session: CsdiSession, rows: Float32, seconds: float
) -> Result:
    count = CSDI_WINDOWS[configuration.channels]
    width, hop = scorer.window_steps, scorer.hop_steps
    windows = np.stack([rows[at * hop : at * hop + width] for at in range(count)])
    _wait()
    rates: list[float] = []
    cpu_rates: list[float] = []
    began = time.perf_counter()
    while not rates or time.perf_counter() - began < seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        scorer.score_together(session, windows)
        rates.append(count * hop / (time.perf_counter() - wall))
        cpu_rates.append(count * hop / (time.process_time() - cpu))
    return {
        "points_per_s": statistics.median(rates),
        "points_per_cpu_s": statistics.median(cpu_rates),
        "batches": len(rates),
        "windows_per_batch": count,
        "hop": hop,
        "peak_mb": _peak_mb(),
    }


def train_group_model(threads: int, seed: int) -> Result:
    """Seconds of `train_group` with its defaults on similar series of MAIN_CHANNELS channels."""
    import torch
    from stream_ad_models.pretraining.group import train_group
    from stream_ad_models.scorer.normaliser import Normaliser

    torch.set_num_threads(threads)
    rng = np.random.default_rng(seed)
    histories = [series(rng, GROUP_ROWS, MAIN_CHANNELS) for _ in range(GROUP_SERIES)]
    histories = [Normaliser.fit(history).apply(history) for history in histories]
    wall, cpu = time.perf_counter(), time.process_time()
    train_group(histories, seed=seed)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "series": GROUP_SERIES,
        "rows": GROUP_ROWS,
        "channels": MAIN_CHANNELS,
    }


def _wait() -> None:
    if _barrier is not None:
        _barrier.wait()


def _peak_mb() -> float | None:
    """Most resident memory this process ever had; None where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def run_one(configuration: Configuration, seed: int, seconds: float) -> Result:
    """All workers of a configuration, their rates added."""
    os.environ["OMP_NUM_THREADS"] = str(configuration.threads)  # of the processes to come
    context = get_context("spawn")
    barrier = context.Barrier(configuration.workers)
    with ProcessPoolExecutor(configuration.workers, context, initializer=_start, initargs=(barrier,)) as pool:
        jobs = [pool.submit(measure, configuration, seed, seconds) for _ in range(configuration.workers)]
        found = [job.result() for job in jobs]
    total = dict(found[0])
    for name in ("points_per_s", "points_per_cpu_s", "peak_mb"):
        total[name] = None if found[0][name] is None else round(sum(each[name] for each in found), 3)
    total["channel_points_per_s"] = round(total["points_per_s"] * configuration.channels, 1)
    return asdict(configuration) | total


def run_training(threads: int, seed: int) -> Result:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(train_group_model, threads, seed).result()


def ratios(results: dict[str, Result]) -> dict[str, float]:
    """Each configuration against CSDI with the same channels, threads and workers, where that was run.

    By processor time: what else a machine does meanwhile slows one more than the other.
    """
    csdi = {_resources(r): r["points_per_cpu_s"] for r in results.values() if r["scorer"] == "csdi"}
    return {
        key: round(r["points_per_cpu_s"] / csdi[_resources(r)], 1)
        for key, r in results.items()
        if r["scorer"] != "csdi" and _resources(r) in csdi
    }


def _resources(result: Result) -> tuple[int, int, int]:
    return result["channels"], result["threads"], result["workers"]


def device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0, help="of scoring for each configuration")
    parser.add_argument("--only", default="", help="configurations whose name holds this text")
    arguments = parser.parse_args()
    about = environment([arguments.seed]) | {"gpu": device()}
    print(json.dumps(about), flush=True)
    results: dict[str, Result] = {}
    training: dict[str, Result] = {}
    for configuration in configurations():
        if arguments.only in configuration.key:
            found = results[configuration.key] = run_one(configuration, arguments.seed, arguments.seconds)
            print(f"{configuration.key:46s} {_line(found)}", flush=True)
            write(arguments.out, about, results, training)
    if arguments.only in "group training":
        for threads in (1, 2):
            training[f"{threads} threads"] = run_training(threads, arguments.seed)
            print(f"group training, {threads} threads: {json.dumps(training[f'{threads} threads'])}", flush=True)
    write(arguments.out, about, results, training)
    for key, ratio in ratios(results).items():
        print(f"{key:46s} {ratio:12,.1f} times CSDI", flush=True)


def write(path: Path, about: Result, results: dict[str, Result], training: dict[str, Result]) -> None:
    document = {
        "environment": about,
        "points_per_s": {key: result["points_per_s"] for key, result in results.items()},
        "points_per_cpu_s": {key: result["points_per_cpu_s"] for key, result in results.items()},
        "ratio_to_csdi": ratios(results),
        "fit_s": {key: result["fit_s"] for key, result in results.items() if "fit_s" in result},
        "group_training": training,
        "configurations": results,
    }
    write_result(path, document)


def _line(found: Result) -> str:
    parts = [f"{found['points_per_s']:12,.1f} points/s", f"{found['points_per_cpu_s']:12,.1f} a CPU second"]
    parts += [f"fit {found['fit_s']:.2f} s ({found['fit_cpu_s']:.2f} of CPU)"] if "fit_s" in found else []
    return ", ".join([*parts, *([f"{found['peak_mb']:.0f} MB"] if found["peak_mb"] else [])])


if __name__ == "__main__":
    main()
