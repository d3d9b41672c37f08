"""The in-process bus: threads on both sides, nothing lost, memory bounded."""

from __future__ import annotations

import asyncio
import threading
import time

import msgspec
import pytest
from stream_ad_connectors.in_process.bus import BusSource

from stream_ad.errors import UnavailableError
from stream_ad.records import Observation, SourceRecord
from tests.contracts.check_source import Listener
from tests.support.sink_samples import START_NS


async def test_a_full_bus_blocks_publishers_and_loses_nothing() -> None:
    source = BusSource(maxsize=3, poll_records=2)
    await source.start(Listener())

    def publish(name: str) -> None:
        for i in range(200):
            source.publish(f"{name}{i}".encode())

    threads = [threading.Thread(target=publish, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    found: list[bytes] = []
    while len(found) < 400:
        records = await source.poll(1.0)
        assert records
        assert len(records) <= 2
        found.extend(record.value or b"" for record in records)
    for thread in threads:
        thread.join()
    for name in (b"a", b"b"):
        assert [one for one in found if one.startswith(name)] == [name + str(i).encode() for i in range(200)]
    source.close()
    assert await source.poll(1.0) is None


async def test_a_waiting_poll_wakes_at_once() -> None:
    source = BusSource()
    await source.start(Listener())
    begun = time.monotonic()
    threading.Timer(0.05, source.publish, [b"x"]).start()
    records = await source.poll(600.0)
    assert records
    assert time.monotonic() - begun < 60
    threading.Timer(0.05, source.close).start()
    assert await source.poll(600.0) is None
    assert time.monotonic() - begun < 60


async def test_publishing_in_the_polling_loop() -> None:
    source = BusSource(maxsize=1)
    await source.start(Listener())
    source.publish(b"1")
    with pytest.raises(UnavailableError, match="another thread"):
        source.publish(b"2")
    waiting = asyncio.create_task(asyncio.to_thread(source.publish, b"2"))
    found: list[SourceRecord] = []
    while len(found) < 2:
        found.extend(await source.poll(0.5) or [])
    await waiting
    assert [record.value for record in found] == [b"1", b"2"]


async def test_a_full_or_closed_bus_refuses() -> None:
    source = BusSource(maxsize=1)
    source.publish(b"1")
    with pytest.raises(UnavailableError, match="full"):
        source.publish(b"2", timeout_s=0.01)
    await source.stop()
    with pytest.raises(UnavailableError, match="closed"):
        source.publish(b"2")


async def test_an_observation_becomes_a_record() -> None:
    bus = BusSource()
    await bus.start(Listener())
    bus.publish(Observation("größe", START_NS - START_NS % 10**6, {"a": 1.5, "b": float("nan")}))
    bus.close()
    records = await bus.poll(1.0)
    assert records
    assert records[0].key == "größe".encode()
    assert records[0].timestamp_ns == START_NS - START_NS % 10**6
    decoded = msgspec.json.decode(records[0].value or b"")
    assert decoded == {"series": "größe", "time": START_NS // 10**6, "values": {"a": 1.5, "b": None}}
