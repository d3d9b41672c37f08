"""The sections of the settings, one class each.

`stream_ad.settings` gives them all again; import from there.
"""

from __future__ import annotations

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
    "StoreSettings",
    "Subscription",
    "TimeUnit",
]

TimeUnit = Literal["s", "ms", "us", "ns"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


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
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="what the brokers' listener speaks; SSL with a client certificate is mutual TLS"
    )
    sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] | None = Field(
        None, description="how the password is proved: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN"
    )
    sasl_username: str | None = Field(None, min_length=1, description="who we are to the brokers")
    sasl_password: SecretStr | None = Field(None, description="only by STREAM_AD__KAFKA__SASL_PASSWORD")
    sasl_password_file: Path | None = Field(None, description="file that holds the password")
    ssl_ca_file: Path | None = Field(None, description="PEM of the authorities to trust; the system's own when absent")
    ssl_cert_file: Path | None = Field(None, description="PEM of our certificate, with its chain")
    ssl_key_file: Path | None = Field(None, description="PEM of its key; looked for in ssl_cert_file when absent")
    ssl_key_password: SecretStr | None = Field(None, description="only by STREAM_AD__KAFKA__SSL_KEY_PASSWORD")
    ssl_key_password_file: Path | None = Field(None, description="file that holds the key's password")
    ssl_check_hostname: bool = Field(True, description="false takes a certificate made out to another host")

    @model_validator(mode="after")
    def _security_makes_sense(self) -> Self:
        """Settings that would be passed over, or that would be missed, are told before a broker is asked."""
        if "@" in (self.bootstrap or ""):
            raise ValueError("bootstrap holds a user: take it out, and set sasl_username")
        given = {
            key
            for key, field in type(self).model_fields.items()
            if key.startswith(("sasl_", "ssl_")) and getattr(self, key) != field.default
        }
        uses_sasl, uses_tls = self.security_protocol.startswith("SASL_"), self.security_protocol.endswith("SSL")
        for prefix, used, which in (("sasl_", uses_sasl, "SASL_SSL"), ("ssl_", uses_tls, "SSL or SASL_SSL")):
            idle = sorted(key for key in given if key.startswith(prefix))
            if idle and not used:
                raise ValueError(
                    f"{idle[0]} is set and security_protocol is {self.security_protocol!r}, which does not use it: "
                    f"set security_protocol to {which}, or leave {idle[0]} out"
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


class Subscription(_Section):
    """A topic to score and how its records are read."""

    topic: str = Field(
        min_length=1,
        max_length=249,
        pattern=r"^[A-Za-z0-9._*?\[\]!-]+$",
        description="topic name, or a shell pattern such as plant.*, whose topics are found while workers run",
    )
    step: Duration | None = Field(None, description="time between slots; inferred from the first readings when absent")
    format: Literal["json", "telegraf", "line", "sensor", "avro", "protobuf"] = Field(
        "json",
        description="json; telegraf (its JSON) or line (InfluxDB line protocol): series from name and tags; "
        "sensor (JSON, one reading a message); avro or protobuf: by schema_file, then the fields as in json",
    )
    schema_file: Path | None = Field(
        None, description="Avro: the schema; Protobuf: a descriptor set (protoc --descriptor_set_out --include_imports)"
    )
    message: str | None = Field(None, description="Protobuf: full name of the message's type, such as plant.Reading")
    framing: Literal["plain", "confluent"] = Field(
        "plain", description="confluent: a schema registry's number stands before the message; no registry is asked"
    )
    channel_field: str = Field("sensor", description="field that names the channel, in the format sensor")
    value_field: str = Field("value", description="field of the reading, in the format sensor")
    series_field: str = Field("series", description="field that names the series; the record's key when absent")
    time_field: str = Field("time", description="field of the event time: ISO-8601 text or a number")
    time_unit: TimeUnit = Field("ms", description="unit of numeric times; never guessed")
    values_field: str = Field("values", description="field of the readings: {channel: number or null}")
    channels: tuple[str, ...] = Field(
        (), description="channels of every series here; found in the first window when empty"
    )
    silent_after: Duration | None = Field(None, description="alerts.silent_after of this topic's series")

    @model_validator(mode="after")
    def _schema_makes_sense(self) -> Self:
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


class InfluxSettings(_Section):
    """The store of scores and alerts. Without `url` the embedded store is used."""

    url: str | None = Field(None, description="http(s) address of InfluxDB 2")
    org: str = Field("", description="organisation")
    bucket: str = Field("", description="bucket for scores and alerts")
    token: SecretStr | None = Field(None, description="only by STREAM_AD__INFLUXDB__TOKEN")
    token_file: Path | None = Field(None, description="file that holds the token")
    ca_file: Path | None = Field(
        None, description="PEM of the authorities to trust for https; the system's own when absent"
    )
    channel_detail: Literal["all", "none"] = Field("all", description="write value, expected and band of every channel")
    timeout_s: float = Field(10.0, gt=0, description="how long one write or query may take")

    @model_validator(mode="after")
    def _address_makes_sense(self) -> Self:
        """An address is printed, so it holds no password; authorities are for https alone."""
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.username is not None or parts.password is not None:
                raise ValueError("url holds a user or a password: take it out, the token lets us in")
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(
                    "url: expected http(s)://host[:port]" + ("" if "@" in self.url else f", found {self.url!r}")
                )
            if self.ca_file is not None and parts.scheme != "https":
                raise ValueError("ca_file is set and url is not https: set url to https://..., or leave ca_file out")
        return self


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
        32,
        ge=0,
        description="later slots a slot waits for, a multiple of `hop_steps`: fewer tell sooner and are less sure",
    )
    hop_steps: int = Field(
        16,
        ge=1,
        description="slots scored at once, a divisor of 128: 64 (with `delay_steps` 64) costs a third of the CPU at a "
        "steady load and tells up to 80 slots later; after a change series fill new profiles until they are fitted",
    )
    stagger: bool = Field(
        False,
        description="let each new series begin its hops at a slot of its own, told by its name: where many series "
        "began together, their scores are not all due at one moment",
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
    max_record_observations: int = Field(50_000, ge=1, description="records of more observations are dead-lettered")
    max_name_chars: int = Field(256, ge=1, le=1024, description="longer names of series and channels are dead-lettered")
    threads: int = Field(1, ge=1, description="threads of the numerics in one worker")


class AlertSettings(_Section):
    """When scores become an alert. Scores are divided by their threshold, so 1 is the threshold."""

    enter: float = Field(1.0, gt=0, description="an episode opens at this score")
    exit: float = Field(0.8, gt=0, description="and ends below this one")
    min_length_steps: int = Field(1, ge=1, description="slots over `enter` before an alert is told")
    cooldown_steps: int = Field(16, ge=0, description="quiet slots before an episode counts as over")
    silent_after: Duration | None = Field(
        None,
        description="wall-clock time without a reading after which a series gets an alert `silent`; never when absent",
    )


class ObservabilitySettings(_Section):
    """How a worker is watched: metrics and health over HTTP, logs, and when it gives up."""

    host: str = Field("127.0.0.1", description="address to bind for /metrics, /healthz and /readyz")
    port: int = Field(0, ge=0, le=65535, description="port to bind, one a worker; 0 = nothing listens")
    log_format: Literal["text", "json"] = Field("text", description="lines for people, or one JSON object an event")
    stall_after: Duration = Field(
        "2min",
        description="a worker with work that gets nowhere for this long is unhealthy; waiting for a service is not",
    )
    exit_after: Duration = Field("1min", description="and after this much more it logs why and exits, to be restarted")
    give_up_after: Duration | None = Field(
        None, description="exit when a service has been away for this long; never when absent"
    )


class ModelSettings(_Section):
    """Where weights and profiles are."""

    url: str = Field(".stream_ad/models", description="directory or fsspec URL")


class PluginSettings(_Section):
    """Parts that other packages bring, by the names of their entry points (docs/extending.md)."""

    sinks: tuple[str, ...] = Field((), description="sinks that are written after the store and Kafka")
    source: str | None = Field(None, description="what is read in place of Kafka or of this machine")
