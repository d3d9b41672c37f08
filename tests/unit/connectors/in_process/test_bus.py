"""The in-process bus: threads on both sides, nothing lost, memory bounded."""

from __future__ import annotations

import asyncio
import threading
import time

import msgspec
import pytest
from stream_ad_connectors.in_process.bus import Bus, BusSink, BusSource

from stream_ad.errors import UnavailableError
from stream_ad.records import Observation, Outputs, SourceRecord
from tests.contracts.check_source import Listener
from tests.support.sink_samples import START_NS, batch, status


def outputs(number: int) -> Outputs:
    return Outputs(scores=[batch("s", [START_NS + number])], statuses=[status("s", number)])


async def test_a_full_bus_holds_publishers_back_and_loses_nothing() -> None:
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
    records = await source.poll(10.0)
    assert records
    assert time.monotonic() - begun < 5
    threading.Timer(0.05, source.close).start()
    assert await source.poll(10.0) is None
    assert time.monotonic() - begun < 5


async def test_publishing_in_the_polling_loop() -> None:
    source = BusSource(maxsize=1)
    await source.start(Listener())
    source.publish(b"1")
    with pytest.raises(UnavailableError, match="publish_async"):
        source.publish(b"2")
    waiting = asyncio.create_task(source.publish_async(b"2"))
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
    bus = Bus()
    await bus.source.start(Listener())
    bus.publish(Observation("größe", START_NS - START_NS % 10**6, {"a": 1.5, "b": float("nan")}))
    bus.close()
    records = await bus.source.poll(1.0)
    assert records
    assert records[0].key == "größe".encode()
    assert records[0].timestamp_ns == START_NS - START_NS % 10**6
    decoded = msgspec.json.decode(records[0].value or b"")
    assert decoded == {"series": "größe", "time": START_NS // 10**6, "values": {"a": 1.5, "b": None}}


def test_outputs_reach_callbacks_and_iterators_in_order() -> None:
    sink, told = BusSink(), []
    stop = sink.on_outputs(lambda one: told.append(one.statuses[0].slots_seen))
    first, second = sink.subscribe(), sink.subscribe()
    for i in range(3):
        sink.write(outputs(i))
    stop()
    sink.write(Outputs())
    sink.write(outputs(3))
    sink.close()
    assert told == [0, 1, 2]
    for subscription in (first, second):
        assert [one.statuses[0].slots_seen for one in subscription] == [0, 1, 2, 3]
        assert subscription.get(0.0) is None


def test_what_is_delivered_is_not_what_the_writer_goes_on_using() -> None:
    sink = BusSink()
    subscription = sink.subscribe()
    written = outputs(1)
    sink.write(written)
    written.scores.clear()
    taken = subscription.get(0.0)
    assert taken
    assert len(taken.scores) == 1


def test_a_slow_subscriber_holds_the_writer_back_and_a_repeat_delivers_once() -> None:
    sink, told = BusSink(timeout_s=0.02), []
    sink.on_outputs(lambda one: told.append(one.statuses[0].slots_seen))
    slow, quick = sink.subscribe(maxsize=1), sink.subscribe()
    sink.write(outputs(0))
    with pytest.raises(UnavailableError, match="subscriber"):
        sink.write(outputs(1))
    assert slow.get(0.0) is not None
    sink.write(outputs(1))
    slow.close()
    sink.write(outputs(2))
    sink.close()
    assert [one.statuses[0].slots_seen for one in quick] == [0, 1, 2]
    assert told == [0, 1, 2]


def test_a_reader_in_a_thread_gets_everything_through_a_small_buffer() -> None:
    found: list[int] = []
    sink = BusSink()
    subscription = sink.subscribe(maxsize=2)
    reader = threading.Thread(target=lambda: found.extend(one.statuses[0].slots_seen for one in subscription))
    reader.start()
    for i in range(100):
        sink.write(outputs(i))
    sink.close()
    reader.join()
    assert found == list(range(100))
