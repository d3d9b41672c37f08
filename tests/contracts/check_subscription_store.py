"""What every ports.SubscriptionStore promises."""

from __future__ import annotations

from collections.abc import Callable

from stream_ad.ports import SubscriptionStore


class FakeSubscriptionStore:
    """In memory; `others` are the topics of its broker."""

    def __init__(self, kept: dict[str, bytes], others: dict[str, int]) -> None:
        self._kept, self.others = kept, others

    def all(self) -> dict[str, bytes]:
        return dict(self._kept)

    def put(self, topic: str, how: bytes | None) -> None:
        self._kept.pop(topic, None)
        if how is not None:
            self._kept[topic] = how

    def topics(self) -> dict[str, int]:
        return dict(self.others)

    def close(self) -> None:
        pass


def check_subscription_store(make: Callable[[], SubscriptionStore], topic: str, partitions: int) -> None:
    """make: opens the same store anew; topic: one that exists there."""
    first, second = make(), make()
    assert first.all() == second.all() == {}
    assert first.topics()[topic] == partitions
    first.put("a", b"1")
    first.put("plant.*", b"{}")
    assert second.all() == first.all() == {"a": b"1", "plant.*": b"{}"}
    second.put("a", b"2")
    assert first.all()["a"] == b"2"
    second.put("a", None)
    second.put("never", None)
    assert first.all() == second.all() == {"plant.*": b"{}"}
    third = make()
    assert third.all() == {"plant.*": b"{}"}
    for store in (first, second, third):
        store.close()
