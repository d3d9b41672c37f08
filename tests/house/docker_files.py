"""The files under docker/ as data: YAML of the plain kind that is used there, the Dockerfile, what dashboards ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["DOCKER", "ROOT", "dashboards", "instructions", "queries", "read_yaml"]

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
_KEY = re.compile(r'("[^"]*"|[A-Za-z_][^\s:]*(?: [^\s:]+)*):(?: +(.*))?$')
_Line = tuple[int, str]


def read_yaml(path: Path) -> Any:
    """Block mappings and lists, scalars, and flow values that are JSON; whatever else YAML knows is a ValueError.

    Told from PyYAML's reading by being narrower: no anchors, no block text, no yes/no, no key twice.
    """
    lines: list[_Line] = []
    for raw in path.read_text(encoding="utf-8").splitlines():
        text = raw.strip()
        if text and not text.startswith("#"):
            if "\t" in raw or text == "---":
                raise ValueError(f"{path.name}: expected one document indented by blanks, found {raw!r}")
            lines.append((len(raw) - len(raw.lstrip()), text))
    value, rest = _block(lines)
    if rest:
        raise ValueError(f"{path.name}: expected another indent at {rest[0][1]!r}")
    return value


def _block(lines: list[_Line]) -> tuple[Any, list[_Line]]:
    """What the first lines of one indent say, and the lines after them."""
    indent, text = lines[0]
    if text.startswith("- "):
        items = []
        while lines and lines[0][0] == indent and lines[0][1].startswith("- "):
            first = lines[0][1][2:].lstrip()
            if _KEY.match(first) or first.startswith("- "):
                item, lines = _block([(indent + 2, first), *lines[1:]])
            else:
                item, lines = _scalar(first), lines[1:]
            items.append(item)
        return items, lines
    found: dict[str, Any] = {}
    while lines and lines[0][0] == indent and not lines[0][1].startswith("- "):
        matched = _KEY.match(lines[0][1])
        if matched is None:
            raise ValueError(f"expected 'key: value', found {lines[0][1]!r}")
        key, lines = matched[1].strip('"'), lines[1:]
        if key in found:
            raise ValueError(f"{key!r} stands there twice")
        if matched[2] and not matched[2].startswith("#"):
            found[key] = _scalar(matched[2])
        elif lines and (lines[0][0] > indent or (lines[0][0] == indent and lines[0][1].startswith("- "))):
            found[key], lines = _block(lines)
        else:
            found[key] = None
    return found, lines


def _scalar(text: str) -> Any:
    if text[0] in '"[{':
        return json.loads(text)
    if text[0] == "'":
        if len(text) < 2 or text[-1] != "'" or "'" in text[1:-1]:
            raise ValueError(f"expected one quoted text, found {text!r}")
        return text[1:-1]
    text = text.partition(" #")[0].rstrip()
    if text[0] in "&*!|>%@`-?" or ": " in text or text.lower() in ("yes", "no", "on", "off", "~"):
        raise ValueError(f"expected plain text, to be quoted otherwise, found {text!r}")
    if text in ("true", "false", "null") or re.fullmatch(r"[1-9]\d*|0", text) or re.fullmatch(r"\d+\.\d+", text):
        return json.loads(text)
    return text


def instructions(path: Path) -> list[tuple[str, str]]:
    """(word, arguments) of each instruction, continued lines joined."""
    text = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.split("\n") if line)
    ]


def dashboards() -> dict[str, dict[str, Any]]:
    """File name without its end -> dashboard."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((DOCKER / "grafana" / "dashboards").glob("*.json"))
    }


def queries(board: dict[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    """(where, text) of every query of a dashboard to sources of one kind: panels, variables and annotations."""
    field = {"influxdb": "query", "prometheus": "expr"}[kind]
    for panel in board["panels"]:
        for target in panel["targets"]:
            if target["datasource"]["type"] == kind:
                yield f"{panel['title']} {target['refId']}", target[field]
    for variable in board["templating"]["list"]:
        if variable["datasource"]["type"] == kind:
            yield f"variable {variable['name']}", variable["query"]["query"]
    for annotation in board["annotations"]["list"]:
        if annotation["datasource"]["type"] == kind:
            yield f"annotation {annotation['name']}", annotation["target"]["query"]
