"""How a dead letter is shown: its bytes exactly, and nothing of them that would steer a terminal."""

from __future__ import annotations

import base64
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_ad.cli.common import say, utc
from stream_ad.errors import AccessError

if TYPE_CHECKING:
    from stream_ad.records import DeadLetter, SourcePosition

__all__ = ["Form", "cells", "document", "facts", "place", "shown_bytes", "write_value"]

_DETAIL_CHARS = 100


class Form(StrEnum):
    """How bytes are shown; exact in each, text only where it can be."""

    TEXT = "text"
    HEX = "hex"
    BASE64 = "base64"


def place(at: SourcePosition) -> str:
    return f"{at.topic}:{at.partition}:{at.offset}"


def shown_bytes(
    name: str, data: bytes | None, form: Form = Form.TEXT, *, printable: bool = False
) -> dict[str, str | None]:
    """{name: text}, or {name_hex: digits} when the bytes are no UTF-8 (printable: or would steer a terminal)."""
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
    """What would steer a terminal is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _key(letter: DeadLetter) -> str:
    return _shown(next(iter(shown_bytes("", letter.record.key).values())) or "-")


def _short(text: str) -> str:
    line = _shown(" ".join(text.split()))
    return line if len(line) <= _DETAIL_CHARS else line[: _DETAIL_CHARS - 1] + "…"


def document(letter: DeadLetter) -> dict[str, Any]:
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
        **shown_bytes("key", record.key),
    }


def cells(letter: DeadLetter) -> list[object]:
    at = letter.record.position
    when = utc(letter.record.timestamp_ns)
    return [when, letter.reason, at.topic, at.partition, at.offset, _short(_key(letter)), _short(letter.detail)]


def facts(letter: DeadLetter) -> list[tuple[str, str]]:
    value = letter.record.value
    size = "no value" if value is None else f"{len(value)} bytes"
    if letter.original_size is not None:
        size += f", cut from {letter.original_size}"
    return [
        ("from", place(letter.record.position)),
        ("time", utc(letter.record.timestamp_ns)),
        ("key", _key(letter)),
        ("value", size),
    ]


def write_value(path: Path, letter: DeadLetter) -> None:
    value = letter.record.value or b""
    try:
        path.write_bytes(value)
    except OSError as error:
        raise AccessError(f"{path} cannot be written: {error.strerror or error}") from error
    say(f"wrote {len(value)} bytes to {path}" + ("" if letter.whole else ", the beginning of the record"))
