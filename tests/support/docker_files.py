"""The files under docker/ as data: YAML, the Dockerfile, the queries of dashboards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import DOCKER

__all__ = ["dashboards", "instructions", "queries", "read_yaml"]


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


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
