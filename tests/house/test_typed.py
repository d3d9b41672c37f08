"""The three packages are marked as typed, in the tree and in the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.paths import ROOT

PACKAGES = {"stream_ad": "stream_ad", "stream_ad_connectors": "connectors", "stream_ad_models": "models"}


def test_every_package_is_marked_in_the_tree_and_in_the_wheel(tmp_path: Path) -> None:
    for name, place in PACKAGES.items():
        assert (ROOT / ("" if place == name else place) / name / "py.typed").is_file()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=600,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{name}/py.typed" for name in PACKAGES} <= held
    assert {name.partition("/")[0] for name in held if "dist-info" not in name} == set(PACKAGES)
