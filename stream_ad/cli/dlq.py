"""`dlq`: lists, shows and replays dead-dead records."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, say, settings_of
from stream_ad.cli.dlq_format import Form, cells, document, facts, place, shown_bytes, write_value
from stream_ad.errors import ConfigError, DataError

if TYPE_CHECKING:
    from stream_ad.ports import DeadLetterReader
    from stream_ad.records import DeadLetter, SourcePosition
    from stream_ad.settings import Settings

__all__ = ["commands"]

_REFUSED_SHOWN = 5
Reason = Annotated[str | None, typer.Option(help="Only this reason, such as broken_json.")]
Topic = Annotated[str | None, typer.Option(help="Only records from this topic.")]
SeriesKey = Annotated[str | None, typer.Option(help="Only records with this key.")]
Start = Annotated[str | None, typer.Option(help="Only records dead-lettered at or after this time: -1h, ISO-8601.")]


@dataclass(frozen=True, slots=True)
class _Filter:
    """Selects dead-dead records; None = any value."""

    reason: str | None
    topic: str | None
    key: bytes | None
    start_ns: int | None

    @classmethod
    def of(cls, reason: str | None, topic: str | None, series_key: str | None, start: str | None) -> _Filter:
        """ConfigError when `start` is not a time."""
        from stream_ad.timestamps import moment_ns

        start_ns = None if start is None else moment_ns(start, name="--start")
        return cls(reason, topic, None if series_key is None else series_key.encode(), start_ns)

    def matches(self, dead: DeadLetter) -> bool:
        record = dead.record
        return (
            self.reason in (None, dead.reason)
            and self.topic in (None, record.position.topic)
            and (self.key is None or record.key == self.key)
            and (self.start_ns is None or record.timestamp_ns >= self.start_ns)
        )


commands = typer.Typer(
    help="Inspect the records that workers could not use, and replay them.", no_args_is_help=True, add_completion=False
)


@commands.command("list")
def _list(
    context: typer.Context,
    reason: Reason = None,
    topic: Topic = None,
    series_key: SeriesKey = None,
    start: Start = None,
    limit: Annotated[int, typer.Option(min=1, help="Print at most this many, the newest ones.")] = 50,
    skip: Annotated[int, typer.Option(min=0, help="Skip this many of the newest: the previous page.")] = 0,
    as_json: Json = False,
) -> None:
    """Print the newest dead-letter records, and the number of records per reason."""
    settings = settings_of(context)
    wanted = _Filter.of(reason, topic, series_key, start)
    counts: Counter[str] = Counter()
    last: deque[DeadLetter] = deque(maxlen=limit + skip)
    with _open_reader(settings) as reader:
        for dead in filter(wanted.matches, reader.read_dead_letters()):
            counts[dead.reason] += 1
            last.append(dead)
    page = list(islice(last, max(0, len(last) - skip)))[-limit:]
    if as_json:
        emit_json({"counts": dict(counts.most_common()), "letters": [document(dead) for dead in page]})
    elif not counts:
        print("no dead letters")
    else:
        columns = ("time", "reason", "topic", "partition", "offset", "key", "detail")
        emit_table(columns, [cells(dead) for dead in page])
        if counts.total() > len(page):
            print(f"the last {len(page)} of {counts.total() - skip}; --limit N shows more, --skip N earlier ones\n")
        emit_table(("reason", "count"), counts.most_common())


@commands.command("show")
def _show(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help="Source topic of the record.")],
    partition: Annotated[int, typer.Argument(help="Source partition.")],
    offset: Annotated[int, typer.Argument(help="Source offset.")],
    raw: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the bytes of the value to a file.")] = None,
    form: Annotated[Form, typer.Option("--bytes", help="How to show the value.")] = Form.TEXT,
    as_json: Json = False,
) -> None:
    """Print one record and every problem found in it; bytes that are not printable text in hexadecimal."""
    settings = settings_of(context)
    from stream_ad.records import SourcePosition

    wanted = SourcePosition(topic, partition, offset)
    with _open_reader(settings) as reader:
        found = [dead for dead in reader.read_dead_letters() if dead.record.position == wanted]
    if not found:
        raise DataError(f"no dead letter from {place(wanted)}", hint="`stream-ad dlq list` lists them")
    dead = found[-1]
    if raw is not None:
        write_value(raw, dead)
    if as_json:
        problems = [{"reason": one.reason, "detail": one.detail} for one in found]
        emit_json({**document(dead), "problems": problems, **shown_bytes("value", dead.record.value, form)})
        return
    lines = [*facts(dead), *((one.reason, one.detail) for one in found)]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:<{width}}  {text}")
    if raw is None:
        value = dead.record.value
        print()
        print("(no value)" if value is None else next(iter(shown_bytes("", value, form, printable=True).values())))


@commands.command("replay")
def _replay(
    context: typer.Context,
    reason: Reason = None,
    topic: Topic = None,
    series_key: SeriesKey = None,
    start: Start = None,
    position: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC:PARTITION:OFFSET", help="Only this record; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be sent.")] = False,
    as_json: Json = False,
) -> None:
    """Send records again, unchanged, to their source partition: all, or those that the options select.

    Do this once the cause is fixed (a setting, a limit, a new channel). A record that still fails is dead-lettered
    again, with its new offset; readings that are too late by now are dead-lettered as late. Identical records of one
    partition are sent once.
    """
    settings = settings_of(context)
    from stream_ad.wiring import embedded

    if embedded(settings):
        raise ConfigError(
            "kafka.bootstrap is not set: there is no topic to replay to", hint="set it, or STREAM_AD__KAFKA__BOOTSTRAP"
        )
    selection = _Filter.of(reason, topic, series_key, start)
    wanted = {_position(text) for text in position or ()}
    with _open_reader(settings) as reader:
        chosen = (
            dead
            for dead in reader.read_dead_letters()
            if selection.matches(dead) and (not wanted or dead.record.position in wanted)
        )
        found: Iterable[DeadLetter] = chosen
        if wanted:  # send none unless all exist
            found = list(chosen)
            missing = wanted - {dead.record.position for dead in found}
            if missing:
                raise DataError(f"no such dead letter: {', '.join(sorted(map(place, missing)))}")
        sent, refused = _send(settings, found, dry_run=dry_run)
    _report(sent, refused, dry_run=dry_run, as_json=as_json)


def _send(settings: Settings, found: Iterable[DeadLetter], *, dry_run: bool) -> tuple[Counter[str], dict[str, str]]:
    """Number sent by topic; place -> why it cannot be sent."""
    from stream_ad.wiring import open_publisher

    sent: Counter[str] = Counter()
    refused: dict[str, str] = {}
    done: set[bytes] = set()  # one record and its replays may be dead-lettered several times
    with closing(open_publisher(settings)) as publisher:
        for dead in found:
            record, at = dead.record, dead.record.position
            mark = _mark(dead)
            if mark in done:
                continue
            done.add(mark)
            problem = _problem(dead)
            if problem:
                refused[place(at)] = problem
                continue
            if not dry_run:
                publisher.send(at.topic, record.key, record.value, partition=at.partition)
            sent[at.topic] += 1
    return sent, refused


def _mark(dead: DeadLetter) -> bytes:
    """A digest of partition, key and value."""
    record, at = dead.record, dead.record.position
    parts = (at.topic.encode(), str(at.partition).encode(), record.key, record.value)
    return blake2b(b"".join(_sized(part) for part in parts), digest_size=16).digest()


def _sized(part: bytes | None) -> bytes:
    return b"-" if part is None else b"%d:%b" % (len(part), part)


def _problem(dead: DeadLetter) -> str:
    if not dead.whole:
        size = dead.original_size or dead.original_key_size
        return f"truncated in the dead-letter topic, it had {size} bytes: send it from its producer"
    if dead.record.key is None and dead.record.value is None:
        return "it has neither key nor value"
    return ""


def _report(sent: Counter[str], refused: dict[str, str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        emit_json({"sent": sent.total(), "topics": sent, "refused": refused, "dry_run": dry_run})
    else:
        verb = "would send" if dry_run else "sent"
        print(f"{verb} {sent.total()}" + "".join(f", {count} to {topic}" for topic, count in sorted(sent.items())))
    for where, why in islice(refused.items(), _REFUSED_SHOWN):
        say(f"not {where}: {why}")
    if len(refused) > _REFUSED_SHOWN:
        say(f"and {len(refused) - _REFUSED_SHOWN} more; --json lists all")
    if refused and not sent:
        raise DataError("nothing could be sent")


def _open_reader(settings: Settings) -> closing[DeadLetterReader]:
    from stream_ad.wiring import open_dead_letters

    return closing(open_dead_letters(settings))


def _position(text: str) -> SourcePosition:
    from stream_ad.records import SourcePosition

    topic, _, rest = text.partition(":")
    partition, _, offset = rest.partition(":")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise ConfigError(f"--position: expected TOPIC:PARTITION:OFFSET, found {text!r}")
    return SourcePosition(topic, int(partition), int(offset))
