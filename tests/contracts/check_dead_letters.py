"""What every reader of dead letters has to keep, whatever wrote them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from stream_ad.ports import DeadLetterReader, Sink
from stream_ad.records import DeadLetter, Outputs, SourcePosition, SourceRecord

MS = 1_000_000


@dataclass(frozen=True)
class DeadLettersUnderTest:
    """A sink and a reader of what it keeps; both are closed by the check. `topic` is no other check's source topic."""

    sink: Sink
    reader: DeadLetterReader
    topic: str


def dead_letter(
    topic: str, offset: int, value: bytes | None, reason: str = "broken_json", detail: str = "why"
) -> DeadLetter:
    record = SourceRecord(SourcePosition(topic, offset % 2, offset), (1_000 + offset) * MS, b"key", value)
    return DeadLetter(record, reason, detail)


def samples(topic: str) -> list[DeadLetter]:
    """Text, bytes that are no text, no value, an empty one, no key, two of one record, many and large ones."""
    keyless = DeadLetter(SourceRecord(SourcePosition(topic, 0, 200), 7 * MS, None, b"x"), "empty", "")
    return [
        dead_letter(topic, 0, b"{broken"),
        dead_letter(topic, 1, b"\xff\xfe\x00", "not_utf8", "Größe\n2nd line, €"),
        dead_letter(topic, 2, None, "empty"),
        dead_letter(topic, 3, b"", "empty"),
        dead_letter(topic, 4, b"{}", "unknown_channel", "a"),
        dead_letter(topic, 4, b"{}", "unknown_channel", "b"),
        keyless,
        DeadLetter(SourceRecord(SourcePosition(topic, 0, 201), 8 * MS, None, None), "empty", "nothing at all"),
        *(dead_letter(topic, offset, b"%d" % offset) for offset in range(300, 500)),
        *(dead_letter(topic, offset, bytes(400_000), "too_big") for offset in range(500, 510)),
    ]


def check_dead_letters(target: DeadLettersUnderTest) -> None:
    """What was written comes back whole, in order, once; what is written meanwhile waits for the next reading."""
    written = samples(target.topic)
    target.sink.write(Outputs(dead_letters=written))
    target.sink.write(Outputs(dead_letters=written[:3]))  # as after a time-out
    reading = target.reader.read_dead_letters()
    first = next(reading)
    later = dead_letter(target.topic, 600, b"later")
    target.sink.write(Outputs(dead_letters=[later]))
    assert by_partition([first, *reading]) == by_partition(written)
    assert all(one.whole for one in written)
    assert by_partition(target.reader.read_dead_letters()) == by_partition([*written, later])
    target.reader.close()
    target.sink.close()


def by_partition(dead_letters: Iterable[DeadLetter]) -> dict[int, list[DeadLetter]]:
    ordered = sorted(dead_letters, key=lambda one: one.record.position.partition)  # stable: each keeps its order
    return {p: list(group) for p, group in groupby(ordered, key=lambda one: one.record.position.partition)}
