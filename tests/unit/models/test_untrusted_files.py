"""Weights, profiles and states that are not ours: nothing in them is executed, nothing they ask for is allotted."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from stream_ad_models.imputer.imputer import DEFAULT_WEIGHTS, GroupImputer, UniversalImputer

from stream_ad.errors import ModelError
from stream_ad.pipeline.snapshot import _inflate
from stream_ad.ports import Fitted
from tests.support.pipeline_runs import fitted_profiles, make_settings, record, run

CARD: dict[str, Any] = json.loads(DEFAULT_WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
WEIGHTS = DEFAULT_WEIGHTS.read_bytes()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def pickled(mark: Path) -> bytes:
    return pickle.dumps(Trap(mark))


def torch_saved(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weights": Trap(mark)}, buffer)
    return buffer.getvalue()


def zip_bomb(mark: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.npy", bytes(50_000_000))
    return buffer.getvalue()


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> bytes:
    tensors = load(WEIGHTS)
    change(tensors)
    return save(tensors)


def huge_header(mark: Path) -> bytes:
    """Claims a tensor of 8 TB."""
    header = json.dumps({"x": {"dtype": "F64", "shape": [10**12], "data_offsets": [0, 8 * 10**12]}}).encode()
    return len(header).to_bytes(8, "little") + header


FOREIGN: list[Callable[[Path], bytes]] = [
    pickled,
    torch_saved,
    zip_bomb,
    huge_header,
    lambda mark: b"",
    lambda mark: WEIGHTS[:1000],
    lambda mark: (10**15).to_bytes(8, "little") + WEIGHTS[8:],
    lambda mark: changed(lambda tensors: tensors.popitem()),
    lambda mark: changed(lambda tensors: tensors.update(more=torch.zeros(1))),
    lambda mark: changed(lambda tensors: tensors.update({next(iter(tensors)): torch.zeros(3, 3)})),
    lambda mark: changed(lambda tensors: next(iter(tensors.values())).fill_(float("nan"))),
]


def refuse(folder: Path, weights: bytes, card: bytes) -> str:
    path = folder / "w.safetensors"
    path.write_bytes(weights)
    path.with_suffix(".json").write_bytes(card)
    for load_from in (UniversalImputer.load, GroupImputer.load):
        with pytest.raises(ModelError) as refused:
            load_from(path)
    return str(refused.value)


@pytest.mark.parametrize("weights", FOREIGN)
def test_weights_that_their_card_vouches_for_are_refused_all_the_same(
    tmp_path: Path, weights: Callable[[Path], bytes]
) -> None:
    mark = tmp_path / "executed"
    forged = weights(mark)
    refuse(tmp_path, forged, json.dumps({**CARD, "sha256": hashlib.sha256(forged).hexdigest()}).encode())
    assert not mark.exists()


CHANGES: list[dict[str, Any]] = [
    {"format": "1"},
    {"format": 2},
    {"sha256": 7},
    {"sha256": None},
    {"config": []},
    {"config": "os.system"},
    {"temperature": 0},
    {"temperature": "warm"},
    {"bands": []},
    {"bands": {"x": 1.0}},
    {"bands": {"1.5": 1.0}},
    *(
        {"config": {**CARD["config"], **sizes}}
        for sizes in (
            {"width": "64"},
            {"width": -64},
            {"width": 2**40},
            {"width": 65_536},
            {"blocks": 10**12},
            {"blocks": 10**6},
            {"patch_steps": 0},
            {"window_steps": 2**50},
            {"channels": 10**6},
            {"heads": 0},
        )
    ),
]


@pytest.mark.parametrize(
    "card",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * 2_000_000 + json.dumps(CARD).encode(),
        *(json.dumps({**CARD, **change}).encode() for change in CHANGES),
        *(json.dumps({k: v for k, v in CARD.items() if k != key}).encode() for key in ("sha256", "config", "bands")),
    ],
)
def test_a_card_that_is_none_of_ours_is_refused(tmp_path: Path, card: bytes) -> None:
    refuse(tmp_path, WEIGHTS, card)


@pytest.mark.parametrize("arrays", [{}, {"other": np.ones(2)}, {"scale": np.array("text")}])
def test_a_profile_of_other_arrays_is_refused(arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    profiles = fitted_profiles()
    kept = profiles.load("s", "level")
    assert kept
    profiles.save(replace(kept, version="foreign", fitted=Fitted(arrays, kept.fitted.held_out)), promote=True)
    with pytest.raises(ModelError, match="profile 'foreign' of series 's'"):
        run([record(0, 0, {"a": 1.0, "b": 1.0})], [], make_settings(), profiles)


def test_packed_rows_are_unpacked_no_further_than_they_should_be() -> None:
    assert _inflate(zlib.compress(b"12345678"), 8) == b"12345678"
    assert _inflate(zlib.compress(b""), 0) == b""
    for packed, size in (
        (zlib.compress(bytes(100_000_000)), 8),
        (zlib.compress(b"1234"), 8),
        (zlib.compress(b"12345678")[:4], 8),
        (b"no zlib", 8),
        (zlib.compress(b"1"), -4),
    ):
        with pytest.raises(ModelError, match="rows in the state of a series"):
            _inflate(packed, size)
