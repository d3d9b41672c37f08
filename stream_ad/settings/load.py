"""Loads the settings: one TOML file; the environment variable STREAM_AD__SECTION__KEY overrides a key.

Secrets come from the environment or from a file that the TOML names, never from the TOML itself, and are never printed.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from stream_ad.durations import rate_per_s
from stream_ad.errors import ConfigError
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
)
from stream_ad.settings.serve import ServeSettings, ServeUser

__all__ = ["DEFAULT_PATH", "Settings", "load_settings", "read_secret"]

DEFAULT_PATH = Path("stream-ad.toml")


class Settings(BaseSettings):
    """All sections. Create it with `load_settings`."""

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
    notify: NotifySettings = NotifySettings()
    models: ModelSettings = ModelSettings()
    observability: ObservabilitySettings = ObservabilitySettings()
    plugins: PluginSettings = PluginSettings()
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
        return rate_per_s(self.detector.false_alarms)

    def subscription_of(self, topic: str) -> Subscription:
        for subscription in self.subscription:
            if subscription.topic == topic:
                return subscription
        raise ConfigError(
            f"topic {topic!r} has no subscription, found {[s.topic for s in self.subscription]}",
            hint=f'add [[subscription]] with topic = "{topic}" to the config',
        )

    def notify_url(self, route: NotifyRoute) -> str:
        """The address of a route from the environment or its file. ConfigError when there is none."""
        url = read_secret(f"notify.routes {route.name}: url", self.notify.urls.get(route.name), route.url_file)
        if url is None:
            raise ConfigError(
                f"notify route {route.name!r} has no address",
                hint=f"set STREAM_AD__NOTIFY__URLS__{route.name.upper()} to an Apprise URL, or the route's url_file",
            )
        return url.strip()

    def serve_token(self, user: ServeUser) -> str:
        """The token of a user from the environment or its file. ConfigError when there is none, or it is too short."""
        token = read_secret(f"serve.users {user.name}: token", self.serve.tokens.get(user.name), user.token_file)
        hint = f"set STREAM_AD__SERVE__TOKENS__{user.name.upper()}, or the user's token_file"
        if token is None:
            raise ConfigError(f"serve user {user.name!r} has no token", hint=hint)
        if len(token) < 16 or not (token.isascii() and token.isprintable()):
            raise ConfigError(
                f"the token of serve user {user.name!r} is invalid: expected >= 16 ASCII characters", hint=hint
            )
        return token

    def influx_token(self) -> str:
        """The token from the environment or its file. ConfigError when there is none."""
        token = read_secret("influxdb.token", self.influxdb.token, self.influxdb.token_file)
        if token is None:
            raise ConfigError(
                "influxdb.url is set but there is no token",
                hint="set STREAM_AD__INFLUXDB__TOKEN or influxdb.token_file",
            )
        if not (token.isascii() and token.isprintable()):  # a library would print it in its error
            raise ConfigError("influxdb.token contains an invalid character", hint="was it copied completely?")
        return token


def read_secret(key: str, given: SecretStr | None, file: Path | None) -> str | None:
    """The secret `key` (section.name): `given`, else the content of the file; None when both are missing or empty.

    ConfigError when the file cannot be read. A trailing line end of the file is not part of the secret.
    """
    if given is not None and given.get_secret_value():
        return given.get_secret_value()
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n") or None
    except OSError as error:
        raise ConfigError(f"{key}_file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{key}_file {file}: expected text in UTF-8") from None


def load_settings(path: Path | None = None, overrides: tuple[str, ...] = ()) -> Settings:
    """Settings from `path` (default: stream-ad.toml if it exists), overridden by `overrides` ("section.key=value").

    ConfigError names the key, the expected and the found value.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "stream-ad.toml")
    ...     _ = path.write_text('subscription = [{topic = "sensors", step = "1s"}]')
    ...     settings = load_settings(path, ("detector.false_alarms=1 per day",))
    >>> settings.subscription[0].topic, settings.detector.false_alarms
    ('sensors', '1 per day')
    """
    data = _read_toml(path)
    for override in overrides:
        _apply_override(data, override)
    try:
        return Settings(**data)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_explain(e) for e in error.errors()), hint=f"fix {path or DEFAULT_PATH} or the environment"
        ) from None
    except SettingsError as error:  # the variable of a whole section is not JSON; its value may contain secrets
        raise ConfigError(str(error), hint="set single keys, as STREAM_AD__SECTION__KEY") from None


def _read_toml(path: Path | None) -> dict[str, Any]:
    chosen = path or (DEFAULT_PATH if DEFAULT_PATH.exists() else None)
    if chosen is None:
        return {}
    try:
        data = tomllib.loads(chosen.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"config {chosen} cannot be read: {error.strerror}", hint="`stream-ad init` writes one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {chosen} is not TOML: {error}") from error
    for section, name in _SECRETS:
        if isinstance(data.get(section), dict) and name in data[section]:
            raise ConfigError(f"config {chosen} holds {section}.{name}", hint=_secret_hint(section, name))
    return data


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not separator or not dot:
        raise ConfigError(f"expected section.key=value, found {key!r}")
    if (section, name) in _SECRETS:  # every user of the machine can read a process's arguments
        raise ConfigError(f"{section}.{name} cannot be given on the command line", hint=_secret_hint(section, name))
    table = data.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{section!r} is not a section that --set can change")
    table[name] = value.strip()


def _explain(error: Any) -> str:
    """One invalid setting. The value of a whole section is not shown: it may contain secrets."""
    where = tuple(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{'.'.join(where)}: unknown key"
    secret = len(where) < 2 or where[:2] in _SECRETS
    found = "" if secret else f", found {error['input']!r}"
    return f"{'.'.join(where)}: {error['msg'].removeprefix('Value error, ')}{found}"


def _secret_hint(section: str, name: str) -> str:
    if (section, name) == ("notify", "urls"):
        return "move each to STREAM_AD__NOTIFY__URLS__NAME or to the url_file of its route"
    return f"move it to STREAM_AD__{section.upper()}__{name.upper()} or to {section}.{name}_file"


def _secrets() -> frozenset[tuple[str, str]]:
    """Section and name of every secret setting."""
    models = {name: field.annotation for name, field in Settings.model_fields.items()}
    return frozenset(
        (section, name)
        for section, model in models.items()
        if isinstance(model, type) and issubclass(model, BaseModel)
        for name, field in model.model_fields.items()
        if SecretStr in get_args(field.annotation)
    )


_SECRETS = _secrets()
