"""Which faults are found, how soon, in which channel, at how many false episodes: on real normal rows and on plants.

    make bench-faults DATA=DIR ARGS="[--seeds 0] [--rows universal,ridge] [--sets many,one,plants]"

many, one: normal parts of the series of DIR of 8 channels or more, and of one; the first 60% are fitted, the rest is
scored as it is (the clean twin) and with faults of 13 kinds in three strengths (benchmarks.lib.fault_kinds), each kind
and strength as often as the others. plants: the demo's simulator, 6,000 rows fitted, 8,000 scored, 20 faults of 8 kinds
a series. The threshold is one for all series of a set: the lowest that leaves one false episode in so many
rows of the clean twins. Labels are read by the metric alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.lib.about import about, argument_parser, write_result
from benchmarks.lib.episodes import Found, Scored, count_episodes, find_faults, threshold_at
from benchmarks.lib.fault_kinds import KINDS, STRENGTHS, Fault, fault_schedule, put, robust_sd
from benchmarks.lib.peers import PEERS
from stream_ad.demo.plant import Plant
from stream_ad.offline.accuracy import label_runs

Float64 = NDArray[np.float64]

SETS = ("many", "one", "plants")
BUDGETS = {"many": (5_000, 1_000), "one": (5_000, 1_000), "plants": (24_000, 4_800)}
MOST_ROWS = 10_000
FEWEST_ROWS = 2_000
COPIES = 3
NORMAL_PARTS = ("SMD", "JumpStarter", "SKAB", "NAB", "NAB_artificialNoAnomaly")
PLANT_SEEDS = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One series: rows to fit, clean rows to score, and copies of these with faults."""

    name: str
    fitted: Float64
    clean: Float64
    copies: tuple[tuple[Float64, tuple[Fault, ...]], ...]


def normal_parts(data: Path, *, many: bool) -> Iterator[tuple[str, Float64]]:
    """The longest stretch without a label of each series: of its training part, for NAB of the whole file."""
    for path in sorted(data.glob("*/*.train.parquet")):
        if path.parent.name not in NORMAL_PARTS:
            continue
        frame = pd.read_parquet(path)
        test = path.with_name(path.name.replace(".train.", ".test."))
        if path.parent.name.startswith("NAB") and test.exists():
            frame = pd.concat([frame, pd.read_parquet(test)], ignore_index=True)
        label = frame["label"].fillna(0).to_numpy() != 0 if "label" in frame else np.zeros(len(frame), np.bool_)
        start, last = max(label_runs(~label), key=lambda run: run[1] - run[0], default=(0, -1))
        names = [name for name in frame if name not in ("timestamp", "label")]
        rows = frame[names].to_numpy(np.float64)[start : last + 1][:MOST_ROWS]
        if len(rows) >= FEWEST_ROWS and (rows.shape[1] >= 8 if many else rows.shape[1] == 1):
            yield f"{path.parent.name}/{path.name.removesuffix('.train.parquet')}", rows


def moving(rows: Float64) -> NDArray[np.intp]:
    return np.array([c for c, column in enumerate(rows.T) if len(np.unique(column[~np.isnan(column)])) > 2], np.intp)


def real_cases(data: Path, seed: int, *, many: bool) -> Iterator[Case]:
    rng = np.random.default_rng([seed, int(many)])
    deck: list[tuple[str, float]] = []
    for name, rows in normal_parts(data, many=many):
        cut = len(rows) * 6 // 10
        fitted, clean = rows[:cut], rows[cut:]
        channels = np.intersect1d(moving(fitted), moving(clean))
        if not len(channels):
            continue
        sd, copies = robust_sd(fitted), []
        for _ in range(COPIES):
            if len(deck) < 40:
                cards = [(kind, strength) for kind in KINDS for strength in STRENGTHS]
                deck = [cards[i] for i in rng.permutation(len(cards))] + deck
            faults = fault_schedule(rng, len(clean), channels, deck)
            copies.append((put(rng, clean, faults, sd), tuple(faults)))
        yield Case(name, fitted, clean, tuple(copies))


def plant_cases(seed: int) -> Iterator[Case]:
    for number in range(PLANT_SEEDS):
        faulty = Plant.live(100 * seed + number, 8_000, 20, past_slots=6_000)
        clean = Plant(100 * seed + number, past_slots=6_000, live_slots=8_000)
        for series in clean.series:
            names = clean.channels(series)
            faults = tuple(
                Fault(
                    one.kind.value,
                    max(map(abs, one.magnitudes)),
                    one.start_slot,
                    one.end_slot,
                    tuple(map(names.index, one.channels)),
                )
                for one in faulty.faults
                if one.series == series
            )
            fitted = clean.rows(series, -6_000, 6_000)
            copies = ((faulty.rows(series, 0, 8_000), faults),)
            yield Case(f"{number}/{series}", fitted, clean.rows(series, 0, 8_000), copies)


