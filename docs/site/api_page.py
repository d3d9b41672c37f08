"""The Python API as a page, from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from itertools import pairwise
from types import ModuleType
from typing import Any

import stream_ad
from stream_ad import errors, ports, records, settings

__all__ = ["api_page"]

_HEAD = """\
# Python API

The stable imports: `Client`, `Detector` and `score_array` from `stream_ad`; `load_settings` and `Settings` from
`stream_ad.settings` (keys: [configuration](configuration.md)); the contracts of plug-ins in `stream_ad.ports`, the
values that they exchange in `stream_ad.records`, and the errors in `stream_ad.errors`. How to use them:
[tutorial](tutorial.md), [other libraries](ecosystem.md), [plug-ins](extending.md). `make docs` generates this page from
the docstrings.
"""
_LINE_CHARS = 100


def api_page() -> str:
    """The whole page, Markdown."""
    parts = [_HEAD]
    parts += [_class(stream_ad.Client), _class(stream_ad.Detector)]
    parts += [_function("score_array", stream_ad.score_array), _function("load_settings", settings.load_settings)]
    parts += ["## Ports", _text(ports), *(_class(each, level=3) for each in _classes(ports))]
    parts += ["## Records", _text(records), *(_class(each, level=3) for each in _classes(records))]
    parts += ["## Errors", f"```text\n{inspect.getdoc(errors)}\n```"]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _classes(module: ModuleType) -> Iterator[type]:
    for name in module.__all__:
        if inspect.isclass(each := getattr(module, name)):
            yield each


def _class(cls: type, level: int = 2) -> str:
    parts = [f"{'#' * level} {cls.__name__}"]
    if is_dataclass(cls) or not (getattr(cls, "_is_protocol", False) or issubclass(cls, Enum)):
        parts.append(_code(_signature(cls.__name__, cls)))
    parts.append(_text(cls))
    if issubclass(cls, Enum):
        parts.append("Values: " + ", ".join(f"`{member.value}`" for member in cls) + ".")
    for name, member in _members(cls):
        heading = "" if level > 2 or isinstance(member, property) else f"### {name}"
        parts += [heading, _member(cls, name, member)]
    return "\n\n".join(part for part in parts if part)


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties, in the order of their definition, the class before its bases."""
    seen = set()
    for owner in cls.__mro__:
        if not owner.__module__.startswith("stream_ad"):
            continue
        for name, member in vars(owner).items():
            function = isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)
            if function and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def _member(cls: type, name: str, member: Any) -> str:
    if isinstance(member, property):
        returns = str(inspect.signature(member.fget).return_annotation) if member.fget else ""
        return f"**`{name}`** (`{returns}`). {_text(member)}".rstrip()
    function = getattr(cls, name)
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    return "\n\n".join(filter(None, [_code(prefix + _signature(name, function)), _text(function)]))


def _function(name: str, function: Callable[..., Any]) -> str:
    return "\n\n".join([f"## {name}", _code(_signature(name, function)), _text(function)])


class _Raw(str):
    """An annotation as it is written."""

    def __repr__(self) -> str:
        return str(self)


def _signature(name: str, called: Callable[..., Any]) -> str:
    """`name(parameters) -> returned`, one parameter a line where it is long."""
    found = inspect.signature(called)
    parameters = [
        str(each.replace(annotation=_raw(each.annotation)))
        for each in found.parameters.values()
        if each.name not in ("self", "cls")
    ]
    kinds = [each.kind for each in found.parameters.values() if each.name not in ("self", "cls")]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parameters.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returned = found.return_annotation
    arrow = "" if inspect.isclass(called) or returned is inspect.Signature.empty else f" -> {_raw(returned)!r}"
    line = f"{name}({', '.join(parameters)}){arrow}"
    if len(line) <= _LINE_CHARS:
        return line
    return f"{name}(\n" + "".join(f"    {each},\n" for each in parameters) + f"){arrow}"


def _raw(annotation: Any) -> Any:
    return _Raw(annotation) if isinstance(annotation, str) else annotation


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _text(of: Any) -> str:
    """The docstring (numpydoc) as Markdown: sections become lists, examples code blocks."""
    lines = (inspect.getdoc(of) or "").splitlines()
    starts = [at for at, line in enumerate(lines[1:]) if re.fullmatch("-{3,}", line)] + [len(lines)]
    parts = _paragraphs(lines[: starts[0]])
    for at, stop in pairwise(starts):
        parts += [f"*{lines[at]}*", *_section(lines[at], lines[at + 2 : stop])]
    return "\n\n".join(part for part in parts if part)


def _section(title: str, lines: list[str]) -> list[str]:
    if title not in ("Parameters", "Attributes", "Raises", "Returns", "Yields"):
        return _paragraphs(lines)
    items: list[str] = []
    for line in lines:
        if line.startswith("    ") and items:
            items[-1] += " " + _escaped(line.strip())
        elif line:
            name, _, kind = line.partition(" : ")
            items.append(f"- `{name}`" + (f" (`{kind}`)" if kind else "") + ":")
    return ["\n".join(items)]


def _paragraphs(lines: list[str]) -> list[str]:
    return [_paragraph(each) for each in "\n".join(lines).strip("\n").split("\n\n")]


def _paragraph(text: str) -> str:
    if text.lstrip().startswith(">>>"):
        return _code(inspect.cleandoc(text))
    if text.startswith("    "):
        return text
    field = r"(?=[a-z_]\w*(?:, \w+)*: )"
    text = _escaped(text)
    return re.sub(rf"(?:\A|(?<=\.\n)){field}", "- ", text) if re.match(field, text) else text


def _escaped(text: str) -> str:
    return re.sub(r"(`[^`]*`)|([<*])", lambda found: found[1] or "\\" + found[2], text)
