"""The docs as a site: it builds without a warning, asks nobody else for anything, and is up to date."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

from stream_ad.cli.reference import cli_page
from stream_ad.service.reference import http_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ASKS = r"<(script|link|img|iframe)\b[^>]*?(?:src|href)=\"(https?:[^\"]*)"
OWN = re.compile(r"https?://(127\.0\.0\.1|localhost)")


def test_it_builds_and_fetches_nothing(tmp_path: Path) -> None:
    mkdocs = Path(sys.executable).with_name("mkdocs")
    command = [mkdocs, "build", "--strict", "--config-file", DOCS / "site" / "mkdocs.yml", "--site-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "tutorial.html", "cli.html", "benchmarks.html"} <= {page.name for page in pages}
    for page in pages:
        for kind, target in re.findall(
            r"<(script|link|img|iframe)\b[^>]*?(?:src|href)=\"(https?:[^\"]*)", page.read_text()
        ):
            assert OWN.match(target), f"{page.name}: a {kind} of {target}"


def test_the_command_line_s_page_is_up_to_date() -> None:
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == cli_page(), "run make docs"


def test_the_http_page_is_up_to_date() -> None:
    assert (DOCS / "http.md").read_text(encoding="utf-8") == http_page() + "\n", "run make docs"


def test_the_benchmarks_page_is_what_the_results_say() -> None:
    page = runpy.run_path(str(DOCS / "site" / "benchmarks_page.py"))["page"]
    assert (DOCS / "benchmarks.md").read_text(encoding="utf-8") == page(), "run make docs"
