"""Where things are in the checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DOCKER", "DOCS", "PACKAGES", "ROOT"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCKER = ROOT / "docker"
PACKAGES = (ROOT / "stream_ad", ROOT / "connectors/stream_ad_connectors", ROOT / "models/stream_ad_models")
