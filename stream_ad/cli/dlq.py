"""`dlq`: records that could not be used: which and why, their bytes, and once more to where they came from."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
Topic = Annotated[str | None, typer.Option(help="Only records that came from this topic.")]
SeriesKey = Annotated[str | None, typer.Option(help="Only records with this key.")]
Start = Annotated[str | None, typer.Option(help="Only records sent since: -1h, ISO-8601.")]


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which letters are meant; None = whatever it is."""

    reason: str | None
    topic: str | None
    key: bytes | None
    start_ns: int | None

    @classmethod
    def of(cls, reason: str | None, topic: str | None, series_key: str | None, start: str | None) -> _Filter:
        """ConfigError when `start` is no moment."""
        from stream_ad.timestamps import moment_ns

        start_ns = None if start is None else moment_ns(start, name="--start")
        return cls(reason, topic, None if series_key is None else series_key.encode(), start_ns)

    def takes(self, letter: DeadLetter) -> bool:
        record = letter.record
        return (
            self.reason in (None, letter.reason)
            and self.topic in (None, record.position.topic)
            and (self.key is None or record.key == self.key)
            and (self.start_ns is None or record.timestamp_ns >= self.start_ns)
        )


commands = typer.Typer(
    help="Look at records that could not be used, and send them again.", no_args_is_help=True, add_completion=False
)


@commands.command("list")
def _list(
    context: typer.Context,
    reason: Reason = None,
    topic: Topic = None,
    series_key: SeriesKey = None,
    start: Start = None,
    limit: Annotated[int, typer.Option(min=1, help="Print so many, the last ones.")] = 50,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many of the last ones: the page before.")] = 0,
    as_json: Json = False,
) -> None:
    """Print what was refused and why, and how often each reason was given."""
    settings = settings_of(context)
    wanted = _Filter.of(reason, topic, series_key, start)
    counts: Counter[str] = Counter()
    last: deque[DeadLetter] = deque(maxlen=limit + skip)
    with _reading(settings) as reader:
        for letter in filter(wanted.takes, reader.read_dead_letters()):
            counts[letter.reason] += 1
            last.append(letter)
    page = list(islice(last, max(0, len(last) - skip)))[-limit:]
    if as_json:
        emit_json({"counts": dict(counts.most_common()), "letters": [document(letter) for letter in page]})
    elif not counts:
        print("no dead letters")
    else:
        columns = ("time", "reason", "topic", "partition", "offset", "key", "detail")
        emit_table(columns, [cells(letter) for letter in page])
        if counts.total() > len(page):
            print(f"the last {len(page)} of {counts.total() - skip}; --limit N shows more, --skip N those before\n")
        emit_table(("reason", "count"), counts.most_common())


@commands.command("show")
def _show(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help="The topic the record came from.")],
    partition: Annotated[int, typer.Argument(help="Its partition there.")],
    offset: Annotated[int, typer.Argument(help="Its offset there.")],
    raw: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the value's bytes to a file.")] = None,
    form: Annotated[Form, typer.Option("--bytes", help="How to show the value.")] = Form.TEXT,
    as_json: Json = False,
) -> None:
    """Print one record and all that was wrong with it; bytes that are no printable text in hexadecimal."""
    settings = settings_of(context)
    from stream_ad.records import SourcePosition

    wanted = SourcePosition(topic, partition, offset)
    with _reading(settings) as reader:
        letters = [letter for letter in reader.read_dead_letters() if letter.record.position == wanted]
    if not letters:
        raise DataError(f"no dead letter came from {place(wanted)}", hint="`stream-ad dlq list` shows which there are")
    letter = letters[-1]
    if raw is not None:
        write_value(raw, letter)
    if as_json:
        problems = [{"reason": one.reason, "detail": one.detail} for one in letters]
        emit_json({**document(letter), "problems": problems, **shown_bytes("value", letter.record.value, form)})
        return
    lines = [*facts(letter), *((one.reason, one.detail) for one in letters)]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:<{width}}  {text}")
    if raw is None:
        value = letter.record.value
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    as_json: Json = False,
) -> None:
    """Send records again, as they came, to the partition they came from: all, or those that the options name.

    Worth doing when their cause is mended (a setting, a limit, a channel made known). What is still wrong comes back as
    a dead letter of its own, with the new offset; readings that are too late by now come back as late. The same bytes
    of one partition are sent once, however many letters they have.
    """
    settings = settings_of(context)
    from stream_ad.wiring import embedded

    if embedded(settings):
        raise ConfigError(
            "kafka.bootstrap is not set: there is no topic to send to", hint="set it, or STREAM_AD__KAFKA__BOOTSTRAP"
        )
    meant = _Filter.of(reason, topic, series_key, start)
    wanted = {_position(text) for text in position or ()}
    with _reading(settings) as reader:
        chosen = (
            letter
            for letter in reader.read_dead_letters()
            if meant.takes(letter) and (not wanted or letter.record.position in wanted)
        )
        letters: Iterable[DeadLetter] = chosen
        if wanted:  # all must be there before any is sent
            letters = list(chosen)
            missing = wanted - {letter.record.position for letter in letters}
            if missing:
                raise DataError(f"no such dead letter: {', '.join(sorted(map(place, missing)))}")
        sent, refused = _send(settings, letters, dry_run=dry_run)
    _tell(sent, refused, dry_run=dry_run, as_json=as_json)


