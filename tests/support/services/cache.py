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
    """One build under way: runs its steps, logs their output and reports progress."""

    def __init__(self, name: str, target: Path, log: Path, say: Say) -> None:
        self.name = name
        self.target = target  # what is put here becomes the cache entry
        self.log = log
        self._say = say

    def run(self, title: str, command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        """Run one step to its end; BuildError with the log's tail when it fails."""
        started = time.monotonic()
        if not self.log.exists():
            self._say(f"{self.name}: building into {self.target.parent}, log: {self.log}")
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
                status = child.wait()
            except BaseException:
                # The step's own session holds every compiler that it started.
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                raise
        if status != 0:
            raise BuildError(f"building {self.name}: {title} ended with {status}, see {self.log}\n{tail(self.log)}")
        self._say(f"{self.name}: {title} done in {time.monotonic() - started:.0f} s")


def cached(name: str, version: str, build: Callable[[Build], None], say: Say = say_on_stderr) -> Path:
    """Return the cache entry of `name` at `version`, building it first when it is absent.

    The build fills a hidden directory beside the entry, renamed when complete, under a lock: two runs at
    once build one time, and a build that was cut off leaves nothing that looks like an entry.
    """
    root = cache_root()
    key = f"{name}-{version}"
    entry = root / key
    if entry.is_dir():
        return entry
    if key in _failed:
        raise _failed[key]
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{key}.lock", lambda: say(f"{name}: waiting for another build of {key}")):
        if entry.is_dir():
            return entry
        for leftover in root.glob(f".{key}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        target = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=root))
        log = root / f"{key}.log"
        log.unlink(missing_ok=True)
        started = time.monotonic()
        try:
            build(Build(name, target, log, say))  # it says so itself, once nothing that it requires is missing
            target.rename(entry)
        except BuildError as error:
            _failed[key] = error
            raise
        finally:
            shutil.rmtree(target, ignore_errors=True)
        say(f"{name}: built in {time.monotonic() - started:.0f} s")
    return entry


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
