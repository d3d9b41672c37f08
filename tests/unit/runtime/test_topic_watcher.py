"""The topic watcher: reports changed subscriptions, and survives an unavailable broker."""

from __future__ import annotations

import asyncio

import pytest

from stream_ad.errors import UnavailableError
from stream_ad.runtime import topic_watcher
from stream_ad.runtime.topic_watcher import watch_topics
from stream_ad.settings import Settings
from stream_ad.wiring.subscriptions import SubscriptionResolver, subscription_from, subscription_json
from tests.contracts.check_subscription_store import FakeSubscriptionStore
from tests.unit.wiring.test_subscriptions import read, settings


async def test_changes_are_reported_and_a_failing_broker_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watcher, "WATCH_S", 0.01)
    store = FakeSubscriptionStore({}, {"a": 1, "b": 1})
    resolver, changes = SubscriptionResolver(settings("a"), store), asyncio.Queue[Settings]()
    whole = store.all

    def unavailable() -> dict[str, bytes]:
        store.all = whole  # type: ignore[method-assign]
        raise UnavailableError("no broker")

    watching = asyncio.create_task(watch_topics(resolver, resolver.resolve(), changes.put))
    try:
        store.all = unavailable  # type: ignore[method-assign]
        store.put("b", subscription_json(subscription_from("b")))
        assert read(await asyncio.wait_for(changes.get(), 240)) == ["a", "b"]
        store.put("b", None)
        assert read(await asyncio.wait_for(changes.get(), 240)) == ["a"]
        assert changes.empty()
    finally:
        watching.cancel()
