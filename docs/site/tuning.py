"""The table of docs/tuning.md: `python docs/site/tuning.py` prints it. A simulated plant of seed 11, backtested."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from stream_ad.demo.plant import Plant

STREAM_AD = str(Path(sys.executable).with_name("stream-ad"))
TRAIN, TEST = 4000, 8000
CASES = [
    [],
    ["detector.false_alarms=1 per day"],
    ["detector.false_alarms=1 per hour"],
    ["detector.false_alarms=1 per 10min"],
    ["detector.delay_steps=0"],
    ["detector.delay_steps=16"],
    ["alerts.min_length_steps=32"],
    ["alerts.enter=2.0", "alerts.exit=1.0"],
]


def write(plant: Plant, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in plant.series:
        for part, first, rows in (("train", -TRAIN, TRAIN), ("test", 0, TEST)):
            frame = pd.DataFrame(plant.rows(name, first, rows), columns=list(plant.channels(name)), dtype=np.float32)
            frame.to_parquet(folder / f"{name.replace('/', '-')}.{part}.parquet")


def judged(plant: Plant, out: Path) -> tuple[int, int, int]:
    """Faults found, faults there are, and alerts that touch none (with a window's length around it)."""
    found = beside = 0
    for name in plant.series:
        alert = pd.read_parquet(out / f"{name.replace('/', '-')}.scores.parquet")["alert_id"].fillna("").to_numpy()
        faults = [fault for fault in plant.faults if fault.series == name]
        found += sum(any(alert[fault.start_slot : fault.end_slot]) for fault in faults)
        for one in {*alert} - {""}:
            first, last = np.flatnonzero(alert == one)[[0, -1]]
            beside += not any(fault.start_slot - 128 <= last and first < fault.end_slot + 128 for fault in faults)
    return found, len(plant.faults), beside


def main() -> None:
    plant = Plant.live(11, TEST, 20, past_slots=TRAIN)
    print("| settings | faults found | alerts far from any fault |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        write(plant, home / "data" / "PLANT")
        for number, case in enumerate(CASES):
            out = home / f"out-{number}"
            options = [part for one in case for part in ("--set", one)]
            command = [STREAM_AD, "backtest", "--data", str(home / "data"), "--out", str(out), *options]
            subprocess.run(command, check=True, capture_output=True)
            found, all_, beside = judged(plant, out / "PLANT")
            print(
                f"| {', '.join(f'`{one}`' for one in case) or 'defaults'} | {found} of {all_} | {beside} |", flush=True
            )


if __name__ == "__main__":
    main()
