"""`serve`: runs the page and the HTTP API until it is stopped."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

import typer

from stream_ad.cli.common import say, settings_of
from stream_ad.observability.logs import LogFormat, format_logs

__all__ = ["command"]


def command(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to bind; overrides serve.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to bind; 0: any free port.")] = None,
    access: Annotated[
        Literal["token", "open"] | None, typer.Option(help="token, or open: no token needed, from this machine only.")
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="Text lines, or one JSON object per event.")] = None,
) -> None:
    """Serve the page at / and the API at /api/v1 (documented at /docs); prints the link to open."""
    given = {"host": host, "port": port, "access": access}
    settings = settings_of(context, [f"serve.{key}={value}" for key, value in given.items() if value is not None])
    logging.getLogger("stream_ad").setLevel(logging.INFO)
    format_logs(log_format or settings.observability.log_format)
    from stream_ad.service import run_service

    run_service(settings, say)
