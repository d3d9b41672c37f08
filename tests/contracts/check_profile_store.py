"""The ProfileStore contract.

For a new adapter: `check_profile_store(make)`; `make()` returns, for every check, a function that opens a store over
one fresh, empty place, as often as it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from stream_ad.errors import ModelError
from stream_ad.ports import Fitted, Profile, ProfileStore
from tests.support.sink_samples import AWKWARD_NAMES

__all__ = ["PROFILE_STORE_CHECKS", "check_profile_store"]

OpenStore = Callable[[], ProfileStore]
NAMES = (*AWKWARD_NAMES, "..", ".", "", "../../up", "promoted", "promoted.json", "a/b", "a%2Fb", "%", "%~", "ä" * 300)


def profile(series: str = "s", version: str = "v1", *, scorer: str = "universal", seed: int = 0) -> Profile:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(6, 4)).astype(np.float32)
    fitted = Fitted(
        arrays={
            "memory": rows,
            "transposed": rows.T,
            "strided": rows[::2, 1:3],
            "nothing": np.zeros((0, 4), dtype=np.float32),
            "scalar": np.array(2.5),
            "counts": np.arange(5, dtype=np.int64),
            "small": np.arange(3, dtype=np.int32),
            "mask": np.array([True, False]),
            "codes": np.arange(-127, 128, dtype=np.int8),
            "bytes": np.arange(256, dtype=np.uint8),
            "held_out": np.array([np.nan, np.inf, -0.0]),
            "a.b/c d": np.array([1.0]),
        },
        held_out=random.exponential(size=20),
    )
    return Profile(
        series=series,
        channels=("b", "a", "Größe, m=1"),
        step_ns=250_000_000,
        scorer=scorer,
        scorer_version="3",
        version=version,
        slots=600,
        capacity=4096,
        history_end_ns=None if seed else 1_735_689_600_123_456_789,
        fitted=fitted,
    )


def same(found: Profile | None, wanted: Profile) -> None:
    """Field by field; arrays by kind, shape and every bit."""
    assert found is not None
    names = [one.name for one in fields(Profile) if one.name != "fitted"]
    assert [getattr(found, name) for name in names] == [getattr(wanted, name) for name in names]
    assert set(found.fitted.arrays) == set(wanted.fitted.arrays)
    for name, array in {**wanted.fitted.arrays, "": wanted.fitted.held_out}.items():
        other = found.fitted.arrays[name] if name else found.fitted.held_out
        assert other.dtype == array.dtype, name
        assert other.shape == array.shape, name
        np.testing.assert_array_equal(other, array, err_msg=name)


def what_is_saved_comes_back(open_store: OpenStore) -> None:
    """All kinds of arrays, empty ones, scalars and views; in this store and in the next one."""
    store, wanted = open_store(), profile()
    store.save(wanted, promote=True)
    same(store.load("s", "universal"), wanted)
    same(open_store().load("s", "universal", "v1"), wanted)


def nothing_there_is_none(open_store: OpenStore) -> None:
    store = open_store()
    assert store.load("s", "universal") is None
    assert store.load("s", "universal", "v1") is None
    assert store.series("universal") == []
    store.save(profile(), promote=True)
    assert store.load("s", "universal", "v2") is None
    assert store.load("s", "ar") is None
    assert store.load("s2", "universal") is None


def the_pointer_names_the_promoted(open_store: OpenStore) -> None:
    """A version saved without promotion is there by name alone; promotion, also of an old one, moves the pointer."""
    store = open_store()
    first, second = profile(version="v1"), profile(version="v2", seed=1)
    store.save(first, promote=False)
    assert store.load("s", "universal") is None
    assert store.series("universal") == []
    same(store.load("s", "universal", "v1"), first)
    store.save(first, promote=True)
    store.save(second, promote=False)
    same(store.load("s", "universal"), first)
    store.save(second, promote=True)
    same(open_store().load("s", "universal"), second)
    store.save(first, promote=True)
    same(open_store().load("s", "universal"), first)
    same(store.load("s", "universal", "v2"), second)


def a_version_is_never_changed(open_store: OpenStore) -> None:
    """Saving the same again does nothing; other contents under its name are refused and leave it as it was."""
    store = open_store()
    store.save(profile(), promote=True)
    store.save(profile(), promote=True)
    with pytest.raises(ModelError):
        store.save(profile(seed=2), promote=True)
    same(store.load("s", "universal"), profile())


def awkward_names_stay_apart(open_store: OpenStore) -> None:
    """Series, scorers and versions with slashes, dots, percents, unicode, none and 300 characters."""
    store = open_store()
    for seed, name in enumerate(NAMES):
        store.save(profile(name, name, scorer="a/../b", seed=seed), promote=True)
    for seed, name in enumerate(NAMES):
        same(store.load(name, "a/../b"), profile(name, name, scorer="a/../b", seed=seed))
    assert store.series("a/../b") == sorted(NAMES)
    assert store.series("a") == store.series("b") == []


def unknown_arrays_are_refused(open_store: OpenStore) -> None:
    """What would need pickle, or another machine's byte order, is refused before anything is written."""
    store = open_store()
    for array in (np.array([{}]), np.array(["text"]), np.array([1.0], dtype=">f8"), np.array([1j])):
        wrong = replace(profile(), fitted=Fitted({"x": array}, np.zeros(1)))
        with pytest.raises(ModelError):
            store.save(wrong, promote=True)
    assert store.load("s", "universal") is None


PROFILE_STORE_CHECKS: tuple[Callable[[OpenStore], None], ...] = (
    what_is_saved_comes_back,
    nothing_there_is_none,
    the_pointer_names_the_promoted,
    a_version_is_never_changed,
    awkward_names_stay_apart,
    unknown_arrays_are_refused,
)


def check_profile_store(make: Callable[[], OpenStore]) -> None:
    """Every check over a fresh place each."""
    for check in PROFILE_STORE_CHECKS:
        check(make())
