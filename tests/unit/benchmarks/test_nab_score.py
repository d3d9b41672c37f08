"""NAB's score: equal to a plain sweep over thresholds, and to the published values where a detector is known fully."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.accuracy.nab_score import NabFile, nab_score, probation_rows

# The 58 files of the benchmark's version 1.1: rows, and its labelled windows as row numbers, both ends inside.
CORPUS = """
4032; 4032; 4032; 4032; 4032; 4032 2679-3081; 4032 2787-3189; 4032 2787-3189; 4032 2787-3189; 4032 1805-2207;
4032 2734-3136; 4032 3447-3647 3677-3877; 4032 1396-1596 2559-2759; 4032 1171-1371 2830-3030; 4032 1765-2167;
4032 1526-1868; 4032 3374-3776; 4032; 4032 698-832 2064-2198 2535-2669; 4730 2399-2871;
4032 1794-1928 2239-2373 2964-3098; 4032 1437-1839; 4730 2490-2726 3091-3327; 4032 683-883 3582-3782;
4621 1177-1331 1492-1646 3676-3830; 1243 218-280 308-370; 4032 2980-3180 3479-3679; 4032 846-1046 2485-2685;
1624 244-406; 1624 565-645 934-1014; 1538 271-321 413-463 952-1002; 1538 1045-1197; 1643 340-394 749-803 1249-1303;
1643 347-387 729-769 1256-1296 1381-1421; 7267 3540-3902 5999-6361; 18050 16551-18049;
4032 2014-2148 3328-3462 3956-4031; 22695 2126-2692 3703-4269 16057-16623 19232-19798;
10320 5839-6045 7080-7286 8423-8629 8731-8937 9977-10183; 1882 669-763 1240-1334; 5315 2243-2507 2877-3141;
2500 387-469 948-1030 1485-1567; 2162 438-654; 2380 1645-1883; 2500 2087-2211 2335-2459; 2500 2261-2499;
1127 303-331 740-768 909-937 945-973; 2495 2084-2208 2335-2459; 15902 1235-1631 2920-3316 4761-5157 9087-9483;
15831 1796-2190 3538-3932 9598-9992 11409-11803; 15902 2872-3402 5800-6330 7768-8298;
15853 1462-2193 7775-8171 13349-13745; 15833 4614-5404 9926-10716; 15842 4106-4743 6728-7124 9399-9795;
15893 6812-7606 14848-15642; 15851 5970-6498 11568-12096 13190-13718;
15858 950-1346 1396-1792 4101-4497 11346-11742; 15866 1027-1343 1443-1759 1782-2098 7289-7605 8707-9023
"""


def corpus() -> list[tuple[int, list[tuple[int, int]]]]:
    files = []
    for entry in CORPUS.split(";"):
        rows, *windows = entry.split()
        files.append((int(rows), [(int(a), int(b)) for a, b in (window.split("-") for window in windows)]))
    return files


def sweep(files: list[NabFile], quiet: int) -> float:
    """Every threshold, row by row."""
    levels = {math.inf} | {float(s) for file in files for s in file.scores[file.skipped :] if not math.isnan(s)}
    best = max(sum(raw(file, level, quiet) for file in files) for level in levels)
    windows = sum(len(file.windows) for file in files)
    return 100 * (best + windows) / (2 * windows)


def sigmoid(x: float) -> float:
    return 2 / (1 + math.exp(5 * x)) - 1


def raw(file: NabFile, level: float, quiet: int) -> float:
    over = {i for i in range(file.skipped, len(file.scores)) if file.scores[i] >= level}
    alarms = sorted(i for i in over if over.isdisjoint(range(i - quiet, i)))
    total = 0.0
    for first, last in file.windows:
        inside = [i for i in alarms if first <= i <= last]
        total += sigmoid((inside[0] - last - 1) / (last - first + 1)) / sigmoid(-1) if inside else -1.0
    for i in alarms:
        if not any(first <= i <= last for first, last in file.windows):
            before = [window for window in file.windows if window[1] < i]
            past = (i - before[-1][1]) / (before[-1][1] - before[-1][0]) if before else math.inf
            total += 0.11 * (sigmoid(past) if past <= 3 else -1.0)
    return total


def scored(seed: int) -> list[NabFile]:
    rng = np.random.default_rng(seed)
    files = []
    for _ in range(2):
        windows = [(30, 44), (60, 79), (140, 150)][: rng.integers(1, 4)]
        scores: NDArray[np.float64] = rng.random(170)
        for first, last in windows:
            scores[first : last + 1] += rng.random() * (rng.random(last + 1 - first) > 0.7)
        if seed % 2:
            scores = np.asarray(np.round(scores, 1), np.float64)  # ties
        scores[rng.integers(0, 170, 10)] = np.nan
        files.append(NabFile(scores, windows, 20))
    return [*files, NabFile(rng.random(90), [], 13)]


@pytest.mark.parametrize("quiet", [0, 1, 7])
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_a_plain_sweep(seed: int, quiet: int) -> None:
    files = scored(seed)
    assert nab_score(files, quiet).score == pytest.approx(sweep(files, quiet), abs=1e-9)


def test_counts_are_those_at_the_threshold() -> None:
    files = scored(3)
    result = nab_score(files)
    hit = [(file.scores[first : last + 1] >= result.threshold).any() for file in files for first, last in file.windows]
    assert (result.found, result.windows) == (sum(hit), len(hit))
    outside = 0
    for file in files:
        alarms = file.scores >= result.threshold
        alarms[: file.skipped] = False
        for first, last in file.windows:
            alarms[first : last + 1] = False
        outside += alarms.sum()
    assert result.false_alarms == outside
    assert outside > 0


def test_the_null_detector_has_its_published_value() -> None:
    """Nothing at all, and the same everywhere: 0 (then the best threshold is over all scores)."""
    for value in (0.5, np.nan):
        files = [NabFile(np.full(rows, value), windows, probation_rows(rows)) for rows, windows in corpus()]
        assert nab_score(files).score == 0.0


def test_the_random_detector_has_its_published_value() -> None:
    """Published: 11.0 as the mean over seeds, 7.95 to 16.83 for single ones."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        files = [NabFile(rng.random(rows), windows, probation_rows(rows)) for rows, windows in corpus()]
        found.append(nab_score(files).score)
    assert np.mean(found) == pytest.approx(11.0, abs=1.0)
    assert 3.0 < min(found) < max(found) < 20.0


