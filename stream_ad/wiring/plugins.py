"""Plugins: entry points of other packages, each a function of the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from stream_ad.errors import ConfigError
from stream_ad.settings import Settings

__all__ = ["Kind", "load_plugin"]

Kind = Literal["notifiers", "scorers", "sinks", "sources"]


def load_plugin(kind: Kind, name: str, settings: Settings, *more: Any, key: str, own: Iterable[str] = ()) -> Any:
    """The object that the entry point `name` of the group stream_ad.<kind> makes from the settings (and `more`).

    key: the setting that names it; own: built-in names, for the error. ConfigError: no package provides it, two do, or
    it cannot be loaded.
    """
    group = f"stream_ad.{kind}"
    found = [point for point in entry_points(group=group) if point.name == name]
    if not found:
        known = sorted({*own, *(point.name for point in entry_points(group=group))})
        raise ConfigError(
            f"{key}: expected {f'one of {known}' if known else 'nothing, no package provides one'}, found {name!r}",
            hint=f"install the package that provides it (entry points {group})",
        )
    if len({point.value for point in found}) > 1:
        raise ConfigError(f"{key}: {name!r} is provided by {sorted(map(_package, found))}", hint="install one of them")
    try:
        make: Callable[..., Any] = found[0].load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"{key}: {name!r} of {_package(found[0])} cannot be loaded: {error}") from error
    return make(settings, *more)


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else point.value
