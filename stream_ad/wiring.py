"""Settings to objects: the one room that knows every adapter and every scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from stream_ad.durations import duration_ns
from stream_ad.errors import ConfigError
from stream_ad.plugins import make_part
from stream_ad.ports import (
    AlertReader,
    Clock,
    DeadLetterReader,
    Notifier,
    ProfileStore,
    Scorer,
    ScoreReader,
    Sink,
    Source,
    StateStore,
    StatusReader,
    SubscriptionStore,
)
from stream_ad.settings import NotifyRoute, Settings, Subscription
from stream_ad.subscriptions import Subscribed

if TYPE_CHECKING:
    from stream_ad_connectors.influx_history import InfluxHistoryReader
    from stream_ad_connectors.kafka_admin import GroupLag

__all__ = [
    "MACHINE_TOPIC",
    "Store",
    "build_scorer",
    "embedded",
    "group_lag",
    "group_path",
    "open_alert_source",
    "open_clock",
    "open_dead_letters",
    "open_history",
    "open_notifier",
    "open_profiles",
    "open_sinks",
    "open_source",
    "open_store",
    "open_subscriptions",
    "prepare",
    "subscribed",
    "with_machine_topic",
]

MACHINE_TOPIC = "machine"
MACHINE_STEP = "1s"


def _universal(settings: Settings) -> Scorer:
    from stream_ad_models.imputer import UniversalImputer
    from stream_ad_models.scorers import ImputationScorer

    steps = settings.detector
    return ImputationScorer(UniversalImputer.load(), hop_steps=steps.hop_steps, delay_steps=steps.delay_steps)


def _group(settings: Settings) -> Scorer:
    from stream_ad_models.group import GroupImputer
    from stream_ad_models.scorers import ImputationScorer

    path = group_path(settings)
    if not path.exists():
        raise ConfigError(f"group model {path} does not exist", mend="train it: stream-ad train FILE... --group NAME")
    steps = settings.detector
    return ImputationScorer(GroupImputer.load(path), hop_steps=steps.hop_steps, delay_steps=steps.delay_steps)


def _lone(module: str, name: str, settings: Settings) -> Scorer:
    """A scorer that asks for nothing but its steps; imported when it is chosen, as some are heavy or optional."""
    make, steps = getattr(import_module(f"stream_ad_models.{module}"), name), settings.detector
    scorer: Scorer = make(hop_steps=steps.hop_steps, delay_steps=steps.delay_steps)
    return scorer


def group_path(settings: Settings) -> Path:
    """Where `stream-ad train` puts the weights of detector.group: beside the profiles, on this machine."""
    return Path(settings.models.url) / "groups" / f"{settings.detector.group}.safetensors"


SCORERS: Mapping[str, Callable[[Settings], Scorer]] = {
    "universal": _universal,
    "group": _group,
    "memory": partial(_lone, "scorers", "MemoryScorer"),
    "control": partial(_lone, "control", "ControlScorer"),
    "ar": partial(_lone, "ar", "ArScorer"),
    "seasonal": partial(_lone, "seasonal", "SeasonalScorer"),
    "pca": partial(_lone, "pca", "PcaScorer"),
    "kmeans": partial(_lone, "kmeans", "KMeansScorer"),
    "matrixprofile": partial(_lone, "matrixprofile", "MatrixProfileScorer"),
    "iforest": partial(_lone, "iforest", "IsolationForestScorer"),
    "hst": partial(_lone, "hst", "HalfSpaceScorer"),
}


def build_scorer(settings: Settings) -> Scorer:
    """The scorer that detector.scorer names: one of ours, else another package's."""
    import torch

    name = settings.detector.scorer
    torch.set_num_threads(settings.detector.threads)
    if name in SCORERS:
        return SCORERS[name](settings)
    scorer = make_part("scorers", name, settings, key="detector.scorer", own=SCORERS)
    if not isinstance(scorer, Scorer) or scorer.name != name:
        raise ConfigError(f"detector.scorer: expected a Scorer of the name {name!r}, found {scorer!r}")
    return scorer


def open_profiles(settings: Settings) -> ProfileStore:
    from stream_ad_connectors.profiles import FsProfileStore

    return FsProfileStore(settings.models.url)


def embedded(settings: Settings) -> bool:
    """No broker: this machine's own metrics are the input."""
    return settings.kafka.bootstrap is None


@dataclass(frozen=True, slots=True)
class Store:
    """Where scores, alerts and statuses are; one object behind several ports."""

    sink: Sink
    scores: ScoreReader
    alerts: AlertReader
    statuses: StatusReader


def open_store(settings: Settings) -> Store:
    """InfluxDB when it has an address, else the embedded store."""
    if settings.influxdb.url is not None:
        from stream_ad_connectors.influx import InfluxStore

        influx = InfluxStore(settings)
        return Store(influx, influx, influx, influx)
    from stream_ad_connectors.sqlite import SqliteStore

    sqlite = SqliteStore(settings.store.path)
    return Store(sqlite, sqlite, sqlite, sqlite)


def group_lag(settings: Settings) -> list[GroupLag] | None:
    """How far the workers are behind in each partition that they read; None without a broker."""
    from stream_ad_connectors.kafka_admin import KafkaAdmin

    if embedded(settings):
        return None
    admin = KafkaAdmin(settings.kafka)
    try:
        return admin.lag(_topics(subscribed(settings)))
    finally:
        admin.close()


