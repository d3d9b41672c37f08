"""Profiles that are not ours, or no longer whole, are refused and never executed."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save as save_tensors
from stream_ad_connectors.profile_store.format import path_name, series_name
from stream_ad_connectors.profile_store.store import FsProfileStore

from stream_ad.errors import ConfigError, ModelError
from tests.contracts.check_profile_store import NAMES, profile, same


def saved(tmp_path: Path) -> tuple[FsProfileStore, Path]:
    store = FsProfileStore(str(tmp_path))
    store.save(profile(), promote=True)
    return store, tmp_path / "universal" / "s"


def foreign_arrays(folder: Path, arrays: bytes) -> None:
    """Arrays that the card vouches for."""
    (folder / "v1.safetensors").write_bytes(arrays)
    card = msgspec.json.decode((folder / "v1.json").read_bytes())
    card["sha256"] = hashlib.sha256(arrays).hexdigest()
    (folder / "v1.json").write_bytes(msgspec.json.encode(card))


def changed_card(folder: Path, **changes: object) -> None:
    card = msgspec.json.decode((folder / "v1.json").read_bytes())
    (folder / "v1.json").write_bytes(msgspec.json.encode({**card, **changes}))


class Trap:
    """Raises when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "v1.safetensors").write_bytes(b"short"),
        lambda folder: (folder / "v1.safetensors").unlink(),
        lambda folder: (folder / "v1.json").write_bytes(b'{"format": 1'),
        lambda folder: (folder / "v1.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "v1.json").unlink(),
        lambda folder: (folder / "promoted.json").write_bytes(b'{"series": "s", "version": "../../v9"}'),
        lambda folder: (folder / "promoted.json").write_bytes(b"[]"),
        lambda folder: changed_card(folder, format=2),
        lambda folder: changed_card(folder, series="another"),
        lambda folder: changed_card(folder, version="another"),
        lambda folder: changed_card(folder, step_ns="1"),
        lambda folder: changed_card(folder, surprise=1),
        lambda folder: foreign_arrays(folder, b"no tensors at all"),
        lambda folder: foreign_arrays(folder, b""),
        lambda folder: foreign_arrays(folder, pickle.dumps(Trap())),
        lambda folder: foreign_arrays(folder, save_tensors({"array.x": np.zeros(1)})),
        lambda folder: foreign_arrays(folder, save_tensors({"held_out": np.zeros(1), "weights": np.zeros(1)})),
        lambda folder: foreign_arrays(folder, save_tensors({"held_out": np.zeros(1, dtype=np.int64)})),
    ],
)
def test_a_foreign_or_damaged_profile_is_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    store, folder = saved(tmp_path)
    damage(folder)
    with pytest.raises(ModelError):
        store.load("s", "universal")


def test_saving_again_restores_lost_arrays(tmp_path: Path) -> None:
    store, folder = saved(tmp_path)
    (folder / "v1.safetensors").write_bytes(b"")
    store.save(profile(), promote=False)
    same(store.load("s", "universal"), profile())


def test_an_interrupted_save_leaves_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the arrays: no card, so no version; the promoted one stays, and saving again completes."""
    store, folder = saved(tmp_path)
    whole = FsProfileStore._put

    def dies(self: FsProfileStore, path: str, content: bytes) -> None:
        if path.endswith("v2.json"):
            raise KeyboardInterrupt
        whole(self, path, content)

    monkeypatch.setattr(FsProfileStore, "_put", dies)
    with pytest.raises(KeyboardInterrupt):
        store.save(profile(version="v2", seed=1), promote=True)
    monkeypatch.undo()
    assert (folder / "v2.safetensors").exists()
    assert store.load("s", "universal", "v2") is None
    same(store.load("s", "universal"), profile())
    store.save(profile(version="v2", seed=1), promote=True)
    same(store.load("s", "universal"), profile(version="v2", seed=1))
    assert sorted(path.name for path in folder.iterdir()) == [
        "promoted.json",
        "v1.json",
        "v1.safetensors",
        "v2.json",
        "v2.safetensors",
    ]


def test_loaded_arrays_can_be_written_to(tmp_path: Path) -> None:
    """Torch warns of arrays that cannot."""
    store, _ = saved(tmp_path)
    loaded = store.load("s", "universal")
    assert loaded
    assert all(array.flags.writeable for array in loaded.fitted.arrays.values())


def test_path_names_are_harmless_and_reversible() -> None:
    names = [path_name(name) for name in NAMES]
    assert len({name.lower() for name in names}) == len(names)
    for text, name in zip(NAMES, names, strict=True):
        assert "/" not in name
        assert name
        assert not name.startswith(".")
        assert len(name.encode()) < 220
        assert series_name(name) in (text, None)


def test_an_unknown_url_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"models\.url"):
        FsProfileStore("nowhere://bucket/models")
