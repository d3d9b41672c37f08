"""One drill: workers over a stream, bursts of overlapping faults, and the comparison at the end."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from stream_ad_connectors.influxdb.store import InfluxStore
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad.errors import UnavailableError
from tests.support.drills.faults import Stage, burst, kinds
from tests.support.drills.feed import Feed, records
from tests.support.drills.job import ROWS, Job, opened, undisturbed_settings
from tests.support.drills.outcome import Outcome, compare
from tests.support.drills.undisturbed import Undisturbed, alert_events, dead_letters
from tests.support.drills.workers import Crew
from tests.support.drills.world import SmallDisk, World
from tests.support.services.process import wait_until

__all__ = ["Plan", "run_drill"]

WORKERS = 2
CATCH_UP_S = 600.0


@dataclass(frozen=True)
class Plan:
    """`faults` in total, `at_once` of them in a burst of span_s; rows_per_s of each series. embedded: Kafka with the
    SQLite store on a small disk. silence: silent series get speculative scores, so revisions depend on the clock."""

    seed: int
    faults: int = 100
    at_once: int = 20
    span_s: float = 12.0
    rows_per_s: float = 12.0
    embedded: bool = False
    silence: bool = False


def run_drill(home: Path, world: World, plan: Plan, *, say: Callable[[str], None] = lambda line: None) -> Outcome:
    """Run a seeded schedule of `plan.faults`; each kind occurs once before any occurs again."""
    begun = time.monotonic()
    outcome = Outcome(plan.seed, "embedded" if plan.embedded else "influxdb")
    with ExitStack() as stack:
        disk = stack.enter_context(SmallDisk()) if plan.embedded else None
        where = disk.path if disk is not None else None
        job = stack.enter_context(opened(home, world, plan.seed, disk=where, silence=plan.silence))
        crew = Crew(job.home, job.environment)
        stack.callback(crew.close)
        for _ in range(WORKERS):
            crew.add()
        store = job.open_store()
        stack.callback(store.close)
        feed = Feed(world.broker.address, job.topic, records(job.plants, ROWS, plan.seed), plan.rows_per_s)
        feed.start()
        wait_until(lambda: _count(store) > 0 or len(crew.gave_up) > 9, timeout_s=CATCH_UP_S, every_s=0.25)
        if _count(store) <= 0:
            raise AssertionError(f"no score came before the first fault; workers that ended: {crew.gave_up}")
        _bursts(Stage(world, crew, disk), plan, outcome, store, say)
        feed.stop()
        _settle(job, store, outcome, plan, home / "undisturbed.db")
        codes = crew.close()
        _judge(crew, codes, outcome)
    outcome.wall_s = round(time.monotonic() - begun, 1)
    return outcome


def _bursts(
    stage: Stage, plan: Plan, outcome: Outcome, store: InfluxStore | SqliteStore, say: Callable[[str], None]
) -> None:
    rng = random.Random(plan.seed)
    durations = kinds(embedded=plan.embedded)
    schedule: list[str] = []
    while len(schedule) < plan.faults:
        schedule += rng.sample(sorted(durations), len(durations))
    for first in range(0, plan.faults, plan.at_once):
        names = schedule[first : min(first + plan.at_once, plan.faults)]
        begun = time.monotonic()
        stage.play(burst(rng, names, durations, plan.span_s))
        outcome.faults += len(names)
        outcome.by_kind.update(names)
        held_s = time.monotonic() - begun
        recovery_s = _recovered(store)
        if recovery_s is None:
            outcome.note(f"no new score within {CATCH_UP_S:.0f} s of fault {first + len(names)}")
        else:
            outcome.recovery_s.append(recovery_s)
        say(f"seed {plan.seed}: {outcome.faults}/{plan.faults} faults, burst {held_s:.1f} s, recovery {recovery_s} s")


def _count(store: InfluxStore | SqliteStore) -> int:
    """Scores in the store; -1 while it does not answer."""
    try:
        return sum(store.reader.score_counts().values())
    except UnavailableError:
        return -1


def _recovered(store: InfluxStore | SqliteStore) -> float | None:
    """Seconds until the store holds a new score; None when none came."""
    begun = time.monotonic()
    before = _count(store)
    if wait_until(lambda: _count(store) > max(0, before), timeout_s=CATCH_UP_S, every_s=0.25):
        return time.monotonic() - begun
    return None


def _settle(job: Job, store: InfluxStore | SqliteStore, outcome: Outcome, plan: Plan, path: Path) -> None:
    """Wait until the workers have committed the whole log, then compare."""
    undisturbed = Undisturbed.run(undisturbed_settings(job), path, tail=plan.silence)
    wanted = undisturbed.store.reader.score_counts()
    if not wait_until(
        lambda: job.lag() == 0 and store.reader.score_counts() == wanted, timeout_s=CATCH_UP_S, every_s=0.5
    ):
        outcome.note(f"after {CATCH_UP_S:.0f} s: lag {job.lag()}, {store.reader.score_counts()}, expected {wanted}")
    outcome.records = undisturbed.records
    readers = [(one.reader, one.reader) for one in (store, undisturbed.store)]
    compare(outcome, job.series, *readers, revisions=not plan.silence)
    if not plan.silence:
        _compare_topic(job, undisturbed, outcome)
    lost = undisturbed.dead_letters - dead_letters(job.settings)
    outcome.dead_letters = len(undisturbed.dead_letters)
    outcome.dead_letters_lost = len(lost)
    for identity in sorted(lost)[:5]:
        outcome.note(f"dead letter lost: {identity}")
    undisturbed.store.close()


def _compare_topic(job: Job, undisturbed: Undisturbed, outcome: Outcome) -> None:
    """Both runs published the same alert events; repeated events are counted separately."""
    events = alert_events(job.settings)
    outcome.events_repeated = len(events) - len(set(events))
    outcome.alerts_lost += len(undisturbed.events - set(events))
    outcome.alerts_doubled += len(set(events) - undisturbed.events)
    for event in sorted(undisturbed.events ^ set(events))[:5]:
        outcome.note(f"alert event {'lost' if event in undisturbed.events else 'not in the undisturbed run'}: {event}")


def _judge(crew: Crew, codes: list[int | None], outcome: Outcome) -> None:
    traces = crew.tracebacks()
    outcome.crashes += len(traces) + sum(code not in (0, None) for code in codes)
    outcome.gave_up = len(crew.gave_up)
    outcome.not_in_time = crew.not_in_time + sum(code is None for code in codes)
    for line in (*traces[:3], *(f"exit {code} at the end" for code in codes if code)):
        outcome.note(line)
    outcome.reasons = Counter(re.sub(r"127[.]0[.]0[.]1:[0-9]+", "ADDRESS", line) for line in crew.gave_up)
