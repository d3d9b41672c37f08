"""Adds to the site the pages outside docs/, and the results that pages link to."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "index.md": "README.md",
    "containers.md": "docker/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_moved(text, source)))
    for result in sorted((ROOT / "benchmarks" / "results").iterdir()):
        files.append(File.generated(config, f"results/{result.name}", abs_src_path=str(result)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    up = "../" if page.file.src_uri.startswith("adr/") else ""
    for other, source in PAGES.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{source}\)", f"]({up}{other})", markdown)
    markdown = re.sub(r"\]\((?:\.\./)+benchmarks/results/", f"]({up}results/", markdown)
    outside = r"\[([^\]]+)\]\((?:\.\./)+(?:benchmarks|tests|docker|stream_ad)[^)]*\)"
    return re.sub(outside, r"\1", markdown)  # files outside the site are named, not linked


def _moved(text: str, source: str) -> str:
    """The page with its links as the site needs them."""
    if source in ("README.md", "CONTRIBUTING.md"):
        text = text.replace("](docs/adr)", "](adr/0001-nested-packages-and-floors.md)").replace("](docs/", "](")
        text = text.replace("](benchmarks/results/", "](results/")
    text = text.replace("](../docs/", "](")
    for page, other in PAGES.items():
        text = text.replace(f"]({other})", f"]({page})")
    return text
