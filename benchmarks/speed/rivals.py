"""The worker's path under other loops, each in a separate process, for benchmarks/speed/throughput.py.

`main` (arguments KIND --seconds N) runs in a job's directory, with its environment, and prints JSON.

floor: a bare aiokafka loop, getmany and commit, nothing else. stages: the worker's own loop, the CPU of each stage
taken by the thread that does it. kafka-python: poll, process, write, commit, one after the other. faust: an agent that
processes record by record. The first SETTLE_S seconds after the first scores are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import faust
import stream_ad_connectors.influxdb.store
from aiokafka import AIOKafkaConsumer
from kafka import KafkaConsumer
from stream_ad_connectors.influxdb.client import InfluxConnection
from stream_ad_connectors.kafka.records import source_records
from stream_ad_connectors.kafka.sink import KafkaSink

from stream_ad.detection.emission import Emitter
from stream_ad.pipeline.pipeline import Pipeline
from stream_ad.pipeline.series import Series
from stream_ad.records import Outputs, SourcePosition, SourceRecord
from stream_ad.runtime.consumer_loop import ConsumerLoop
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import Settings, load_settings
from stream_ad.wiring import build_scorer, open_clock, open_profiles, open_sinks, open_source, open_store, prepare

KINDS = ("floor", "stages", "kafka-python", "faust")
SETTLE_S = 3.0
DELIVER_SLOTS, DELIVER_S = 4096, 0.5


class Count:
    """Observations, and the CPU seconds of the process, from the end of the settling on."""

    def __init__(self, seconds: float, done: Callable[[], int]) -> None:
        self._seconds, self._done = seconds, done
        self._first_s: float | None = None
        self._begun: tuple[int, float, float] | None = None
        self.on_settled: Callable[[], None] = lambda: None

    def over(self) -> bool:
        """To be asked often; True once the time is up."""
        now_s = time.monotonic()
        if self._first_s is None:
            self._first_s = now_s if self._done() else None
        elif self._begun is None and now_s - self._first_s > SETTLE_S:
            self._begun = self._done(), now_s, time.process_time()
            self.on_settled()
        return self._begun is not None and now_s - self._begun[1] > self._seconds

    def result(self) -> dict[str, Any]:
        if self._begun is None:
            raise SystemExit("the topic was empty before anything could be measured")
        before, began_s, cpu_s = self._begun
        done, wall_s, used_s = self._done() - before, time.monotonic() - began_s, time.process_time() - cpu_s
        return {
            "observations": done,
            "observations_per_s": round(done / wall_s),
            "cpu_s_per_million": round(used_s / done * 1e6, 1),
        }


def _pipeline(settings: Settings) -> Pipeline:
    return Pipeline(settings, build_scorer(settings), open_profiles(settings))


# ---- the floor


async def _floor(settings: Settings, seconds: float) -> dict[str, Any]:
    consumer = AIOKafkaConsumer(
        settings.subscription[0].topic,
        bootstrap_servers=settings.kafka.bootstrap,
        group_id=f"floor-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=10_000,
    )
    await consumer.start()
    try:
        taken, begun, used = 0, 0.0, 0.0
        while True:
            batches = await consumer.getmany(timeout_ms=1000 if taken else 30_000)
            if not batches or (taken and time.monotonic() - begun > seconds):
                break
            if not taken:
                begun, used = time.monotonic(), time.process_time()
            taken += sum(map(len, batches.values()))
            await consumer.commit()
        wall_s, cpu_s = time.monotonic() - begun, time.process_time() - used
    finally:
        await consumer.stop()
    return {"records_per_s": round(taken / wall_s), "cpu_s_per_million_records": round(cpu_s / taken * 1e6, 1)}


# ---- the worker's own loop, by stage


class Stages:
    """CPU seconds of stages, each without those it calls, by the thread that does them."""

    def __init__(self) -> None:
        self.used_s: dict[str, float] = defaultdict(float)
        self._own = threading.local()

    def reset(self) -> None:
        self.used_s.clear()

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        action = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            stack = self._own.__dict__.setdefault("stack", [])
            stack.append(0.0)
            began_s = time.thread_time()
            try:
                return action(*args, **kwargs)
            finally:
                took_s = time.thread_time() - began_s
                self.used_s[stage] += took_s - stack.pop()
                if stack:
                    stack[-1] += took_s

        setattr(owner, name, timed)


def _stages(settings: Settings, seconds: float) -> dict[str, Any]:
    stages, pipeline = Stages(), _pipeline(settings)
    store: Any = stream_ad_connectors.influxdb.store  # the module that imported the function
    lines = store.score_lines
    store.score_lines = lambda batch, **more: list(lines(batch, **more))
    for owner, name, stage in (
        (Pipeline, "process", "sorting by series"),
        (Decoder, "read", "decoding"),
        (Series, "ingest", "grid and rows"),
        (pipeline.scorer, "score", "scoring"),
        (Emitter, "emit", "emission"),
        (store, "score_lines", "lines"),
        (InfluxConnection, "write", "writing to the store"),
        (KafkaSink, "write", "writing to Kafka"),
        (Pipeline, "checkpoint", "states"),
    ):
        stages.wrap(owner, name, stage)
    count = Count(seconds, lambda: pipeline.observations)
    began_s = 0.0

    def settled() -> None:
        nonlocal began_s
        stages.reset()
        began_s = time.thread_time()

    count.on_settled = settled

    async def run() -> None:
        source, states = open_source(settings)
        sinks = list(open_sinks(settings, open_store(settings)).values())
        ingest = ConsumerLoop(source, pipeline, sinks, states, open_clock())
        running = asyncio.create_task(ingest.run())
        while not count.over() and not running.done():
            await asyncio.sleep(0.1)
        if running.done():
            await running
        stages.used_s["polling, the loop"] = time.thread_time() - began_s
        found.update(count.result())
        ingest.stop()
        await running
        ingest.close()

    found: dict[str, Any] = {}
    asyncio.run(run())
    each = {stage: round(used_s / found["observations"] * 1e6, 2) for stage, used_s in stages.used_s.items()}
    each["everything else"] = round(found["cpu_s_per_million"] - sum(each.values()), 2)
    return found | {"cpu_s_per_million_by_stage": each}


# ---- other loops over the same path


class Delivery:
    """Outputs to the sinks, as often as the worker would."""

    def __init__(self, settings: Settings) -> None:
        self._sinks = list(open_sinks(settings, open_store(settings)).values())
        self._pending, self._at_s = Outputs(), 0.0

    def add(self, outputs: Outputs) -> bool:
        """Whether it is time to write."""
        self._pending.extend(outputs)
        waiting = sum(len(batch) for batch in self._pending.scores)
        return waiting >= DELIVER_SLOTS or time.monotonic() - self._at_s > DELIVER_S

    def write(self) -> None:
        outputs, self._pending, self._at_s = self._pending, Outputs(), time.monotonic()
        for sink in self._sinks:
            sink.write(outputs)


def _kafka_python(settings: Settings, seconds: float) -> dict[str, Any]:
    pipeline, delivery = _pipeline(settings), Delivery(settings)
    consumer = KafkaConsumer(
        settings.subscription[0].topic,
        bootstrap_servers=settings.kafka.bootstrap,
        group_id=settings.kafka.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    count = Count(seconds, lambda: pipeline.observations)
    while not count.over():
        records = [
            record for batch in consumer.poll(200, max_records=10_000).values() for record in source_records(batch)
        ]
        if delivery.add(pipeline.process(records)):
            delivery.write()
            consumer.commit()
    found = count.result()
    consumer.close()
    return found


def _faust(settings: Settings, seconds: float) -> dict[str, Any]:
    pipeline, delivery = _pipeline(settings), Delivery(settings)
    count = Count(seconds, lambda: pipeline.observations)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        app = faust.App(
            settings.kafka.group,
            broker=f"kafka://{settings.kafka.bootstrap}",
            datadir=directory,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            consumer_auto_offset_reset="earliest",
        )
        topic = app.topic(settings.subscription[0].topic, key_serializer="raw", value_serializer="raw")

        @app.agent(topic)
        async def score(stream: faust.StreamT[bytes]) -> None:
            async for event in stream.events():
                if found:
                    continue  # on the way out
                message = event.message
                place = SourcePosition(message.topic, message.partition, message.offset)
                record = SourceRecord(place, int(message.timestamp * 1e9), message.key, message.value)
                if delivery.add(pipeline.process([record])):
                    await asyncio.to_thread(delivery.write)
                if count.over():
                    found.update(count.result())
                    signal.raise_signal(signal.SIGTERM)

        worker = faust.Worker(app, loglevel="CRITICAL", redirect_stdouts=False, quiet=True)
        worker.spinner = None
        with suppress(SystemExit):
            worker.execute_from_commandline()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    settings = load_settings()
    prepare(settings)
    if given.kind == "floor":
        found = asyncio.run(_floor(settings, given.seconds))
    else:
        found = {"stages": _stages, "kafka-python": _kafka_python, "faust": _faust}[given.kind](settings, given.seconds)
    print(json.dumps(found), flush=True)
