"""The branch for machines with a container engine: one published port, removed at the end."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping
from functools import cache

from tests.support.services.process import HOST, LocalServer

__all__ = ["ContainerServer", "image_ready"]


@cache
def image_ready(image: str) -> bool:
    """True when an engine answers and has the image, or can pull it."""
    if shutil.which("docker") is None:
        return False
    return _docker("info", timeout_s=60) and (
        _docker("image", "inspect", image, timeout_s=60) or _docker("pull", image, timeout_s=900)
    )


def _docker(*arguments: str, timeout_s: float) -> bool:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


class ContainerServer(LocalServer):
    """A container in the foreground, so that its client process represents it."""

    def __init__(
        self,
        image: str,
        inner_port: int,
        ready: Callable[[int], bool],
        environment: Callable[[int], Mapping[str, str]] = lambda port: {},
        port: int | None = None,
    ) -> None:
        super().__init__(port)
        self.title = image
        self._inner_port = inner_port
        self._answers = ready
        self._settings = environment
        self._name = f"stream-ad-test-{uuid.uuid4().hex[:12]}"

    def _command(self, port: int) -> list[str]:
        settings = [f"--env={key}={value}" for key, value in self._settings(port).items()]
        publish = f"--publish={HOST}:{port}:{self._inner_port}"
        return ["docker", "run", "--rm", f"--name={self._name}", publish, *settings, self.title]

    def _ready(self, port: int) -> bool:
        return self._answers(port)

    def kill(self) -> None:
        """Remove the container; killing the client alone would leave it running."""
        if self.running:
            _docker("rm", "--force", self._name, timeout_s=240)
        super().kill()
