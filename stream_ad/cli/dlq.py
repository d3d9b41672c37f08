"""`dlq`: records that could not be used: which and why, their bytes, and once more to where they came from."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.cli.common import Json, emit_json, emit_table, say, settings_of, utc
from stream_ad.errors import AccessError, ConfigError, DataError

if TYPE_CHECKING:
    from stream_ad.ports import DeadLetterReader
    from stream_ad.records import DeadLetter, SourcePosition
    from stream_ad.settings import Settings

__all__ = ["commands"]

_DETAIL_CHARS = 100
_REFUSED_SHOWN = 5
Reason = Annotated[str | None, typer.Option(help="Only this reason, such as broken_json.")]

commands = typer.Typer(
    help="Look at records that could not be used, and send them again.", no_args_is_help=True, add_completion=False
)


@commands.command("list")
def _list(
    context: typer.Context,
    reason: Reason = None,
    series_key: Annotated[str | None, typer.Option(help="Only records with this key.")] = None,
    start: Annotated[str | None, typer.Option(help="Only records sent since: -1h, ISO-8601.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Print so many, the last ones.")] = 50,
    as_json: Json = False,
) -> None:
    """Print what was refused and why, and how often each reason was given."""
    settings = settings_of(context)
    from stream_ad.moments import moment_ns

    start_ns = None if start is None else moment_ns(start, name="--start")
    key = None if series_key is None else series_key.encode()
    counts: Counter[str] = Counter()
    last: deque[DeadLetter] = deque(maxlen=limit)
    with _reading(settings) as reader:
        for letter in reader.read_dead_letters():
            record = letter.record
            if reason not in (None, letter.reason) or (key is not None and record.key != key):
                continue
            if start_ns is None or record.timestamp_ns >= start_ns:
                counts[letter.reason] += 1
                last.append(letter)
    if as_json:
        emit_json({"counts": dict(counts.most_common()), "letters": [_document(letter) for letter in last]})
    elif not last:
        print("no dead letters")
    else:
        columns = ("time", "reason", "topic", "partition", "offset", "key", "detail")
        emit_table(columns, [_cells(letter) for letter in last])
        if counts.total() > len(last):
            print(f"the last {len(last)} of {counts.total()}; --limit N shows more\n")
        emit_table(("reason", "count"), counts.most_common())


@commands.command("show")
def _show(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help="The topic the record came from.")],
    partition: Annotated[int, typer.Argument(help="Its partition there.")],
    offset: Annotated[int, typer.Argument(help="Its offset there.")],
    raw: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the value's bytes to a file.")] = None,
    as_json: Json = False,
) -> None:
    """Print one record and all that was wrong with it; its bytes as text if they are UTF-8, else in hexadecimal."""
    settings = settings_of(context)
    from stream_ad.records import SourcePosition

    wanted = SourcePosition(topic, partition, offset)
    with _reading(settings) as reader:
        letters = [letter for letter in reader.read_dead_letters() if letter.record.position == wanted]
    if not letters:
        raise DataError(f"no dead letter came from {_place(wanted)}", mend="`stream-ad dlq list` shows which there are")
    letter = letters[-1]
    if raw is not None:
        _write(raw, letter)
    if as_json:
        problems = [{"reason": one.reason, "detail": one.detail} for one in letters]
        emit_json({**_document(letter), "problems": problems, **_bytes("value", letter.record.value)})
        return
    facts = [*_facts(letter), *((one.reason, one.detail) for one in letters)]
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        print(f"{name:<{width}}  {text}")
    if raw is None:
        value = letter.record.value
        print()
        print("(no value)" if value is None else next(iter(_bytes("", value).values())))


@commands.command("replay")
def _replay(
    context: typer.Context,
    reason: Reason = None,
    position: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC:PARTITION:OFFSET", help="Only this record; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    as_json: Json = False,
) -> None:
    """Send records again, as they came, to the partition they came from: all, or those that the options name.

    Worth doing when their cause is mended (a setting, a limit, a channel made known); what is still wrong comes back.
    """
    settings = settings_of(context)
    from stream_ad.wiring import embedded

    if embedded(settings):
        raise ConfigError(
            "kafka.bootstrap is not set: there is no topic to send to", mend="set it, or STREAM_AD__KAFKA__BOOTSTRAP"
        )
    wanted = {_position(text) for text in position or ()}
    with _reading(settings) as reader:
        chosen = (
            letter
            for letter in reader.read_dead_letters()
            if reason in (None, letter.reason) and (not wanted or letter.record.position in wanted)
        )
        letters: Iterable[DeadLetter] = chosen
        if wanted:  # all must be there before any is sent
            letters = list(chosen)
            missing = wanted - {letter.record.position for letter in letters}
            if missing:
                raise DataError(f"no such dead letter: {', '.join(sorted(map(_place, missing)))}")
        sent, refused = _send(settings, letters, dry_run=dry_run)
    _tell(sent, refused, dry_run=dry_run, as_json=as_json)


def _send(settings: Settings, letters: Iterable[DeadLetter], *, dry_run: bool) -> tuple[Counter[str], dict[str, str]]:
    """How many by topic, and place -> why not."""
    from stream_ad_connectors.kafka_publisher import KafkaPublisher

    sent: Counter[str] = Counter()
    refused: dict[str, str] = {}
    done: set[SourcePosition] = set()  # a record with several wrong readings has several letters
    publisher = KafkaPublisher(settings.kafka)
    try:
        for letter in letters:
            record, at = letter.record, letter.record.position
            if at in done:
                continue
            done.add(at)
            problem = _problem(letter)
            if problem:
                refused[_place(at)] = problem
                continue
            if not dry_run:
                publisher.send(at.topic, record.key, record.value, partition=at.partition)
            sent[at.topic] += 1
    finally:
        publisher.close()
    return sent, refused


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
    for place, why in islice(refused.items(), _REFUSED_SHOWN):
        say(f"not {place}: {why}")
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


def _place(at: SourcePosition) -> str:
    return f"{at.topic}:{at.partition}:{at.offset}"


def _bytes(name: str, data: bytes | None) -> dict[str, str | None]:
    """{name: text}, or {name_hex: digits} when the bytes are no UTF-8."""
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_hex": data.hex()}


def _key(letter: DeadLetter) -> str:
    return next(iter(_bytes("", letter.record.key).values())) or "-"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _DETAIL_CHARS else line[: _DETAIL_CHARS - 1] + "…"


def _document(letter: DeadLetter) -> dict[str, Any]:
    at, record = letter.record.position, letter.record
    return {
        "time": utc(record.timestamp_ns),
        "reason": letter.reason,
        "topic": at.topic,
        "partition": at.partition,
        "offset": at.offset,
        "detail": letter.detail,
        "size": None if record.value is None else len(record.value),
        "original_size": letter.original_size,
        "whole": letter.whole,
        **_bytes("key", record.key),
    }


def _cells(letter: DeadLetter) -> list[object]:
    at = letter.record.position
    when = utc(letter.record.timestamp_ns)
    return [when, letter.reason, at.topic, at.partition, at.offset, _short(_key(letter)), _short(letter.detail)]


def _facts(letter: DeadLetter) -> list[tuple[str, str]]:
    value = letter.record.value
    size = "no value" if value is None else f"{len(value)} bytes"
    if letter.original_size is not None:
        size += f", cut from {letter.original_size}"
    return [
        ("from", _place(letter.record.position)),
        ("time", utc(letter.record.timestamp_ns)),
        ("key", _key(letter)),
        ("value", size),
    ]


def _write(path: Path, letter: DeadLetter) -> None:
    value = letter.record.value or b""
    try:
        path.write_bytes(value)
    except OSError as error:
        raise AccessError(f"{path} cannot be written: {error.strerror or error}") from error
    say(f"wrote {len(value)} bytes to {path}" + ("" if letter.whole else ", the beginning of the record"))
