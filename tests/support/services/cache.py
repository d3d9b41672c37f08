"""A per-user cache of built services: one directory per name and version, complete or absent."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.services.errors import BuildError

__all__ = ["Build", "Say", "cache_root", "cached", "say_on_stderr", "tail"]

Say = Callable[[str], None]

_PROGRESS_S = 60.0
_failed: dict[str, BuildError] = {}  # a failed build is not tried again in the same run


def say_on_stderr(line: str) -> None:
    """Print one progress line."""
    print(line, file=sys.stderr, flush=True)


def cache_root() -> Path:
    """The directory that holds every built service of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "stream-ad-tests"


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a text file, or a note that there are none."""
    try:
        kept = path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        kept = []
    return "\n".join(kept) if kept else "(nothing logged)"


class Build:
    """A running build: runs its steps, logs their output and reports progress."""

    def __init__(self, name: str, summary: str, target: Path, log: Path, say: Say) -> None:
        self.name = name
        self.target = target  # its contents become the cache entry
        self.log = log
        self._summary = summary
        self._say = say

    def run(self, title: str, command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        """Run one step to its end; BuildError with the log's tail when it fails."""
        started = time.monotonic()
        if not self.log.exists():
            self._say(f"building {self._summary}, once; log: {self.log}")
        self._say(f"{self.name}: {title} ...")
        with self.log.open("ab") as out:
            out.write(f"\n== {title}: {' '.join(command)}\n".encode())
            out.flush()
            child = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = self._wait(child, title, started)
            except BaseException:
                # The step's own session holds every compiler that it started.
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                raise
        if status != 0:
            raise BuildError(f"building {self.name}: {title} ended with {status}, see {self.log}\n{tail(self.log)}")
        self._say(f"{self.name}: {title} done in {time.monotonic() - started:.0f} s")

    def _wait(self, child: subprocess.Popen[bytes], title: str, started: float) -> int:
        while True:
            try:
                return child.wait(_PROGRESS_S)
            except subprocess.TimeoutExpired:
                self._say(f"{self.name}: {title}, {time.monotonic() - started:.0f} s so far")


def cached(
    name: str, version: str, build: Callable[[Build], None], say: Say = say_on_stderr, *, summary: str = ""
) -> Path:
    """Return the cache entry of `name` at `version`, building it first when it is absent.

    The build fills a hidden directory in the cache, which is renamed when complete, under a lock: two processes build
    once, and an interrupted build leaves no entry. `summary`: what it builds and how long that
    usually takes.
    """
    root = cache_root()
    key = f"{name}-{version}"
    entry = root / key
    if entry.is_dir():
        return entry
    if key in _failed:
        raise _failed[key]
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{key}.lock", lambda: say(f"{name}: another process builds {key}, waiting for it")):
        if entry.is_dir():
            return entry
        failure = root / f"{key}.failed"
        _raise_failure_of_this_run(failure)
        for leftover in root.glob(f".{key}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        target = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=root))
        log = root / f"{key}.log"
        log.unlink(missing_ok=True)
        started = time.monotonic()
        try:
            build(Build(name, summary or f"{name}: seconds", target, log, say))  # announces itself at its first step
            target.rename(entry)
        except BuildError as error:
            _failed[key] = error
            failure.write_text(f"{_test_run()}\n{error}")
            raise
        finally:
            shutil.rmtree(target, ignore_errors=True)
        say(f"{name}: built in {time.monotonic() - started:.0f} s")
    return entry


def _test_run() -> str:
    """Identifies one `pytest -n` run in all of its workers; empty elsewhere."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID", "")


def _raise_failure_of_this_run(path: Path) -> None:
    """Another worker of the same test run has failed to build it."""
    if _test_run() and path.exists():
        run, _, message = path.read_text().partition("\n")
        if run == _test_run():
            raise BuildError(message)


@contextmanager
def _locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel frees it when the holder dies."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
