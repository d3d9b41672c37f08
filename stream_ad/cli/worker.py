"""`worker`: consumes, scores and alerts until it is stopped."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from stream_ad.cli.common import settings_of
from stream_ad.errors import StreamAdError
from stream_ad.observability.logs import LogFormat, format_logs

__all__ = ["command"]

log = logging.getLogger(__name__)


def command(
    context: typer.Context,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for /metrics, /healthz and /readyz; 0: no server.")
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="Text lines, or one JSON object per event.")] = None,
) -> None:
    """Score the subscribed topics until stopped; without a broker, the metrics of this machine. Logs go to stderr."""
    settings = settings_of(context)
    given = {key: value for key, value in {"port": port, "log_format": log_format}.items() if value is not None}
    settings = settings.model_copy(update={"observability": settings.observability.model_copy(update=given)})
    logging.getLogger("stream_ad").setLevel(logging.INFO)
    logging.getLogger("stream_ad_connectors").setLevel(logging.INFO)
    format_logs(settings.observability.log_format)
    from stream_ad.runtime.worker import run_worker

    try:
        run_worker(settings)
    except StreamAdError as error:
        if settings.observability.log_format == "text":
            raise
        log.error("%s", error, extra={"exit_code": error.exit_code})
        raise typer.Exit(error.exit_code) from None