def open_history(settings: Settings, bucket: str | None) -> InfluxHistoryReader:
    """Raw readings that are in InfluxDB already; `bucket` may be another than that of the scores."""
    from stream_ad_connectors.influx_history import InfluxHistoryReader

    if settings.influxdb.url is None:
        raise ConfigError(
            "history is read from InfluxDB, and influxdb.url is not set", mend="set it, or fit from files"
        )
    return InfluxHistoryReader(settings, bucket=bucket)


def open_sinks(settings: Settings, store: Store) -> dict[str, Sink]:
    """By what they are called where they are watched. The store first: an alert that is told can be looked up."""
    sinks = {"sqlite" if settings.influxdb.url is None else "influxdb": store.sink}
    if not embedded(settings):
        from stream_ad_connectors.kafka_sink import KafkaSink

        sinks["alerts topic"] = KafkaSink(settings.kafka)
    for name in settings.plugins.sinks:
        sink = make_part("sinks", name, settings, key="plugins.sinks")
        if not isinstance(sink, Sink):
            raise ConfigError(f"plugins.sinks: expected a Sink, found {sink!r} from {name!r}")
        sinks[f"sink {name}"] = sink
    return sinks


def open_dead_letters(settings: Settings) -> DeadLetterReader:
    """The dead-letter topic; the embedded store where there is no broker."""
    if embedded(settings):
        from stream_ad_connectors.sqlite import SqliteStore

        return SqliteStore(settings.store.path)
    from stream_ad_connectors.kafka_dead_letters import KafkaDeadLetterReader

    return KafkaDeadLetterReader(settings.kafka)


def open_clock() -> Clock:
    from stream_ad_connectors.clock import SystemClock

    return SystemClock()


def prepare(settings: Settings) -> None:
    """Finds out early what is missing outside, and makes the topics that the product owns; again when topics come."""
    if settings.influxdb.url is not None:
        from stream_ad_connectors.influx import InfluxStore

        store = InfluxStore(settings)
        store.check()
        store.close()
    if not embedded(settings):
        from stream_ad_connectors.kafka_admin import ensure_topics

        ensure_topics(settings.kafka, _topics(settings))


def open_subscriptions(settings: Settings) -> SubscriptionStore:
    """What people subscribe to at run time. ConfigError without a broker."""
    from stream_ad_connectors.kafka_subscriptions import KafkaSubscriptions

    if embedded(settings):
        raise ConfigError("topics need a broker, and kafka.bootstrap is not set", mend="set kafka.bootstrap")
    return KafkaSubscriptions(settings.kafka)


def subscribed(settings: Settings) -> Settings:
    """The settings with every topic that is read now: patterns and what was subscribed to at run time."""
    if embedded(settings):
        return settings
    opened = Subscribed(settings, open_subscriptions(settings))
    try:
        return opened.now()
    finally:
        opened.close()


def _topics(settings: Settings) -> list[str]:
    return [subscription.topic for subscription in settings.subscription]


def open_source(settings: Settings) -> tuple[Source, StateStore | None]:
    """What is read, and where the small state is kept (None: what was read cannot be read again)."""
    if settings.plugins.source is not None:
        source = make_part("sources", settings.plugins.source, settings, key="plugins.source")
        if not isinstance(source, Source):
            raise ConfigError(f"plugins.source: expected a Source, found {source!r} from {settings.plugins.source!r}")
        return source, None
    if embedded(settings):
        from stream_ad_connectors.machine import MachineSource

        step_s = duration_ns(settings.subscription_of(MACHINE_TOPIC).step or MACHINE_STEP) / 1e9
        return MachineSource(step_s), None
    from stream_ad_connectors.kafka_source import KafkaSource
    from stream_ad_connectors.kafka_state import KafkaStateStore

    return KafkaSource(settings.kafka, _topics(settings)), KafkaStateStore(settings.kafka)


def open_notifier(settings: Settings, route: NotifyRoute) -> Notifier:
    """The receiver of one route. ConfigError when its address is missing or wrong."""
    if route.notifier is not None:
        key = f"notify.routes {route.name}: notifier"
        notifier = make_part("notifiers", route.notifier, settings, route, key=key)
        if not isinstance(notifier, Notifier):
            raise ConfigError(f"{key}: expected a Notifier, found {notifier!r}")
        return notifier
    from stream_ad_connectors.apprise_notifier import AppriseNotifier

    return AppriseNotifier(route.name, settings.notify_url(route))


def open_alert_source(settings: Settings) -> tuple[Source, Sink | None]:
    """Alerts as records, for the notifier; without a broker the sink beside them is what feeds them."""
    if embedded(settings):
        from stream_ad_connectors.alert_bus import AlertBus

        bus = AlertBus()
        return bus.source, bus
    from stream_ad_connectors.kafka_one_member import OneMemberAssignor
    from stream_ad_connectors.kafka_source import KafkaSource

    kafka = settings.kafka.model_copy(update={"group": f"{settings.kafka.group}.notify"})
    return KafkaSource(kafka, [kafka.alerts_topic], assignor=OneMemberAssignor), None


def with_machine_topic(settings: Settings) -> Settings:
    """Embedded settings always have the machine's own topic."""
    if any(s.topic == MACHINE_TOPIC for s in settings.subscription):
        return settings
    machine = Subscription(topic=MACHINE_TOPIC, step=MACHINE_STEP)
    return settings.model_copy(update={"subscription": (*settings.subscription, machine)})
