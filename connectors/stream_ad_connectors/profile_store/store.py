"""Profiles on any fsspec URL or in a directory: `<scorer>/<series>/<version>.safetensors`, `.json`, `promoted.json`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import fsspec
import msgspec

from stream_ad.errors import AccessError, ConfigError, ModelError, UnavailableError
from stream_ad.ports import Profile
from stream_ad_connectors.profile_store.format import (
    FORMAT,
    Card,
    Pointer,
    card_of,
    pack,
    path_name,
    profile_of,
    series_name,
)

__all__ = ["FsProfileStore"]

_POINTER = "promoted.json"
_T = TypeVar("_T")


class FsProfileStore:
    """ports.ProfileStore. Nothing in a file is ever executed: arrays are safetensors, the rest is JSON.

    A version is complete once its card exists, and the card is written last; every file is written under a temporary
    name and moved, atomically on a local disk. A version is immutable: saving the same again does nothing, saving
    another one under its name is a ModelError. Trap: of two processes that promote at once, the later one wins.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"models.url {url!r}: {error}", hint="expected a directory or an fsspec URL") from error
        self._root = str(root).rstrip("/")

    def save(self, profile: Profile, *, promote: bool) -> None:
        folder = self._folder(profile.scorer, profile.series)
        stem = f"{folder}/{_version_name(profile.version)}"
        arrays = pack(profile.fitted)
        card = card_of(profile, arrays)
        with _translated(stem):
            self._fs.makedirs(folder, exist_ok=True)
            stored = self._card(stem)
            if stored is not None and stored != card:
                raise ModelError(
                    f"profile {stem}: version {profile.version!r} exists with other contents",
                    hint="save the new one under another version",
                )
            if self._bytes(f"{stem}.safetensors") != arrays:  # also repairs the leftovers of a power cut
                self._put(f"{stem}.safetensors", arrays)
            if stored is None:
                self._put(f"{stem}.json", msgspec.json.format(msgspec.json.encode(card)))
            if promote:
                self._put(f"{folder}/{_POINTER}", msgspec.json.encode(Pointer(profile.series, profile.version)))

    def load(self, series: str, scorer: str, version: str | None = None) -> Profile | None:
        folder = self._folder(scorer, series)
        with _translated(folder):
            if version is None:
                pointer = self._read(f"{folder}/{_POINTER}", Pointer)
                if pointer is None:
                    return None
                version = pointer.version
                stem = f"{folder}/{_version_name(version)}"
                card = self._card(stem)
                if card is None:
                    raise ModelError(f"profile {stem}: promoted, but missing", hint="fit the series again")
            else:
                stem = f"{folder}/{_version_name(version)}"
                card = self._card(stem)
                if card is None:
                    return None
            if (card.series, card.scorer, card.version) != (series, scorer, version):
                raise ModelError(
                    f"profile {stem}: expected {series!r} {version!r} of {scorer!r}, "
                    f"found {card.series!r} {card.version!r} of {card.scorer!r}"
                )
            raw = self._bytes(f"{stem}.safetensors")
        if raw is None:
            raise ModelError(f"profile {stem}: its arrays are missing", hint="fit the series again")
        return profile_of(card, raw, stem)

    def series(self, scorer: str) -> list[str]:
        top = f"{self._root}/{path_name(scorer)}"
        found = []
        with _translated(top):
            self._fs.invalidate_cache()
            for path in self._fs.find(top, maxdepth=2) if self._fs.isdir(top) else ():
                folder, _, name = str(path).rpartition("/")
                if name == _POINTER:
                    found.append(self._series_in(folder))
        return sorted(found)

    def _series_in(self, folder: str) -> str:
        name = series_name(folder.rpartition("/")[2])
        if name is None:
            pointer = self._read(f"{folder}/{_POINTER}", Pointer)
            if pointer is None:
                raise ModelError(f"profile {folder}: {_POINTER} disappeared")
            name = pointer.series
        return name

    def _folder(self, scorer: str, series: str) -> str:
        return f"{self._root}/{path_name(scorer)}/{path_name(series)}"

    def _card(self, stem: str) -> Card | None:
        card = self._read(f"{stem}.json", Card)
        if card is not None and card.format != FORMAT:
            raise ModelError(f"profile {stem}: expected format {FORMAT}, found {card.format}", hint="upgrade stream-ad")
        return card

    def _read(self, path: str, kind: type[_T]) -> _T | None:
        raw = self._bytes(path)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ModelError(f"profile {path}: expected a {kind.__name__.lower()}, found {error}") from error

    def _bytes(self, path: str) -> bytes | None:
        try:
            raw: Any = self._fs.cat_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return bytes(raw)

    def _put(self, path: str, content: bytes) -> None:
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        self._fs.pipe_file(temporary, content)
        self._fs.mv(temporary, path)


def _version_name(version: str) -> str:
    """Trap: `promoted` is the name of the pointer file."""
    name = path_name(version)
    return "%70romoted" if name == "promoted" else name


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise AccessError(f"profiles at {where}: {error.strerror or error}") from error
    except OSError as error:
        raise UnavailableError(f"profiles at {where}: {error.strerror or error}") from error
