"""All settings: one TOML file, every key also STREAM_AD__SECTION__KEY in the environment (which wins).

Secrets come from the environment or from a file named in the TOML, never from the TOML itself, and are never printed.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stream_ad.errors import ConfigError

__all__ = [
    "AlertSettings",
    "DetectorSettings",
    "InfluxSettings",
    "KafkaSettings",
    "ModelSettings",
    "ServeSettings",
    "Settings",
    "StoreSettings",
    "Subscription",
    "TimeUnit",
    "duration_ns",
    "load_settings",
]

DEFAULT_PATH = Path("stream-ad.toml")
TimeUnit = Literal["s", "ms", "us", "ns"]


def duration_ns(text: str) -> int:
    """Nanoseconds of "1s", "500ms", "5min", "1h", "1D". ValueError when it is not a positive duration."""
    if not re.search(r"[A-Za-z]", text):
        raise ValueError(f"expected a duration with its unit, such as '1s' or '5min', found {text!r}")
    try:
        value = int(pd.Timedelta(re.sub(r"d$", "D", text.strip())).value)
    except ValueError as error:
        raise ValueError(f"expected a duration such as '1s', '500ms', '5min' or '1h', found {text!r}") from error
    if value <= 0:
        raise ValueError(f"expected a positive duration, found {text!r}")
    return value


def _check_duration(text: str) -> str:
    duration_ns(text)
    return text


def _rate_per_s(text: str) -> float:
    count, separator, period = text.partition(" per ")
    if not separator:
        raise ValueError(f"expected a rate such as '1 per week' or '3 per day', found {text!r}")
    named = {"week": "7D", "month": "30D", "year": "365D", "day": "1D", "hour": "1h", "minute": "1min"}
    period_ns = duration_ns(named.get(period.strip(), period.strip()))
    try:
        number = float(count)
    except ValueError as error:
        raise ValueError(f"expected a number before 'per', found {count!r}") from error
    if not number > 0:
        raise ValueError(f"expected a positive rate, found {text!r}")
    return number / (period_ns / 1e9)


def _check_rate(text: str) -> str:
    _rate_per_s(text)
    return text


Duration = Annotated[str, AfterValidator(_check_duration)]
Rate = Annotated[str, AfterValidator(_check_rate)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    """The broker. Without `bootstrap` the product runs embedded, on this machine's own metrics."""

    bootstrap: str | None = Field(None, description="host:port[,host:port] of the brokers")
    namespace: str = Field(
        "stream-ad", pattern=r"^[A-Za-z0-9._-]+$", description="prefix of the topics the product owns"
    )
    group: str = Field("stream-ad", min_length=1, description="consumer group that the workers share")
    state_partitions: int = Field(0, ge=0, description="partitions of the state topic; 0 = as many as the widest topic")
    replication: int = Field(1, ge=1, description="replication factor of topics the product creates")
    request_timeout_s: float = Field(10.0, gt=0, description="how long the broker may take to answer")
    session_timeout_s: float = Field(15.0, gt=0, description="silence after which a worker counts as dead")

    @property
    def alerts_topic(self) -> str:
        return f"{self.namespace}.alerts"

    @property
    def dlq_topic(self) -> str:
        return f"{self.namespace}.dlq"

    @property
    def state_topic(self) -> str:
        return f"{self.namespace}.state"


class Subscription(_Section):
    """A topic to score and how its records are read."""

    topic: str = Field(min_length=1, description="topic name")
    step: Duration | None = Field(None, description="time between slots; inferred from the first readings when absent")
    series_field: str = Field("series", description="field that names the series; the record's key when absent")
    time_field: str = Field("time", description="field of the event time: ISO-8601 text or a number")
    time_unit: TimeUnit = Field("ms", description="unit of numeric times; never guessed")
    values_field: str = Field("values", description="field of the readings: {channel: number or null}")
    channels: tuple[str, ...] = Field(
        (), description="channels of every series here; found in the first window when empty"
    )


class InfluxSettings(_Section):
    """The store of scores and alerts. Without `url` the embedded store is used."""

    url: str | None = Field(None, description="http(s) address of InfluxDB 2")
    org: str = Field("", description="organisation")
    bucket: str = Field("", description="bucket for scores and alerts")
    token: SecretStr | None = Field(None, description="only by STREAM_AD__INFLUXDB__TOKEN")
    token_file: Path | None = Field(None, description="file that holds the token")
    channel_detail: Literal["all", "none"] = Field("all", description="write value, expected and band of every channel")
    timeout_s: float = Field(10.0, gt=0, description="how long one write or query may take")


class StoreSettings(_Section):
    """The embedded store (SQLite)."""

    path: Path = Field(Path(".stream_ad/store.db"), description="file of the embedded store")


