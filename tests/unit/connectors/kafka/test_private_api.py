"""The installed versions of aiokafka and kafka-python still have the private parts that the adapters use."""

from __future__ import annotations

import inspect

from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from kafka import KafkaProducer
from kafka.producer.sender import Sender
from stream_ad_connectors.kafka import private_api


async def test_an_aiokafka_consumer_has_a_client_and_a_coordinator() -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    assert hasattr(consumer, "_coordinator")
    assert isinstance(consumer._client, AIOKafkaClient)
    assert list(inspect.signature(AIOKafkaClient.add_topic).parameters) == ["self", "topic"]
    assert private_api.generation(consumer) == 0  # before it joins a group
    await consumer.stop()


def test_an_aiokafka_coordinator_heartbeats_on_request_and_keeps_its_generation() -> None:
    assert "generation" in GroupCoordinator.__init__.__code__.co_names
    for method in (GroupCoordinator.ensure_coordinator_known, GroupCoordinator._do_heartbeat):
        assert inspect.iscoroutinefunction(method)
        assert list(inspect.signature(method).parameters) == ["self"]


def test_a_kafka_python_producer_has_a_sender_that_can_be_forced_to_close() -> None:
    assert "_sender" in KafkaProducer.__init__.__code__.co_names
    assert list(inspect.signature(Sender.force_close).parameters) == ["self"]
