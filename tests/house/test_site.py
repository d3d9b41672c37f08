"""The docs as a site: it builds without a warning, loads nothing from other hosts, and is up to date."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.site.generate import PAGES
from tests.support.paths import DOCS, ROOT

ASKS = r"<(script|link|img|iframe)\b[^>]*?(?:src|href)=\"(https?:[^\"]*)"
OWN = re.compile(r"https?://(127\.0\.0\.1|localhost)")


def test_the_site_builds_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    mkdocs = Path(sys.executable).with_name("mkdocs")
    command = [mkdocs, "build", "--strict", "--config-file", DOCS / "site" / "mkdocs.yml", "--site-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "tutorial.html", "cli.html", "benchmarks.html"} <= {page.name for page in pages}
    for page in pages:
        for kind, target in re.findall(ASKS, page.read_text()):
            assert OWN.match(target), f"{page.name} loads a {kind} from {target}"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run make docs"
