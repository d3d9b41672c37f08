"""`replay`: publishes the rows of files to a Kafka topic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stream_ad.cli.common import Json, emit_json, say, settings_of, step_of
from stream_ad.errors import ConfigError, StreamAdError

if TYPE_CHECKING:
    from stream_ad.ports import RecordPublisher
    from stream_ad.runtime.replay import Plan
    from stream_ad.settings import Settings

__all__ = ["command"]


def command(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Parquet or CSV files, one series each.", metavar="FILE...")],
    topic: Annotated[str, typer.Option(help="Topic to publish to; the key of a record is the series.")],
    speed: Annotated[str, typer.Option(help="Multiple of real time, such as 10; max = as fast as possible.")] = "max",
    start: Annotated[
        str | None, typer.Option(help="Time of the first row of files without timestamps: ISO-8601 or -1h.")
    ] = None,
    step: Annotated[str | None, typer.Option(help="Time between rows of files without timestamps.")] = None,
    series: Annotated[str | None, typer.Option(help="Name of the series; default: the file's name.")] = None,
    create: Annotated[bool, typer.Option("--create", help="Create the topic if it does not exist.")] = False,
    partitions: Annotated[int, typer.Option(min=1, help="With --create: number of partitions.")] = 1,
    time_unit: Annotated[str, typer.Option(help="Unit of numeric times in the files: s, ms, us or ns.")] = "ms",
    as_json: Json = False,
) -> None:
    """Publish the rows of files in event-time order. Without --start the last row has the time at which it is sent."""
    settings = settings_of(context)
    from stream_ad.runtime.replay import Encoder, plan_replay, replay, subscription_for
    from stream_ad.timestamps import moment_ns
    from stream_ad.wiring import open_clock, open_publisher, read_table

    clock, subscription, unit = open_clock(), subscription_for(settings, topic), _unit(time_unit)
    encoder = Encoder(subscription)
    plan = plan_replay(
        [read_table(path, series=series, time_unit=unit) for path in files],
        now_ns=clock.now_ns(),
        speed=_speed(speed),
        start_ns=None if start is None else moment_ns(start, name="--start", now_ns=clock.now_ns()),
        step_ns=step_of(step or (subscription.step if subscription else None)),
        max_ahead=settings.detector.max_ahead,
        quantum_ns=encoder.quantum_ns,
    )
    _ensure_topic(settings, topic, partitions if create else None)
    publisher = open_publisher(settings)
    with _closing(publisher), _bar(plan.rows, topic) as progress:
        begun = clock.monotonic_s()
        sent = replay(plan, topic, publisher, encoder, clock, progress=progress)
    _report(plan, topic, sent, round(clock.monotonic_s() - begun, 2), as_json=as_json)


def _report(plan: Plan, topic: str, sent: int, seconds: float, *, as_json: bool) -> None:
    names = sorted({table.series for table in plan.tables})
    if as_json:
        emit_json({"topic": topic, "series": names, "sent": sent, "seconds": seconds})
    else:
        print(f"sent {sent} rows of {len(names)} series to {topic} in {seconds} s")


@contextmanager
def _closing(publisher: RecordPublisher) -> Iterator[None]:
    """Closes the publisher; after an error, a second error of `close` is ignored."""
    try:
        yield
    except BaseException:
        with suppress(StreamAdError):
            publisher.close()
        raise
    publisher.close()


def _unit(text: str) -> Literal["s", "ms", "us", "ns"]:
    for unit in ("s", "ms", "us", "ns"):
        if text == unit:
            return unit
    raise ConfigError(f"--time-unit: expected s, ms, us or ns, found {text!r}")


def _speed(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise ConfigError(f"--speed: expected max or a number over 0, such as 10, found {text!r}")
    return speed


def _ensure_topic(settings: Settings, topic: str, partitions: int | None) -> None:
    """Creates a missing topic with `partitions` partitions. ConfigError when it is None."""
    from stream_ad.wiring import open_admin

    with closing(open_admin(settings)) as admin:
        if topic in admin.topics():
            return
        if partitions is None:
            raise ConfigError(f"topic {topic!r} does not exist on the broker", hint="--create creates it")
        if admin.create_topic(topic, partitions):
            say(f"created topic {topic} with {partitions} partition(s)")


@contextmanager
def _bar(total: int, topic: str) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, only on a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(topic, total=total)
        yield lambda sent: bar.update(task, completed=sent)
