"""Imports and declared dependencies agree; the locks hold names, versions and hashes only."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("stream_ad", "connectors", "models")
AROUND = ("tests", "benchmarks", "docs")
OWN = {"stream_ad", "stream_ad_connectors", "stream_ad_models", "tests", "benchmarks", "docs"}
LOCKS = ("requirements.lock", "requirements-nodeps.lock")
UNNAMED = {  # imported by the web framework on demand, or serving files to the page
    "fastapi-offline", "itsdangerous", "jinja2", "plotly", "python-multipart",
}  # fmt: skip
TOOLS = {  # commands, plugins, stubs and build requirements: not imported by name
    "editables", "hatchling", "httpx2", "import-linter", "mkdocs", "mkdocs-material",
    "mypy", "pandas-stubs", "pytest-asyncio", "pytest-timeout", "pytest-xdist",
    "ruff", "scipy-stubs", "types-psutil", "types-pyyaml",
}  # fmt: skip


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def names_of(requirements: list[str]) -> set[str]:
    return {normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}  # type: ignore[index]


def runtime() -> set[str]:
    return names_of(project()["dependencies"])


def development() -> set[str]:
    return names_of(project()["optional-dependencies"]["dev"])


def optional() -> set[str]:
    """Every extra but those for developers."""
    extras = project()["optional-dependencies"]
    return set().union(*(names_of(listed) for extra, listed in extras.items() if extra not in ("dev", "docs")))


def locked(lock: str) -> set[str]:
    return {normal(name) for name in re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE)}


def imported(roots: tuple[str, ...]) -> dict[str, set[str]]:
    """Distribution -> files that import it; an import that no distribution provides keeps its name."""
    owners = packages_distributions()
    found: dict[str, set[str]] = {}
    for root in roots:
        for path in (ROOT / root).rglob("*.py"):
            tops = set()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    tops |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    tops.add(node.module.split(".")[0])
            for top in tops - OWN - sys.stdlib_module_names:
                for owner in owners.get(top, [top])[:1]:
                    found.setdefault(normal(owner), set()).add(str(path.relative_to(ROOT)))
    return found


def test_the_product_declares_its_imports() -> None:
    declared = runtime() | optional()
    undeclared = {name: sorted(files) for name, files in imported(PRODUCT).items() if name not in declared}
    assert not undeclared


def test_the_product_declares_nothing_unused() -> None:
    unused = (runtime() | optional()) - set(imported(PRODUCT)) - UNNAMED
    assert not unused


def test_tests_and_benchmarks_import_only_declared_packages() -> None:
    declared = runtime() | development() | locked("requirements-nodeps.lock")
    undeclared = {name: sorted(files) for name, files in imported(AROUND).items() if name not in declared}
    assert not undeclared


def test_the_dev_extra_lists_nothing_unused() -> None:
    unused = development() - set(imported(AROUND)) - TOOLS - optional()
    assert not unused


def test_tests_have_every_extra() -> None:
    assert optional() <= development()


@pytest.mark.parametrize("kind", ["dependencies", *project()["optional-dependencies"]])
def test_every_dependency_has_a_lower_bound(kind: str) -> None:
    listed = project()["dependencies"] if kind == "dependencies" else project()["optional-dependencies"][kind]
    assert [one for one in listed if ">=" not in one and "==" not in one] == []


def test_every_declared_package_is_locked() -> None:
    assert runtime() | development() <= locked("requirements.lock")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_only_names_versions_and_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text()
    lines = [line for line in text.splitlines() if not re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)]
    odd = [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[\w.!+]+( ; [^\\/]+)? \\", line)]
    assert not odd
    assert not re.search(r"://|--index|--find-links", text)
