"""What flows: broker, sources, sinks, subscriptions, clocks; embedded stand-ins where there is no broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from stream_ad.durations import duration_ns
from stream_ad.errors import ConfigError
from stream_ad.ports import (
    BrokerAdmin,
    Clock,
    DeadLetterReader,
    Notifier,
    PushSource,
    RecordPublisher,
    RecordTail,
    Sink,
    Source,
    StateStore,
    SubscriptionStore,
)
from stream_ad.records import GroupLag
from stream_ad.settings import KafkaSettings, NotifyRoute, Settings, Subscription
from stream_ad.wiring.plugins import load_plugin
from stream_ad.wiring.storage import Store, check_store
from stream_ad.wiring.subscriptions import SubscriptionResolver

__all__ = [
    "MACHINE_STEP",
    "MACHINE_TOPIC",
    "broker_credentials",
    "embedded",
    "group_lag",
    "matching_topics",
    "merge_sources",
    "open_admin",
    "open_alert_source",
    "open_bus",
    "open_clock",
    "open_dead_letters",
    "open_host_source",
    "open_notifier",
    "open_publisher",
    "open_sinks",
    "open_source",
    "open_subscriptions",
    "open_tail",
    "prepare",
    "subscribed",
    "with_machine_topic",
]

MACHINE_TOPIC = "machine"

MACHINE_STEP = "1s"


def embedded(settings: Settings) -> bool:
    """No broker: this machine's own metrics are the input."""
    return settings.kafka.bootstrap is None


def open_clock() -> Clock:
    from stream_ad_connectors.host.clock import SystemClock

    return SystemClock()


def prepare(settings: Settings) -> None:
    """Finds out early what is missing outside, and makes the topics that the product owns; again when topics come."""
    check_store(settings)
    if not embedded(settings):
        from stream_ad_connectors.kafka.admin import ensure_topics

        ensure_topics(settings.kafka, _topics(settings))


def open_sinks(settings: Settings, store: Store) -> dict[str, Sink]:
    """By what they are called where they are watched. The store first: an alert that is told can be looked up."""
    sinks = {"sqlite" if settings.influxdb.url is None else "influxdb": store.sink}
    if not embedded(settings):
        from stream_ad_connectors.kafka.sink import KafkaSink

        sinks["alerts topic"] = KafkaSink(settings.kafka)
    for name in settings.plugins.sinks:
        sink = load_plugin("sinks", name, settings, key="plugins.sinks")
        if not isinstance(sink, Sink):
            raise ConfigError(f"plugins.sinks: expected a Sink, found {sink!r} from {name!r}")
        sinks[f"sink {name}"] = sink
    return sinks


def open_source(settings: Settings) -> tuple[Source, StateStore | None]:
    """What is read, and where the small state is kept (None: what was read cannot be read again)."""
    if settings.plugins.source is not None:
        source = load_plugin("sources", settings.plugins.source, settings, key="plugins.source")
        if not isinstance(source, Source):
            raise ConfigError(f"plugins.source: expected a Source, found {source!r} from {settings.plugins.source!r}")
        return source, None
    if embedded(settings):
        from stream_ad_connectors.host.metrics import HostMetricsSource

        step_s = duration_ns(settings.subscription_of(MACHINE_TOPIC).step or MACHINE_STEP) / 1e9
        return HostMetricsSource(step_s), None
    from stream_ad_connectors.kafka.source import KafkaSource
    from stream_ad_connectors.kafka.state_store import KafkaStateStore

    return KafkaSource(settings.kafka, _topics(settings)), KafkaStateStore(settings.kafka)


def open_notifier(settings: Settings, route: NotifyRoute) -> Notifier:
    """The receiver of one route. ConfigError when its address is missing or wrong."""
    if route.notifier is not None:
        key = f"notify.routes {route.name}: notifier"
        notifier = load_plugin("notifiers", route.notifier, settings, route, key=key)
        if not isinstance(notifier, Notifier):
            raise ConfigError(f"{key}: expected a Notifier, found {notifier!r}")
        return notifier
    from stream_ad_connectors.notifiers.apprise import AppriseNotifier

    return AppriseNotifier(route.name, settings.notify_url(route))


