"""What the verbs share: the global options, and where output goes (data on stdout, everything else on stderr)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stream_ad.settings import Settings

__all__ = ["Json", "Options", "emit_json", "emit_table", "options_of", "say", "settings_of", "utc"]

_ENDLESS = 10_000  # columns
Json = Annotated[bool, typer.Option("--json", help="Plain JSON on stdout, nothing else there.")]


@dataclass(frozen=True, slots=True)
class Options:
    """The global options."""

    config: Path | None = None
    debug: bool = False


def options_of(context: typer.Context) -> Options:
    return context.obj if isinstance(context.obj, Options) else Options()


def settings_of(context: typer.Context, overrides: Sequence[str] = ()) -> Settings:
    """The settings the global options name, `overrides` on top. ConfigError when they are broken."""
    from stream_ad.settings import load_settings

    return load_settings(options_of(context).config, tuple(overrides))


def say(text: str) -> None:
    """One line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def emit_json(data: Any, *, lines: bool = False) -> None:
    """JSON on stdout: NaN and infinities as null, dataclasses as objects. lines: one document a line, at once."""
    import msgspec

    text = msgspec.json.encode(data)
    print((text if lines else msgspec.json.format(text, indent=2)).decode(), flush=True)


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout. Not on a terminal nothing is cut to a width."""
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
        console = Console(file=sys.stdout, highlight=False, width=_ENDLESS)
    console.print(table)


def utc(time_ns: int | None) -> str:
    """ISO-8601 UTC for people, to the millisecond; "-" when there is none."""
    from stream_ad.serde.alerts import iso_utc

    return "-" if time_ns is None else iso_utc(time_ns // 1_000_000 * 1_000_000)
