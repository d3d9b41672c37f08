"""Renders a stream-ad.toml: every setting with its description; the given ones set, the others commented out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from stream_ad.settings.load import Settings
from stream_ad.settings.sections import Subscription

__all__ = ["render_config", "sections", "tables"]

_HEADER = """\
# Settings of stream-ad. A key that is commented out shows its default, or an example when it has none.
# The environment variable STREAM_AD__SECTION__KEY overrides a key of this file.
"""
_EXAMPLES: dict[str, Any] = {
    "bootstrap": "localhost:9092",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "stream-ad",
    "sasl_password_file": "/run/secrets/kafka-password",
    "ssl_ca_file": "/etc/ssl/kafka-ca.pem",
    "ssl_cert_file": "/etc/ssl/stream-ad.pem",
    "ssl_key_file": "/etc/ssl/stream-ad.key",
    "ssl_key_password_file": "/run/secrets/kafka-key-password",
    "ca_file": "/etc/ssl/influxdb-ca.pem",
    "url": "http://localhost:8086",
    "token_file": "/run/secrets/influxdb-token",
    "topic": "sensors",
    "step": "1s",
    "silent_after": "10min",
    "give_up_after": "1h",
    "schema_file": "plant.pb",
    "message": "plant.Reading",
    "link_base": "https://watch.example",
    "name": "ops",
    "notifier": "diary",
    "url_file": "/run/secrets/ops-url",
}


def sections() -> dict[str, type[BaseModel]]:
    """Heading of every section -> its model."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in Settings.model_fields.items():
        if field.annotation == tuple[Subscription, ...]:
            found[f"[[{name}]]"] = Subscription
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[f"[{name}]"] = field.annotation
            found |= {f"[[{name}.{key}]]": model for key, model in tables(field.annotation).items()}
        else:
            raise TypeError(f"settings.{name}: expected a section, found {field.annotation}")
    return found


def tables(section: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Keys of a section whose values are lists of tables."""
    first = {name: (*get_args(field.annotation), None)[0] for name, field in section.model_fields.items()}
    return {name: kind for name, kind in first.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def render_config(values: Mapping[str, Mapping[str, Any]], subscriptions: Sequence[Mapping[str, Any]]) -> str:
    """values: section -> key -> value. Without subscriptions the text contains an example of one."""
    parts = [_HEADER]
    for section, field in Settings.model_fields.items():
        if section == "subscription":
            parts += [_subscription(given) for given in subscriptions] or [_subscription(None)]
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append(_section(f"[{section}]", field.annotation, values.get(section, {})))
            for key, model in tables(field.annotation).items():
                parts.append(_section(f"# [[{section}.{key}]]", model, {}))
    return "\n".join(parts)


def _subscription(given: Mapping[str, Any] | None) -> str:
    head = "[[subscription]]" if given is not None else "# [[subscription]]"
    return _section(head, Subscription, given or {})


def _section(head: str, model: type[BaseModel], given: Mapping[str, Any]) -> str:
    lines = [f"# {line}" for line in (model.__doc__ or "").strip().splitlines()[:1]] + [head]
    for key, field in model.model_fields.items():
        if key in tables(model):
            continue  # rendered after the section, in double brackets
        lines.append(f"# {field.description}" if field.description else "#")
        if key in given:
            lines.append(f"{key} = {_toml(given[key])}")
        elif "SecretStr" not in str(field.annotation):
            lines.append(f"# {key} = {_toml(_shown(key, field))}")
    return "\n".join(lines) + "\n"


def _shown(key: str, field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True, validated_data={})
    return _EXAMPLES.get(key, "") if default is None or field.is_required() else default


def _toml(value: Any) -> str:
    """A TOML value; a JSON string is a TOML string."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(str(k))} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, SecretStr):
        raise TypeError("a secret is never written")
    return json.dumps(value.as_posix() if isinstance(value, Path) else str(value), ensure_ascii=False)
