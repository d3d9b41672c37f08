"""Plots of alerts and scores as PNG files, 1200 px wide; matplotlib is imported on first use.

Each plot uses its own figure and the Agg canvas, without pyplot: no display, no global state, thread-safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Span", "plot_alert", "plot_scores"]

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
Span = tuple[int, int]
"""First and last slot of an episode, event times in ns, both inclusive."""

_WIDTH_PX = 1200
_DPI = 120
_MAX_LABEL = 80
_DENSE = 1500
# Blue and vermilion of the Okabe-Ito palette: distinct with any colour vision; the lines differ by dashes too.
_ACTUAL, _EXPECTED, _ALERT = "#1b1f24", "#0072b2", "#d55e00"
_MUTED, _GRID = "#59636e", "#e4e7eb"


def plot_alert(
    path: str | Path,
    *,
    title: str,
    times_ns: IntArray,
    values: FloatArray,
    expected: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    score: FloatArray,
    channels: Sequence[str],
    span: Span,
    attribution: Sequence[float] | None = None,
    max_panels: int = 6,
) -> None:
    """Draws one alert to the PNG `path`: the most attributed channels with their expected values, and the score.

    times_ns: [n], event times, ascending; values, expected, lower, upper: [n, channel], NaN = missing; score: [n],
    NaN = none yet, over 1 is anomalous. `attribution`: one weight per channel, summing to 1; without it the first
    `max_panels` channels are drawn. Raises ValueError on shapes that do not agree.
    """
    _check_shapes(len(times_ns), len(channels), score, values=values, expected=expected, lower=lower, upper=upper)
    chosen = _most_attributed(len(channels), attribution, max_panels)
    figure, axes = _figure(title, [1.0] * len(chosen) + [0.8], px_high=150 + 140 * (len(chosen) + 1))
    times = _dates(times_ns)
    edges = _shade(times_ns, [span])
    for axis, column in zip(axes, chosen, strict=False):
        _draw_channel(axis, times, *(array[:, column] for array in (values, expected, lower, upper)))
        share = "" if attribution is None else f"{attribution[column]:.0%} of the score"
        _label(axis, channels[column], share)
        _shade_axis(axis, edges)
    _draw_score(axes[-1], times, score)
    _shade_axis(axes[-1], edges)
    _legend(figure, with_channels=True)
    _finish(figure, axes, times, path)


def plot_scores(
    path: str | Path, *, title: str, times_ns: IntArray, score: FloatArray, spans: Sequence[Span] = ()
) -> None:
    """Draws the score of one series over time to the PNG `path`, with its threshold and its alerts.

    times_ns: [n], ascending; score: [n], NaN = none; spans: the alerts. Raises ValueError on shapes that do not agree.
    """
    if score.shape != (len(times_ns),) or len(times_ns) == 0:
        raise ValueError(f"expected one score per time and at least one, found {score.shape} and {len(times_ns)} times")
    figure, axes = _figure(title, [1.0], px_high=430)
    times = _dates(times_ns)
    _draw_score(axes[0], times, score)
    _shade_axis(axes[0], _shade(times_ns, spans))
    _legend(figure, with_channels=False)
    _finish(figure, axes, times, path)


def _check_shapes(n: int, count: int, score: FloatArray, **per_channel: FloatArray) -> None:
    if n == 0 or count == 0:
        raise ValueError(f"expected at least one slot and one channel, found {n} and {count}")
    for name, array in per_channel.items():
        if array.shape != (n, count):
            raise ValueError(f"expected {name} of shape {(n, count)}, found {array.shape}")
    if score.shape != (n,):
        raise ValueError(f"expected score of shape {(n,)}, found {score.shape}")


def _most_attributed(count: int, attribution: Sequence[float] | None, max_panels: int) -> list[int]:
    """Columns to draw, the most attributed first; ties keep their order."""
    if attribution is None:
        return list(range(count))[:max_panels]
    if len(attribution) != count:
        raise ValueError(f"expected {count} attributions, found {len(attribution)}")
    return sorted(range(count), key=lambda column: -attribution[column])[:max_panels]


def _dates(times_ns: IntArray) -> FloatArray:
    """Event times as matplotlib's days since 1970 (UTC), [n]."""
    days: FloatArray = np.asarray(times_ns, dtype=np.int64) / 86_400e9
    return days


def _shade(times_ns: IntArray, spans: Sequence[Span]) -> list[tuple[float, float]]:
    """Edges of the shaded parts, in days: half a step wider than each span, so that an alert of one slot is visible."""
    half_ns = float(np.median(np.diff(times_ns))) / 2.0 if len(times_ns) > 1 else 0.5e9
    first, last = float(times_ns[0]) - half_ns, float(times_ns[-1]) + half_ns
    clipped = ((max(start - half_ns, first), min(end + half_ns, last)) for start, end in spans)
    return [(start / 86_400e9, end / 86_400e9) for start, end in clipped if start < end]


