"""Imports go down only, and every room of the product has a layer."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from tests.support.paths import PACKAGES, ROOT


def contracts() -> dict[str, dict[str, Any]]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {contract["id"]: contract for contract in tool["contracts"]}


def rooms() -> list[set[str]]:
    """Rooms of every layer, top first."""
    return [set(re.findall(r"\w+", layer)) for layer in contracts()["rooms"]["layers"]]


def modules() -> set[str]:
    names = {path.stem if path.suffix else path.name for path in (ROOT / "stream_ad").glob("[!_.]*") if _is_code(path)}
    assert names
    return names


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" or (path / "__init__.py").exists()


def test_imports_go_down_only() -> None:
    command = "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_every_room_has_a_layer() -> None:
    named = set().union(*rooms())
    missing = modules() - named
    assert not missing, f"name {sorted(missing)} in a layer of [tool.importlinter] in pyproject.toml"


def test_no_room_has_two_layers() -> None:
    every = [name for layer in rooms() for name in layer]
    assert len(every) == len(set(every))


def test_rooms_below_wiring_are_pure() -> None:
    pure = {name.removeprefix("stream_ad.") for name in contracts()["pure"]["source_modules"]}
    order = [sorted(layer) for layer in rooms()]
    below = set().union(*rooms()[order.index(["detection"]) :])
    assert below <= pure


def test_only_wiring_may_import_adapters_and_numerics() -> None:
    held = {name.removeprefix("stream_ad.") for name in contracts()["one-composition-root"]["source_modules"]}
    assert held == modules() - {"wiring"}


def test_every_room_has_a_docstring() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in package.rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent
