"""The checks of `check`, one finding at a time; none of them writes anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from stream_ad.cli.common import open_store
from stream_ad.errors import AccessError, DataError, StreamAdError
from stream_ad.ports import BrokerAdmin
from stream_ad.records import DeadLetter, Observation
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import DEFAULT_PATH, NotifyRoute, Settings, Subscription, load_settings
from stream_ad.timestamps import describe_span, format_ns
from stream_ad.wiring import (
    build_scorer,
    check_store,
    embedded,
    open_admin,
    open_notifier,
    open_profiles,
    open_tail,
    resolve_subscriptions,
)

__all__ = ["Finding", "checkup"]

SAMPLE_RECORDS = 20
SAMPLE_S = 5.0
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. exit_code: 0 ok, 2 a wrong config, 1 any other failure."""

    name: str
    ok: bool
    text: str
    hint: str = ""
    exit_code: int = 0


def checkup(config: Path | None) -> Iterator[Finding]:
    """Yields each finding at once; checks that depend on a failed one are skipped."""
    loaded: list[Settings] = []

    def load() -> str:
        loaded.append(load_settings(config))
        if config is None and not DEFAULT_PATH.exists():
            return "no file: defaults and the environment"
        return str(config or DEFAULT_PATH)

    yield _find("config", load)
    if not loaded:
        return
    settings = loaded[0]
    if embedded(settings):
        yield Finding("input", True, "no kafka.bootstrap: the metrics of this machine")
    else:
        yield from _broker(settings)
    yield _find("store", lambda: _store(settings))
    yield from _models(settings)
    for route in settings.notify.routes:
        yield _find(f"notify {route.name}", partial(_route, settings, route))


def _find(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except StreamAdError as error:
        return Finding(name, False, error.message, error.hint, error.exit_code)


# ---- broker


def _broker(settings: Settings) -> Iterator[Finding]:
    with closing(open_admin(settings)) as admin:
        reached = _find("broker", admin.check)
        yield reached
        if not reached.ok:
            return
        now = resolve_subscriptions(settings)
        for pattern in (one.topic for one in settings.subscription if one.is_pattern):
            matching = sum(fnmatchcase(one.topic, pattern) for one in now.subscription)
            yield Finding(f"topics {pattern}", True, f"{matching} match now; workers find new ones")
        if not settings.subscription and not now.subscription:
            hint = "add one with its topic, or `stream-ad subscribe TOPIC`"
            yield Finding("topics", False, "kafka.bootstrap is set but there is no [[subscription]]", hint, 2)
        for subscription in now.subscription:
            yield from _topic(settings, subscription, admin)
        yield _find("own topics", lambda: _own_topics(settings, admin))


def _topic(settings: Settings, subscription: Subscription, admin: BrokerAdmin) -> Iterator[Finding]:
    topic = subscription.topic
    found = _find(f"topic {topic}", lambda: f"{admin.partitions([topic])[topic]} partition(s)")
    yield found
    if found.ok:
        yield _find(f"records of {topic}", lambda: _sample(settings, subscription))


def _sample(settings: Settings, subscription: Subscription) -> str:
    """Decodes the newest records as a worker would. DataError when none of them decodes."""
    decoder = Decoder(subscription, settings.detector)
    with closing(open_tail(settings, [subscription.topic])) as tail:
        records = tail.last(SAMPLE_RECORDS, SAMPLE_S)
    if not records:
        return "none yet"
    decoded = [decoder.decode(record) for record in records]
    failures = [dead for _, found in decoded for dead in found]
    observations = [observation for found, _ in decoded for observation in found]
    if not observations:
        raise DataError(
            f"none of the newest {len(records)} can be read: {_first(failures)}",
            hint=f"correct the producer, or the fields of the [[subscription]] of {subscription.topic!r}",
        )
    failed = f"; some parts cannot be read: {_first(failures)}" if failures else ""
    return f"{len(records)} read, {_described(observations)}{failed}"


def _first(failures: Sequence[DeadLetter]) -> str:
    return f"{failures[0].reason}: {failures[0].detail}" if failures else ""


def _described(observations: Sequence[Observation]) -> str:
    series = sorted({observation.series for observation in observations})
    channels = {channel for observation in observations for channel in observation.values}
    newest = max(observation.event_time_ns for observation in observations)
    named = ", ".join(series[:SHOWN]) + (", ..." if len(series) > SHOWN else "")
    age_ns = time.time_ns() - newest
    ago = f"{describe_span(age_ns)} ago" if age_ns >= 0 else f"{describe_span(-age_ns)} ahead of this clock"
    return f"{len(series)} series ({named}), {len(channels)} channel(s), newest {format_ns(newest)}, {ago}"


def _own_topics(settings: Settings, admin: BrokerAdmin) -> str:
    kafka = settings.kafka
    existing = admin.topics()
    found = [
        f"{topic} ({existing[topic]} partition(s))" if topic in existing else f"{topic} (will be created)"
        for topic in (kafka.alerts_topic, kafka.dlq_topic, kafka.state_topic)
    ]
    return ", ".join(found)


# ---- store, models


def _store(settings: Settings) -> str:
    reached = check_store(settings)
    if reached is not None:
        return reached
    path = settings.store.path
    if path.exists():
        with open_store(settings) as store:
            return f"{path}: {len(store.scores.score_counts())} series have scores"
    parent = next((folder for folder in path.resolve().parents if folder.exists()), Path("/"))
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise AccessError(f"{path} cannot be created: {parent} is not writable", hint="change store.path")
    return f"{path} (will be created)"


def _route(settings: Settings, route: NotifyRoute) -> str:
    """Sends nothing, and shows the service but not the address."""
    service = open_notifier(settings, route).service
    quiet = f", muted {'; '.join(route.mute)} {route.time_zone}" if route.mute else ""
    rules = f", rules {', '.join(route.rules)}" if route.rules else ""
    events = f"{', '.join(route.states)} from {route.min_severity} on"
    return f"{service}: {events}, series {', '.join(route.series)}{rules}, {route.rate}{quiet}"


def _models(settings: Settings) -> Iterator[Finding]:
    names: list[str] = []

    def weights() -> str:
        scorer = build_scorer(settings)
        names.append(scorer.name)
        wait = scorer.delay_steps + scorer.hop_steps
        return f"{scorer.name} {scorer.version}: window {scorer.window_steps} steps, a score takes up to {wait} more"

    def profiles() -> str:
        found = open_profiles(settings).series(names[0])
        shown = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
        if not found:
            return f"none in {settings.models.url}: workers fit series from their stream"
        return f"{len(found)} in {settings.models.url} ({shown})"

    yield _find("model", weights)
    if names:
        yield _find("profiles", profiles)
