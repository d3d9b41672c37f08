"""The group model: one denoiser over all channels of a group of alike series, trained on their own normal rows.

The network is the universal imputer's, but a token holds a patch of every channel, so the model sees ties between
channels and costs one pass for all of them. Rows are z-scored per channel by the caller, as for the universal one.
"""

from __future__ import annotations

from pathlib import Path

from stream_ad_models.imputer.checkpoint import load_denoiser, save_denoiser
from stream_ad_models.imputer.imputer import DenoiserImputer

__all__ = ["GroupImputer"]


class GroupImputer(DenoiserImputer):
    """Imputation by a group model; `impute` takes windows float32 [batch, window, K] with the K it was trained on."""

    @classmethod
    def load(cls, path: Path) -> GroupImputer:
        """path: the safetensors file that `save` returned, its JSON card beside it."""
        return cls(*load_denoiser(path))

    def save(self, directory: Path, name: str) -> Path:
        """Write <name>.safetensors and <name>.json; returns the path to load from."""
        return save_denoiser(self.model, directory, name, self.card)
