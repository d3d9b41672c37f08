"""Hostile records among good ones, through a real topic and a worker into a store: every one is accounted for.

    make bench-hostile ARGS="[--records N] [--seed S] [--store influxdb|embedded] [--scorer NAME]"

Records are fuzzed by structure and by bytes; what has to become of each is decided without the product's own
decoder (tests/reference/records.py). Good series run with them, and alone through a second worker: their scores must
be the same.
N records go in rounds, each with separate topics, workers and bucket.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.lib.about import about, argument_parser, write_result
from tests.support.hostile.stream import Outcome, run_hostile
from tests.support.services.influxdb import running_influxdb
from tests.support.services.kafka import running_kafka

ROUND = 100_000
GOOD_ROWS = 1500


def one_round(kafka: str, store: str, count: int, seed: int, scorer: str) -> Outcome:
    def say(line: str) -> None:
        print(f"round {seed}: {line}", flush=True)

    with tempfile.TemporaryDirectory() as home:
        run = partial(run_hostile, count=count, seed=seed, scorer=scorer, good_rows=GOOD_ROWS, drain_s=1800.0, say=say)
        if store == "embedded":
            return run(Path(home), kafka, None)
        with running_influxdb() as influx:
            return run(Path(home), kafka, influx)


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
    parser = argument_parser(__doc__)
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
            write_result(args.out, result)
            print(json.dumps({k: v for k, v in result.items() if isinstance(v, int)}), flush=True)
    if not all(one.clean for one in outcomes):
        raise SystemExit("not clean: see examples in the result")


if __name__ == "__main__":
    main()
