"""`init`: writes a commented stream-ad.toml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from stream_ad.cli.common import options_of, say, step_of, writing
from stream_ad.errors import ConfigError

__all__ = ["command"]

# (option, the option that it requires)
_NEEDS = (
    ("kafka", "topic"), ("topic", "kafka"), ("step", "topic"), ("influxdb", "org"), ("influxdb", "bucket"),
    ("org", "influxdb"), ("bucket", "influxdb"),
)  # fmt: skip
_TOKEN_HINT = "set the token: export STREAM_AD__INFLUXDB__TOKEN=..."


def command(
    context: typer.Context,
    kafka: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Addresses of the brokers.")] = None,
    influxdb: Annotated[str | None, typer.Option(metavar="URL", help="Store for scores and alerts.")] = None,
    org: Annotated[str | None, typer.Option(help="InfluxDB organisation.")] = None,
    bucket: Annotated[str | None, typer.Option(help="InfluxDB bucket.")] = None,
    topic: Annotated[list[str] | None, typer.Option(help="A topic to score; may be repeated.")] = None,
    step: Annotated[str | None, typer.Option(help="Time between readings, such as 1s; inferred when absent.")] = None,
    path: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented stream-ad.toml.

    Without options it asks on a terminal; elsewhere it writes the embedded default: score this machine's metrics.
    """
    target = path or options_of(context).config or Path("stream-ad.toml")
    if target.exists() and not force:
        raise ConfigError(f"{target} exists", hint="--force overwrites it, --path writes another")
    given = {"kafka": kafka, "influxdb": influxdb, "org": org, "bucket": bucket, "topic": topic, "step": step}
    if not any(given.values()) and sys.stdin.isatty():
        given = _ask()
    text = _render(given)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    hint = f"; {_TOKEN_HINT}" if given["influxdb"] else ""
    say(f"wrote {target}{hint}; next: stream-ad -c {target} check")


def _ask() -> dict[str, Any]:
    """Prompts for the options; an empty address means the embedded default."""

    def ask(text: str, default: str = "") -> str:
        return str(typer.prompt(text, default=default, show_default=bool(default), err=True)).strip()

    given: dict[str, Any] = dict.fromkeys(("kafka", "influxdb", "org", "bucket", "topic", "step"))
    given["kafka"] = ask("Kafka address host:port (empty: score this machine's metrics)")
    if given["kafka"]:
        given["topic"] = [name.strip() for name in ask("Topics, separated by commas", "sensors").split(",")]
        given["step"] = ask("Time between readings, such as 1s (empty: inferred)")
    given["influxdb"] = ask("InfluxDB address http://host:port (empty: an embedded store)")
    if given["influxdb"]:
        given["org"], given["bucket"] = ask("Organisation"), ask("Bucket")
    return given


def _render(given: dict[str, Any]) -> str:
    from stream_ad.settings.template import render_config

    for option, needed in _NEEDS:
        if given[option] and not given[needed]:
            raise ConfigError(f"--{option} requires --{needed}", hint=f"add --{needed}")
    step_of(given["step"])
    values: dict[str, dict[str, Any]] = {}
    if given["kafka"]:
        values["kafka"] = {"bootstrap": given["kafka"]}
    if given["influxdb"]:
        values["influxdb"] = {"url": given["influxdb"], "org": given["org"], "bucket": given["bucket"]}
    step = {"step": given["step"]} if given["step"] else {}
    return render_config(values, [{"topic": topic} | step for topic in given["topic"] or ()])
