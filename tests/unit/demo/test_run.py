"""The demo on a manual clock: it scores every row, the report equals the store, Ctrl-C ends it without a traceback."""

from __future__ import annotations

import asyncio
import math
import re
import signal
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad.demo.run import demo_settings, plan_plant, run_demo
from stream_ad.ports import Fitted, Scorer
from stream_ad.records import Alert
from stream_ad.settings import Settings, load_settings
from tests.support.fakes import LevelScorer

SECONDS = 7.0
NOW_NS = 1_790_000_000_012_345_678
FAR_NS = 2**62


class ManualClock:
    """Advances to the next wake-up when no other task can run."""

    def __init__(self) -> None:
        self.elapsed_ns = 0
        self.wakes: list[int] = []

    def now_ns(self) -> int:
        return NOW_NS + self.elapsed_ns

    def monotonic_s(self) -> float:
        return self.elapsed_ns / 1e9

    async def sleep(self, seconds: float) -> None:
        wake_ns = self.elapsed_ns + max(1, math.ceil(seconds * 1e9))
        self.wakes.append(wake_ns)
        try:
            while self.elapsed_ns < wake_ns:
                await asyncio.sleep(0)
                if min(self.wakes) == wake_ns:
                    self.elapsed_ns = wake_ns
        finally:
            self.wakes.remove(wake_ns)


class Sensitive(LevelScorer):
    """A threshold that some of the plant's faults exceed."""

    def fit(self, history: NDArray[np.float32]) -> Fitted:
        fitted = super().fit(history)
        return Fitted(fitted.arrays, 1.2 * fitted.held_out)


def run(out: Path, clock: ManualClock | None = None, *, seconds: float = SECONDS) -> None:
    clock = clock or ManualClock()
    run_demo(seconds=seconds, out=out, scorer=cast(Scorer, Sensitive()), clock=clock, sleep=clock.sleep)


def scored(store: SqliteStore, series: str) -> NDArray[np.int64]:
    batches = store.reader.scores(series, 0, FAR_NS)
    return np.concatenate([batch.event_time_ns for batch in batches] or [np.empty(0, np.int64)])


def check_rows(out: Path, seconds: float, *, whole: bool = True) -> None:
    """One score per live row of the plant, at its time, from the first row on without a gap."""
    plant, store = plan_plant(7, seconds), SqliteStore(out / "store.db")
    step_ns = round(plant.step_s * 1e9)
    start_ns = (NOW_NS // step_ns + 1) * step_ns
    for series in plant.series:
        found = scored(store, series)
        n = plant.live_slots if whole else len(found)
        assert found.tolist() == [start_ns + slot * step_ns for slot in range(n)]
        assert n > 0
        values = np.concatenate([batch.value for batch in store.reader.scores(series, 0, FAR_NS)])
        np.testing.assert_allclose(values, plant.rows(series, 0, n), rtol=1e-6)
    store.close()


def count(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, text
    return int(found.group(1))


def check_counts(out: Path, text: str) -> list[Alert]:
    """The printed counts equal those of the store."""
    plant, store = plan_plant(7, SECONDS), SqliteStore(out / "store.db")
    alerts = [alert for alert in store.reader.alerts(None, 0, FAR_NS) if alert.series in plant.series]
    machine = next(status for status in store.reader.statuses() if status.series not in plant.series)
    assert count(r"found (\d+)", text) + count(r"missed (\d+)", text) == len(plant.faults)
    assert count(r"(\d+) on faults", text) + count(r"(\d+) false alarms \(", text) == len(alerts)
    assert text.count("false alarm  ") == count(r"(\d+) false alarms \(", text)
    assert text.count("  ALERT  ") == len(store.reader.alerts(None, 0, FAR_NS))
    assert f"{machine.series}: {machine.state}, {len(scored(store, machine.series))} slots scored" in text
    store.close()
    return alerts


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    run(out)
    text = capsys.readouterr().out
    check_rows(out, SECONDS)
    alerts = check_counts(out, text)
    assert alerts, "the fake scorer should find some of these faults"
    assert (out / "alert.png").read_bytes().startswith(b"\x89PNG")
    assert text.count("the first alert") == 1
    later = ManualClock()
    later.elapsed_ns = 3600 * 10**9
    run(out, later)  # into the same store: it counts only its own alerts
    again = capsys.readouterr().out
    for pattern in (r"found (\d+)", r"(\d+) on faults"):
        assert count(pattern, again) == count(pattern, text)


def test_its_config_reads_its_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'a "demo"'
    run(out, seconds=1.0)
    text = capsys.readouterr().out
    settings = load_settings(out / "stream-ad.toml")
    assert settings.store.path.exists()
    assert Path(settings.models.url).is_dir()
    assert [(s.topic, s.step) for s in settings.subscription] == [("machine", "250ms")]
    assert tomllib.loads((out / "stream-ad.toml").read_text())["detector"] == {"false_alarms": "1 per 10min"}
    assert text.count("stream-ad -c ") == 3
    assert "--start -1h" in text
    check_rows(out, 1.0)


@pytest.fixture
def listening() -> Iterator[None]:
    """Processes that a shell starts in the background ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_ctrl_c_while_live(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupting(ManualClock):
        async def sleep(self, seconds: float) -> None:
            if self.interrupted:
                await asyncio.Event().wait()  # time stops: only the signal ends this run
            if self.elapsed_ns > 3_000_000_000:
                self.interrupted = True
                signal.raise_signal(signal.SIGINT)
            await super().sleep(seconds)

        interrupted = False

    clock = Interrupting()
    run(tmp_path, clock)
    text = capsys.readouterr().out
    assert clock.interrupted
    assert clock.elapsed_ns < 4_000_000_000
    assert "Traceback" not in text
    assert "stopping" in text
    assert "the plant's faults" in text
    assert "try next" in text
    check_rows(tmp_path, SECONDS, whole=False)


def test_ctrl_c_while_fitting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(LevelScorer):
        def fit(self, history: NDArray[np.float32]) -> Fitted:
            raise KeyboardInterrupt

    run_demo(seconds=1.0, out=tmp_path, scorer=cast(Scorer, Interrupted()))
    assert "stopped" in capsys.readouterr().out


def test_a_failing_feed_raises(tmp_path: Path) -> None:
    class Broken(ManualClock):
        async def sleep(self, seconds: float) -> None:
            if self.elapsed_ns > 500_000_000:
                raise OSError("no more time")
            await super().sleep(seconds)

    with pytest.raises(OSError, match="no more time"):
        run(tmp_path, Broken())


@pytest.mark.parametrize(("detector", "expected"), [({}, "1 per 10min"), ({"false_alarms": "2 per day"}, "2 per day")])
def test_settings_are_ordinary_and_embedded(tmp_path: Path, detector: Mapping[str, str], expected: str) -> None:
    given = Settings(kafka={"bootstrap": "broker:9092"}, influxdb={"url": "http://influx"}, detector=detector)
    made = demo_settings(tmp_path, given)
    assert made.detector.false_alarms == expected
    assert made.kafka.bootstrap is None
    assert made.influxdb.url is None
    assert made.store.path.is_relative_to(tmp_path)
    assert given.kafka.bootstrap == "broker:9092"


@pytest.mark.parametrize(("seconds", "faults"), [(0.1, 0), (3, 0), (4, 1), (7, 1), (30, 2), (75, 4), (300, 4)])
def test_a_run_of_any_length_has_a_plan(seconds: float, faults: int) -> None:
    assert len(plan_plant(1, seconds).faults) == 3 * faults
