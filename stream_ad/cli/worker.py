"""`worker`: reads, scores and alerts until it is stopped."""

from __future__ import annotations

import logging

import typer

from stream_ad.cli.common import settings_of

__all__ = ["command"]


def command(context: typer.Context) -> None:
    """Score the subscribed topics until stopped; without a broker, this machine's own metrics. Logs go to stderr."""
    settings = settings_of(context)
    logging.getLogger("stream_ad").setLevel(logging.INFO)
    logging.getLogger("stream_ad_connectors").setLevel(logging.INFO)
    from stream_ad.worker import run_worker

    run_worker(settings)