def _send(settings: Settings, letters: Iterable[DeadLetter], *, dry_run: bool) -> tuple[Counter[str], dict[str, str]]:
    """How many by topic, and place -> why not."""
    from stream_ad.wiring import open_publisher

    sent: Counter[str] = Counter()
    refused: dict[str, str] = {}
    done: set[bytes] = set()  # several letters of one record, and of its replays
    publisher = open_publisher(settings)
    try:
        for letter in letters:
            record, at = letter.record, letter.record.position
            mark = _mark(letter)
            if mark in done:
                continue
            done.add(mark)
            problem = _problem(letter)
            if problem:
                refused[place(at)] = problem
                continue
            if not dry_run:
                publisher.send(at.topic, record.key, record.value, partition=at.partition)
            sent[at.topic] += 1
    finally:
        publisher.close()
    return sent, refused


def _mark(letter: DeadLetter) -> bytes:
    """The same for the same bytes of one partition."""
    record, at = letter.record, letter.record.position
    parts = (at.topic.encode(), str(at.partition).encode(), record.key, record.value)
    return blake2b(b"".join(_sized(part) for part in parts), digest_size=16).digest()


def _sized(part: bytes | None) -> bytes:
    return b"-" if part is None else b"%d:%b" % (len(part), part)


def _problem(letter: DeadLetter) -> str:
    if not letter.whole:
        size = letter.original_size or letter.original_key_size
        return f"cut when it was kept, it had {size} bytes: send it from where it was made"
    if letter.record.key is None and letter.record.value is None:
        return "it has neither key nor value"
    return ""


def _tell(sent: Counter[str], refused: dict[str, str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        emit_json({"sent": sent.total(), "topics": sent, "refused": refused, "dry_run": dry_run})
    else:
        verb = "would send" if dry_run else "sent"
        print(f"{verb} {sent.total()}" + "".join(f", {count} to {topic}" for topic, count in sorted(sent.items())))
    for where, why in islice(refused.items(), _REFUSED_SHOWN):
        say(f"not {where}: {why}")
    if len(refused) > _REFUSED_SHOWN:
        say(f"and {len(refused) - _REFUSED_SHOWN} more; --json names all")
    if refused and not sent:
        raise DataError("nothing could be sent")


@contextmanager
def _reading(settings: Settings) -> Iterator[DeadLetterReader]:
    from stream_ad.wiring import open_dead_letters

    reader = open_dead_letters(settings)
    try:
        yield reader
    finally:
        reader.close()


def _position(text: str) -> SourcePosition:
    from stream_ad.records import SourcePosition

    topic, _, rest = text.partition(":")
    partition, _, offset = rest.partition(":")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise ConfigError(f"--position: expected TOPIC:PARTITION:OFFSET, found {text!r}")
    return SourcePosition(topic, int(partition), int(offset))
