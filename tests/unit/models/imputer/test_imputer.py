"""The imputers: better than interpolation, batch independent, always finite, with calibrated intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from stream_ad_models.imputer.imputer import DEFAULT_WEIGHTS, GroupImputer, UniversalImputer
from stream_ad_models.imputer.masks import stripe
from stream_ad_models.pretraining.group import train_group
from stream_ad_models.pretraining.pretrain import main
from stream_ad_models.pretraining.synthetic import synthetic_series, synthetic_windows
from stream_ad_models.research.sampler import impute_masked, sample

from stream_ad.errors import DataError, ModelError

STRIPES = (1, 16)


@pytest.fixture(scope="module")
def imputer() -> UniversalImputer:
    return UniversalImputer.load()


@pytest.fixture(scope="module")
def normal() -> np.ndarray:
    """Windows the pretraining did not draw: [batch, window, 1]."""
    rng = np.random.default_rng(2024)
    return synthetic_windows(rng, synthetic_series(rng, 400), 800, 128)[..., None]


def _sines(period: float, channels: int = 4) -> np.ndarray:
    phase = np.linspace(0, 1, channels, endpoint=False)
    cycles = np.arange(128)[:, None] / period + phase
    return np.asarray(np.sqrt(2) * np.sin(2 * np.pi * cycles)[None], dtype=np.float32)


def _linear(windows: np.ndarray, width: int) -> np.ndarray:
    """Reference: every point interpolated from the other stripes of its mask."""
    out = np.empty_like(windows)
    steps = np.arange(windows.shape[1])
    for mask in (stripe(len(steps), width), ~stripe(len(steps), width)):
        for row, channel in np.ndindex(windows.shape[0], windows.shape[2]):
            seen = steps[mask]
            out[row, ~mask, channel] = np.interp(steps[~mask], seen, windows[row, seen, channel])
    return out


def _mse(windows: np.ndarray, mean: np.ndarray) -> float:
    return float(np.mean((windows - mean) ** 2))


@pytest.mark.parametrize("period", [9.0, 14.0, 23.5, 40.0])
def test_held_out_sine_beats_interpolation_and_zero(imputer: UniversalImputer, period: float) -> None:
    windows = _sines(period)
    error = _mse(windows, imputer.impute(windows, stripe=16).mean)
    assert error < 0.5 * _mse(windows, _linear(windows, 16))
    assert error < 0.5 * _mse(windows, np.zeros_like(windows))


@pytest.mark.parametrize("width", STRIPES)
def test_normal_series_beat_interpolation(imputer: UniversalImputer, normal: np.ndarray, width: int) -> None:
    error = _mse(normal, imputer.impute(normal, stripe=width).mean)
    assert error < 0.92 * _mse(normal, _linear(normal, width))


@pytest.mark.parametrize("width", STRIPES)
def test_results_do_not_depend_on_the_batch(imputer: UniversalImputer, normal: np.ndarray, width: int) -> None:
    windows = normal[:300].reshape(100, 3, 128).transpose(0, 2, 1).copy()
    windows[::7, 20:50, 1] = np.nan
    whole = imputer.impute(windows, stripe=width)
    pieces = [imputer.impute(windows[i : i + n], stripe=width) for i, n in ((0, 1), (1, 30), (31, 69))]
    assert np.allclose(np.concatenate([piece.mean for piece in pieces]), whole.mean, rtol=1e-4, atol=1e-5)
    assert np.allclose(np.concatenate([piece.std for piece in pieces]), whole.std, rtol=1e-4)
    again = imputer.impute(windows, stripe=width)
    assert np.array_equal(again.mean, whole.mean)


@pytest.mark.parametrize(("width", "steps"), [(16, slice(96, 112)), (1, slice(112, 128)), (16, slice(8, 24))])
def test_some_steps_alone_are_as_in_the_whole(
    imputer: UniversalImputer, normal: np.ndarray, width: int, steps: slice
) -> None:
    windows = normal[:20].copy()
    windows[3, 10:30] = np.nan
    whole, part = imputer.impute(windows, stripe=width), imputer.impute_steps(windows, stripe=width, steps=steps)
    assert part.mean.shape == (20, steps.stop - steps.start, 1)
    assert np.allclose(part.mean, whole.mean[:, steps], atol=1e-5)
    assert np.allclose(part.std, whole.std[:, steps], rtol=1e-4)


def test_channels_do_not_see_each_other(imputer: UniversalImputer, normal: np.ndarray) -> None:
    windows = normal[:2].transpose(2, 1, 0)
    other = windows.copy()
    other[..., 1] = np.nan
    assert np.allclose(
        imputer.impute(windows, stripe=4).mean[..., 0], imputer.impute(other, stripe=4).mean[..., 0], atol=1e-5
    )


def test_a_reading_never_reaches_its_own_imputation(imputer: UniversalImputer, normal: np.ndarray) -> None:
    windows = normal[:5]
    spiked = windows.copy()
    spiked[:, 37] += 50
    before, after = imputer.impute(windows, stripe=16), imputer.impute(spiked, stripe=16)
    assert np.allclose(before.mean[:, 37], after.mean[:, 37], atol=1e-5)
    assert np.allclose(before.std[:, 37], after.std[:, 37], rtol=1e-4)


@pytest.mark.parametrize("width", STRIPES)
def test_level_moves_the_imputation_with_it(imputer: UniversalImputer, normal: np.ndarray, width: int) -> None:
    """A series that settles on another level is still normal: its errors must not grow."""
    before, after = imputer.impute(normal[:50], stripe=width), imputer.impute(normal[:50] + 6, stripe=width)
    assert np.allclose(before.mean + 6, after.mean, atol=2e-3)


@pytest.mark.parametrize("width", [1, 7, 16, 32])
def test_degenerate_windows_stay_finite(imputer: UniversalImputer, width: int) -> None:
    windows = np.zeros((1, 128, 6), dtype=np.float32)
    windows[..., 0] = np.nan
    windows[..., 1] = 1000.0
    windows[0, 1:, 2] = np.nan
    windows[0, 5, 3] = 1e6
    windows[0, ::2, 4] = np.nan
    imputed = imputer.impute(windows, stripe=width)
    assert np.isfinite(imputed.mean).all()
    assert np.isfinite(imputed.std).all()
    assert (imputed.std > 0).all()
    assert np.abs(imputed.mean[..., 1] - 1000).max() < 1
    assert np.abs(imputed.mean[..., 5]).max() < 0.05


def test_missing_stretch_of_a_sine_is_found_again(imputer: UniversalImputer) -> None:
    windows = _sines(16.0)
    holed = windows.copy()
    holed[:, 60:76] = np.nan
    imputed = imputer.impute(holed, stripe=16)
    assert imputed.mean.dtype == imputed.std.dtype == np.float32
    assert _mse(windows[:, 60:76], imputed.mean[:, 60:76]) < 0.4
    assert _mse(windows[:, 60:76], imputer.impute(holed, stripe=1).mean[:, 60:76]) < 0.6


def test_bands_hold_what_they_promise(imputer: UniversalImputer, normal: np.ndarray) -> None:
    errors = np.abs(np.concatenate([imputer.standard_errors(normal, width) for width in (1, 4, 16)]))
    for coverage in (0.5, 0.9, 0.99):
        held = np.mean(errors < imputer.interval_factor(coverage))
        assert held == pytest.approx(coverage, abs=0.06 if coverage < 0.9 else 0.04)
    with pytest.raises(ValueError, match="between 0 and 1, found 1"):
        imputer.interval_factor(1.0)


def test_samples_spread_as_the_head_says(imputer: UniversalImputer, normal: np.ndarray) -> None:
    windows = normal[:60]
    cond = np.broadcast_to(stripe(128, 4)[None, :, None], windows.shape)
    samples = sample(imputer, windows, cond, samples=12, seed=1, sampler_steps=10)
    one_pass = impute_masked(imputer, windows, cond)
    assert samples.shape == (12, 60, 128, 1)
    assert np.array_equal(samples[0][cond], windows[cond])
    hidden = ~cond
    gap = np.sqrt(np.mean((samples.mean(axis=0) - one_pass.mean)[hidden] ** 2))
    assert gap < 0.35 * np.sqrt(np.mean(windows**2))
    assert 0.5 < samples.std(axis=0)[hidden].mean() / one_pass.std[hidden].mean() < 1.6
    assert np.array_equal(sample(imputer, windows, cond, samples=1, seed=1, sampler_steps=10)[0][cond], windows[cond])


def test_samples_repeat_with_their_seed(imputer: UniversalImputer, normal: np.ndarray) -> None:
    cond = np.broadcast_to(stripe(128, 16)[None, :, None], (3, 128, 1))
    first, second, other = (
        sample(imputer, normal[:3], cond, samples=2, seed=seed, sampler_steps=4) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.allclose(first, other)


def test_wrong_windows_say_expected_and_found(imputer: UniversalImputer) -> None:
    with pytest.raises(DataError, match=r"expected shape \[batch, 128, channel\], found \[2, 100, 1\]"):
        imputer.impute(np.zeros((2, 100, 1), dtype=np.float32), stripe=1)
    with pytest.raises(DataError, match="found infinity"):
        imputer.impute(np.full((1, 128, 1), np.inf, dtype=np.float32), stripe=1)
    with pytest.raises(DataError, match="cond_mask: expected"):
        impute_masked(imputer, np.zeros((1, 128, 1), dtype=np.float32), np.ones((1, 128, 2), dtype=np.bool_))


def test_packaged_card_records_the_training(imputer: UniversalImputer) -> None:
    card = json.loads(DEFAULT_WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    assert {"seed", "steps", "data", "loss", "versions", "date", "sha256", "config", "temperature"} <= card.keys()
    assert imputer.version == card["sha256"][:12]
    assert DEFAULT_WEIGHTS.stat().st_size < 4_000_000
    assert UniversalImputer.load() is imputer


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found no such file"):
        UniversalImputer.load(tmp_path / "universal.safetensors")
    copy = tmp_path / "broken.safetensors"
    copy.write_bytes(DEFAULT_WEIGHTS.read_bytes()[:-4] + b"\0\0\0\1")
    copy.with_suffix(".json").write_bytes(DEFAULT_WEIGHTS.with_suffix(".json").read_bytes())
    with pytest.raises(ModelError, match="expected sha256"):
        UniversalImputer.load(copy)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "other.safetensors"
    copy.write_bytes(DEFAULT_WEIGHTS.read_bytes())
    card = json.loads(DEFAULT_WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    card["config"]["width"] = 32
    copy.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ModelError, match=r"expected the tensors of DenoiserConfig.*width=32.*train it anew"):
        UniversalImputer.load(copy)


def test_pretraining_writes_weights_that_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        assert main(["--out", str(tmp_path), "--seed", "3", "--steps", "2", "--series", "20"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert "step 2/2" in capsys.readouterr().err
    loaded = UniversalImputer.load(tmp_path / "universal.safetensors")
    assert (loaded.card["seed"], loaded.card["steps"]) == (3, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["universal.json", "universal.safetensors"]


def _tied(seed: int, rows: int = 900) -> np.ndarray:
    """Three noisy channels that say the same thing: a hidden one can be found only from the others."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, 1))
    return (common * [1, -1, 1] + 0.1 * rng.standard_normal((rows, 3))).astype(np.float32)


