"""Random overlapping faults against running workers on a real broker and store; the store against an undisturbed run.

    make bench-drills ARGS="[--faults N] [--seed S] [--resume] [--restarts N] [--store-away S]"

A drill takes up to 100 faults in bursts of 20 that overlap; N faults are as many drills as that needs. Of four drills
one is on the embedded store with a disk that fills up (that needs the right to mount), one has speculative scores.
FILE is written after each drill; with --resume the drills that it holds are not run again. What a drill that found a
difference worked on stays in FILE.seed-S.

Beside them: the time from a worker's start, after kill -9, to its first new score, and what it reads again
(--restarts); a worker's memory while its store is down for S seconds under a steady stream (--store-away).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.about import about, argument_parser, write_result
from tests.support.drills import Plan, World, run_drill
from tests.support.drills.outage import measure_outage, measure_restarts

FAULTS_PER_DRILL = 100
TOTALS = (
    *("faults", "records", "slots", "revised", "lost", "duplicate", "differing"),
    *("alerts", "alerts_lost", "alerts_doubled", "alerts_differing", "events_repeated"),
    *("dead_letters", "dead_letters_lost", "crashes", "gave_up", "not_in_time"),
)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--faults", type=int, default=FAULTS_PER_DRILL)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--store-away", type=float, default=60.0, metavar="S")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(args.out.read_text()) if args.resume else {}
    done: list[dict[str, Any]] = before.get("drills", [])
    head = about(**{name: before[name] for name in ("restarts", "store_away") if name in before})
    with World() as world:
        if args.restarts and "restarts" not in head:
            head["restarts"] = measured_restarts(world, args.restarts)
            _write(args.out, done, head)
        if args.store_away and "store_away" not in head:
            head["store_away"] = measured_outage(world, args.store_away)
            _write(args.out, done, head)
        for plan in plans(args.faults, args.seed):
            if any(drill["seed"] == plan.seed for drill in done):
                continue
            home = args.out.with_suffix(f".seed-{plan.seed}")
            shutil.rmtree(home, ignore_errors=True)
            outcome = run_drill(home.absolute(), world, plan, say=_print)
            done.append(outcome.as_json())
            if outcome.clean:
                shutil.rmtree(home)
            _write(args.out, done, head)
            _print(json.dumps({k: v for k, v in summary(done).items() if k != "drills"}))


def measured_restarts(world: World, times: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as home:
        found = [asdict(one) for one in measure_restarts(Path(home) / "job", world, times=times)]
    _print(f"restarts: {found}")
    return found


def measured_outage(world: World, away_s: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        outage = measure_outage(Path(home) / "job", world, away_s=away_s)
    found = {**asdict(outage), "growth_mib": round(outage.growth_mib, 1)}
    _print(f"store away: {found}")
    return found


def _write(path: Path, done: list[dict[str, Any]], head: dict[str, Any]) -> None:
    write_result(path, {**head, **summary(done)})


def plans(faults: int, seed: int) -> list[Plan]:
    """Drills that take `faults` together; each is known by its seed."""
    found: list[Plan] = []
    while faults > 0:
        number = len(found)
        embedded = number % 4 == 1 and os.geteuid() == 0
        count = min(faults, FAULTS_PER_DRILL)
        found.append(Plan(seed + number, count, embedded=embedded, silence=number % 4 == 2))
        faults -= count
    return found


def _print(line: str) -> None:
    print(line, flush=True)


def summary(drills: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals over the drills, and each drill."""
    recovery = [seconds for drill in drills for seconds in drill["recovery_s"]]
    by_kind: dict[str, int] = {}
    for drill in drills:
        for kind, count in drill["by_kind"].items():
            by_kind[kind] = by_kind.get(kind, 0) + count
    minutes = sum(drill["wall_s"] for drill in drills) / 60
    shown = {} if not recovery else {"median": float(np.median(recovery)), "p95": float(np.quantile(recovery, 0.95))}
    return {
        **{name: sum(drill[name] for drill in drills) for name in TOTALS},
        "by_kind": by_kind,
        "faults_per_minute": round(sum(drill["faults"] for drill in drills) / minutes, 1) if drills else None,
        "recovery_s": {"bursts": len(recovery), "max": max(recovery, default=None)}
        | {name: round(seconds, 2) for name, seconds in shown.items()},
        "drills": drills,
    }


if __name__ == "__main__":
    main()
