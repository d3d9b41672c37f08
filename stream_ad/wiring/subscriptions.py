"""Subscriptions: topics and patterns of the config, and those added at run time."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from stream_ad.errors import ConfigError, DataError
from stream_ad.ports import SubscriptionStore
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import KafkaSettings, Settings, Subscription

__all__ = [
    "SubscriptionResolver",
    "list_subscriptions",
    "parse_subscription",
    "resolve_patterns",
    "subscription_from",
    "subscription_json",
    "with_runtime",
]

log = logging.getLogger(__name__)


class SubscriptionResolver:
    """Resolves patterns and runtime subscriptions to existing topics. Use it from one thread at a time.

    A runtime subscription is left out while its topic does not exist; a topic of the config stays, so that a missing
    one is an error.
    """

    def __init__(self, settings: Settings, store: SubscriptionStore) -> None:
        self._settings, self._store = settings, store
        self._skipped: set[bytes] = set()
        self.topics_may_appear = False  # the last `resolve` found patterns or runtime subscriptions

    def resolve(self) -> Settings:
        """The settings with one subscription for each topic to read now."""
        runtime = [one for payload in self._store.all().values() if (one := self._parse(payload)) is not None]
        every = with_runtime(self._settings, runtime)
        self.topics_may_appear = bool(runtime) or any(one.is_pattern for one in every.subscription)
        if not self.topics_may_appear:
            return self._settings
        topics = self._store.topics()
        kept = {*topics, *(one.topic for one in self._settings.subscription)}
        existing = tuple(one for one in every.subscription if one.is_pattern or one.topic in kept)
        return resolve_patterns(every.model_copy(update={"subscription": existing}), topics)

    def close(self) -> None:
        self._store.close()

    def _parse(self, payload: bytes) -> Subscription | None:
        try:
            subscription = parse_subscription(payload)
            Decoder(
                subscription, self._settings.detector
            )  # a schema file missing on this machine must not end the worker
            return subscription
        except (DataError, ConfigError) as error:
            if payload not in self._skipped:
                self._skipped.add(payload)
                log.warning("a runtime subscription is skipped: %s", error)
            return None


def subscription_from(topic: str, fields: Mapping[str, Any] | None = None) -> Subscription:
    """The subscription of a topic or pattern, from the keys of [[subscription]]. ConfigError names the invalid key."""
    try:
        return Subscription(topic=topic, **(fields or {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"subscription {topic!r}: {where}: {first['msg']}") from None


def subscription_json(subscription: Subscription) -> bytes:
    return subscription.model_dump_json(exclude_defaults=True).encode()


def parse_subscription(payload: bytes) -> Subscription:
    """Decodes `subscription_json`. DataError when the payload is no subscription."""
    try:
        return Subscription.model_validate_json(payload)
    except ValidationError as error:
        raise DataError(f"expected a subscription as JSON: {error.errors()[0]['msg']}") from None


def with_runtime(settings: Settings, runtime: Sequence[Subscription]) -> Settings:
    """The subscriptions of the config, then the runtime ones of other topics."""
    named = {one.topic for one in settings.subscription}
    more = tuple(one for one in runtime if one.topic not in named)
    return settings.model_copy(update={"subscription": (*settings.subscription, *more)})


def resolve_patterns(settings: Settings, topics: Collection[str]) -> Settings:
    """Replaces patterns by the matching topics. A topic's own subscription wins over patterns, the first matching
    pattern over later ones. The product's own topics match no pattern."""
    named = {one.topic: one for one in settings.subscription if not one.is_pattern}
    for topic in sorted(set(topics) - set(named) - _own_topics(settings.kafka)):
        for one in settings.subscription:
            if one.is_pattern and fnmatchcase(topic, one.topic):
                named[topic] = one.model_copy(update={"topic": topic})
                break
    return settings.model_copy(update={"subscription": tuple(named.values())})


def list_subscriptions(settings: Settings, store: SubscriptionStore) -> list[dict[str, Any]]:
    """Every subscription with its origin ("config" or "run time") and its existing topics."""
    runtime = [parse_subscription(payload) for _, payload in sorted(store.all().items())]
    topics, own = store.topics(), {one.topic for one in settings.subscription}
    return [
        {
            **one.model_dump(mode="json"),
            "by": "config" if one.topic in own else "run time",
            "topics": sorted(set(topics) & {one.topic}) if not one.is_pattern else _matching(settings, one, topics),
        }
        for one in with_runtime(settings, runtime).subscription
    ]


def _matching(settings: Settings, pattern: Subscription, topics: Collection[str]) -> list[str]:
    only = settings.model_copy(update={"subscription": (pattern,)})
    return [one.topic for one in resolve_patterns(only, topics).subscription]


def _own_topics(kafka: KafkaSettings) -> frozenset[str]:
    return frozenset({kafka.alerts_topic, kafka.dlq_topic, kafka.state_topic, kafka.subscriptions_topic})