def test_group_model_sees_ties_between_channels_and_survives_disk(tmp_path: Path) -> None:
    seen: list[int] = []
    group = train_group([_tied(0), _tied(1)], steps=120, seed=4, progress=lambda step, _: seen.append(step))
    assert seen == list(range(1, 121))
    fresh = _tied(7, 1280).reshape(10, 128, 3)
    cond = np.ones(fresh.shape, dtype=np.bool_)
    cond[..., 2] = False
    assert _mse(fresh[..., 2], impute_masked(group, fresh, cond).mean[..., 2]) < 0.5 * _mse(
        fresh[..., 2], 0 * fresh[..., 2]
    )
    loaded = GroupImputer.load(group.save(tmp_path, "plant"))
    assert np.array_equal(loaded.impute(fresh, stripe=1).mean, group.impute(fresh, stripe=1).mean)
    assert np.array_equal(loaded.impute(fresh, stripe=1).std, group.impute(fresh, stripe=1).std)
    assert group.version == "unsaved"
    assert loaded.version != "unsaved"


def test_group_training_refuses_what_it_cannot_use() -> None:
    with pytest.raises(DataError, match="at least one history, found none"):
        train_group([])
    with pytest.raises(DataError, match=r"found \[50, 2\] at 1"):
        train_group([np.zeros((200, 2), dtype=np.float32), np.zeros((50, 2), dtype=np.float32)])
    with pytest.raises(DataError, match="expected 2 channels, found 3"):
        train_group([np.zeros((200, 2), dtype=np.float32)], steps=1).impute(
            np.zeros((1, 128, 3), dtype=np.float32), stripe=1
        )
