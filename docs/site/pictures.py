"""Draws docs/img/how-scoring-works.png: `python docs/site/pictures.py`. Seed 0, through the public API."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from stream_ad import Detector

OUT = Path(__file__).parents[1] / "img" / "how-scoring-works.png"


def main() -> None:
    rng, n = np.random.default_rng(0), 5000
    speed = 1500 + 120 * np.sin(np.arange(n) / 40) + rng.normal(0, 8, n)
    flow = 0.08 * speed + rng.normal(0, 0.8, n)
    flow[4400:4500] = 0.08 * speed[4300:4400] + rng.normal(0, 0.8, 100)
    times = pd.date_range("2026-01-01", periods=n, freq="1s", tz="UTC")
    frame = pd.DataFrame({"speed": speed, "flow": flow}, index=times)
    scores = Detector().fit(frame[:4000]).score(frame[4000:], channels=True)["2026-01-01 01:11":"2026-01-01 01:17"]
    panels, (above, middle, below) = plt.subplots(3, 1, sharex=True, figsize=(8, 5.5), layout="constrained")
    for axis, name in ((above, "speed"), (middle, "flow")):
        axis.fill_between(
            scores.index, scores[f"lower.{name}"], scores[f"upper.{name}"], alpha=0.25, label="expected band"
        )
        axis.plot(scores[f"expected.{name}"], ":", lw=1, label="expected")
        axis.plot(scores[f"value.{name}"], lw=1, color="black", label="actual")
        axis.set_ylabel(name)
    above.legend(loc="upper right", ncols=3, fontsize=8)
    below.plot(scores["score"], lw=1.2)
    below.axhline(1, ls="--", color="firebrick", lw=1)
    below.set_ylabel("score")
    below.axvspan(times[4400], times[4499], color="firebrick", alpha=0.12)
    panels.savefig(OUT, dpi=90)


if __name__ == "__main__":
    main()