def test_the_perfect_detector_has_100() -> None:
    files = []
    for rows, windows in corpus():
        scores = np.zeros(rows)
        scores[[first for first, _ in windows]] = 1.0
        files.append(NabFile(scores, windows, probation_rows(rows)))
    result = nab_score(files)
    assert result.score == pytest.approx(100.0)
    assert (result.windows, result.found, result.false_alarms, result.threshold) == (116, 116, 0, 1.0)


def test_sooner_is_better_and_a_false_alarm_costs() -> None:
    def of(*alarms: int) -> float:
        scores = np.zeros(400)
        scores[list(alarms)] = 1.0
        return nab_score([NabFile(scores, [(100, 149)])]).score

    assert of(100) == pytest.approx(100.0)
    assert of(100) > of(120) > of(148) > 50.0
    assert of(100, 120) == of(100)
    assert of(100, 20) == pytest.approx(100 - 100 * 0.11 / 2)
    assert of(100) > of(100, 152) > of(100, 170) > of(100, 350) == pytest.approx(of(100, 20))


def test_an_episode_may_count_once() -> None:
    scores = np.zeros(400)
    scores[20:40] = scores[100:149] = 1.0
    files = [NabFile(scores, [(100, 149)])]
    assert nab_score(files, 1).score == pytest.approx(100 - 100 * 0.11 / 2)
    assert nab_score(files, 1).false_alarms == 1
    scores[41] = 1.0
    assert [nab_score(files, quiet).false_alarms for quiet in (1, 2)] == [2, 1]


def test_probation() -> None:
    assert [probation_rows(rows) for rows in (100, 4032, 5000, 22695)] == [15, 604, 750, 750]


def test_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one labelled window"):
        nab_score([NabFile(np.zeros(10), [])])
