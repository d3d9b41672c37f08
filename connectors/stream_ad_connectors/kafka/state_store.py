"""The small state of each series on a compacted Kafka topic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from stream_ad.errors import ConfigError, UnavailableError
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import STATE_MAX_BYTES, KafkaAdmin
from stream_ad_connectors.kafka.connection import async_options, kafka_error, quiet

__all__ = ["KafkaStateStore"]


class KafkaStateStore:
    """StateStore on `kafka.state_topic` (`ensure_topics` makes it).

    Partition p holds the states of partition p of every subscribed topic; key = topic, a zero byte, series (a topic's
    name holds no zero byte). `load` reads the partition to the end it had at the call; the newest of a key wins, an
    empty value is a deletion. Trap: compaction is lazy, so older values may still be there and offsets have gaps.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = KafkaAdmin(settings)
        self._partitions = 0
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        """Series -> newest state. UnavailableError when the broker stops answering on the way."""
        await self._check(partition)
        consumer = AIOKafkaConsumer(
            **async_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=STATE_MAX_BYTES,
        )
        prefix = topic.encode() + b"\0"
        states: dict[str, bytes] = {}
        try:
            with quiet():
                await consumer.start()
            await self._read(consumer, TopicPartition(self._settings.state_topic, partition), prefix, states)
        except (KafkaError, OSError, TimeoutError) as error:
            raise kafka_error(error, self._settings, f"loading the state of {topic}/{partition}") from error
        finally:
            await consumer.stop()
        return states

    async def save(self, topic: str, partition: int, states: Mapping[str, bytes]) -> None:
        """Acknowledged by all in-sync replicas when it returns; UnavailableError = save again."""
        if not states:
            return
        await self._check(partition)
        prefix = topic.encode() + b"\0"
        name = self._settings.state_topic
        async with self._lock:
            try:
                async with asyncio.timeout(self._settings.request_timeout_s):
                    producer = await self._connected()
                    sent = [
                        await producer.send(name, key=prefix + series.encode(), value=state, partition=partition)
                        for series, state in states.items()
                    ]
                    await asyncio.gather(*sent)
            except (KafkaError, OSError, TimeoutError) as error:
                await self._drop()
                raise kafka_error(error, self._settings, f"saving the state of {topic}/{partition}") from error

    async def stop(self) -> None:
        await self._drop()
        await asyncio.to_thread(self._admin.close)

    async def _read(
        self,
        consumer: AIOKafkaConsumer[bytes, bytes],
        tp: TopicPartition,
        prefix: bytes,
        states: dict[str, bytes],
    ) -> None:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        await consumer.seek_to_beginning(tp)
        heard = time.monotonic()
        while (at := await consumer.position(tp)) < end:
            batch = (await consumer.getmany(tp, timeout_ms=500)).get(tp, [])
            for record in batch:
                _apply(record, prefix, states)
            if batch or await consumer.position(tp) > at:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._settings.request_timeout_s:
                raise UnavailableError(f"reading {tp.topic}/{tp.partition} stopped at offset {at} of {end}")

    async def _check(self, partition: int) -> None:
        if partition < self._partitions:
            return
        topic = self._settings.state_topic
        self._partitions = (await asyncio.to_thread(self._admin.partitions, [topic]))[topic]
        if partition >= self._partitions:
            raise ConfigError(
                f"state topic {topic!r} has {self._partitions} partitions, a topic has more than {partition}",
                hint="let the product grow it (restart a worker), or add partitions to it",
            )

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **async_options(self._settings),
                acks="all",
                enable_idempotence=True,
                max_request_size=STATE_MAX_BYTES,
                max_batch_size=256 * 1024,
            )
            self._producer = producer
            with quiet():
                await producer.start()
        return self._producer

    async def _drop(self) -> None:
        """Trap: `stop` waits for what is buffered; with the broker away that lasts until its own time-out."""
        producer, self._producer = self._producer, None
        if producer is not None:
            stopping = asyncio.ensure_future(producer.stop())
            await asyncio.wait({stopping}, timeout=self._settings.request_timeout_s)
            stopping.cancel()


def _apply(record: ConsumerRecord[bytes, bytes], prefix: bytes, states: dict[str, bytes]) -> None:
    if record.key is None or not bytes(record.key).startswith(prefix):
        return
    series = bytes(record.key)[len(prefix) :].decode()
    if record.value is None:
        states.pop(series, None)
    else:
        states[series] = bytes(record.value)