class DetectorSettings(_Section):
    """How observations become scores."""

    scorer: str = Field(
        "universal",
        description="universal or group (an imputer); "
        "baselines: memory, control, ar, seasonal, pca, kmeans, iforest, hst or matrixprofile (an extra)",
    )
    delay_steps: int = Field(
        32, ge=0, description="later slots a slot waits for, a multiple of 16: fewer tell sooner and are less sure"
    )
    group: str = Field("default", pattern=r"^[A-Za-z0-9._-]+$", description="group model of the scorer `group`")
    false_alarms: Rate = Field("1 per week", description="false alarms to put up with, per series")
    allowed_lateness_steps: int = Field(1, ge=0, description="slots a series moves on before a slot closes")
    revise_steps: int = Field(256, ge=0, description="closed slots that late data may still change")
    max_ahead: Duration = Field("5min", description="how far an event time may be ahead of its record's own time")
    silence: Duration = Field("10s", description="wall-clock silence after which waiting slots are scored as they are")
    memory_steps: int = Field(4096, ge=32, description="slots of history that a profile learns as the stream goes")
    max_channels: int = Field(1024, ge=1, description="channels a series may have")
    max_series: int = Field(100_000, ge=1, description="series one worker accepts")
    max_record_bytes: int = Field(1_000_000, ge=1, description="larger records are dead-lettered")
    threads: int = Field(1, ge=1, description="threads of the numerics in one worker")


class AlertSettings(_Section):
    """When scores become an alert. Scores are divided by their threshold, so 1 is the threshold."""

    enter: float = Field(1.0, gt=0, description="an episode opens at this score")
    exit: float = Field(0.8, gt=0, description="and ends below this one")
    min_length_steps: int = Field(1, ge=1, description="slots over `enter` before an alert is told")
    cooldown_steps: int = Field(16, ge=0, description="quiet slots before an episode counts as over")


class ModelSettings(_Section):
    """Where weights and profiles are."""

    url: str = Field(".stream_ad/models", description="directory or fsspec URL")


class ServeSettings(_Section):
    """The HTTP face."""

    host: str = Field("127.0.0.1", description="address to bind")
    port: int = Field(8080, ge=0, le=65535, description="port to bind")


class Settings(BaseSettings):
    """Everything together; `load_settings` is the way to get one."""

    model_config = SettingsConfigDict(
        env_prefix="STREAM_AD__",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    subscription: tuple[Subscription, ...] = ()
    influxdb: InfluxSettings = InfluxSettings()
    store: StoreSettings = StoreSettings()
    detector: DetectorSettings = DetectorSettings()
    alerts: AlertSettings = AlertSettings()
    models: ModelSettings = ModelSettings()
    serve: ServeSettings = ServeSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @property
    def false_alarms_per_s(self) -> float:
        return _rate_per_s(self.detector.false_alarms)

    def subscription_of(self, topic: str) -> Subscription:
        for subscription in self.subscription:
            if subscription.topic == topic:
                return subscription
        raise ConfigError(
            f"topic {topic!r} has no subscription, found {[s.topic for s in self.subscription]}",
            mend=f'add [[subscription]] with topic = "{topic}" to the config',
        )

    def influx_token(self) -> str:
        """The token from the environment or its file. ConfigError when there is none."""
        if self.influxdb.token is not None:
            return self.influxdb.token.get_secret_value()
        if self.influxdb.token_file is not None:
            try:
                return self.influxdb.token_file.read_text().strip()
            except OSError as error:
                raise ConfigError(f"influxdb.token_file cannot be read: {error.strerror}") from error
        raise ConfigError(
            "influxdb.url is set but there is no token",
            mend="set STREAM_AD__INFLUXDB__TOKEN or influxdb.token_file",
        )


def load_settings(path: Path | None = None, overrides: tuple[str, ...] = ()) -> Settings:
    """Settings from `path` (stream-ad.toml when absent and there), `overrides` ("section.key=value") on top.

    ConfigError names the key, what was expected and what was found.
    """
    data = _read_toml(path)
    for override in overrides:
        _apply_override(data, override)
    try:
        return Settings(**data)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_explain(e) for e in error.errors()), mend=f"mend {path or DEFAULT_PATH} or the environment"
        ) from None


def _read_toml(path: Path | None) -> dict[str, Any]:
    chosen = path or (DEFAULT_PATH if DEFAULT_PATH.exists() else None)
    if chosen is None:
        return {}
    try:
        data = tomllib.loads(chosen.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"config {chosen} cannot be read: {error.strerror}", mend="`stream-ad init` writes one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {chosen} is not TOML: {error}") from error
    if "token" in data.get("influxdb", {}):
        raise ConfigError(
            f"config {chosen} holds influxdb.token",
            mend="move it to STREAM_AD__INFLUXDB__TOKEN or to influxdb.token_file",
        )
    return data


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not separator or not dot:
        raise ConfigError(f"expected section.key=value, found {override!r}")
    table = data.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{section!r} is not a section that --set can change")
    table[name] = value.strip()


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    found = "" if "token" in where else f", found {error['input']!r}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{found}"
