"""Recovery time and re-read records of a killed worker; memory and lag of a worker during a long store outage."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from stream_ad_connectors.kafka.admin import KafkaAdmin

from stream_ad.errors import UnavailableError
from tests.support.drills.feed import Feed, records
from tests.support.drills.job import ROWS, Job, opened, undisturbed_settings
from tests.support.drills.undisturbed import Undisturbed
from tests.support.drills.world import World
from tests.support.services.process import PATIENCE_S, wait_until

__all__ = ["Outage", "Restart", "measure_outage", "measure_restarts"]

CATCH_UP_S = 600.0
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Restart:
    """recovery_s: from the start of the process to its first new score in the store. reread_records: those before the
    committed offset that it reads again, for its windows; behind_records: those that came while it was down."""

    recovery_s: float
    reread_records: int
    behind_records: int


@dataclass(frozen=True)
class Outage:
    """rss_mib: the worker's memory, one value a second during the outage; lag: records waiting at its end; takeovers:
    how many times the worker was assigned its partitions; complete: the store ended as without an outage."""

    away_s: float
    rss_mib: list[float]
    lag: int
    waiting_mib: float
    takeovers: int
    caught_up_s: float
    complete: bool

    @property
    def growth_mib(self) -> float:
        """From the maximum of the first third to the maximum of the last: one-off allocations are not counted."""
        third = max(1, len(self.rss_mib) // 3)
        return max(self.rss_mib[-third:]) - max(self.rss_mib[:third])


def measure_restarts(home: Path, world: World, *, times: int, rows_per_s: float = 12.0) -> list[Restart]:
    """Kill the only worker (SIGKILL) and start it by the console script, `times` times, under a steady stream."""
    found: list[Restart] = []
    with opened(home, world, 1, disk=None, silence=False) as job, _fed(job, world, rows_per_s):
        worker = _start(job)
        try:
            _await_score(job, 0)
            for _ in range(times):
                mark = _committed(job)
                assert wait_until(lambda mark=mark: _committed(job) > mark)
                worker.kill()
                worker.wait(PATIENCE_S)
                before = _scores(job)
                reread, behind = _to_read(job)
                begun = time.monotonic()
                worker = _start(job)
                _await_score(job, before)
                found.append(Restart(round(time.monotonic() - begun, 2), reread, behind))
        finally:
            worker.kill()
            worker.wait(PATIENCE_S)
    return found


def measure_outage(
    home: Path, world: World, *, away_s: float, rows_per_s: float = 20.0, record_bytes: int = 40_000
) -> Outage:
    """Stop the store for away_s under a stream of records that an ignored field makes large."""
    with (
        opened(home, world, 1, disk=None, silence=False) as job,
        _fed(job, world, rows_per_s, record_bytes) as feed,
    ):
        worker = _start(job)
        try:
            _await_score(job, 0)
            world.store.stop()
            rss, sent = [], feed.sent
            assert wait_until(lambda: "reading is paused" in _log(job))
            begun = time.monotonic()
            while time.monotonic() - begun < away_s:
                rss.append(round(psutil.Process(worker.pid).memory_info().rss / MEBIBYTE, 1))
                time.sleep(1.0)
            lag, waiting = job.lag(), (feed.sent - sent) * record_bytes / MEBIBYTE
            world.store.start()
            feed.stop()
            begun = time.monotonic()
            wanted = Undisturbed.run(undisturbed_settings(job), home / "undisturbed.db", tail=False)
            counts = wanted.store.reader.score_counts()
            wanted.store.close()
            complete = wait_until(lambda: job.lag() == 0 and _counts(job) == counts, timeout_s=CATCH_UP_S)
            return Outage(
                away_s=away_s,
                rss_mib=rss,
                lag=lag,
                waiting_mib=round(waiting, 1),
                takeovers=len(re.findall(r"in-0: \d+ series known, reading from", _log(job))),
                caught_up_s=round(time.monotonic() - begun, 1),
                complete=complete,
            )
        finally:
            world.store.start()
            worker.kill()
            worker.wait(PATIENCE_S)


def _start(job: Job) -> subprocess.Popen[bytes]:
    """The console script, as a user starts it."""
    script = str(Path(sys.executable).with_name("stream-ad"))
    with (job.home / "worker.log").open("ab") as log:
        return subprocess.Popen(
            [script, "worker"], cwd=job.home, env={**os.environ, **job.environment}, stdout=log, stderr=log
        )


def _log(job: Job) -> str:
    return (job.home / "worker.log").read_text(errors="replace")


@contextmanager
def _fed(job: Job, world: World, rows_per_s: float, record_bytes: int = 0) -> Iterator[Feed]:
    rows = records(job.plants, ROWS, 1)
    feed = Feed(world.broker.address, job.topic, _padded(rows, record_bytes), rows_per_s)
    feed.start()
    try:
        yield feed
    finally:
        feed.stop()


def _padded(rows: Iterator[list[tuple[bytes, bytes]]], size: int) -> Iterator[list[tuple[bytes, bytes]]]:
    for row in rows:
        yield [
            (key, b'{"padding":"' + b"x" * max(0, size - len(value)) + b'",' + value[1:] if size else value)
            for key, value in row
        ]


def _counts(job: Job) -> dict[str, int]:
    store = job.open_store()
    try:
        return store.reader.score_counts()
    except UnavailableError:
        return {}
    finally:
        store.close()


def _scores(job: Job) -> int:
    return sum(_counts(job).values())


def _await_score(job: Job, before: int) -> None:
    if not wait_until(lambda: _scores(job) > before, timeout_s=CATCH_UP_S, every_s=0.1):
        raise AssertionError(
            f"expected a score after {before}, found none; the worker's log ends:\n{_log(job)[-2000:]}"
        )


def _committed(job: Job) -> int:
    """The committed offsets of all partitions, added up."""
    admin = KafkaAdmin(job.settings.kafka)
    try:
        return sum(found.offset for found in admin.committed().values())
    finally:
        admin.close()


def _to_read(job: Job) -> tuple[int, int]:
    """Records from the replay offsets to the committed offsets, and from there to the log-end offsets."""
    admin = KafkaAdmin(job.settings.kafka)
    try:
        reread = sum(
            found.offset - int(re.sub(r"\D", "", found.metadata) or found.offset)
            for found in admin.committed().values()
        )
        return reread, sum(place.lag for place in admin.lag([job.topic]))
    finally:
        admin.close()
