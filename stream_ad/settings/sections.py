"""The sections of the settings, one class each; import them from `stream_ad.settings`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from stream_ad.durations import Duration, Rate

__all__ = [
    "AlertSettings",
    "DetectorSettings",
    "InfluxSettings",
    "KafkaSettings",
    "ModelSettings",
    "ObservabilitySettings",
    "PluginSettings",
    "Section",
    "StoreSettings",
    "Subscription",
    "TimeUnit",
    "check_names",
]

TimeUnit = Literal["s", "ms", "us", "ns"]


class Section(BaseModel):
    """Frozen, without unknown keys; its errors never show the input, which may be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def check_names(tables: str, names: Sequence[str], secrets: str, secret_names: Collection[str]) -> None:
    """ValueError when two tables have one name, or when a secret belongs to none of them."""
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"{tables}: expected names that differ, found {duplicates[0]!r} twice")
    unknown = sorted(set(secret_names) - set(names))
    if unknown:
        raise ValueError(f"{secrets}: found one for {unknown[0]!r}, and the {tables} are {sorted(names)}")


class KafkaSettings(Section):
    """The broker. Without `bootstrap` the product runs embedded and scores the metrics of this machine."""

    bootstrap: str | None = Field(None, description="host:port[,host:port] of the brokers")
    namespace: str = Field("stream-ad", pattern=r"^[A-Za-z0-9._-]+$", description="prefix of the product's own topics")
    group: str = Field("stream-ad", min_length=1, description="consumer group of the workers")
    state_partitions: int = Field(0, ge=0, description="partitions of the state topic; 0 = as many as the widest topic")
    replication: int = Field(1, ge=1, description="replication factor of topics the product creates")
    request_timeout_s: float = Field(10.0, gt=0, description="time-out of one request to the broker")
    session_timeout_s: float = Field(15.0, gt=0, description="a worker without heartbeats for this long is removed")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="protocol of the brokers' listener; SSL with a client certificate is mutual TLS"
    )
    sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] | None = Field(
        None, description="SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN"
    )
    sasl_username: str | None = Field(None, min_length=1, description="user name for the brokers")
    sasl_password: SecretStr | None = Field(None, description="only by STREAM_AD__KAFKA__SASL_PASSWORD")
    sasl_password_file: Path | None = Field(None, description="file with the password")
    ssl_ca_file: Path | None = Field(None, description="PEM of the trusted authorities; the system's when absent")
    ssl_cert_file: Path | None = Field(None, description="PEM of the client certificate, with its chain")
    ssl_key_file: Path | None = Field(None, description="PEM of its key; when absent, ssl_cert_file contains it")
    ssl_key_password: SecretStr | None = Field(None, description="only by STREAM_AD__KAFKA__SSL_KEY_PASSWORD")
    ssl_key_password_file: Path | None = Field(None, description="file with the key's password")
    ssl_check_hostname: bool = Field(True, description="false accepts a certificate issued for another host")

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        """Rejects settings that would be ignored, or that are missing, before the first connection."""
        if "@" in (self.bootstrap or ""):
            raise ValueError("bootstrap contains a user: remove it, and set sasl_username")
        given = {
            key
            for key, field in type(self).model_fields.items()
            if key.startswith(("sasl_", "ssl_")) and getattr(self, key) != field.default
        }
        uses_sasl, uses_tls = self.security_protocol.startswith("SASL_"), self.security_protocol.endswith("SSL")
        for prefix, used, which in (("sasl_", uses_sasl, "SASL_SSL"), ("ssl_", uses_tls, "SSL or SASL_SSL")):
            unused = sorted(key for key in given if key.startswith(prefix))
            if unused and not used:
                raise ValueError(
                    f"{unused[0]} is set and security_protocol is {self.security_protocol!r}, which does not use it: "
                    f"set security_protocol to {which}, or remove {unused[0]}"
                )
        for key in ("sasl_mechanism", "sasl_username"):
            if uses_sasl and key not in given:
                raise ValueError(f"security_protocol {self.security_protocol!r} needs {key}: set it")
        keys = sorted(given & {"ssl_key_file", "ssl_key_password", "ssl_key_password_file"})
        if keys and self.ssl_cert_file is None:
            raise ValueError(f"{keys[0]} is set without the certificate it belongs to: set ssl_cert_file")
        return self

    @property
    def alerts_topic(self) -> str:
        return f"{self.namespace}.alerts"

    @property
    def dlq_topic(self) -> str:
        return f"{self.namespace}.dlq"

    @property
    def state_topic(self) -> str:
        return f"{self.namespace}.state"

    @property
    def subscriptions_topic(self) -> str:
        return f"{self.namespace}.subscriptions"


