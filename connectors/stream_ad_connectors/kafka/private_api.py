"""The private parts of aiokafka and kafka-python that the adapters use, because no public call does the same.

tests/unit/connectors/kafka/test_private_api.py fails when a version of a library lacks one of them.
"""

from __future__ import annotations

from typing import Any

__all__ = ["add_topic", "force_close", "generation", "send_heartbeat"]


async def add_topic(consumer: Any, topic: str) -> None:
    """Waits until an aiokafka consumer knows the topic's metadata."""
    await consumer._client.add_topic(topic)


def generation(consumer: Any) -> int:
    """The group generation of an aiokafka consumer; negative once the group has expelled this member. 0 = not joined.

    aiokafka has no callback for lost partitions.
    """
    return int(getattr(getattr(consumer, "_coordinator", None), "generation", 0))


async def send_heartbeat(consumer: Any) -> bool:
    """Sends a heartbeat now and waits for the answer; False = the coordinator did not confirm the membership."""
    coordinator = consumer._coordinator
    await coordinator.ensure_coordinator_known()
    return bool(await coordinator._do_heartbeat())


def force_close(producer: Any) -> None:
    """Makes the sender thread of a kafka-python producer drop its buffered records and stop."""
    sender = getattr(producer, "_sender", None)
    if sender is not None:
        sender.force_close()
