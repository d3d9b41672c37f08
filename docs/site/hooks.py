"""Pages that lie elsewhere in the repository, and the results that pages link to, become part of the site."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {"index.md": "README.md", "containers.md": "docker/README.md", "changelog.md": "CHANGELOG.md"}


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
    return re.sub(outside, r"\1", markdown)  # what the site does not hold is named, not linked


def _moved(text: str, source: str) -> str:
    """Links of a page that lies outside docs/, as the site has it."""
    if source == "README.md":
        text = text.replace("](docs/adr)", "](adr/0001-nested-packages-and-floors.md)").replace("](docs/", "](")
        text = text.replace("](benchmarks/results/", "](results/")
    text = text.replace("](../docs/", "](")
    for page, other in PAGES.items():
        text = text.replace(f"]({other})", f"]({page})")
    return text
