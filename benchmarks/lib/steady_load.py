"""Observations at a steady pace for as long as asked, stamped with the time they are made at; a seed repeats them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

TRAIN_STEPS = 2048
JUMP_EVERY, JUMP_STEPS, JUMP = 50, 8, 8.0
_BATCH_BYTES, _UNANSWERED = 2**20, 400


@dataclass(frozen=True)
class Stream:
    """A different cycle in every channel, and noise, endless."""

    series: int
    channels: int
    rate: float
    seed: int

    @property
    def names(self) -> list[str]:
        return [f"series-{number:04d}" for number in range(self.series)]

    @property
    def columns(self) -> list[str]:
        return [f"channel-{number:02d}" for number in range(self.channels)]

    @property
    def step_ms(self) -> int:
        return round(1000 * self.series / self.rate)

    def values(self, slots: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
        """[slot, series, channel], four decimals."""
        own = np.random.default_rng(self.seed)
        shape = (self.series, self.channels)
        period, phase = own.uniform(20, 200, shape), own.uniform(0, 2 * np.pi, shape)
        angle = 2 * np.pi * slots[:, None, None] / period + phase
        return np.round(np.sin(angle) + 0.1 * rng.standard_normal(angle.shape), 4)

    def step_values(self, step: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """[series, channel]; every now and then a tenth of one series' channels jumps."""
        values: NDArray[np.float64] = self.values(np.array([step]), rng)[0]
        burst = step // JUMP_EVERY
        if burst and step % JUMP_EVERY < JUMP_STEPS:
            values[burst * 7 % self.series, : max(1, self.channels // 10)] += JUMP
        return values

    def write_history(self, folder: Path) -> list[str]:
        values = self.values(np.arange(-TRAIN_STEPS, 0), np.random.default_rng([self.seed, 1]))
        for number, name in enumerate(self.names):
            frame = pd.DataFrame(values[:, number], columns=self.columns, dtype=np.float32)
            frame.to_parquet(folder / f"{name}.parquet")
        return [str(folder / f"{name}.parquet") for name in self.names]


def produce(stream: Stream, address: str, topic: str, steps: int, results: Any) -> None:
    """Sends so many steps at the asked pace, a record a series; puts its greatest delay in seconds into `results`."""
    results.put(asyncio.run(_produced(stream, address, topic, steps)))


async def _produced(stream: Stream, address: str, topic: str, steps: int) -> float:
    """A batch a partition and step: record by record a Python client takes a core that the workers need."""
    producer = AIOKafkaProducer(bootstrap_servers=address, max_batch_size=_BATCH_BYTES)
    await producer.start()
    partitions = sorted(await producer.partitions_for(topic))
    rng, step_ns = np.random.default_rng([stream.seed, 2]), stream.step_ms * 1_000_000
    first_ns = (time.time_ns() // step_ns + 1) * step_ns
    worst_s, sent = 0.0, []
    for step in range(steps):
        due_ns = first_ns + step * step_ns
        await asyncio.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
        worst_s = max(worst_s, (time.time_ns() - due_ns) / 1e9)
        batches = [producer.create_batch() for _ in partitions]
        for number, (name, row) in enumerate(zip(stream.names, stream.step_values(step, rng).tolist(), strict=True)):
            body = {"series": name, "time": due_ns // 1_000_000, "values": dict(zip(stream.columns, row, strict=True))}
            batch = batches[number % len(batches)]
            if batch.append(timestamp=None, key=name.encode(), value=msgspec.json.encode(body)) is None:
                raise SystemExit(f"expected a step of at most {_BATCH_BYTES} bytes a partition, found more")
        for partition, batch in zip(partitions, batches, strict=True):
            if batch.record_count():
                sent.append(await producer.send_batch(batch, topic, partition=partition))
        if len(sent) > _UNANSWERED:
            await asyncio.gather(*sent)
            sent.clear()
    await asyncio.gather(*sent)
    await producer.stop()
    return worst_s
