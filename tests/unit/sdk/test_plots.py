"""Pictures: written, 1200 px wide, with the alert and the lines where they belong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from stream_ad.sdk import plots
from stream_ad.sdk.plots import plot_alert, plot_scores

SECOND = 10**9
N = 50
TIMES = 1_790_000_000 * SECOND + np.arange(N, dtype=np.int64) * SECOND


def alert_arguments(count: int) -> dict[str, Any]:
    expected = np.sin(np.arange(N)[:, None] / 5.0) + np.arange(count)
    values = expected.copy()
    values[20:26] += 4.0
    values[30:33] = np.nan
    score = np.full(N, 0.2)
    score[20:26] = 3.0
    return {
        "title": "pump: $alert_1$",
        "times_ns": TIMES,
        "values": values,
        "expected": expected,
        "lower": expected - 1.0,
        "upper": expected + 1.0,
        "score": score,
        "channels": [f"channel_{i}" for i in range(count)],
        "span": (int(TIMES[20]), int(TIMES[25])),
    }


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures drawn while the test runs."""
    drawn: list[Figure] = []
    finish = plots._finish

    def keep(figure: Figure, *rest: Any) -> None:
        drawn.append(figure)
        finish(figure, *rest)

    monkeypatch.setattr(plots, "_finish", keep)
    return drawn


def test_the_alert_picture_shows_the_most_attributed_channels_and_the_score(
    tmp_path: Path, figures: list[Figure]
) -> None:
    attribution = [0.02, 0.3, 0.01, 0.4, 0.05, 0.1, 0.06, 0.06]
    plot_alert(tmp_path / "a.png", **alert_arguments(8), attribution=attribution)
    names = [axis.get_title(loc="left") for axis in figures[0].axes]
    assert names == ["channel_3", "channel_1", "channel_5", "channel_6", "channel_7", "channel_4", "score"]
    assert figures[0].axes[0].get_title(loc="right") == "40% of the score"
    image = imread(tmp_path / "a.png")
    assert image.shape[1] == 1200
    assert image[..., :3].std() > 0.05, "not an empty picture"


def test_lines_are_where_the_data_are(tmp_path: Path, figures: list[Figure]) -> None:
    arguments = alert_arguments(2)
    plot_alert(tmp_path / "a.png", **arguments)
    first, second, score = figures[0].axes
    for axis, column in ((first, 0), (second, 1)):
        expected, actual = axis.get_lines()[:2]
        np.testing.assert_array_equal(expected.get_ydata(), arguments["expected"][:, column])
        np.testing.assert_array_equal(actual.get_ydata(), arguments["values"][:, column])
        np.testing.assert_allclose(np.asarray(actual.get_xdata()), TIMES / 86_400e9)
    np.testing.assert_array_equal(score.get_lines()[0].get_ydata(), arguments["score"])
    assert [1.0, 1.0] in [list(np.asarray(line.get_ydata())) for line in score.get_lines()], "the threshold"
    for axis in figures[0].axes:
        (shade,) = axis.patches
        box = shade.get_extents().transformed(axis.transData.inverted())
        assert box.x0 * 86_400 == pytest.approx((TIMES[20] - SECOND / 2) / SECOND, abs=1e-3)
        assert box.x1 * 86_400 == pytest.approx((TIMES[25] + SECOND / 2) / SECOND, abs=1e-3)
    assert "2026-09-21 14:13:20 to 2026-09-21 14:14:09" in score.get_xlabel()


def test_the_scores_picture_has_all_alerts(tmp_path: Path, figures: list[Figure]) -> None:
    score = np.linspace(0.0, 2.0, N)
    score[5:9] = np.nan
    outside = (int(TIMES[0]) - 100 * SECOND, int(TIMES[0]) - 90 * SECOND)
    spans = [(int(TIMES[3]), int(TIMES[3])), (int(TIMES[40]), int(TIMES[-1]) + 60 * SECOND), outside]
    plot_scores(tmp_path / "s.png", title="pump", times_ns=TIMES, score=score, spans=spans)
    (axis,) = figures[0].axes
    assert len(axis.patches) == 2, "an alert that is not in the picture is not drawn"
    assert axis.get_xlim() == pytest.approx((TIMES[0] / 86_400e9, TIMES[-1] / 86_400e9))
    assert axis.get_ylim()[1] > 2.0
    assert imread(tmp_path / "s.png").shape[1] == 1200


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2])
def test_short_and_empty_series_are_drawn_without_a_warning(tmp_path: Path, n: int) -> None:
    plot_scores(tmp_path / "s.png", title="", times_ns=TIMES[:n], score=np.full(n, np.nan))
    arguments = alert_arguments(1)
    for name in ("times_ns", "values", "expected", "lower", "upper", "score"):
        arguments[name] = arguments[name][:n]
    arguments["values"] = np.full((n, 1), np.nan)
    plot_alert(tmp_path / "a.png", **arguments)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_reading_between_gaps_is_a_dot(tmp_path: Path, figures: list[Figure]) -> None:
    arguments = alert_arguments(1)
    arguments["values"][31] = 7.5
    plot_alert(tmp_path / "a.png", **arguments)
    dots = [line for line in figures[0].axes[0].get_lines() if line.get_marker() == "."]
    assert [list(np.asarray(line.get_ydata())) for line in dots] == [[7.5]]


def test_mistakes_are_named(tmp_path: Path) -> None:
    for name, wrong in (("lower", np.zeros((N, 1))), ("score", np.zeros(N - 1))):
        with pytest.raises(ValueError, match=f"expected {name} of shape"):
            plot_alert(tmp_path / "a.png", **{**alert_arguments(2), name: wrong})
    with pytest.raises(ValueError, match="2 attributions"):
        plot_alert(tmp_path / "a.png", **alert_arguments(2), attribution=[1.0])
    with pytest.raises(ValueError, match="one score per time"):
        plot_scores(tmp_path / "s.png", title="", times_ns=TIMES, score=np.zeros(3))


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = "import sys, stream_ad.sdk.plots; print('matplotlib' in sys.modules)"
    root = str(Path(plots.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