def open_alert_source(settings: Settings) -> tuple[Source, Sink | None]:
    """Alerts as records, for the notifier; without a broker the sink beside them is what feeds them."""
    if embedded(settings):
        from stream_ad_connectors.in_process.bus import AlertBus

        bus = AlertBus()
        return bus.source, bus
    from stream_ad_connectors.kafka.rebalance import SingleActiveAssignor
    from stream_ad_connectors.kafka.source import KafkaSource

    kafka = settings.kafka.model_copy(update={"group": f"{settings.kafka.group}.notify"})
    return KafkaSource(kafka, [kafka.alerts_topic], assignor=SingleActiveAssignor), None


def with_machine_topic(settings: Settings) -> Settings:
    """Embedded settings always have the machine's own topic."""
    if any(s.topic == MACHINE_TOPIC for s in settings.subscription):
        return settings
    machine = Subscription(topic=MACHINE_TOPIC, step=MACHINE_STEP)
    return settings.model_copy(update={"subscription": (*settings.subscription, machine)})


def open_subscriptions(settings: Settings) -> SubscriptionStore:
    """What people subscribe to at run time. ConfigError without a broker."""
    from stream_ad_connectors.kafka.subscription_store import KafkaSubscriptions

    if embedded(settings):
        raise ConfigError("topics need a broker, and kafka.bootstrap is not set", hint="set kafka.bootstrap")
    return KafkaSubscriptions(settings.kafka)


def subscribed(settings: Settings) -> Settings:
    """The settings with every topic that is read now: patterns and what was subscribed to at run time."""
    if embedded(settings):
        return settings
    opened = SubscriptionResolver(settings, open_subscriptions(settings))
    try:
        return opened.now()
    finally:
        opened.close()


def group_lag(settings: Settings) -> list[GroupLag] | None:
    """How far the workers are behind in each partition that they read; None without a broker."""
    from stream_ad_connectors.kafka.admin import KafkaAdmin

    if embedded(settings):
        return None
    with closing(KafkaAdmin(settings.kafka)) as admin:
        return admin.lag(_topics(subscribed(settings)))


def _topics(settings: Settings) -> list[str]:
    return [subscription.topic for subscription in settings.subscription]


def open_publisher(settings: Settings) -> RecordPublisher:
    """A producer for the command line, the SDK and the API. ConfigError without a broker."""
    from stream_ad_connectors.kafka.publisher import KafkaPublisher

    _need_broker(settings)
    return KafkaPublisher(settings.kafka)


def open_tail(settings: Settings, topics: Sequence[str]) -> RecordTail:
    """A reader of topics outside any group. ConfigError when a topic does not exist."""
    from stream_ad_connectors.kafka.tail import KafkaTail

    _need_broker(settings)
    return KafkaTail(settings.kafka, topics)


def open_admin(settings: Settings) -> BrokerAdmin:
    from stream_ad_connectors.kafka.admin import KafkaAdmin

    _need_broker(settings)
    return KafkaAdmin(settings.kafka)


def matching_topics(settings: Settings, pattern: str) -> list[str]:
    """Topics that a name or a shell pattern means now. ConfigError when there is none."""
    from stream_ad_connectors.kafka import tail

    _need_broker(settings)
    return tail.matching_topics(settings.kafka, pattern)


def broker_credentials(kafka: KafkaSettings) -> Mapping[str, Any]:
    """ssl_context, sasl_plain_username, sasl_plain_password, as far as the settings ask for them."""
    from stream_ad_connectors.kafka.security import security_options

    return security_options(kafka)


def _need_broker(settings: Settings) -> None:
    if embedded(settings):
        raise ConfigError("this needs a broker, and kafka.bootstrap is not set", hint="set kafka.bootstrap")


def open_dead_letters(settings: Settings) -> DeadLetterReader:
    """The dead-letter topic; the embedded store where there is no broker."""
    if embedded(settings):
        from stream_ad_connectors.sqlite.store import SqliteStore

        return SqliteStore(settings.store.path)
    from stream_ad_connectors.kafka.dead_letters import KafkaDeadLetterReader

    return KafkaDeadLetterReader(settings.kafka)


def open_bus(clock: Clock) -> PushSource:
    """A source that is fed within this process."""
    from stream_ad_connectors.in_process.bus import BusSource

    return BusSource(clock=clock)


def open_host_source(step_s: float, **options: Any) -> Source:
    """This machine's own metrics (stream_ad_connectors.host.metrics.HostMetricsSource)."""
    from stream_ad_connectors.host.metrics import HostMetricsSource

    return HostMetricsSource(step_s, **options)


def merge_sources(*sources: Source) -> Source:
    from stream_ad_connectors.in_process.merged import MergedSource

    return MergedSource(*sources)
