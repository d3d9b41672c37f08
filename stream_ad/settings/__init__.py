"""All settings: sections, loading, secrets, the template of `init`. Nothing here connects to a service."""

from __future__ import annotations

from stream_ad.settings.load import DEFAULT_PATH, Settings, load_settings, read_secret
from stream_ad.settings.notify import NotifyRoute, NotifySettings
from stream_ad.settings.sections import (
    AlertSettings,
    DetectorSettings,
    InfluxSettings,
    KafkaSettings,
    ModelSettings,
    ObservabilitySettings,
    PluginSettings,
    StoreSettings,
    Subscription,
    TimeUnit,
)
from stream_ad.settings.serve import Role, ServeSettings, ServeUser

__all__ = [
    "DEFAULT_PATH",
    "AlertSettings",
    "DetectorSettings",
    "InfluxSettings",
    "KafkaSettings",
    "ModelSettings",
    "NotifyRoute",
    "NotifySettings",
    "ObservabilitySettings",
    "PluginSettings",
    "Role",
    "ServeSettings",
    "ServeUser",
    "Settings",
    "StoreSettings",
    "Subscription",
    "TimeUnit",
    "load_settings",
    "read_secret",
]
