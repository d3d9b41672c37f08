"""`subscribe`: adds topics to those that workers score, without a restart."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, say, settings_of

if TYPE_CHECKING:
    from stream_ad.settings import Settings

__all__ = ["command"]


def command(
    context: typer.Context,
    topic: Annotated[
        str | None, typer.Argument(help="A topic, or a quoted shell pattern such as 'plant.*'.", metavar="[TOPIC]")
    ] = None,
    step: Annotated[str | None, typer.Option(help="Time between slots; inferred when absent.")] = None,
    key: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other key of [[subscription]].")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Stop scoring the topic; scores and states stay.")] = False,
    as_json: Json = False,
) -> None:
    """Subscribe the workers to a topic, within seconds and without a restart; without TOPIC list the subscriptions."""
    settings = settings_of(context)
    if topic is None:
        _list(settings, as_json)
        return
    from stream_ad.sdk.client import Client

    with Client(settings) as client:
        if remove:
            client.unsubscribe(topic)
            say(f"{topic} is no longer scored")
            return
        client.subscribe(topic, **_fields(key or [], step))
    say(f"the workers of group {settings.kafka.group} will score {topic}; `stream-ad check` checks its records")


def _fields(pairs: list[str], step: str | None) -> dict[str, str]:
    from stream_ad.errors import ConfigError

    fields = {} if step is None else {"step": step}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or name == "topic":
            raise ConfigError(f"expected KEY=VALUE with a key of [[subscription]], found {pair!r}")
        fields[name] = value
    return fields


def _list(settings: Settings, as_json: bool) -> None:
    from stream_ad.wiring import open_subscriptions
    from stream_ad.wiring.subscriptions import list_subscriptions

    with closing(open_subscriptions(settings)) as store:
        found: list[dict[str, Any]] = list_subscriptions(settings, store)
    if as_json:
        emit_json(found)
    else:
        names = ("topic", "source", "step", "format", "topics")
        emit_table(
            names,
            [[one["topic"], one["by"], one["step"] or "inferred", one["format"], len(one["topics"])] for one in found],
        )
