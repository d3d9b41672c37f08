"""The state of each series on a compacted Kafka topic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from stream_ad.errors import ConfigError
from stream_ad.settings import KafkaSettings
from stream_ad_connectors.kafka.admin import STATE_MAX_BYTES, KafkaAdmin
from stream_ad_connectors.kafka.connection import async_options, kafka_error, muted_client_logs
from stream_ad_connectors.kafka.records import read_partition_to_end

__all__ = ["KafkaStateStore"]


class KafkaStateStore:
    """StateStore on `kafka.state_topic`, which `ensure_topics` creates.

    Partition p holds the states of partition p of every subscribed topic; key = topic, a zero byte, series (a topic's
    name holds no zero byte). `load` reads the partition to the end it has at the call; the newest value of a key wins,
    a null value deletes. Trap: compaction is lazy, so older values may remain and offsets have gaps.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = KafkaAdmin(settings)
        self._partitions = 0
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def load(self, topic: str, partition: int) -> dict[str, bytes]:
        """Series -> newest state. UnavailableError when the broker does not answer."""
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
            with muted_client_logs():
                await consumer.start()
            source = TopicPartition(self._settings.state_topic, partition)
            async for record in read_partition_to_end(consumer, source, timeout_s=self._settings.request_timeout_s):
                _apply(record, prefix, states)
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

    async def _check(self, partition: int) -> None:
        if partition < self._partitions:
            return
        topic = self._settings.state_topic
        self._partitions = (await asyncio.to_thread(self._admin.partitions, [topic]))[topic]
        if partition >= self._partitions:
            raise ConfigError(
                f"state topic {topic!r} has {self._partitions} partitions, a topic has more than {partition}",
                hint="restart a worker, which adds partitions to it, or add them yourself",
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
            with muted_client_logs():
                await producer.start()
        return self._producer

    async def _drop(self) -> None:
        """Trap: `stop` waits for buffered records; while the broker is down, that lasts until their time-out."""
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
