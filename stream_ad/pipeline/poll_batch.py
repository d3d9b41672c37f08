"""What one poll brought, sorted by series: readings of the same channels that follow each other become one block.

Pure: how the log was cut into polls decides how large the blocks are, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_ad.pipeline.series import Series
from stream_ad.records import Block, DeadLetter, Observation

__all__ = ["PollBatch"]

Part = Observation | Block


@dataclass(slots=True)
class _Share:
    """Of one series: its parts, each with the number of its record in the poll and that record's offset."""

    series: Series
    parts: list[Part] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


@dataclass(slots=True)
class PollBatch:
    """letters: dead letters, each with the number of its record."""

    letters: list[tuple[int, DeadLetter]] = field(default_factory=list)
    _shares: dict[int, _Share] = field(default_factory=dict)

    def add(self, series: Series, part: Part, number: int, offset: int) -> None:
        share = self._shares.get(id(series))
        if share is None:
            share = self._shares[id(series)] = _Share(series)
        share.parts.append(part)
        share.numbers.append(number)
        share.offsets.append(offset)

    @property
    def series(self) -> list[Series]:
        """In the order of their first parts."""
        return [share.series for share in self._shares.values()]

    def blocks(self, series: Series) -> Iterator[tuple[Block, list[int], NDArray[np.int64]]]:
        """In the order of the log, with the record number and the offset [n] of each row."""
        share = self._shares[id(series)]
        for first, stop in _runs(share.parts):
            parts, numbers = share.parts[first:stop], share.numbers[first:stop]
            offsets = np.array(share.offsets[first:stop], np.int64)
            blocks = [part for part in parts if isinstance(part, Block)]
            if blocks:
                rows = [len(block) for block in blocks]
                numbers = np.repeat(numbers, rows).tolist()
                yield _one_block(blocks), numbers, np.repeat(offsets, rows)
            else:
                yield _joined(parts), numbers, offsets


def _runs(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """Blocks, or observations, of the same channels together."""
    first, kind = 0, None
    for at, part in enumerate(parts):
        own = (True, part.channels) if isinstance(part, Block) else (False, tuple(part.values))
        if at > first and own != kind:
            yield first, at
            first = at
        kind = own
    if parts:
        yield first, len(parts)


def _one_block(blocks: Sequence[Block]) -> Block:
    one = blocks[0]
    if len(blocks) == 1:
        return one
    times, values = [block.event_time_ns for block in blocks], [block.values for block in blocks]
    return Block(one.series, np.concatenate(times), one.channels, np.concatenate(values))


def _joined(parts: Sequence[Part]) -> Block:
    observations = [part for part in parts if isinstance(part, Observation)]
    return Block(
        observations[0].series,
        np.array([each.event_time_ns for each in observations], np.int64),
        tuple(observations[0].values),
        np.array([list(each.values.values()) for each in observations], np.float64),
    )