def cases(data: Path | None, which: str, seed: int) -> list[Case]:
    if which == "plants":
        return list(plant_cases(seed))
    if data is None:
        raise SystemExit(f"--sets {which}: expected --data DIR")
    return list(real_cases(data, seed, many=which == "many"))


def summary(found: Sequence[Found]) -> dict[str, Any]:
    """Shares of all faults; those of the found ones: right channel, lingering; median delay and lateness."""
    hits = [one for one in found if one.found]
    by: dict[str, dict[str, float]] = {"kind": {}, "strength": {}}
    for key, of in (("kind", lambda one: one.fault.kind), ("strength", lambda one: f"{one.fault.strength:g}")):
        for name in sorted({of(one) for one in found}):
            by[key][name] = round(float(np.mean([one.found for one in found if of(one) == name])), 3)
    return {
        "faults": len(found),
        "found": round(len(hits) / len(found), 3),
        "fresh": round(float(np.mean([one.fresh for one in found])), 3),
        "channel_right": round(float(np.mean([one.channel_right for one in hits])), 3) if hits else None,
        "lingers": round(float(np.mean([one.lingers for one in hits])), 3) if hits else None,
        "delay": float(np.median([one.delay for one in hits])) if hits else None,
        "late": float(np.median([one.late for one in hits])) if hits else None,
        "by_kind": by["kind"],
        "by_strength": by["strength"],
    }


def measure(row: str, which: str, every: Sequence[Case]) -> dict[str, Any]:
    score, began = PEERS[row], time.perf_counter()
    clean: list[Float64] = []
    faulty: list[tuple[Scored, tuple[Fault, ...]]] = []
    for case in every:
        clean.append(score(case.fitted, case.clean).score)
        faulty += [(score(case.fitted, rows), faults) for rows, faults in case.copies]
    limits = {f"1 in {n:,}": threshold_at(clean, n) for n in BUDGETS[which]} | {"own": 1.0}
    out: dict[str, Any] = {"rows": sum(map(len, clean)), "seconds": 0.0, "at": {}}
    for name, limit in limits.items():
        found = [one for scored, faults in faulty for one in find_faults(scored, faults, limit)]
        out["at"][name] = {"false_episodes": count_episodes(clean, limit), **summary(found)}
    out["seconds"] = round(time.perf_counter() - began, 1)
    return out


def print_set(which: str, results: dict[str, Any], console: Console) -> None:
    first = next(iter(results.values()))
    table = Table(title=f"{which}: {next(iter(first['at'].values()))['faults']} faults, {first['rows']:,} clean rows")
    table.add_column("row")
    for limit in first["at"]:
        for word in ("found", "fresh", "lingers", "channel", "false"):
            table.add_column(f"{limit}\n{word}", justify="right")
    for row, one in results.items():
        cells = [
            "-" if value is None else f"{value:g}"
            for each in one["at"].values()
            for value in (each["found"], each["fresh"], each["lingers"], each["channel_right"], each["false_episodes"])
        ]
        table.add_row(row, *cells)
    console.print(table)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--data", type=Path, help="directory of labelled series; without it plants alone")
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--rows", default=",".join(PEERS), help="comma-separated")
    parser.add_argument("--sets", default=None, help="comma-separated, of many, one, plants")
    arguments = parser.parse_args()
    rows = arguments.rows.split(",")
    if unknown := [row for row in rows if row not in PEERS]:
        parser.error(f"--rows: expected some of {','.join(PEERS)}, found {','.join(unknown)}")
    sets = arguments.sets.split(",") if arguments.sets else list(SETS if arguments.data else SETS[2:])
    console = Console(file=sys.stdout, width=200)
    seeds = [int(one) for one in arguments.seeds.split(",")]
    result: dict[str, Any] = {"environment": about(seeds=seeds), "results": {}}
    for seed in seeds:
        for which in sets:
            every = cases(arguments.data, which, seed)
            of_set = result["results"].setdefault(f"{which}/{seed}", {})
            for row in rows:
                of_set[row] = measure(row, which, every)
                write_result(arguments.out, result)
                at = {name: each["found"] for name, each in of_set[row]["at"].items()}
                print(f"{which}, seed {seed}, {row}: {at} in {of_set[row]['seconds']} s", file=sys.stderr, flush=True)
            print_set(f"{which}, seed {seed}", of_set, console)


if __name__ == "__main__":
    main()
