"""A real Chromium: the machine's own, or Debian's packages unpacked into the cache (seconds), nothing installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.support.services.cache import Build, Say, cached, say_on_stderr
from tests.support.services.errors import require

__all__ = ["prepare_chromium", "running_chromium"]

VARIABLE = "STREAM_AD_TEST_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PACKAGES = ("chromium", "fonts-dejavu-core", "fontconfig-config")


def prepare_chromium(say: Say = say_on_stderr) -> Path:
    """The program: STREAM_AD_TEST_CHROMIUM, one on PATH, else the unpacked one, fetched on first use."""
    own = os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, _NAMES)), None)
    return Path(own) if own else cached("chromium", "debian", _build, say) / "usr/lib/chromium/chromium"


def _build(build: Build) -> None:
    require("Chromium", "PATH", "apt-get", "dpkg")
    work = build.target / "apt"
    for name in ("lists/partial", "archives/partial"):
        (work / name).mkdir(parents=True)
    places = [f"-oDir::State::lists={work}/lists", f"-oDir::Cache={work}", "-oDebug::NoLocking=1"]
    build.run("apt-get update", ["apt-get", *places, "update", "-q"], cwd=work)
    fetch = ["install", "-y", "--no-install-recommends", "--reinstall", "--download-only", *_PACKAGES]
    build.run("apt-get download", ["apt-get", *places, *fetch], cwd=work)
    for package in sorted((work / "archives").glob("*.deb")):
        build.run(f"unpacking {package.name}", ["dpkg", "-x", str(package), str(build.target)], cwd=work)
    shutil.rmtree(work)


def _environment(program: Path) -> dict[str, str]:
    root = program.parents[3]
    if not (root / "etc/fonts").exists():
        return dict(os.environ)
    places = [root / where for where in ("usr/lib", "lib")]
    libraries = [found for place in places for found in sorted(place.glob("*-linux-gnu*"))]
    own = [str(path) for one in libraries for path in (one, one / "pulseaudio")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(own),
        "FONTCONFIG_PATH": str(root / "etc/fonts"),
        "XDG_DATA_HOME": str(root / "usr/share"),
    }


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """A headless browser, ended with the block."""
    program = prepare_chromium()
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]  # as root in a container
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(program), args=arguments, env=_environment(program), headless=True
        )
        try:
            yield browser
        finally:
            browser.close()
