"""docs/tutorial.md as a newcomer follows it: each block in its order, in one directory, on a real broker."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.jobs import STREAM_AD
from tests.support.services.process import wait_until

DOC = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", DOC, re.DOTALL)
LASTING = ("worker", "serve")


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        process.kill()
        process.communicate()


def run(command: list[str], home: Path) -> str:
    done = subprocess.run(
        command, cwd=home, env=environment(home), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def environment(home: Path) -> dict[str, str]:
    """The group and the topics of this test; ports that are free."""
    given = {"KAFKA__NAMESPACE": home.name, "KAFKA__GROUP": home.name, "SERVE__PORT": "0", "DETECTOR__SILENCE": "4s"}
    return os.environ | {f"STREAM_AD__{key}": value for key, value in given.items()}


def test_from_a_file_to_the_first_alert(
    tmp_path: Path, kafka: str, namespace: str, running: list[subprocess.Popen[str]]
) -> None:
    home = tmp_path / namespace
    home.mkdir()
    said: dict[str, str] = {}
    for kind, body in BLOCKS:
        if kind == "python":
            said["python"] = run([sys.executable, "-c", body], home)
            continue
        for line in body.replace("localhost:9092", kafka).replace(" sensors", f" {namespace}-sensors").splitlines():
            program, *arguments = shlex.split(line)
            assert program == "stream-ad"
            if arguments[0] not in LASTING:
                said[arguments[0]] = run([STREAM_AD, *arguments], home)
                continue
            log = (home / f"{arguments[0]}.log").open("w")
            running.append(
                subprocess.Popen(
                    [STREAM_AD, *arguments], cwd=home, env=environment(home), stdout=log, stderr=log, text=True
                )
            )
            log.close()
            if arguments[0] == "worker":
                ready = lambda: "pump-1" in run([STREAM_AD, "alerts"], home)  # noqa: E731
                assert wait_until(ready, every_s=1), (home / "worker.log").read_text()
    assert "flow was" in said["python"]
    assert "scoring" in said["status"]
    assert "flow" in said["alerts"]
    assert (home / "pump-1.png").stat().st_size > 10_000
    served = home / "serve.log"
    assert wait_until(lambda: "/?token=" in served.read_text())
