"""What an idle series costs: memory, state and time of a pipeline that knows ever more series keys.

    make bench-cardinality ARGS="[--series N] [--readings R] [--channels C]"

Each series sends R readings and falls silent, as in a flood of made-up keys or in a big plant at rest. The pipeline is
the worker's own, with the default scorer; after it the limit `detector.max_series` is tried with as many keys again.
"""

from __future__ import annotations

import ctypes
import gc
import json
import platform
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import psutil

from benchmarks.lib.about import about, argument_parser, write_result
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.records import SourcePosition, SourceRecord
from stream_ad.settings import DetectorSettings, Settings, Subscription
from stream_ad.wiring import build_scorer
from tests.support.fakes import MemoryProfiles

START_NS = 1_767_225_600_000_000_000
STEP_NS = 1_000_000_000
POLL = 2000


def records(first: int, last: int, readings: int, channels: int, offset: int) -> Iterator[SourceRecord]:
    for number in range(first, last):
        for reading in range(readings):
            time_ns = START_NS + reading * STEP_NS
            values = {f"channel-{c}": 0.5 * reading + c for c in range(channels)}
            body = msgspec.json.encode({"series": f"plant/{number:06d}", "time": time_ns, "values": values})
            position = SourcePosition("t", 0, offset + (number - first) * readings + reading)
            yield SourceRecord(position, time_ns, None, body)


def resident() -> int:
    """Resident bytes, after free memory was released to the system."""
    gc.collect()
    if platform.system() == "Linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def grow(pipeline: Pipeline, counts: list[int], readings: int, channels: int) -> list[dict[str, Any]]:
    """One row for each number of series known."""
    base, known, offset = resident(), 0, 0
    rows: list[dict[str, Any]] = []
    for count in counts:
        begun = time.process_time()
        while known < count:
            upto = min(known + POLL // readings, count)
            pipeline.process(list(records(known, upto, readings, channels, offset)))
            offset += (upto - known) * readings
            known = upto
        filled = time.process_time()
        pipeline.flush()
        made = pipeline.checkpoint("t", 0)
        saved = time.process_time()
        state = 0 if made is None else sum(map(len, made[0].values()))
        states = 0 if made is None else len(made[0])
        del made
        pipeline.flush(0.0)
        pipeline.changed_statuses()
        idle = time.process_time()
        pipeline.checkpoint("t", 0)
        pipeline.flush(0.0)
        pipeline.changed_statuses()
        idle_s = time.process_time() - idle
        rows.append(
            {
                "series": count,
                "rss_mib": round(resident() / 2**20, 1),
                "bytes_per_series": round((resident() - base) / count) if count else 0,
                "filling_s": round(filled - begun, 2),
                "first_checkpoint_s": round(saved - filled, 2),
                "state_bytes_per_series": round(state / states) if states else 0,
                "idle_round_s": round(idle_s, 4),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def beyond(pipeline: Pipeline, known: int, readings: int, channels: int) -> dict[str, Any]:
    """As many new keys again, all over the limit."""
    before, begun, refused, offset = resident(), time.process_time(), 0, known * readings
    for first in range(known, 2 * known, POLL // readings):
        last = min(first + POLL // readings, 2 * known)
        out = pipeline.process(list(records(first, last, readings, channels, offset + (first - known) * readings)))
        refused += sum(one.reason == "too_many_series" for one in out.dead_letters)
    return {
        "keys": known,
        "refused": refused,
        "cpu_s": round(time.process_time() - begun, 2),
        "grown_mib": round((resident() - before) / 2**20, 1),
    }


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--readings", type=int, default=4)
    parser.add_argument("--channels", type=int, default=5)
    args = parser.parse_args()
    settings = Settings(
        subscription=(Subscription(topic="t", step="1s", time_unit="ns"),),
        detector=DetectorSettings(max_series=args.series),
    )
    pipeline = Pipeline(settings, build_scorer(settings), MemoryProfiles())
    counts = [0, *(args.series * part // 100 for part in (10, 50, 100))]
    result = {
        **about(),
        "load": {"readings_per_series": args.readings, "channels": args.channels},
        "known": grow(pipeline, counts, args.readings, args.channels),
        "beyond_the_limit": beyond(pipeline, args.series, args.readings, args.channels),
    }
    print(json.dumps(result["beyond_the_limit"]), flush=True)
    write_result(args.out, result)


if __name__ == "__main__":
    main()