def _figure(title: str, heights: Sequence[float], px_high: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_PX / _DPI, px_high / _DPI), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=list(heights))
    figure.suptitle(title, x=0.012, ha="left", fontsize=11, fontweight="bold", color=_ACTUAL, parse_math=False)
    axes: list[Axes] = list(grid[:, 0])
    for axis in axes:
        axis.grid(True, color=_GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=_MUTED, labelsize=8, length=3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(_GRID)
        axis.locator_params(axis="y", nbins=4)
    return figure, axes


def _draw_channel(axis: Axes, times: FloatArray, *lines: FloatArray) -> None:
    """Value, expected, lower and upper of one channel, each [n]; missing readings leave a gap."""
    value, expected, lower, upper = lines
    axis.fill_between(times, lower, upper, color=_EXPECTED, alpha=0.18, linewidth=0)
    axis.plot(times, expected, color=_EXPECTED, linewidth=1.1, linestyle=(0, (4, 1.5)))
    axis.plot(times, value, color=_ACTUAL, linewidth=1.1)
    _dot_isolated(axis, times, value, _ACTUAL)


def _draw_score(axis: Axes, times: FloatArray, score: FloatArray) -> None:
    axis.plot(times, score, color=_ACTUAL, linewidth=1.1 if len(times) < _DENSE else 0.6)
    _dot_isolated(axis, times, score, _ACTUAL)
    over = np.where(np.isfinite(score) & (score > 1.0), score, 1.0)
    axis.fill_between(times, 1.0, over, color=_ALERT, alpha=0.65, linewidth=0, interpolate=True)
    axis.axhline(1.0, color=_ALERT, linewidth=1.1, linestyle=(0, (6, 3)))
    top = float(np.nanmax(score, initial=1.0))
    bottom = min(0.0, float(np.nanmin(score, initial=0.0)))
    axis.set_ylim(bottom - 0.04 * (top - bottom), max(1.25, top * 1.08))
    _label(axis, "score")


def _dot_isolated(axis: Axes, times: FloatArray, value: FloatArray, color: str) -> None:
    """Draws a dot for each reading between two missing ones, which no line shows."""
    present = np.concatenate(([False], np.isfinite(value), [False]))
    isolated = present[1:-1] & ~present[:-2] & ~present[2:]
    axis.plot(times[isolated], value[isolated], linestyle="none", marker=".", markersize=4, color=color)


def _shade_axis(axis: Axes, edges: Sequence[tuple[float, float]]) -> None:
    for start, end in edges:
        axis.axvspan(start, end, color=_ALERT, alpha=0.14, linewidth=0, zorder=0.5)
        for edge in (start, end):
            axis.axvline(edge, color=_ALERT, alpha=0.5, linewidth=0.7, zorder=0.6)


def _label(axis: Axes, name: str, share: str = "") -> None:
    """Writes the name above the panel, left, where long names fit; `share` right."""
    short = name if len(name) <= _MAX_LABEL else name[: _MAX_LABEL - 1] + "…"
    axis.set_title(short, loc="left", fontsize=9, color=_ACTUAL, pad=3, parse_math=False)
    axis.set_title(share, loc="right", fontsize=8, color=_MUTED, pad=3)


def _legend(figure: Figure, *, with_channels: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = []
    if with_channels:
        handles += [
            Line2D([], [], color=_ACTUAL, linewidth=1.4, label="actual"),
            Line2D([], [], color=_EXPECTED, linewidth=1.4, linestyle=(0, (4, 1.5)), label="expected"),
            Patch(color=_EXPECTED, alpha=0.18, linewidth=0, label="expected range"),
        ]
    handles += [
        Line2D([], [], color=_ALERT, linewidth=1.4, linestyle=(0, (6, 3)), label="threshold"),
        Patch(color=_ALERT, alpha=0.2, linewidth=0, label="alert"),
    ]
    figure.legend(
        handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=8.5, labelcolor=_MUTED
    )


def _finish(figure: Figure, axes: Sequence[Axes], times: FloatArray, path: str | Path) -> None:
    """Adds one time axis in UTC below the last panel, labelled with the whole span, and writes the file."""
    from datetime import UTC

    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    ticks = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator,
        tz=UTC,
        formats=["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"],
        zero_formats=["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M:%S"],
        show_offset=False,  # it shows the date of the last tick only; the label below shows both ends
    )
    for axis in axes[:-1]:
        axis.tick_params(axis="x", length=0)
    axis = axes[-1]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ticks)
    first, last = (str(np.datetime64(round(float(day) * 86_400), "s")).replace("T", " ") for day in times[[0, -1]])
    axis.set_xlabel(f"time in UTC, {first} to {last}", fontsize=8.5, color=_MUTED, loc="left")
    if len(times) > 1:
        axis.set_xlim(times[0], times[-1])
    figure.savefig(path, format="png", dpi=_DPI)
