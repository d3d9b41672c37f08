"""Opens sources, sinks, topics, subscriptions and clocks; without a broker, their embedded replacements."""

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
    "resolve_subscriptions",
    "with_machine_topic",
]

MACHINE_TOPIC = "machine"
MACHINE_STEP = "1s"


def embedded(settings: Settings) -> bool:
    """Whether there is no broker; the input is then the metrics of this machine."""
    return settings.kafka.bootstrap is None


def open_clock() -> Clock:
    from stream_ad_connectors.host.clock import SystemClock

    return SystemClock()


def prepare(settings: Settings) -> None:
    """Checks store and broker before the start, and creates the product's own topics; also after topics were added."""
    check_store(settings)
    if not embedded(settings):
        from stream_ad_connectors.kafka.admin import ensure_topics

        ensure_topics(settings.kafka, _topics(settings))


def open_sinks(settings: Settings, store: Store) -> dict[str, Sink]:
    """Name in metrics -> sink. The store comes first: a published alert can be looked up."""
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
    """The source, and the store of series states (None: the source cannot be replayed)."""
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
    """A source of alerts for the dispatcher; without a broker, also the sink that feeds it."""
    if embedded(settings):
        from stream_ad_connectors.in_process.bus import AlertBus

        bus = AlertBus()
        return bus.source, bus
    from stream_ad_connectors.kafka.rebalance import SingleActiveAssignor
    from stream_ad_connectors.kafka.source import KafkaSource

    kafka = settings.kafka.model_copy(update={"group": f"{settings.kafka.group}.notify"})
    return KafkaSource(kafka, [kafka.alerts_topic], assignor=SingleActiveAssignor), None


def with_machine_topic(settings: Settings) -> Settings:
    """Settings of embedded mode, with a subscription of the machine topic."""
    if any(s.topic == MACHINE_TOPIC for s in settings.subscription):
        return settings
    machine = Subscription(topic=MACHINE_TOPIC, step=MACHINE_STEP)
    return settings.model_copy(update={"subscription": (*settings.subscription, machine)})


def open_subscriptions(settings: Settings) -> SubscriptionStore:
    """The store of runtime subscriptions. ConfigError without a broker."""
    from stream_ad_connectors.kafka.subscription_store import KafkaSubscriptions

    if embedded(settings):
        raise ConfigError("topics need a broker, and kafka.bootstrap is not set", hint="set kafka.bootstrap")
    return KafkaSubscriptions(settings.kafka)


def resolve_subscriptions(settings: Settings) -> Settings:
    """The settings with all current topics: those of patterns and of runtime subscriptions too."""
    if embedded(settings):
        return settings
    with closing(SubscriptionResolver(settings, open_subscriptions(settings))) as resolver:
        return resolver.resolve()


def group_lag(settings: Settings) -> list[GroupLag] | None:
    """Consumer lag of the workers' group in each partition; None without a broker."""
    from stream_ad_connectors.kafka.admin import KafkaAdmin

    if embedded(settings):
        return None
    with closing(KafkaAdmin(settings.kafka)) as admin:
        return admin.lag(_topics(resolve_subscriptions(settings)))


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
    """Existing topics that match a name or a shell pattern. ConfigError when none does."""
    from stream_ad_connectors.kafka import tail

    _need_broker(settings)
    return tail.matching_topics(settings.kafka, pattern)


def broker_credentials(kafka: KafkaSettings) -> Mapping[str, Any]:
    """ssl_context, sasl_plain_username, sasl_plain_password, where the settings require them."""
    from stream_ad_connectors.kafka.security import security_options

    return security_options(kafka)


def _need_broker(settings: Settings) -> None:
    if embedded(settings):
        raise ConfigError("this needs a broker, and kafka.bootstrap is not set", hint="set kafka.bootstrap")


def open_dead_letters(settings: Settings) -> DeadLetterReader:
    """The dead-letter topic; the embedded store where there is no broker."""
    if embedded(settings):
        from stream_ad_connectors.sqlite.reader import SqliteReader

        return SqliteReader(settings.store.path)
    from stream_ad_connectors.kafka.dead_letters import KafkaDeadLetterReader

    return KafkaDeadLetterReader(settings.kafka)


def open_bus(clock: Clock) -> PushSource:
    """A source to which this process pushes records."""
    from stream_ad_connectors.in_process.bus import BusSource

    return BusSource(clock=clock)


def open_host_source(step_s: float, **options: Any) -> Source:
    """The metrics of this machine (stream_ad_connectors.host.metrics.HostMetricsSource)."""
    from stream_ad_connectors.host.metrics import HostMetricsSource

    return HostMetricsSource(step_s, **options)


def merge_sources(*sources: Source) -> Source:
    from stream_ad_connectors.in_process.merged import MergedSource

    return MergedSource(*sources)
