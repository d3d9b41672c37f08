"""Weights on disk: one safetensors file and its JSON model card. Both are immutable once written."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stream_ad.errors import ModelError
from stream_ad_models.imputer.denoiser import Denoiser, DenoiserConfig

__all__ = ["load_denoiser", "run_facts", "save_denoiser"]

_FORMAT = 1
_CARD_MAX_BYTES = 1_000_000


class _Card(msgspec.Struct):
    """The fields that loading needs; the others describe the training."""

    format: int
    sha256: str
    config: DenoiserConfig
    temperature: Annotated[float, msgspec.Meta(gt=0)]
    bands: dict[str, Annotated[float, msgspec.Meta(gt=0)]]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_facts() -> dict[str, Any]:
    """Date and versions of a training, for its model card."""
    return {
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def save_denoiser(model: Denoiser, directory: Path, name: str, card: dict[str, Any]) -> Path:
    """Writes <name>.safetensors and <name>.json into the directory; returns the path of the weights.

    The card is written last: a weights file without its card is an unfinished save.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / f"{name}.safetensors"
    save_file({key: value.detach().contiguous() for key, value in model.state_dict().items()}, weights)
    weights.chmod(0o644)  # safetensors writes 0600; workers of other users read it too
    full = {
        "format": _FORMAT,
        "name": name,
        "config": model.config.as_dict(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **card,
        "sha256": _sha256(weights),
    }
    weights.with_suffix(".json").write_text(json.dumps(full, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return weights


def _card_of(weights: Path) -> tuple[_Card, dict[str, Any]]:
    """The model card of the weights: the fields that loading needs, and all of them."""
    card_path = weights.with_suffix(".json")
    for path in (weights, card_path):
        if not path.is_file():
            raise ModelError(f"model: expected {path.name} in {path.parent}, found no such file")
    if card_path.stat().st_size > _CARD_MAX_BYTES:
        raise ModelError(f"{card_path.name}: expected a card of at most {_CARD_MAX_BYTES} bytes")
    raw = card_path.read_bytes()
    try:
        card = msgspec.json.decode(raw, type=_Card)
        for level in card.bands:
            if not 0 < float(level) < 1:
                raise ValueError(f"found a band of level {level}")
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
        raise ModelError(f"{card_path.name}: expected the card of a denoiser, {error}") from error
    if card.format != _FORMAT:
        raise ModelError(f"{weights.name}: expected card format {_FORMAT}, found {card.format}")
    return card, msgspec.json.decode(raw)


def _check_sizes(config: DenoiserConfig, weights_bytes: int) -> None:
    """ValueError when the card asks for a larger model than the weights file can hold."""
    sizes = config.as_dict()
    for name, value in sizes.items():
        if not 0 < value <= weights_bytes:
            raise ValueError(f"found {name} = {value}")
    least = max(
        config.blocks * config.mlp_ratio * config.width**2,
        config.channels * config.patch_steps * config.width,
        config.tokens * config.width,
    )
    if least > weights_bytes:
        raise ValueError(f"found {sizes}, for weights of {weights_bytes} bytes")


def load_denoiser(weights: Path) -> tuple[Denoiser, dict[str, Any]]:
    """The model and its card. Raises ModelError where weights and card do not match."""
    card, whole = _card_of(weights)
    config, found = card.config, _sha256(weights)
    if found != card.sha256:
        raise ModelError(f"{weights.name}: expected sha256 {card.sha256}, found {found}")
    try:
        _check_sizes(config, weights.stat().st_size)
        model = Denoiser(config)
        model.load_state_dict(load_file(weights))
    except RuntimeError as error:  # torch's error for tensors of other names or shapes
        raise ModelError(f"{weights.name}: expected the tensors of {config}, found others: train it anew") from error
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{weights.name}: expected the weights of a denoiser, {error}") from error
    model.eval().requires_grad_(requires_grad=False)
    if not all(bool(torch.isfinite(value).all()) for value in model.state_dict().values()):
        raise ModelError(f"{weights.name}: expected finite weights, found NaN or infinity")
    return model, whole
