"""The files of a profile: names that are safe as paths, arrays as safetensors, the card as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from stream_ad.errors import ModelError
from stream_ad.ports import Fitted, Profile

__all__ = ["FORMAT", "Card", "Pointer", "card_of", "pack", "path_name", "profile_of", "series_name"]

FORMAT = 1
DTYPES = frozenset(map(np.dtype, ("float16", "float32", "float64", "int64", "int32", "int8", "uint8", "bool")))
_ARRAY = "array."
_HELD_OUT = "held_out"
_HASHED = "%~"
_EMPTY = "%"
_MAX_CHARS = 160


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A profile without its arrays; `sha256` is that of the arrays' file."""

    format: int
    series: str
    scorer: str
    scorer_version: str
    version: str
    channels: tuple[str, ...]
    step_ns: int
    slots: int
    capacity: int
    history_end_ns: int | None
    sha256: str


class Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The promoted version of a series."""

    series: str
    version: str


def path_name(name: str) -> str:
    """One path component for any text; different texts get different ones (on a case-sensitive file system).

    Percent-quoted as in URLs, a leading dot too, so that "." and ".." are harmless; very long names end in their hash.
    """
    quoted = quote(name, safe="")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _MAX_CHARS:
        return quoted[: _MAX_CHARS // 2].rstrip("%") + _HASHED + hashlib.sha256(name.encode()).hexdigest()[:40]
    return quoted or _EMPTY


def series_name(component: str) -> str | None:
    """The text that `path_name` quoted; None when only the pointer file has it (very long names)."""
    if _HASHED in component:
        return None
    return "" if component == _EMPTY else unquote(component)


def pack(fitted: Fitted) -> bytes:
    """The arrays' file. ModelError when an array has an unsupported dtype."""
    arrays: dict[str, NDArray[Any]] = {_ARRAY + name: array for name, array in fitted.arrays.items()}
    arrays[_HELD_OUT] = fitted.held_out
    for name, array in arrays.items():
        if array.dtype not in DTYPES:
            known = sorted(str(dtype) for dtype in DTYPES)
            raise ModelError(
                f"profile array {name.removeprefix(_ARRAY)!r}: expected one of {known}, found {array.dtype}"
            )
    # safetensors writes memory order: a transposed view would be scrambled
    return save_tensors({name: array.copy(order="C") for name, array in arrays.items()})


def card_of(profile: Profile, arrays: bytes) -> Card:
    return Card(
        format=FORMAT,
        series=profile.series,
        scorer=profile.scorer,
        scorer_version=profile.scorer_version,
        version=profile.version,
        channels=profile.channels,
        step_ns=profile.step_ns,
        slots=profile.slots,
        capacity=profile.capacity,
        history_end_ns=profile.history_end_ns,
        sha256=hashlib.sha256(arrays).hexdigest(),
    )


def profile_of(card: Card, raw: bytes, where: str) -> Profile:
    """Joins card and arrays. ModelError unless the arrays are those that the card was written with."""
    found = hashlib.sha256(raw).hexdigest()
    if found != card.sha256:
        raise ModelError(f"profile {where}: expected arrays of sha256 {card.sha256[:12]}, found {found[:12]}")
    try:
        # copies: loaded arrays are views of `raw`, which cost 400 bytes more each
        arrays = {name: array.copy() for name, array in load_tensors(raw).items()}
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"profile {where}: expected safetensors, found {error}") from error
    held_out = arrays.pop(_HELD_OUT, None)
    if held_out is None or held_out.dtype != np.float64 or any(not name.startswith(_ARRAY) for name in arrays):
        raise ModelError(f"profile {where}: expected the arrays of a profile, found {sorted(arrays)}")
    named: Mapping[str, NDArray[Any]] = {name.removeprefix(_ARRAY): array for name, array in arrays.items()}
    return Profile(
        series=card.series,
        channels=card.channels,
        step_ns=card.step_ns,
        scorer=card.scorer,
        scorer_version=card.scorer_version,
        version=card.version,
        slots=card.slots,
        capacity=card.capacity,
        history_end_ns=card.history_end_ns,
        fitted=Fitted(named, held_out),
    )
