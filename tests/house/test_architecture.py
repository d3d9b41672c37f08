"""docs/architecture.md and CONTRIBUTING.md name files, and names in them, that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
NAMED = re.compile(r"`([\w./-]+\.(?:py|toml|md))(?::([\w.]+))?`")
PLACEHOLDER = re.compile(r"[A-Z]{4}")  # as in test_MODULE.py
FOLDERS = ("", "stream_ad/", "connectors/", "models/")


def named(page: str) -> list[tuple[str, str]]:
    """Path and name of each `path.py` and `path.py:name`."""
    found: list[tuple[str, str]] = NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    return [(path, name) for path, name in found if not PLACEHOLDER.search(path)]


def names_of(path: Path) -> set[str]:
    """Functions, classes and constants of a module, methods as `Class.method` too."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            members = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}.{each.name}" for each in members}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        if isinstance(node, ast.Assign):
            found |= {each.id for each in node.targets if isinstance(each, ast.Name)}
    return found


def file_of(path: str) -> Path | None:
    return next((file for folder in FOLDERS if (file := ROOT / f"{folder}{path}").is_file()), None)


@pytest.mark.parametrize("page", PAGES)
def test_each_named_file_and_name_exists(page: str) -> None:
    every = named(page)
    assert len(every) > 10
    wrong = []
    for path, name in every:
        file = file_of(path)
        if file is None or (name and name not in names_of(file)):
            wrong.append(f"{path}:{name}")
    assert not wrong


def test_the_page_names_the_first_and_the_last_station_of_a_record() -> None:
    stations = [path for path, _ in named("docs/architecture.md")]
    assert "stream_ad_connectors/kafka/source.py" in stations
    assert "stream_ad_connectors/influxdb/client.py" in stations
