"""The command line, `stream-ad`: one module a verb, nothing heavy imported before a verb runs."""

from __future__ import annotations

from stream_ad.cli.app import main, run

__all__ = ["main", "run"]
