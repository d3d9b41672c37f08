"""The observations of one poll, grouped by series and packed into blocks of the same channels.

Pure: the cut of the log into polls decides the size of the blocks and nothing else.
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
class _Group:
    """The parts of one series, each with the number of its record in the poll and that record's offset."""

    series: Series
    parts: list[Part] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


@dataclass(slots=True)
class PollBatch:
    """dead_letters: each with the number of its record in the poll."""

    dead_letters: list[tuple[int, DeadLetter]] = field(default_factory=list)
    _groups: dict[int, _Group] = field(default_factory=dict)  # by id of the series

    def add(self, series: Series, part: Part, number: int, offset: int) -> None:
        group = self._groups.get(id(series))
        if group is None:
            group = self._groups[id(series)] = _Group(series)
        group.parts.append(part)
        group.numbers.append(number)
        group.offsets.append(offset)

    @property
    def series(self) -> list[Series]:
        """In the order of their first parts."""
        return [group.series for group in self._groups.values()]

    def blocks(self, series: Series) -> Iterator[tuple[Block, list[int], NDArray[np.int64]]]:
        """In log order, with the record number and the offset [n] of each row."""
        group = self._groups[id(series)]
        for first, stop in _runs(group.parts):
            parts, numbers = group.parts[first:stop], group.numbers[first:stop]
            offsets = np.array(group.offsets[first:stop], np.int64)
            blocks = [part for part in parts if isinstance(part, Block)]
            if blocks:
                rows = [len(block) for block in blocks]
                yield _concatenated(blocks), np.repeat(numbers, rows).tolist(), np.repeat(offsets, rows)
            else:
                yield _packed([part for part in parts if isinstance(part, Observation)]), numbers, offsets


def _runs(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """Ranges of consecutive parts of one kind and the same channels."""
    first, kind = 0, None
    for at, part in enumerate(parts):
        own = (True, part.channels) if isinstance(part, Block) else (False, tuple(part.values))
        if at > first and own != kind:
            yield first, at
            first = at
        kind = own
    if parts:
        yield first, len(parts)


def _concatenated(blocks: Sequence[Block]) -> Block:
    one = blocks[0]
    if len(blocks) == 1:
        return one
    times, values = [block.event_time_ns for block in blocks], [block.values for block in blocks]
    return Block(one.series, np.concatenate(times), one.channels, np.concatenate(values))


def _packed(observations: Sequence[Observation]) -> Block:
    return Block(
        observations[0].series,
        np.array([each.event_time_ns for each in observations], np.int64),
        tuple(observations[0].values),
        np.array([list(each.values.values()) for each in observations], np.float64),
    )
