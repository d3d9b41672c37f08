"""A sink: scores and alerts as lines of a file, one for each slot and each alert, the newest state of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from stream_ad.records import Outputs
from stream_ad.settings import Settings


class LinesSink:
    """Held by slot and by alert, and written whole: what comes twice is there once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, str] = {}
        if path.exists():
            self._lines = {json.loads(line)["key"]: line for line in path.read_text(encoding="utf-8").splitlines()}

    def write(self, outputs: Outputs) -> None:
        for batch in outputs.scores:
            for time_ns, score in zip(batch.event_time_ns.tolist(), batch.score.tolist(), strict=True):
                self._keep(f"{batch.series} {time_ns}", {"score": score})
        for alert in outputs.alerts:
            self._keep(alert.id, {"alert": alert.state.value, "series": alert.series})
        part = self._path.with_suffix(".part")
        part.write_text("".join(line + "\n" for line in self._lines.values()), encoding="utf-8")
        part.replace(self._path)

    def close(self) -> None:
        """Nothing is open between two writes."""

    def _keep(self, key: str, body: dict[str, object]) -> None:
        self._lines[key] = json.dumps({"key": key, **body})


def make(settings: Settings) -> LinesSink:
    return LinesSink(Path(os.environ["STREAM_AD_EXAMPLE_LINES"]))
