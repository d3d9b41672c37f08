"""Random faults against running workers on a real broker and a real store; the store against an undisturbed run.

    python benchmarks/drills.py --out FILE.json [--faults N] [--seed S]

One drill takes 14 faults; N faults are as many drills as that needs, each on a broker and a store of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration.drills import Outcome, run_drill
from tests.services.influxdb import InfluxServer
from tests.services.kafka import KafkaServer

FAULTS_PER_DRILL = 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--faults", type=int, default=FAULTS_PER_DRILL)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    outcomes: list[Outcome] = []
    left = args.faults
    while left > 0:
        seed = args.seed + len(outcomes)
        with tempfile.TemporaryDirectory() as home, KafkaServer() as broker, InfluxServer() as store:
            store.setup()
            count = min(left, FAULTS_PER_DRILL)
            outcomes.append(run_drill(Path(home), broker, store, faults=count, seed=seed, say=_say))
        left -= FAULTS_PER_DRILL
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(summary(outcomes), indent=1) + "\n")
        print(json.dumps({k: v for k, v in summary(outcomes).items() if k != "drills"}), flush=True)


def _say(line: str) -> None:
    print(line, flush=True)


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Totals over the drills, and each drill."""
    names = ("faults", "slots", "lost", "duplicate", "differing", "alerts", "alerts_lost", "alerts_doubled")
    recovery = [seconds for outcome in outcomes for seconds in outcome.recovery_s]
    return {
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("stream-ad", "torch", "numpy", "aiokafka", "influxdb-client")},
        **{name: sum(getattr(outcome, name) for outcome in outcomes) for name in names},
        "by_kind": dict(sum((outcome.by_kind for outcome in outcomes), Counter())),
        "recovery_median_s": round(float(np.median(recovery)), 2),
        "recovery_max_s": round(max(recovery), 2),
        "drills": [outcome.as_json() for outcome in outcomes],
    }


if __name__ == "__main__":
    main()
