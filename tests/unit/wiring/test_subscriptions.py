"""Which topics are read: those of the config, of patterns and of runtime subscriptions."""

from __future__ import annotations

import pytest

from stream_ad.errors import ConfigError
from stream_ad.settings import KafkaSettings, Settings, Subscription
from stream_ad.wiring.subscriptions import (
    SubscriptionResolver,
    list_subscriptions,
    resolve_patterns,
    subscription_from,
    subscription_json,
)
from tests.contracts.check_subscription_store import FakeSubscriptionStore, check_subscription_store


def settings(*topics: str, **fields: str) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap="b:1"),
        subscription=tuple(Subscription(topic=topic, **fields) for topic in topics),
    )


def read(found: Settings) -> list[str]:
    return [one.topic for one in found.subscription]


def test_the_fake_store_fulfils_the_contract() -> None:
    kept: dict[str, bytes] = {}
    check_subscription_store(lambda: FakeSubscriptionStore(kept, {"t": 3}), "t", 3)


def test_a_pattern_matches_all_topics_but_the_products() -> None:
    there = {"plant.a": 1, "plant.b": 1, "other": 1, "stream-ad.alerts": 1, "stream-ad.state": 1, "stream-ad.dlq": 1}
    assert read(resolve_patterns(settings("plant.*"), there)) == ["plant.a", "plant.b"]
    assert read(resolve_patterns(settings("*"), there)) == ["other", "plant.a", "plant.b"]


def test_a_name_wins_over_patterns_and_the_first_pattern_over_later_ones() -> None:
    given = Settings(
        subscription=(
            Subscription(topic="plant.?", step="2s"),
            Subscription(topic="plant.*", step="3s"),
            Subscription(topic="plant.a", step="1s"),
        )
    )
    found = resolve_patterns(given, {"plant.a": 1, "plant.b": 1, "plant.bb": 1})
    assert {one.topic: one.step for one in found.subscription} == {"plant.a": "1s", "plant.b": "2s", "plant.bb": "3s"}


def test_runtime_subscriptions_add_to_the_config() -> None:
    stored = {
        "a": subscription_json(subscription_from("a", {"step": "9s"})),
        "late": subscription_json(subscription_from("late", {"step": "5s"})),
        "b.*": subscription_json(subscription_from("b.*")),
        "broken": b"{",
    }
    store = FakeSubscriptionStore(stored, {"a": 1, "b.1": 1})
    topics = SubscriptionResolver(settings("a", step="1s"), store)
    assert {one.topic: one.step for one in topics.resolve().subscription} == {"a": "1s", "b.1": None}
    store.others |= {"late": 1, "b.2": 1}
    assert {one.topic: one.step for one in topics.resolve().subscription} == {
        "a": "1s", "late": "5s", "b.1": None, "b.2": None
    }  # fmt: skip
    store.put("late", None)
    assert "late" not in read(topics.resolve())


def test_a_configured_topic_stays_when_it_does_not_exist() -> None:
    """A missing topic of the config stays an error."""
    topics = SubscriptionResolver(settings("a", "b.*"), FakeSubscriptionStore({}, {}))
    assert read(topics.resolve()) == ["a"]
    assert topics.topics_may_appear


def test_without_patterns_and_stored_the_broker_is_not_asked_for_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeSubscriptionStore({}, {})
    monkeypatch.setattr(store, "topics", lambda: pytest.fail("asked"))
    assert read(SubscriptionResolver(settings("a"), store).resolve()) == ["a"]


@pytest.mark.parametrize(
    ("topic", "fields"),
    [("no spaces", {}), ("", {}), ("t", {"stepp": "1s"}), ("t", {"step": "soon"}), ("t", {"time_unit": "h"})],
)
def test_an_invalid_subscription_is_rejected(topic: str, fields: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"subscription '{topic}'"):
        subscription_from(topic, fields)


def test_a_list_has_origins_and_existing_topics() -> None:
    store = FakeSubscriptionStore({"b.*": subscription_json(subscription_from("b.*"))}, {"a": 1, "b.1": 2, "b.2": 1})
    found = {one["topic"]: (one["by"], one["topics"]) for one in list_subscriptions(settings("a", "gone"), store)}
    assert found == {"a": ("config", ["a"]), "gone": ("config", []), "b.*": ("run time", ["b.1", "b.2"])}
