"""Observations at a steady pace for as long as asked, stamped with the time they are made at; a seed repeats them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from stream_ad_connectors.kafka_publisher import KafkaPublisher

from stream_ad.settings import KafkaSettings

TRAIN_STEPS = 2048
LEAP_EVERY, LEAP_STEPS, LEAP = 50, 8, 8.0


@dataclass(frozen=True)
class Stream:
    """A cycle of its own in every channel, and noise, without an end."""

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

    def write_history(self, folder: Path) -> list[str]:
        values = self.values(np.arange(-TRAIN_STEPS, 0), np.random.default_rng([self.seed, 1]))
        for number, name in enumerate(self.names):
            frame = pd.DataFrame(values[:, number], columns=self.columns, dtype=np.float32)
            frame.to_parquet(folder / f"{name}.parquet")
        return [str(folder / f"{name}.parquet") for name in self.names]


def produce(stream: Stream, address: str, topic: str, steps: int, told: Any) -> None:
    """Sends so many steps at the asked pace; tells how late it was at worst, in seconds."""
    publisher = KafkaPublisher(KafkaSettings(bootstrap=address))
    rng, step_ns = np.random.default_rng([stream.seed, 2]), stream.step_ms * 1_000_000
    first_ns = (time.time_ns() // step_ns + 1) * step_ns
    worst_s = 0.0
    for step in range(steps):
        due_ns = first_ns + step * step_ns
        time.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
        worst_s = max(worst_s, (time.time_ns() - due_ns) / 1e9)
        values = stream.values(np.array([step]), rng)[0]
        leaping = step // LEAP_EVERY
        if leaping and step % LEAP_EVERY < LEAP_STEPS:
            values[leaping * 7 % stream.series, : max(1, stream.channels // 10)] += LEAP
        for name, row in zip(stream.names, values.tolist(), strict=True):
            body = {"series": name, "time": due_ns // 1_000_000, "values": dict(zip(stream.columns, row, strict=True))}
            publisher.send(topic, name.encode(), msgspec.json.encode(body))
    publisher.close()
    told.put(worst_s)
