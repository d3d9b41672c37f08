"""Writes the pages that are generated: `python -m docs.site.generate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docs.site import api_page, benchmarks_page, cli_page, http_page, metrics_page, settings_page

__all__ = ["PAGES"]

PAGES: dict[str, Callable[[], str]] = {
    "api.md": api_page.api_page,
    "benchmarks.md": benchmarks_page.page,
    "cli.md": cli_page.cli_page,
    "configuration.md": settings_page.settings_page,
    "http.md": http_page.http_page,
    "metrics.md": metrics_page.metrics_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (Path(__file__).parents[1] / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
