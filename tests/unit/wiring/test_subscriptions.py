"""Which topics are read: the config's, patterns, and those of run time."""

from __future__ import annotations

import asyncio

import pytest

from stream_ad.errors import ConfigError, UnavailableError
from stream_ad.runtime import topic_watcher as following
from stream_ad.runtime.topic_watcher import follow
from stream_ad.settings import KafkaSettings, Settings, Subscription
from stream_ad.wiring.subscriptions import SubscriptionResolver, concrete, listed, subscription_from, subscription_json
from tests.contracts.check_subscription_store import FakeSubscriptionStore, check_subscription_store


def settings(*topics: str, **fields: str) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap="b:1"),
        subscription=tuple(Subscription(topic=topic, **fields) for topic in topics),
    )


def read(found: Settings) -> list[str]:
    return [one.topic for one in found.subscription]


def test_the_fake_keeps_the_port_s_promises() -> None:
    kept: dict[str, bytes] = {}
    check_subscription_store(lambda: FakeSubscriptionStore(kept, {"t": 3}), "t", 3)


def test_a_pattern_is_every_topic_that_matches_but_our_own() -> None:
    there = {"plant.a": 1, "plant.b": 1, "other": 1, "stream-ad.alerts": 1, "stream-ad.state": 1, "stream-ad.dlq": 1}
    assert read(concrete(settings("plant.*"), there)) == ["plant.a", "plant.b"]
    assert read(concrete(settings("*"), there)) == ["other", "plant.a", "plant.b"]


def test_a_name_goes_before_a_pattern_and_the_first_pattern_before_others() -> None:
    given = Settings(
        subscription=(
            Subscription(topic="plant.?", step="2s"),
            Subscription(topic="plant.*", step="3s"),
            Subscription(topic="plant.a", step="1s"),
        )
    )
    found = concrete(given, {"plant.a": 1, "plant.b": 1, "plant.bb": 1})
    assert {one.topic: one.step for one in found.subscription} == {"plant.a": "1s", "plant.b": "2s", "plant.bb": "3s"}


def test_run_time_adds_to_the_config_and_does_not_change_it() -> None:
    wishes = {
        "a": subscription_json(subscription_from("a", {"step": "9s"})),
        "late": subscription_json(subscription_from("late", {"step": "5s"})),
        "b.*": subscription_json(subscription_from("b.*")),
        "broken": b"{",
    }
    store = FakeSubscriptionStore(wishes, {"a": 1, "b.1": 1})
    topics = SubscriptionResolver(settings("a", step="1s"), store)
    assert {one.topic: one.step for one in topics.now().subscription} == {"a": "1s", "b.1": None}
    store.others |= {"late": 1, "b.2": 1}
    assert {one.topic: one.step for one in topics.now().subscription} == {
        "a": "1s", "late": "5s", "b.1": None, "b.2": None
    }  # fmt: skip
    store.put("late", None)
    assert "late" not in read(topics.now())


def test_a_topic_of_the_config_stays_though_it_does_not_exist() -> None:
    """So that its absence is an error, as ever."""
    topics = SubscriptionResolver(settings("a", "b.*"), FakeSubscriptionStore({}, {}))
    assert read(topics.now()) == ["a"]
    assert topics.waits


def test_without_patterns_and_wishes_the_broker_is_not_asked_for_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeSubscriptionStore({}, {})
    monkeypatch.setattr(store, "topics", lambda: pytest.fail("asked"))
    assert read(SubscriptionResolver(settings("a"), store).now()) == ["a"]


@pytest.mark.parametrize(
    ("topic", "fields"),
    [("no spaces", {}), ("", {}), ("t", {"stepp": "1s"}), ("t", {"step": "soon"}), ("t", {"time_unit": "h"})],
)
def test_what_cannot_be_read_is_refused(topic: str, fields: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"subscription '{topic}'"):
        subscription_from(topic, fields)


def test_a_list_says_who_asked_and_what_is_there() -> None:
    store = FakeSubscriptionStore({"b.*": subscription_json(subscription_from("b.*"))}, {"a": 1, "b.1": 2, "b.2": 1})
    found = {one["topic"]: (one["by"], one["topics"]) for one in listed(settings("a", "gone"), store)}
    assert found == {"a": ("config", ["a"]), "gone": ("config", []), "b.*": ("run time", ["b.1", "b.2"])}


async def test_changes_are_told_and_a_broker_that_is_away_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "FOLLOW_S", 0.01)
    store = FakeSubscriptionStore({}, {"a": 1, "b": 1})
    topics, told = SubscriptionResolver(settings("a"), store), asyncio.Queue[Settings]()
    whole = store.all

    def away() -> dict[str, bytes]:
        store.all = whole  # type: ignore[method-assign]
        raise UnavailableError("no broker")

    following_task = asyncio.create_task(follow(topics, topics.now(), told.put))
    try:
        store.all = away  # type: ignore[method-assign]
        store.put("b", subscription_json(subscription_from("b")))
        assert read(await asyncio.wait_for(told.get(), 10)) == ["a", "b"]
        store.put("b", None)
        assert read(await asyncio.wait_for(told.get(), 10)) == ["a"]
        assert told.empty()
    finally:
        following_task.cancel()
