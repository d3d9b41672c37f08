"""Generates the page of the settings."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stream_ad.settings.template import sections

__all__ = ["settings_page"]

_HEAD = """\
# Configuration

One TOML file, `stream-ad.toml` in the working directory unless `-c` names another; `stream-ad init` writes one. The
environment variable `STREAM_AD__SECTION__KEY` overrides a key: `kafka.group` is `STREAM_AD__KAFKA__GROUP`. Secrets come
from the environment or from a file that the TOML names, never from the TOML itself, and are never printed. Durations
are text such as `500ms`, `1s`, `5min`, `1h`; rates such as `1 per week` or `3 per day`. An unknown key is an error.

`make docs` generates this page from the settings.
"""


def settings_page() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *(_section(title, model) for title, model in sections().items())])


def _section(title: str, model: type[BaseModel]) -> str:
    lines = [f"## `{title}`", "", (model.__doc__ or "").strip(), "", "| key | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {_default(field)} | {_meaning(field)} |" for name, field in model.model_fields.items()]
    return "\n".join([*lines, ""])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    if value is None:
        return "-"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value}`" if isinstance(value, (bool, int, float, list)) else f'`"{value}"`'


def _meaning(field: FieldInfo) -> str:
    text = (field.description or "").replace("|", "\\|")
    choices = [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str)]
    return f"{text} ({', '.join(choices)})" if choices else text
