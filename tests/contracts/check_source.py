"""The Source contract.

For a new adapter: `await check_source(make)`, where `make()` (it may be a coroutine function) returns a fresh
SourceUnderTest for every check: `expected` is already in the source (published before `make` returns, on topics and
with a new group), `open()` builds a source over it, the second call a second source of the same group. Or
parametrize over SOURCE_CHECKS, each `async (target) -> None`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from stream_ad.ports import Checkpoint, Source
from stream_ad.records import Partition, SourceRecord

__all__ = ["SOURCE_CHECKS", "SourceUnderTest", "check_source"]


@dataclass(frozen=True)
class SourceUnderTest:
    """A source with known contents and what it promises.

    expected: (key, value) of every record, per (topic, partition), in order; at least three in one of them.
    live: it continues after them (poll returns []), else it ends (poll returns None).
    seeks: it begins where the listener says. commits: `committed` returns what `commit` stored, in the same source;
    remembers: also in the next one. wait_s: how long the whole of `expected` may take to arrive.
    """

    open: Callable[[], Source]
    expected: Mapping[Partition, Sequence[tuple[bytes | None, bytes | None]]]
    live: bool = False
    seeks: bool = True
    commits: bool = True
    remembers: bool = False
    wait_s: float = 5.0


@dataclass
class Listener:
    """Records its calls; `begin` is the offset that it returns for every partition."""

    begin: Mapping[Partition, int] = field(default_factory=dict)
    partitions: list[Partition] = field(default_factory=list)

    async def assigned(self, topic: str, partition: int) -> int | None:
        self.partitions.append((topic, partition))
        return self.begin.get((topic, partition))

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        self.partitions = [one for one in self.partitions if one not in partitions]


async def read(source: Source, count: int, wait_s: float, listener: Listener | None = None) -> list[SourceRecord]:
    """At least `count` records, or what came until the end or wait_s; each must be of an assigned partition."""
    found: list[SourceRecord] = []
    deadline = time.monotonic() + wait_s
    while len(found) < count and time.monotonic() < deadline:
        records = await source.poll(0.2)
        if records is None:
            break
        for record in records:
            place = (record.position.topic, record.position.partition)
            assert listener is None or place in listener.partitions, f"{place} was never assigned"
        found.extend(records)
    return found


def by_partition(records: Sequence[SourceRecord]) -> dict[Partition, list[SourceRecord]]:
    found: dict[Partition, list[SourceRecord]] = {}
    for record in records:
        found.setdefault((record.position.topic, record.position.partition), []).append(record)
    return found


def contents(records: Sequence[SourceRecord]) -> dict[Partition, list[tuple[bytes | None, bytes | None]]]:
    return {place: [(one.key, one.value) for one in ones] for place, ones in by_partition(records).items()}


def _count(target: SourceUnderTest) -> int:
    return sum(len(records) for records in target.expected.values())


def _wanted(target: SourceUnderTest) -> dict[Partition, list[tuple[bytes | None, bytes | None]]]:
    return {place: list(records) for place, records in target.expected.items() if records}


async def records_come_once_and_in_order(target: SourceUnderTest) -> None:
    """Every record once, in its partition's order, offsets strictly growing, partitions assigned first, times set."""
    source, listener = target.open(), Listener()
    await source.start(listener)
    try:
        found = await read(source, _count(target), target.wait_s, listener)
        assert contents(found) == _wanted(target)
        for records in by_partition(found).values():
            offsets = [record.position.offset for record in records]
            assert all(a < b for a, b in pairwise(offsets)), offsets
        assert all(record.timestamp_ns >= 0 for record in found)
    finally:
        await source.stop()


async def the_end_is_none_or_empty(target: SourceUnderTest) -> None:
    """After the last record: a finite source says None, again and again; a live one waits no longer than asked."""
    source = target.open()
    await source.start(Listener())
    try:
        await read(source, _count(target), target.wait_s)
        for _ in range(2):
            begun = time.monotonic()
            more = await source.poll(0.1)
            assert time.monotonic() - begun < 0.1 + 15.0
            if target.live:
                assert more is not None
                assert list(more) == []
            else:
                assert more is None
    finally:
        await source.stop()


async def a_poll_of_no_time_returns(target: SourceUnderTest) -> None:
    source = target.open()
    await source.start(Listener())
    try:
        begun = time.monotonic()
        for _ in range(3):
            await source.poll(0.0)
        assert time.monotonic() - begun < 15.0
    finally:
        await source.stop()


async def it_stops_without_a_poll(target: SourceUnderTest) -> None:
    source = target.open()
    await source.start(Listener())
    await source.stop()


async def it_begins_where_the_listener_says(target: SourceUnderTest) -> None:
    """The listener names the second record's offset of the longest partition; the others begin by themselves."""
    if not target.seeks:
        return
    place = max(target.expected, key=lambda one: len(target.expected[one]))
    source = target.open()
    await source.start(Listener())
    try:
        whole = by_partition(await read(source, _count(target), target.wait_s))
    finally:
        await source.stop()
    again, listener = target.open(), Listener({place: whole[place][1].position.offset})
    await again.start(listener)
    try:
        found = await read(again, _count(target) - 1, target.wait_s, listener)
        wanted = {**_wanted(target), place: list(target.expected[place])[1:]}
        assert contents(found) == wanted
        assert by_partition(found)[place] == whole[place][1:]
    finally:
        await again.stop()


async def a_commit_can_be_read(target: SourceUnderTest) -> None:
    """None before the first; then the newest, replay_offset with it, per partition; without `commits` always None."""
    place = max(target.expected, key=lambda one: len(target.expected[one]))
    source = target.open()
    await source.start(Listener())
    try:
        found = by_partition(await read(source, _count(target), target.wait_s))[place]
        offsets = [record.position.offset for record in found]
        assert await source.committed(*place) is None
        await source.commit({})
        await source.commit({place: Checkpoint(offsets[1], offsets[0])})
        newest = Checkpoint(offsets[-1] + 1, offsets[1])
        await source.commit({place: newest})
        assert await source.committed(*place) == (newest if target.commits else None)
        for other in target.expected:
            assert other == place or await source.committed(*other) is None
    finally:
        await source.stop()
    if target.remembers:
        after = target.open()
        await after.start(Listener())
        try:
            await after.poll(0.5)
            assert await after.committed(*place) == newest
        finally:
            await after.stop()


SOURCE_CHECKS: tuple[Callable[[SourceUnderTest], Awaitable[None]], ...] = (
    records_come_once_and_in_order,
    the_end_is_none_or_empty,
    a_poll_of_no_time_returns,
    it_stops_without_a_poll,
    it_begins_where_the_listener_says,
    a_commit_can_be_read,
)


async def check_source(make: Callable[[], SourceUnderTest | Awaitable[SourceUnderTest]]) -> None:
    """Every check over a fresh target each."""
    for check in SOURCE_CHECKS:
        target = make()
        await check(await target if inspect.isawaitable(target) else target)
