"""Two sources as one: all records of each in order, a slow one holds up nothing, the first one ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from stream_ad_connectors.in_process.bus import BusSource
from stream_ad_connectors.in_process.merged import MergedSource

from stream_ad.records import SourcePosition, SourceRecord
from tests.contracts.check_source import Listener, by_partition, read


class Other(BusSource):
    """A second bus under another topic."""

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        records = await super().poll(timeout_s)
        return records and [
            SourceRecord(SourcePosition("other", 0, r.position.offset), r.timestamp_ns, r.key, r.value) for r in records
        ]


async def test_both_are_read_in_order_until_the_first_ends() -> None:
    first, other, listener = BusSource(poll_records=3), Other(poll_records=2), Listener()
    merged = MergedSource(first, other)
    await merged.start(listener)
    for i in range(20):
        first.publish(b"%d" % i)
        other.publish(b"%d" % i)
    found = by_partition(await read(merged, 40, 5.0))
    assert {place: [r.value for r in records] for place, records in found.items()} == {
        ("bus", 0): [b"%d" % i for i in range(20)],
        ("other", 0): [b"%d" % i for i in range(20)],
    }
    first.publish(b"last")
    first.close()
    assert [r.value for r in await read(merged, 2, 5.0)] == [b"last"]
    assert await merged.poll(1.0) is None
    assert await merged.poll(1.0) is None
    await merged.stop()


async def test_a_slow_source_blocks_no_other() -> None:
    first, other = BusSource(), Other()
    merged = MergedSource(first, other)
    await merged.start(Listener())
    began_s = time.monotonic()
    for i in range(5):
        other.publish(b"%d" % i)
        assert await merged.poll(600.0)
    assert time.monotonic() - began_s < 60.0
    await merged.stop()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_only_the_end_of_the_first_source_ends_it() -> None:
    first, other = BusSource(), Other()
    merged = MergedSource(first, other)
    await merged.start(Listener())
    other.close()
    assert await merged.poll(0.05) == []
    assert await merged.poll(0.05) == []
    first.publish(b"still")
    assert [r.value for r in await read(merged, 1, 5.0)] == [b"still"]
    await merged.stop()


async def test_an_error_of_one_comes_through() -> None:
    class Broken(BusSource):
        async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
            raise OSError("gone")

    merged = MergedSource(BusSource(), Broken())
    await merged.start(Listener())
    with pytest.raises(OSError, match="gone"):
        await read(merged, 1, 5.0)
    await merged.stop()
