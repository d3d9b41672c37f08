"""`init`: writes a commented stream-ad.toml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from stream_ad.cli.common import options_of, say
from stream_ad.errors import AccessError, ConfigError

__all__ = ["command"]

_TOKEN_HINT = "set the token: export STREAM_AD__INFLUXDB__TOKEN=..."


def command(
    context: typer.Context,
    kafka: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The brokers.")] = None,
    influxdb: Annotated[str | None, typer.Option(metavar="URL", help="Where scores and alerts go.")] = None,
    org: Annotated[str | None, typer.Option(help="InfluxDB organisation.")] = None,
    bucket: Annotated[str | None, typer.Option(help="InfluxDB bucket.")] = None,
    topic: Annotated[list[str] | None, typer.Option(help="A topic to score; may be repeated.")] = None,
    step: Annotated[str | None, typer.Option(help="Time between readings, such as 1s; inferred when absent.")] = None,
    path: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented stream-ad.toml.

    Without options it asks on a terminal; else it writes the embedded default, which scores this machine's own metrics.
    """
    target = path or options_of(context).config or Path("stream-ad.toml")
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already", hint="--force overwrites it, --path writes another")
    given = {"kafka": kafka, "influxdb": influxdb, "org": org, "bucket": bucket, "topic": topic, "step": step}
    if not any(given.values()) and sys.stdin.isatty():
        given = _ask()
    text = _render(given)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AccessError(f"{target} cannot be written: {error.strerror}") from error
    hint = f"; {_TOKEN_HINT}" if given["influxdb"] else ""
    say(f"wrote {target}{hint}; next: stream-ad -c {target} check")


def _ask() -> dict[str, Any]:
    """The same answers, from the terminal; an empty address means the embedded part."""

    def ask(text: str, default: str = "") -> str:
        return str(typer.prompt(text, default=default, show_default=bool(default), err=True)).strip()

    given: dict[str, Any] = dict.fromkeys(("kafka", "influxdb", "org", "bucket", "topic", "step"))
    given["kafka"] = ask("Kafka address host:port (empty: score this machine's own metrics)")
    if given["kafka"]:
        given["topic"] = [name.strip() for name in ask("Topics, separated by commas", "sensors").split(",")]
        given["step"] = ask("Time between readings, such as 1s (empty: inferred)")
    given["influxdb"] = ask("InfluxDB address http://host:port (empty: an embedded store)")
    if given["influxdb"]:
        given["org"], given["bucket"] = ask("Organisation"), ask("Bucket")
    return given


def _render(given: dict[str, Any]) -> str:
    from stream_ad.durations import duration_ns
    from stream_ad.settings.template import render_config

    if given["kafka"] and not given["topic"]:
        raise ConfigError("--kafka is given without a topic", hint="add --topic")
    if given["topic"] and not given["kafka"]:
        raise ConfigError("--topic is given without a broker", hint="add --kafka HOST:PORT")
    if given["step"] and not given["topic"]:
        raise ConfigError("--step is given without a topic", hint="add --topic")
    if given["influxdb"] and not (given["org"] and given["bucket"]):
        raise ConfigError("--influxdb is given without --org and --bucket", hint="add both")
    if (given["org"] or given["bucket"]) and not given["influxdb"]:
        raise ConfigError("--org or --bucket is given without --influxdb", hint="add --influxdb URL")
    if given["step"]:
        try:
            duration_ns(given["step"])
        except ValueError as error:
            raise ConfigError(f"--step: {error}") from None
    values: dict[str, dict[str, Any]] = {}
    if given["kafka"]:
        values["kafka"] = {"bootstrap": given["kafka"]}
    if given["influxdb"]:
        values["influxdb"] = {"url": given["influxdb"], "org": given["org"], "bucket": given["bucket"]}
    step = {"step": given["step"]} if given["step"] else {}
    return render_config(values, [{"topic": topic} | step for topic in given["topic"] or ()])
