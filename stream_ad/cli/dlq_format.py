"""Text and JSON of dead-letter records: exact bytes, without terminal control characters."""

from __future__ import annotations

import base64
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_ad.cli.common import say, utc, writing

if TYPE_CHECKING:
    from stream_ad.records import DeadLetter, SourcePosition

__all__ = ["Form", "cells", "document", "facts", "place", "shown_bytes", "write_value"]

_DETAIL_CHARS = 100


class Form(StrEnum):
    """How to show bytes: exactly in each form; TEXT falls back to hexadecimal."""

    TEXT = "text"
    HEX = "hex"
    BASE64 = "base64"


def place(at: SourcePosition) -> str:
    return f"{at.topic}:{at.partition}:{at.offset}"


def shown_bytes(
    name: str, data: bytes | None, form: Form = Form.TEXT, *, printable: bool = False
) -> dict[str, str | None]:
    """{name: text}; {name_hex: digits} for bytes that are not UTF-8 (with `printable`: or not printable)."""
    if data is None:
        return {name: None}
    if form is Form.BASE64:
        return {f"{name}_base64": base64.b64encode(data).decode()}
    try:
        text = data.decode()
        if form is Form.TEXT and not (printable and _shown(text.replace("\n", "")) != text.replace("\n", "")):
            return {name: text}
    except UnicodeDecodeError:
        pass
    return {f"{name}_hex": data.hex()}


def _shown(text: str) -> str:
    """Control characters as escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _key(dead: DeadLetter) -> str:
    return _shown(next(iter(shown_bytes("", dead.record.key).values())) or "-")


def _short(text: str) -> str:
    line = _shown(" ".join(text.split()))
    return line if len(line) <= _DETAIL_CHARS else line[: _DETAIL_CHARS - 1] + "…"


def document(dead: DeadLetter) -> dict[str, Any]:
    at, record = dead.record.position, dead.record
    return {
        "time": utc(record.timestamp_ns),
        "reason": dead.reason,
        "topic": at.topic,
        "partition": at.partition,
        "offset": at.offset,
        "detail": dead.detail,
        "size": None if record.value is None else len(record.value),
        "original_size": dead.original_size,
        "whole": dead.whole,
        **shown_bytes("key", record.key),
    }


def cells(dead: DeadLetter) -> list[object]:
    at = dead.record.position
    when = utc(dead.record.timestamp_ns)
    return [when, dead.reason, at.topic, at.partition, at.offset, _short(_key(dead)), _short(dead.detail)]


def facts(dead: DeadLetter) -> list[tuple[str, str]]:
    value = dead.record.value
    size = "no value" if value is None else f"{len(value)} bytes"
    if dead.original_size is not None:
        size += f", cut from {dead.original_size}"
    return [
        ("from", place(dead.record.position)),
        ("time", utc(dead.record.timestamp_ns)),
        ("key", _key(dead)),
        ("value", size),
    ]


def write_value(path: Path, dead: DeadLetter) -> None:
    value = dead.record.value or b""
    with writing(path):
        path.write_bytes(value)
    say(f"wrote {len(value)} bytes to {path}" + ("" if dead.whole else ", the beginning of the record"))
