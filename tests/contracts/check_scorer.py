"""The conformance suite of the Scorer port, run over every scorer by test_scorers.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_ad.ports import ScoredSlots, Scorer, Session, Window

Float32 = NDArray[np.float32]
Arrays = Mapping[str, NDArray[np.generic]]


def history(n: int = 512, channels: int = 3, seed: int = 0) -> Float32:
    """Periodic channels with noise, float32 [n, channels]."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None]
    periods = 20 + 7 * (np.arange(channels) % 5)
    waves = np.sin(2 * np.pi * t / periods + np.arange(channels))
    return (3 * waves + 10 + 0.2 * rng.standard_normal((n, channels))).astype(np.float32)


def windows(scorer: Scorer, rows: Float32, start: int = 0, *, emit_from: int = 0, flush: bool = True) -> list[Window]:
    """Windows as the pipeline cuts them, rows before slot `start` missing; `flush` emits the last slots too."""
    hop, size, delay = scorer.hop_steps, scorer.window_steps, scorer.delay_steps
    n, channels = rows.shape
    tail = delay + 2 * hop
    padded = np.full((size + n + tail, channels), np.nan, np.float32)
    padded[size + start : size + n] = rows[start:]
    out, emitted = [], emit_from
    for end in range(start // hop * hop + hop - 1, n + tail, hop):
        if end >= n and (not flush or emitted >= n):
            break
        stop = max(emitted, min(end - delay + 1, n))
        out.append(Window(padded[end + 1 : end + 1 + size], end, emitted, stop))
        emitted = stop
    return out


def run(scorer: Scorer, arrays: Arrays, rows: Float32, batch: int = 64, *, flush: bool = True) -> list[ScoredSlots]:
    """Scores of one fresh session fed with all of `rows`."""
    session = scorer.open(arrays)
    due = windows(scorer, rows, flush=flush)
    return score_in_batches(scorer, [(session, window) for window in due], batch)


def score_in_batches(scorer: Scorer, due: Sequence[tuple[Session, Window]], batch: int) -> list[ScoredSlots]:
    out: list[ScoredSlots] = []
    for at in range(0, len(due), batch):
        out += scorer.score(due[at : at + batch])
    return out


def raw_of(results: Sequence[ScoredSlots]) -> NDArray[np.float64]:
    return np.concatenate([each.raw for each in results])


def check_result(results: Sequence[ScoredSlots], n: int, channels: int) -> None:
    """Every slot once and in order, shapes, dtypes, finite numbers, attribution that sums to 1, ordered intervals."""
    slots = np.concatenate([np.arange(len(each.raw)) + each.first_slot for each in results if len(each.raw)])
    np.testing.assert_array_equal(slots, np.arange(n))
    for each in results:
        assert each.raw.dtype == np.float64
        assert np.isfinite(each.raw).all()
        assert (each.raw >= 0).all()
        for part in (each.expected, each.lower, each.upper, each.attribution):
            assert part.dtype == np.float32
            assert part.shape == (len(each.raw), channels)
            assert np.isfinite(part).all()
        assert (each.lower <= each.expected + 1e-5 * np.abs(each.expected)).all()
        assert (each.upper >= each.expected - 1e-5 * np.abs(each.expected)).all()
        assert (each.attribution >= 0).all()
        np.testing.assert_allclose(each.attribution.sum(axis=1), 1.0, atol=1e-5)


def check_port(scorer: Scorer) -> None:
    assert isinstance(scorer, Scorer)
    assert scorer.name
    assert scorer.version
    assert scorer.window_steps % scorer.hop_steps == 0
    assert 0 <= scorer.delay_steps < scorer.window_steps
    assert scorer.lookback_steps >= scorer.window_steps


def check_shapes(scorer: Scorer, rows: Float32) -> None:
    fitted = scorer.fit(rows)
    assert fitted.held_out.dtype == np.float64
    assert fitted.held_out.ndim == 1
    assert len(fitted.held_out) >= len(rows) // 4
    assert np.isfinite(fitted.held_out).all()
    assert (fitted.held_out >= 0).all()
    assert all(isinstance(each, np.ndarray) for each in fitted.arrays.values())
    assert scorer.open(fitted.arrays).channels == rows.shape[1]
    check_result(run(scorer, fitted.arrays, rows), len(rows), rows.shape[1])


def check_missing(scorer: Scorer) -> None:
    """Missing readings are neither anomalous nor contagious; windows without any reading score low."""
    rows = history()
    arrays = scorer.fit(rows).arrays
    clean = raw_of(run(scorer, arrays, rows))
    holed = rows.copy()
    holed[np.random.default_rng(1).random(rows.shape) < 0.1] = np.nan
    check_result(run(scorer, arrays, holed), len(rows), rows.shape[1])
    silent = np.full_like(rows, np.nan)
    results = run(scorer, arrays, silent)
    check_result(results, len(rows), rows.shape[1])
    assert raw_of(results).max() <= max(np.quantile(clean, 0.99), 0.4)
    one_dead = rows.copy()
    one_dead[:, 0] = np.nan
    check_result(run(scorer, arrays, one_dead), len(rows), rows.shape[1])
    assert np.median(raw_of(run(scorer, arrays, one_dead))) <= 2 * np.quantile(clean, 0.99)


def check_holes_in_history(scorer: Scorer) -> None:
    rows = history()
    holed = rows.copy()
    holed[np.random.default_rng(1).random(rows.shape) < 0.2] = np.nan
    holed[100:200] = np.nan
    check_result(run(scorer, scorer.fit(holed).arrays, rows), len(rows), rows.shape[1])


def check_constant_channels(scorer: Scorer) -> None:
    """The first move of a constant channel shows; a binary channel's usual change does not."""
    rows = history()
    rows[:, 1] = -1.0
    rows[:, 2] = (np.arange(len(rows)) // 50) % 2
    fitted = scorer.fit(rows)
    later = rows.copy()
    later[300:360, 1] = 1.0
    results = run(scorer, fitted.arrays, later)
    check_result(results, len(rows), 3)
    raw, quiet = raw_of(results), raw_of(run(scorer, fitted.arrays, rows))
    assert raw[310:350].max() > 1.5 * quiet.max()
    attribution = np.concatenate([each.attribution for each in results])
    assert attribution[np.argmax(raw)].argmax() == 1
    assert (attribution[:, 2] < 0.02).all()


def check_usual_binary_steps_hardly_count(scorer: Scorer) -> None:
    rows = history()
    rows[:, 2] = (np.arange(len(rows)) // 50) % 2
    arrays = scorer.fit(rows).arrays
    flipped = rows.copy()
    flipped[:, 2] = 1 - flipped[:, 2]
    np.testing.assert_allclose(raw_of(run(scorer, arrays, flipped)), raw_of(run(scorer, arrays, rows)), rtol=0.02)


def check_only_constants(scorer: Scorer) -> None:
    """Nothing ever moved, or only binary channels: still finite scores, and a change shows."""
    for level in (0.0, 5.0):
        rows = np.full((256, 2), level, np.float32)
        fitted = scorer.fit(rows)
        later = rows.copy()
        later[150:180, 0] = level + 3
        results = run(scorer, fitted.arrays, later)
        check_result(results, 256, 2)
        raw = raw_of(results)
        quiet = 100 - 100 % scorer.hop_steps  # a hop is aligned as a whole
        assert raw[150:180].max() > 2 * raw[:quiet].max()


def check_anomaly_stands_out(scorer: Scorer) -> None:
    """A channel whose pattern breaks scores higher than anything normal, and gets the attribution."""
    rows = history(1536)
    fitted = scorer.fit(rows[:1024])
    later = rows[1024:].copy()
    later[250:300, 1] += 6
    results = run(scorer, fitted.arrays, later)
    raw = raw_of(results)
    assert 245 <= int(np.argmax(raw)) < 305
    assert raw.max() > fitted.held_out.max()
    assert np.concatenate([each.attribution for each in results])[np.argmax(raw)].argmax() == 1


def check_determinism(scorer: Scorer) -> None:
    rows = history()
    first, second = scorer.fit(rows), scorer.fit(rows)
    np.testing.assert_array_equal(first.held_out, second.held_out)
    assert first.arrays.keys() == second.arrays.keys()
    for name, values in first.arrays.items():
        np.testing.assert_array_equal(values, second.arrays[name])
    np.testing.assert_array_equal(raw_of(run(scorer, first.arrays, rows)), raw_of(run(scorer, first.arrays, rows)))


def check_batch_independence(scorer: Scorer) -> None:
    """One window at a time, all at once, or interleaved with another series: the same scores and expected values."""
    rows, other = history(channels=3), history(seed=5, channels=3)
    mine, its = scorer.fit(rows).arrays, scorer.fit(other).arrays
    alone = run(scorer, mine, rows, batch=1)
    together = run(scorer, mine, rows, batch=1000)
    a, b = scorer.open(mine), scorer.open(its)
    mixed: list[tuple[Session, Window]] = []
    for first, second in zip(windows(scorer, rows), windows(scorer, other), strict=True):
        mixed += [(a, first), (b, second)]
    interleaved = score_in_batches(scorer, mixed, 7)[::2]
    for found in (together, interleaved):
        np.testing.assert_allclose(raw_of(found), raw_of(alone), rtol=1e-4)
        for one, two in zip(found, alone, strict=True):
            np.testing.assert_allclose(one.expected, two.expected, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(one.attribution, two.attribution, atol=1e-3)


def check_lookback(scorer: Scorer) -> None:
    """A fresh session fed with `lookback_steps` of rows scores as one fed from the start."""
    hop, back = scorer.hop_steps, scorer.lookback_steps
    rows = history(math.ceil((back + 200) / hop) * hop)
    arrays = scorer.fit(rows[:512]).arrays
    whole = run(scorer, arrays, rows, flush=False)
    last = whole[-1]
    end = len(rows) - 1
    start = (end + 1 - back) // hop * hop
    session = scorer.open(arrays)
    # A window that emits must not change what comes after, nor one that only refills.
    due = windows(scorer, rows, start, emit_from=last.first_slot, flush=False)
    due = [w if w.end_slot == end else Window(w.rows, w.end_slot, 0, 0) for w in due]
    found = score_in_batches(scorer, [(session, window) for window in due], 16)[-1]
    assert len(last.raw) == hop
    assert found.first_slot == last.first_slot
    np.testing.assert_allclose(found.raw, last.raw, rtol=1e-4)
    np.testing.assert_allclose(found.expected, last.expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.attribution, last.attribution, atol=1e-3)


def check_no_look_ahead(scorer: Scorer) -> None:
    """Later rows do not change the scores of a window."""
    rows = history()
    arrays = scorer.fit(rows).arrays
    changed = rows.copy()
    changed[320:] += 50
    before, after = run(scorer, arrays, rows), run(scorer, arrays, changed)
    due = windows(scorer, rows)
    before_end = [at for at, window in enumerate(due) if window.end_slot < 320]
    np.testing.assert_allclose(
        raw_of([after[at] for at in before_end]), raw_of([before[at] for at in before_end]), rtol=1e-4
    )
