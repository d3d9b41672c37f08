"""Every module lists its exports in `__all__`; importing the package is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import PACKAGES, ROOT

MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
COMMANDS = {"__main__"}


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            value = ast.literal_eval(node.value)
            assert isinstance(value, list)
            return value
    return None


def defined(tree: ast.Module) -> set[str]:
    """Names that the module's own top level binds, under `if TYPE_CHECKING` too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_module_lists_what_it_exports(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = exported(tree)
    if names is None:
        only_docstring = len(tree.body) == 1 and ast.get_docstring(tree)
        assert only_docstring or path.stem in COMMANDS, "expected __all__, found none"
        return
    assert len(names) == len(set(names)), "__all__ names something twice"
    missing = set(names) - defined(tree)
    assert not missing, f"__all__ names what the module does not define: {sorted(missing)}"


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'pandas', 'numpy', 'kafka', 'aiokafka', 'faust', 'influxdb_client', 'matplotlib', 'pydantic'}"
    command = f"import sys, stream_ad; print(sorted({heavy} & set(sys.modules)), stream_ad.__version__)"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] "), done.stdout


def test_the_facade_exports_its_names() -> None:
    import stream_ad

    for name in stream_ad.__all__:
        assert getattr(stream_ad, name) is not None
    assert set(stream_ad.__all__) <= set(dir(stream_ad))


def test_the_facade_refuses_other_names() -> None:
    import stream_ad

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = stream_ad.Nothing  # type: ignore[attr-defined]
