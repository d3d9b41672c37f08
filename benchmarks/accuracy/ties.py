"""Anomalies that break the ties between channels and nothing else: every channel by itself looks as ever.

    make bench-ties ARGS="[--seeds 0,1,2] [--rows universal,ridge]"

After Pinet et al. (arXiv 2606.02670): nine sines of period 50 with phases apart and one noise of sd .3 that all share;
20,000 rows fitted, 10,000 scored, four segments of 300 to 500 rows. NoiseFlip: the shared noise changes sign in some
channels. NPRoll: some channels are rolled in time. own noise: its sd, of each channel alone. AP: average precision
of rows (chance: their share); channel right: share of anomalous rows whose first-named channel is one that was changed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score

from benchmarks.lib.about import about, argument_parser, write_result
from benchmarks.lib.peers import PEERS

Float64 = NDArray[np.float64]

CHANNELS, PERIOD, SHARED = 9, 50, 0.3
FITTED, SCORED, SEGMENTS, LENGTHS = 20_000, 10_000, 4, (300, 500)
KINDS = ("NoiseFlip", "NPRoll")
OWN_NOISE = (0.0, 0.3, 0.6)


def tied(seed: int, kind: str, own_noise: float) -> tuple[Float64, Float64, NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows to fit and to score, bool [n] anomalous, bool [n, channel] changed."""
    rng = np.random.default_rng([seed, KINDS.index(kind), round(10 * own_noise)])
    rows = FITTED + SCORED
    phase = rng.uniform(0, 2 * np.pi, CHANNELS)
    wave = np.sin(2 * np.pi * np.arange(rows)[:, None] / PERIOD + phase)
    shared = SHARED * rng.standard_normal((rows, 1))
    own = own_noise * rng.standard_normal((rows, CHANNELS))
    signs, changed = np.ones((rows, CHANNELS)), np.zeros((rows, CHANNELS), np.bool_)
    values = wave + shared + own
    for number in range(SEGMENTS):
        steps = int(rng.integers(LENGTHS[0], LENGTHS[1] + 1))
        start = FITTED + number * SCORED // SEGMENTS + int(rng.integers(200, SCORED // SEGMENTS - steps))
        span = slice(start, start + steps)
        picked = rng.choice(CHANNELS, int(rng.integers(1, CHANNELS // 2 + 1)), replace=False)
        changed[span, picked] = True
        if kind == "NoiseFlip":
            signs[span, picked] = -1
        else:
            values[span, picked] = np.roll(values[span, picked], int(rng.integers(10, 40)), axis=0)
    if kind == "NoiseFlip":
        values = wave + signs * shared + own
    return values[:FITTED], values[FITTED:], np.asarray(changed[FITTED:].any(axis=1)), changed[FITTED:]


def measure(row: str, kind: str, own_noise: float, seed: int) -> dict[str, float]:
    fitted, rows, label, changed = tied(seed, kind, own_noise)
    scored = PEERS[row](fitted, rows)
    first = scored.attribution.argmax(axis=1)
    right = changed[np.arange(len(rows)), first]
    return {
        "ap": round(float(average_precision_score(label, scored.score)), 4),
        "chance": round(float(label.mean()), 4),
        "channel_right": round(float(right[label].mean()), 4),
    }


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--rows", default=",".join(PEERS), help="comma-separated")
    arguments = parser.parse_args()
    seeds = [int(one) for one in arguments.seeds.split(",")]
    rows = arguments.rows.split(",")
    if unknown := [row for row in rows if row not in PEERS]:
        parser.error(f"--rows: expected some of {','.join(PEERS)}, found {','.join(unknown)}")
    result: dict[str, Any] = {"environment": about(seeds=seeds), "results": {}}
    table = Table(title=f"average precision (channel right), mean of seeds {arguments.seeds}")
    table.add_column("row")
    places = [(kind, own) for kind in KINDS for own in OWN_NOISE]
    for kind, own in places:
        table.add_column(f"{kind}\nown noise {own:g}", justify="right")
    for row in rows:
        cells = []
        for kind, own in places:
            runs = [measure(row, kind, own, seed) for seed in seeds]
            result["results"].setdefault(row, {})[f"{kind}/{own:g}"] = runs
            ap, right = (np.mean([run[name] for run in runs]) for name in ("ap", "channel_right"))
            cells.append(f"{ap:.3f} ({right:.2f})")
        table.add_row(row, *cells)
        print(f"{row}: {' '.join(cells)}", file=sys.stderr, flush=True)
        write_result(arguments.out, result)
    Console(file=sys.stdout, width=160).print(table)


if __name__ == "__main__":
    main()
