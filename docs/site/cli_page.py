"""The command line as a page."""

from __future__ import annotations

import typer
from typer.cli import get_docs_for_click

from stream_ad.cli.app import app

__all__ = ["cli_page"]

_HEAD = """\
# Command line

Exit codes: 0 ok, 1 failed, 2 usage or config. Data goes to stdout, the rest to stderr; `--json` prints data only.
`make docs` generates this page from the commands.

"""


def cli_page() -> str:
    """The whole page, Markdown."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="stream-ad")
    text = get_docs_for_click(obj=command, ctx=context, name="stream-ad")
    lines = [line.rstrip() for line in text.splitlines()]
    return _HEAD + "\n".join(lines[1:] if lines[0].startswith("# ") else lines).strip() + "\n"
