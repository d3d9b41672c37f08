"""The web page and the HTTP API of an installation: series, scores and alerts, live."""

from __future__ import annotations

from stream_ad.service.app import make_app
from stream_ad.service.server import run_service

__all__ = ["make_app", "run_service"]
