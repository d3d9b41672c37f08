"""Hostile records among good ones, through a real topic and a worker into a store: every one is accounted for.

    python -m benchmarks.reliability.hostile --out FILE.json [--records N] [--seed S] [--store
        influxdb|embedded] [--scorer NAME]

Records are fuzzed by structure and by bytes; what has to become of each is decided without the product's own
decoder (tests/reference/records.py). Good series run beside them, and alone through a second worker: their scores must
be the same.
N records go in rounds, each with topics, workers and a store's bucket of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.lib.about import about
from tests.support.hostile.stream import Outcome, run_hostile
from tests.support.services.influxdb import running_influxdb
from tests.support.services.kafka import running_kafka

ROUND = 100_000
GOOD_ROWS = 1500


def one_round(kafka: str, store: str, count: int, seed: int, scorer: str) -> Outcome:
    def say(line: str) -> None:
        print(f"round {seed}: {line}", flush=True)

    with tempfile.TemporaryDirectory() as home:
        options = {"count": count, "seed": seed, "scorer": scorer, "good_rows": GOOD_ROWS, "drain_s": 1800.0}
        if store == "embedded":
            return run_hostile(Path(home), kafka, None, say=say, **options)
        with running_influxdb() as influx:
            return run_hostile(Path(home), kafka, influx, say=say, **options)


def summary(outcomes: list[Outcome], about: dict[str, Any]) -> dict[str, Any]:
    """Totals over the rounds; counts of hostile records unless they say good."""
    numbers = [name for name, value in vars(outcomes[0]).items() if isinstance(value, int) and name != "seed"]
    return {
        **about,
        **{name: sum(getattr(one, name) for one in outcomes) for name in numbers},
        "by_kind": dict(sum((one.by_kind for one in outcomes), Counter()).most_common()),
        "dead_letters_by_reason": dict(sum((one.by_reason for one in outcomes), Counter()).most_common()),
        "examples": [example for one in outcomes for example in one.examples],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=["influxdb", "embedded"], default="influxdb")
    parser.add_argument("--scorer", default="universal")
    args = parser.parse_args()
    head = about(store=args.store, scorer=args.scorer, seed=args.seed)
    outcomes: list[Outcome] = []
    begun, left = time.monotonic(), args.records
    with running_kafka() as kafka:
        while left > 0:
            count = min(left, ROUND)
            outcomes.append(one_round(kafka, args.store, count, args.seed + len(outcomes), args.scorer))
            left -= count
            result = summary(outcomes, head | {"wall_s": round(time.monotonic() - begun)})
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print(json.dumps({k: v for k, v in result.items() if isinstance(v, int)}), flush=True)
    if not all(one.clean for one in outcomes):
        raise SystemExit("not clean: see examples in the result")


if __name__ == "__main__":
    main()
