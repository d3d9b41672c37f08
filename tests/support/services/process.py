"""A server process on 127.0.0.1 that dies with the process that started it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.services.cache import tail
from tests.support.services.errors import StartError

__all__ = ["HOST", "PATIENCE_S", "LocalServer", "free_ports", "http_get", "port_answers", "wait_until"]

HOST = "127.0.0.1"
PATIENCE_S = 240.0  # upper bound of one wait, for slow machines

# Ends the server once the starter's end of the pipe closes, however the starter died. A pidfd names the
# process itself, so a reused number is never hit.
_GUARD = """
import os, select, shutil, signal, sys
try:
    server = os.pidfd_open(int(sys.argv[1]))
    if 0 in select.select([0, server], [], [])[0]:
        for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(server, number)
            if number != signal.SIGCONT and select.select([server], [], [], 5)[0]:
                break
        for owned in sys.argv[2:]:
            shutil.rmtree(owned, ignore_errors=True)
except ProcessLookupError:
    pass
"""


def free_ports(count: int) -> list[int]:
    """Distinct ports that were free a moment ago."""
    with ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.bind((HOST, 0))
        return [int(holder.getsockname()[1]) for holder in holders]


def http_get(port: int, path: str) -> tuple[int, str]:
    """Status and body of a local server's answer; 0 while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def port_answers(port: int, host: str = HOST) -> bool:
    """True when something accepts a connection on the port."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def wait_until(ready: Callable[[], bool], *, timeout_s: float = PATIENCE_S, every_s: float = 0.05) -> bool:
    """Poll `ready` until it holds; False after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


class LocalServer(ABC):
    """Start, stop, kill, pause and start again, over the same port and data.

    Usable as a context manager, which starts it and at the end kills it and removes the data it made itself.
    """

    title = "server"
    start_timeout_s = PATIENCE_S

    def __init__(self, port: int | None = None, data_dir: Path | None = None) -> None:
        self._port = port
        self._owns_data = data_dir is None
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command(self, port: int) -> list[str]:
        """Prepare the data directory and return the command line."""

    @abstractmethod
    def _ready(self, port: int) -> bool:
        """True when the server gives a useful answer."""

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    @property
    def port(self) -> int:
        """The port, known from the first start on."""
        if self._port is None:
            raise StartError(f"{self.title} has no port before its first start")
        return self._port

    @property
    def address(self) -> str:
        """host:port."""
        return f"{HOST}:{self.port}"

    @property
    def data_dir(self) -> Path:
        """Where the server keeps its data; a temporary directory unless one was given."""
        if self._data_dir is None:
            self._data_dir = Path(tempfile.mkdtemp(prefix="stream-ad-test-"))
        self._data_dir.mkdir(parents=True, exist_ok=True)
        return self._data_dir

    @property
    def log_path(self) -> Path:
        """What the server printed since its last start."""
        return self.data_dir / "server.log"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """True while the process lives (a paused one lives)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and wait for a useful answer; StartError carries the log's tail."""
        if self.running:
            return self
        attempts = 1 if self._port is not None else 3
        for attempt in range(1, attempts + 1):
            port = self._port if self._port is not None else free_ports(1)[0]
            try:
                self._launch(self._command(port))
                self._await_ready(port)
            except BaseException as error:
                self.kill()
                # Another process may take a free port between its choice and its use.
                if isinstance(error, StartError) and attempt < attempts and "in use" in str(error):
                    continue
                raise
            self._port = port
            break
        return self

    def stop(self, timeout_s: float = 60.0) -> None:
        """Ask it to end (SIGTERM), and kill it when it has not within the time."""
        self.resume()
        self._signal(signal.SIGTERM)
        if self._process is not None:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
        self._reap()

    def kill(self) -> None:
        """End it at once (SIGKILL); its data stay."""
        self._signal(signal.SIGKILL)
        self._reap()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a paused server."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and remove the data directory if it made that itself."""
        self.kill()
        if self._owns_data and self._data_dir is not None:
            shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _launch(self, command: list[str]) -> None:
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.data_dir,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is the starter's to handle
            )
        if hasattr(os, "pidfd_open"):
            owned = [str(self.data_dir)] if self._owns_data else []
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD, str(self._process.pid), *owned],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _await_ready(self, port: int) -> None:
        ended = wait_until(lambda: not self.running or self._ready(port), timeout_s=self.start_timeout_s)
        if ended and self.running:
            return
        what = f"gave no answer within {self.start_timeout_s:.0f} s"
        if not self.running and self._process is not None:
            what = f"ended with {self._process.returncode} before it answered"
        raise StartError(f"{self.title} on port {port} {what}; its log ends:\n{tail(self.log_path)}")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._guard is not None:
            self._guard.wait()  # it ends with the server
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None
