"""Imports go down only, and every module of the product has chosen its floor."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PURE_AND_BELOW = 2  # the two lowest floors


def contracts() -> dict[str, dict[str, Any]]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {contract["id"]: contract for contract in tool["contracts"]}


def floors() -> list[set[str]]:
    """Modules of every floor, top first."""
    return [set(re.findall(r"\w+", layer)) for layer in contracts()["floors"]["layers"]]


def modules() -> set[str]:
    names = {path.stem if path.suffix else path.name for path in (ROOT / "stream_ad").glob("[!_.]*") if _is_code(path)}
    assert names
    return names


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" or (path / "__init__.py").exists()


def test_imports_go_down_only() -> None:
    command = "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_every_module_has_chosen_its_floor() -> None:
    named = set().union(*floors())
    missing = modules() - named
    assert not missing, f"name {sorted(missing)} in a layer of [tool.importlinter] in pyproject.toml"


def test_no_module_stands_on_two_floors() -> None:
    every = [name for floor in floors() for name in floor]
    assert len(every) == len(set(every))


def test_the_pure_floors_are_held_free_of_clocks_and_services() -> None:
    held = {name.removeprefix("stream_ad.") for name in contracts()["pure"]["source_modules"]}
    assert held == set().union(*floors()[-PURE_AND_BELOW:])