class Subscription(Section):
    """A topic to score, and the format of its records."""

    topic: str = Field(
        min_length=1,
        max_length=249,
        pattern=r"^[A-Za-z0-9._*?\[\]!-]+$",
        description="topic name, or a shell pattern such as plant.*; workers find new matching topics while they run",
    )
    step: Duration | None = Field(None, description="time between slots; when absent, inferred from the data")
    format: Literal["json", "telegraf", "line", "sensor", "avro", "protobuf"] = Field(
        "json",
        description="json; telegraf (its JSON) or line (InfluxDB line protocol): series from name and tags; "
        "sensor (JSON, one reading per message); avro or protobuf: decoded by schema_file, fields as in json",
    )
    schema_file: Path | None = Field(
        None, description="Avro: the schema; Protobuf: a descriptor set (protoc --descriptor_set_out --include_imports)"
    )
    message: str | None = Field(None, description="Protobuf: full name of the message type, such as plant.Reading")
    framing: Literal["plain", "confluent"] = Field(
        "plain", description="confluent: skip the schema registry's header before the message; no registry is contacted"
    )
    channel_field: str = Field("sensor", description="field of the channel name, in the format sensor")
    value_field: str = Field("value", description="field of the reading, in the format sensor")
    series_field: str = Field("series", description="field of the series name; when a record has none, its key")
    time_field: str = Field("time", description="field of the event time: ISO-8601 text or a number")
    time_unit: TimeUnit = Field("ms", description="unit of numeric times; never guessed")
    values_field: str = Field("values", description="field of the readings: {channel: number or null}")
    channels: tuple[str, ...] = Field(
        (), description="channels of every series of the topic; when empty, those of its first window"
    )
    silent_after: Duration | None = Field(None, description="alerts.silent_after for the series of this topic")

    @model_validator(mode="after")
    def _check_schema(self) -> Self:
        binary = self.format in ("avro", "protobuf")
        if binary and self.schema_file is None:
            raise ValueError(f"format {self.format!r} needs schema_file")
        if (self.format == "protobuf") != (self.message is not None):
            raise ValueError("format 'protobuf' needs message, and no other has one")
        if not binary and (self.schema_file is not None or self.framing != "plain"):
            raise ValueError(f"format {self.format!r} has no schema_file and no framing")
        return self

    @property
    def is_pattern(self) -> bool:
        return any(sign in self.topic for sign in "*?[")


class InfluxSettings(Section):
    """The store of scores and alerts. Without `url` the embedded store is used."""

    url: str | None = Field(None, description="http(s) address of InfluxDB 2")
    org: str = Field("", description="organisation")
    bucket: str = Field("", description="bucket for scores and alerts")
    token: SecretStr | None = Field(None, description="only by STREAM_AD__INFLUXDB__TOKEN")
    token_file: Path | None = Field(None, description="file with the token")
    ca_file: Path | None = Field(
        None, description="PEM of the trusted authorities for https; those of the system when absent"
    )
    channel_detail: Literal["all", "none"] = Field("all", description="write value, expected and band of every channel")
    timeout_s: float = Field(10.0, gt=0, description="time-out of one write or query")

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        """The address is printed, so it must not contain a password."""
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.username is not None or parts.password is not None:
                raise ValueError("url contains a user or a password: remove it, the token authenticates")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(
                    "url: expected http(s)://host[:port]" + ("" if "@" in self.url else f", found {self.url!r}")
                )
            if self.ca_file is not None and parts.scheme != "https":
                raise ValueError("ca_file is set and url is not https: set url to https://..., or remove ca_file")
        return self


class StoreSettings(Section):
    """The embedded store (SQLite)."""

    path: Path = Field(Path(".stream_ad/store.db"), description="file of the embedded store")


class DetectorSettings(Section):
    """How observations become scores."""

    scorer: str = Field(
        "universal",
        description="universal or group (an imputer); gaussian (its closed form, sees ties between channels); "
        "baselines: memory, control, ar, seasonal, pca, kmeans, iforest, hst or matrixprofile (an extra); "
        "research, families of diffusion scores: imputation, imputation-16, imputation-scaled, "
        "density, loss-sum, loss-sum-masked, score-norm, score-norm-masked, ddad-signal, ddad-features",
    )
    delay_steps: int = Field(
        32,
        ge=0,
        description="later slots a slot waits for, a multiple of `hop_steps`: fewer give earlier, less certain scores",
    )
    hop_steps: int = Field(
        16,
        ge=1,
        description="slots scored at once, a divisor of 128: 64 (with `delay_steps` 64) costs a third of the CPU at a "
        "steady load and scores up to 80 slots later; after a change every series needs a new profile first",
    )
    stagger: bool = Field(
        False,
        description="give each new series a phase of its hops, derived from its name: series that began together are "
        "then not all due at the same moment",
    )
    group: str = Field("default", pattern=r"^[A-Za-z0-9._-]+$", description="group model of the scorer `group`")
    false_alarms: Rate = Field("1 per week", description="accepted false alarms, per series")
    allowed_lateness_steps: int = Field(1, ge=0, description="slots that a series advances before a slot closes")
    revise_steps: int = Field(256, ge=0, description="closed slots that late data may still revise")
    max_ahead: Duration = Field("5min", description="how far an event time may be ahead of its record's own time")
    silence: Duration = Field("10s", description="wall-clock silence after which waiting slots get provisional scores")
    memory_steps: int = Field(4096, ge=32, description="slots of history that a profile learns from the stream")
    max_channels: int = Field(1024, ge=1, description="channels a series may have")
    max_series: int = Field(100_000, ge=1, description="series one worker accepts")
    max_record_bytes: int = Field(1_000_000, ge=1, description="larger records are dead-lettered")
    max_record_observations: int = Field(50_000, ge=1, description="records of more observations are dead-lettered")
    max_name_chars: int = Field(256, ge=1, le=1024, description="longer names of series and channels are dead-lettered")
    threads: int = Field(1, ge=1, description="threads of the scorer in one worker")


class AlertSettings(Section):
    """Rules that turn scores into alerts. A score is divided by its threshold, so 1 is the threshold."""

    enter: float = Field(1.0, gt=0, description="an episode opens at this score")
    exit: float = Field(0.8, gt=0, description="an open episode ends below this score")
    min_length_steps: int = Field(1, ge=1, description="slots over `enter` before an alert opens")
    cooldown_steps: int = Field(16, ge=0, description="slots below `exit` before an episode ends")
    silent_after: Duration | None = Field(
        None,
        description="wall-clock time without a reading after which a series gets an alert `silent`; never when absent",
    )


class ObservabilitySettings(Section):
    """Metrics and health over HTTP, logs, and the limits of the watchdog."""

    host: str = Field("127.0.0.1", description="address to bind for /metrics, /healthz and /readyz")
    port: int = Field(0, ge=0, le=65535, description="port to bind, one per worker; 0 = no server")
    log_format: Literal["text", "json"] = Field("text", description="lines for people, or one JSON object per event")
    stall_after: Duration = Field(
        "2min",
        description="a worker with work but no progress for this long is unhealthy; waiting for a dependency is not",
    )
    exit_after: Duration = Field("1min", description="and after this much more it logs the reason and exits")
    give_up_after: Duration | None = Field(
        None, description="exit when a dependency has been down for this long; never when absent"
    )


class ModelSettings(Section):
    """Location of weights and profiles."""

    url: str = Field(".stream_ad/models", description="directory or fsspec URL")


class PluginSettings(Section):
    """Plugins of other packages, by the names of their entry points (docs/extending.md)."""

    sinks: tuple[str, ...] = Field((), description="sinks that are written after the store and Kafka")
    source: str | None = Field(None, description="source in place of Kafka or of this machine")
