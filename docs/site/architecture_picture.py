"""Draws docs/img/architecture.svg: `python docs/site/architecture_picture.py`.

Boxes are rooms, arrows the path of a record, numbers the steps of docs/architecture.md.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

OUT = Path(__file__).parents[1] / "img" / "architecture.svg"
COLOURS = {"outside": "#e6e6e6", "adapter": "#fde8c8", "model": "#e3d7f2", "room": "#d6e8f7", "base": "#f4f4f4"}
LEFT, RIGHT = (0.2, 5.6), (6.3, 3.5)  # x and width of the two columns

# kind, title, what happens in it, y of the bottom edge, height; a number is a step of the walk in architecture.md
PATH_IN = [
    ("outside", "Kafka topic", "", 13.6, 0.7),
    ("adapter", "1  connectors / kafka", "fetch", 12.2, 1.0),
    ("room", "2, 9, 11  runtime", "poll, process, deliver,\ncheckpoint", 10.3, 1.5),
    ("room", "3  serde", "bytes -> observation", 8.7, 1.2),
    ("room", "4, 5  pipeline", "group by series; owns all series", 7.1, 1.2),
    ("room", "5, 6  windowing", "observation -> slot -> window", 5.5, 1.2),
    ("model", "7  models / scorer", "window -> raw score", 3.9, 1.2),
    ("room", "8  detection", "threshold, episode, emission", 2.3, 1.2),
]
PATH_OUT = [
    ("adapter", "10  influxdb", "or sqlite; adapters:\nscores, alerts, status", 10.6, 1.6),
    ("outside", "InfluxDB, SQLite", "", 13.6, 0.7),
    ("adapter", "10, 11  kafka", "adapter: alerts,\ndead letters,\nsnapshots, offsets", 7.6, 2.0),
    ("room", "notifications", "alerts topic -> people", 5.5, 1.2),
    ("room", "faces", "cli, service, sdk,\noffline, demo:\nread the store", 3.3, 1.9),
]
BASE = [
    ("room", "wiring + settings", "TOML file -> objects; imports connectors, models", 1.0, 1.0),
    ("base", "ports, records, errors", "contracts that all rooms share", -0.2, 1.0),
]


def box(axes: Axes, column: tuple[float, float], kind: str, title: str, text: str, y: float, height: float) -> None:
    x, width = column
    round_box = "round,pad=0,rounding_size=0.15"
    axes.add_patch(FancyBboxPatch((x, y), width, height, round_box, facecolor=COLOURS[kind], edgecolor="#444444"))
    titles, lines = title.count("\n") + 1, text.count("\n") + 1 if text else 0
    top = y + (height + 0.46 * titles + 0.37 * lines) / 2 - 0.06
    centre = x + width / 2
    axes.text(centre, top, title, ha="center", va="top", fontsize=15, weight="bold")
    axes.text(centre, top - 0.46 * titles, text, ha="center", va="top", fontsize=13)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "lw": 2.2, "color": "#222222"})


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "stream-ad"  # the same file at every run
    figure, axes = plt.subplots(figsize=(6.6, 10.8), layout="constrained")
    for column, boxes in ((LEFT, PATH_IN), (RIGHT, PATH_OUT), ((0.2, 9.6), BASE)):
        for each in boxes:
            box(axes, column, *each)
    down = LEFT[0] + LEFT[1] / 2
    for above, below in pairwise(PATH_IN):
        arrow(axes, (down, above[3]), (down, below[3] + below[4]))
    axes.plot([5.8, 6.05, 6.05], [2.9, 2.9, 10.7], lw=2.2, color="#222222")
    arrow(axes, (6.05, 10.7), (5.8, 10.7))
    axes.text(6.12, 2.7, "Outputs", fontsize=13, va="center")
    arrow(axes, (5.8, 11.4), (6.3, 11.4))
    arrow(axes, (8.05, 12.2), (8.05, 13.6))
    arrow(axes, (5.8, 10.45), (6.6, 9.6))
    arrow(axes, (8.05, 7.6), (8.05, 6.7))
    axes.set_xlim(0, 10)
    axes.set_ylim(-0.3, 14.4)
    axes.axis("off")
    figure.savefig(OUT, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
