"""What waiting and having seen little cost: VUS-PR by delay and hop, and by the rows that a series has been seen for.

    make bench-streaming DATA=DIR ARGS="[--seed S] [--jobs N] [--hops 4,8,16,32,64] [--part P]
        [--rows universal,memory]"

Delay and hop (part `delay`): the series of DIR/tsb_ad_m_published.csv as in accuracy.py, the default and the
no-network rows with every delay and hop that they can be made with (others are left blank). A slot waits `delay`
later slots and up to `hop` - 1 more for the next window. The plot is written next to FILE.json.

Seen (part `seen`): at most 4 series of each data set, the first 4,000 rows after the training part, fitted on the
last 128, 256, ... rows of the training part or all of it (8,000 at most): how good a series is scored that many
observations after its first one, on the same rows each time. 0: nothing is fitted, the stream fills its own profile
as it goes (its first 128 rows have no score and count as normal).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.accuracy.harness import (
    Result,
    Results,
    Task,
    build,
    case_of,
    environment,
    filled,
    labels_of,
    parser_of,
    published_tasks,
    rows_of,
    run,
)
from benchmarks.accuracy.trials import few_of_each, score_frames, split_of
from stream_ad.errors import ConfigError
from stream_ad.offline.accuracy import vus_pr
from stream_ad.offline.backtest import score_case
from stream_ad.ports import Scorer
from stream_ad.settings import Settings

METRICS = 1
DELAYS, HOPS = (0, 8, 16, 32, 64), (1, 4, 8, 16, 32, 64)
DEFAULT_HOPS = "4,8,16,32,64"  # hop 1 takes 16 times as long as hop 16
SEEN = (0, 128, 256, 512, 1024, 2048)
EVERYTHING = -1
MOST_SERIES, MOST_ROWS = 4, 4000
OWN = "universal"
DEFAULT_ROWS = (OWN, "memory", "control")


def _universal(hop: int, delay: int) -> Scorer:
    from stream_ad_models.imputer.imputer import UniversalImputer
    from stream_ad_models.scorer.imputation_scorer import ImputationScorer

    return ImputationScorer(UniversalImputer.load(), hop_steps=hop, delay_steps=delay)


def _memory(hop: int, delay: int) -> Scorer:
    from stream_ad_models.scorer.imputation_scorer import MemoryScorer

    return MemoryScorer(hop_steps=hop, delay_steps=delay)


def _control(hop: int, delay: int) -> Scorer:
    from stream_ad_models.baselines.control import ControlScorer

    return ControlScorer(hop_steps=hop, delay_steps=delay)


MAKERS: dict[str, Callable[[int, int], Scorer]] = {OWN: _universal, "memory": _memory, "control": _control}


@dataclass(frozen=True)
class Trial:
    """One series under one scorer. delay, hop: in steps, part `delay`; seen: rows that are fitted, part `seen`."""

    table: str
    row: str
    seed: int
    task: Task
    delay: int = 0
    hop: int = 0
    seen: int = EVERYTHING

    @property
    def key(self) -> str:
        how = f"h{self.hop}-d{self.delay}" if self.table == "delay" else f"n{self.seen}"
        return f"{self.table}/{self.row}/{how}/{self.seed}/{self.task.dataset}/{self.task.series}"


def measure(trial: Trial, data: Path) -> Result:
    started = time.perf_counter()
    score = _by_delay(trial, data) if trial.table == "delay" else _by_seen(trial, data)
    return asdict(trial) | {
        "dataset": trial.task.dataset,
        "vus_pr": score,
        "seconds": round(time.perf_counter() - started, 2),
    }


def _by_delay(trial: Trial, data: Path) -> float:
    import torch

    torch.set_num_threads(1)
    case = case_of(trial.task, data)
    scored = score_case(case, Settings(), MAKERS[trial.row](trial.hop, trial.delay))
    return vus_pr(labels_of(case.test), filled(scored.score), trial.task.window)


def _by_seen(trial: Trial, data: Path) -> float:
    split = split_of(trial.task, data, MOST_ROWS)
    train = split.train if trial.seen == EVERYTHING else split.train.iloc[len(split.train) - trial.seen :]
    scorer = build(trial.row, trial.seed)
    scored = score_frames(train if trial.seen else None, split.test, scorer, trial.task.dataset, trial.task.series)
    return vus_pr(split.labels, filled(scored.score), split.window)


def delay_trials(data: Path, rows: Sequence[str], hops: Sequence[int], seed: int) -> list[Trial]:
    trials = []
    for row in rows:
        for hop in hops:
            for delay in DELAYS:
                try:
                    MAKERS[row](hop, delay)
                except ConfigError:
                    continue
                trials += [Trial("delay", row, seed, task, delay, hop) for task in published_tasks(data, [row], seed)]
    return trials


def seen_trials(data: Path, rows: Sequence[str], seed: int) -> list[Trial]:
    """Only series whose training part is as long; the table names how many they are."""
    trials = []
    for task in few_of_each(data, MOST_SERIES, MOST_ROWS):
        length = len(split_of(task, data, MOST_ROWS).train)
        amounts = [*(seen for seen in SEEN if seen <= length), EVERYTHING]
        trials += [Trial("seen", row, seed, task, seen=seen) for row in rows for seen in amounts]
    return sorted(trials, key=lambda trial: rows.index(trial.row))


# ---- tables


def delay_summary(results: Sequence[Result]) -> Result:
    """row -> hop -> delay -> mean VUS-PR; and of the default, what delay 0 loses against the best."""
    out: Result = {}
    for row in dict.fromkeys(r["row"] for r in results):
        cells: dict[str, dict[str, float]] = {}
        for hop in HOPS:
            for delay in DELAYS:
                mine = [r["vus_pr"] for r in results if (r["row"], r["hop"], r["delay"]) == (row, hop, delay)]
                if mine:
                    cells.setdefault(str(hop), {})[str(delay)] = float(np.mean(mine))
        out[row] = cells
    own = [(value, int(d), int(h)) for h, line in out.get(OWN, {}).items() for d, value in line.items()]
    if now := [each for each in own if each[1] == 0]:
        best, first = max(own), max(now)
        out["loss_at_delay_0"] = {
            "best": best[0],
            "best_delay": best[1],
            "best_hop": best[2],
            "at_0": first[0],
            "loss": best[0] - first[0],
        }
    return out


def seen_summary(results: Sequence[Result]) -> Result:
    """row -> rows seen -> mean VUS-PR over all series, a shorter training part being taken whole; and over those that
    have as many rows, in all columns the same series."""
    out: Result = {}
    for row in dict.fromkeys(r["row"] for r in results):
        by: dict[int, dict[str, float]] = {seen: {} for seen in (*SEEN, EVERYTHING)}
        for r in results:
            if r["row"] == row:
                by[r["seen"]][f"{r['task']['dataset']}/{r['task']['series']}"] = r["vus_pr"]
        whole = by[EVERYTHING]
        long = sorted(whole.keys() & by[max(SEEN)].keys())
        out[row] = {
            "all" if seen == EVERYTHING else str(seen): {
                "vus_pr": float(np.mean([each.get(name, value) for name, value in whole.items()])),
                "series": len(whole),
                "long": float(np.mean([each[name] for name in long])) if long else None,
                "long_series": len(long),
            }
            for seen, each in by.items()
        }
    return out


def show_delay(found: Result) -> None:
    print("\nVUS-PR by hop (down) and delay (across), mean over the published series")
    for row, cells in found.items():
        if row == "loss_at_delay_0":
            continue
        print(f"{row:12s}" + "".join(f"{delay:>8d}" for delay in DELAYS))
        for hop, line in cells.items():
            print(f"{hop:>12s}" + "".join(f"{line[str(d)]:8.3f}" if str(d) in line else f"{'':8s}" for d in DELAYS))
    if loss := found.get("loss_at_delay_0"):
        print(
            f"{OWN}: best {loss['best']:.3f} at delay {loss['best_delay']} (hop {loss['best_hop']}),"
            f" at delay 0 {loss['at_0']:.3f}: {loss['loss']:.3f} less",
            flush=True,
        )


def show_seen(found: Result) -> None:
    print(f"\nVUS-PR by rows seen, all series (in brackets: those with {max(SEEN)} rows and more to be seen)")
    for row, cells in found.items():
        print(f"{row:12s}" + "".join(f"{seen:>16s}" for seen in cells))
        pairs = [(f"{c['vus_pr']:.3f}", "-" if c["long"] is None else f"{c['long']:.3f}") for c in cells.values()]
        print(f"{'':12s}" + "".join(f"{f'{every} ({long})':>16s}" for every, long in pairs))
        last = cells["all"]
        print(f"{'':12s}{last['series']} series ({last['long_series']})", flush=True)


def plot(found: Result, path: Path) -> None:
    """One line a hop of the default; the others at their own default hop, 16."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for row, cells in found.items():
        if row == "loss_at_delay_0":
            continue
        for hop, line in cells.items():
            if row != OWN and hop != "16":
                continue
            axes.plot(
                [int(delay) for delay in line],
                list(line.values()),
                "o-" if row == OWN else ".--",
                label=f"{row}, hop {hop}",
            )
    axes.set(xlabel="delay (slots)", ylabel="VUS-PR, mean of 25 series")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = parser_of(__doc__, DEFAULT_ROWS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hops", default=DEFAULT_HOPS, help=f"comma-separated, of {', '.join(map(str, HOPS))}")
    parser.add_argument("--part", choices=("delay", "seen", "both"), default="both")
    arguments = parser.parse_args()
    rows = rows_of(parser, arguments.rows, MAKERS)
    hops = [int(hop) for hop in arguments.hops.split(",")]
    if unknown := set(hops) - set(HOPS):
        parser.error(f"--hops: expected some of {HOPS}, found {sorted(unknown)}")
    about = environment([arguments.seed], rows) | {"measures": METRICS}
    print(json.dumps(about), flush=True)
    results = Results(arguments.out, about)
    trials: list[Trial] = []
    if arguments.part != "seen":
        trials += delay_trials(arguments.data, rows, hops, arguments.seed)
    if arguments.part != "delay":
        trials += seen_trials(arguments.data, rows, arguments.seed)
    run(trials, measure, arguments.data, results, arguments.jobs)
    asked = [r for r in results.found.values() if r["row"] in rows]
    by_delay = delay_summary([r for r in asked if r["table"] == "delay"])
    by_seen = seen_summary([r for r in asked if r["table"] == "seen"])
    results.write({"delay": by_delay, "seen": by_seen})
    if by_delay:
        show_delay(by_delay)
        plot(by_delay, arguments.out.with_suffix(".png"))
    if by_seen:
        show_seen(by_seen)


if __name__ == "__main__":
    main()
