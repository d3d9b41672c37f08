"""Which topics are read, and how: names and patterns of the config, and what was asked for at run time."""

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

__all__ = ["SubscriptionResolver", "concrete", "listed", "merged", "parsed", "subscription_from", "subscription_json"]

log = logging.getLogger(__name__)


class SubscriptionResolver:
    """The settings with every topic that is to be read now; asked anew at each `now`. From one thread at a time.

    A topic of run time that does not exist (any more) is waited for; one of the config stays, so that its absence is
    an error.
    """

    def __init__(self, settings: Settings, store: SubscriptionStore) -> None:
        self._settings, self._store = settings, store
        self._passed_over: set[bytes] = set()
        self._waits = False

    def now(self) -> Settings:
        wished = [one for payload in self._store.all().values() if (one := self._wish(payload)) is not None]
        both = merged(self._settings, wished)
        self._waits = bool(wished) or any(one.is_pattern for one in both.subscription)
        if not self._waits:
            return self._settings
        topics = self._store.topics()
        named = {one.topic for one in self._settings.subscription}
        there = tuple(one for one in both.subscription if one.is_pattern or one.topic in named or one.topic in topics)
        return concrete(both.model_copy(update={"subscription": there}), topics)

    @property
    def waits(self) -> bool:
        """There are patterns, or topics of run time that do not exist yet; as of the last `now`."""
        return self._waits

    def close(self) -> None:
        self._store.close()

    def _wish(self, payload: bytes) -> Subscription | None:
        try:
            wished = parsed(payload)
            Decoder(wished, self._settings.detector)  # a schema file that is not on this machine ends no worker
            return wished
        except (DataError, ConfigError) as error:
            if payload not in self._passed_over:
                self._passed_over.add(payload)
                log.warning("a subscription of run time is passed over: %s", error)
            return None


def subscription_from(topic: str, fields: Mapping[str, Any] | None = None) -> Subscription:
    """A topic or pattern and the keys of its [[subscription]]. ConfigError names the one that is wrong."""
    try:
        return Subscription(topic=topic, **(fields or {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"subscription {topic!r}: {where}: {first['msg']}") from None


def subscription_json(subscription: Subscription) -> bytes:
    return subscription.model_dump_json(exclude_defaults=True).encode()


def parsed(payload: bytes) -> Subscription:
    """What `subscription_json` wrote. DataError when it is none."""
    try:
        return Subscription.model_validate_json(payload)
    except ValidationError as error:
        raise DataError(f"expected a subscription as JSON: {error.errors()[0]['msg']}") from None


def merged(settings: Settings, wished: Sequence[Subscription]) -> Settings:
    """The config's, then those of run time that it does not name."""
    named = {one.topic for one in settings.subscription}
    more = tuple(one for one in wished if one.topic not in named)
    return settings.model_copy(update={"subscription": (*settings.subscription, *more)})


def concrete(settings: Settings, topics: Collection[str]) -> Settings:
    """Patterns replaced by the topics that match: a topic that is named is read as its name says, another as the first
    pattern that matches it. The product's own topics match none."""
    named = {one.topic: one for one in settings.subscription if not one.is_pattern}
    for topic in sorted(set(topics) - set(named) - _own_topics(settings.kafka)):
        for one in settings.subscription:
            if one.is_pattern and fnmatchcase(topic, one.topic):
                named[topic] = one.model_copy(update={"topic": topic})
                break
    return settings.model_copy(update={"subscription": tuple(named.values())})


def listed(settings: Settings, store: SubscriptionStore) -> list[dict[str, Any]]:
    """Every subscription with who asked for it ("config" or "run time") and the topics there are of it."""
    wished = [parsed(payload) for _, payload in sorted(store.all().items())]
    topics, own = store.topics(), {one.topic for one in settings.subscription}
    return [
        {
            **one.model_dump(mode="json"),
            "by": "config" if one.topic in own else "run time",
            "topics": sorted(set(topics) & {one.topic}) if not one.is_pattern else _matching(settings, one, topics),
        }
        for one in merged(settings, wished).subscription
    ]


def _matching(settings: Settings, pattern: Subscription, topics: Collection[str]) -> list[str]:
    alone = settings.model_copy(update={"subscription": (pattern,)})
    return [one.topic for one in concrete(alone, topics).subscription]


def _own_topics(kafka: KafkaSettings) -> frozenset[str]:
    return frozenset({kafka.alerts_topic, kafka.dlq_topic, kafka.state_topic, kafka.subscriptions_topic})
