"""Made-up observations for benchmarks that measure speed: any number of series and channels, the same for a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Load:
    """`rows` slots of each series, one a second, after a history of `train_rows`."""

    series: int
    channels: int
    rows: int
    train_rows: int
    seed: int

    @property
    def names(self) -> list[str]:
        return [f"series-{number:02d}" for number in range(self.series)]

    @property
    def observations(self) -> int:
        return self.series * self.rows

    def values(self, number: int) -> NDArray[np.float64]:
        """[train_rows + rows, channel]: a different cycle in every channel, and noise; four decimals."""
        random = np.random.default_rng([self.seed, number])
        slots = np.arange(self.train_rows + self.rows)[:, None]
        period, phase = random.uniform(20, 200, self.channels), random.uniform(0, 2 * np.pi, self.channels)
        noise = random.standard_normal((len(slots), self.channels))
        return np.round(np.sin(2 * np.pi * slots / period + phase) + 0.1 * noise, 4)

    def records(self, now_ms: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and value, slot by slot over all series; the last slot is now."""
        channels = [f"channel-{number:02d}" for number in range(self.channels)]
        tables = [self.values(number)[self.train_rows :].tolist() for number in range(self.series)]
        for row in range(self.rows):
            time_ms = now_ms - (self.rows - 1 - row) * 1000
            for name, table in zip(self.names, tables, strict=True):
                body = {"series": name, "time": time_ms, "values": dict(zip(channels, table[row], strict=True))}
                yield name.encode(), msgspec.json.encode(body)

    def columns(self, now_ms: int, rows: int) -> Iterator[tuple[bytes, bytes]]:
        """The same observations as `records`, `rows` of one series in each record."""
        channels = [f"channel-{number:02d}" for number in range(self.channels)]
        tables = [self.values(number)[self.train_rows :] for number in range(self.series)]
        for first in range(0, self.rows, rows):
            stop = min(first + rows, self.rows)
            times = [now_ms - (self.rows - 1 - row) * 1000 for row in range(first, stop)]
            for name, table in zip(self.names, tables, strict=True):
                values = dict(zip(channels, table[first:stop].T.tolist(), strict=True))
                yield name.encode(), msgspec.json.encode({"series": name, "times": times, "values": values})

    def write_history(self, folder: Path) -> list[str]:
        import pandas as pd  # not where memory is measured, which a worker does without it

        columns = [f"channel-{number:02d}" for number in range(self.channels)]
        for number, name in enumerate(self.names):
            frame = pd.DataFrame(self.values(number)[: self.train_rows], columns=columns, dtype=np.float32)
            frame.to_parquet(folder / f"{name}.parquet")
        return [str(folder / f"{name}.parquet") for name in self.names]
