"""Shared by the commands: global options, output (data on stdout, everything else on stderr), files and the store."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.errors import AccessError, ConfigError

if TYPE_CHECKING:
    from stream_ad.settings import Settings
    from stream_ad.wiring import Store

__all__ = [
    "Json", "Options", "emit_json", "emit_table", "open_store", "options_of", "say", "settings_of", "step_of", "utc",
    "writing",
]  # fmt: skip

_UNLIMITED_COLUMNS = 10_000
Json = Annotated[bool, typer.Option("--json", help="Print plain JSON on stdout and nothing else there.")]


@dataclass(frozen=True, slots=True)
class Options:
    """The global options."""

    config: Path | None = None
    debug: bool = False


def options_of(context: typer.Context) -> Options:
    return context.obj if isinstance(context.obj, Options) else Options()


def settings_of(context: typer.Context, overrides: Sequence[str] = ()) -> Settings:
    """The settings that the global options name, with `overrides` ("section.key=value") applied. ConfigError."""
    from stream_ad.settings import load_settings

    return load_settings(options_of(context).config, tuple(overrides))


def say(text: str) -> None:
    """Prints one line for people on stderr."""
    print(text, file=sys.stderr, flush=True)


def emit_json(data: Any, *, lines: bool = False) -> None:
    """Prints JSON on stdout: NaN and infinities as null, dataclasses as objects. lines: each document on one line."""
    import msgspec

    text = msgspec.json.encode(data)
    print((text if lines else msgspec.json.format(text, indent=2)).decode(), flush=True)


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table on stdout, cut to the width of a terminal; elsewhere never cut."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, width=_UNLIMITED_COLUMNS)
    console.print(table)


def utc(time_ns: int | None) -> str:
    """ISO-8601 UTC for people, to the millisecond; "-" for None."""
    from stream_ad.timestamps import iso_utc

    return "-" if time_ns is None else iso_utc(time_ns // 1_000_000 * 1_000_000)


def step_of(text: str | None) -> int | None:
    """Nanoseconds of the option --step; None when it is absent. ConfigError."""
    from stream_ad.durations import duration_ns

    try:
        return duration_ns(text) if text else None
    except ValueError as error:
        raise ConfigError(f"--step: {error}") from None


@contextmanager
def open_store(settings: Settings) -> Iterator[Store]:
    """The store that the settings name, closed at the end."""
    from stream_ad import wiring

    store = wiring.open_store(settings)
    try:
        yield store
    finally:
        store.sink.close()


@contextmanager
def writing(path: object) -> Iterator[None]:
    """AccessError that names `path` when the system refuses to write there."""
    try:
        yield
    except OSError as error:
        raise AccessError(f"{path} cannot be written: {error.strerror or error}") from error
