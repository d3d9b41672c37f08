"""A profile from readings that are in InfluxDB already."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from stream_ad_connectors.profile_store.store import FsProfileStore

from stream_ad.cli import run
from tests.support.services.influxdb import Influx

START_NS = 1_767_225_600_000_000_000
STEP_NS = 10_000_000_000


@pytest.fixture
def home(tmp_path: Path, influx_bucket: Influx, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    lines = []
    for name in ("press 1", "press 2"):
        tag = name.replace(" ", r"\ ")
        for slot, (a, b) in enumerate(rng.normal(size=(400, 2))):
            fields = f"force={a}" if slot % 9 == 0 else f"force={a},stroke={b}"
            lines.append(f"plant,machine={tag} {fields} {START_NS + slot * STEP_NS}")
    with InfluxDBClient(influx_bucket.url, influx_bucket.token, org=influx_bucket.org) as client:
        client.write_api(write_options=SYNCHRONOUS).write(influx_bucket.bucket, record="\n".join(lines))
    config = {"url": influx_bucket.url, "org": influx_bucket.org, "bucket": influx_bucket.bucket}
    text = "[influxdb]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items())
    (tmp_path / "stream-ad.toml").write_text(text)
    monkeypatch.setenv("STREAM_AD__INFLUXDB__TOKEN", influx_bucket.token)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_series_of_a_measurement_gets_a_profile(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    span = ("--start", "2026-01-01T00:00:00Z", "--stop", "2026-01-02T00:00:00Z")
    assert run(["fit", "--history", "plant", "--tag", "machine", *span, "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert [(row["series"], row["slots"], row["step_ns"]) for row in fitted] == [
        ("press 1", 400, STEP_NS),
        ("press 2", 400, STEP_NS),
    ]
    profile = FsProfileStore(str(home / ".stream_ad" / "models")).load("press 2", "universal")
    assert profile is not None
    assert profile.channels == ("force", "stroke")


def test_history_that_is_not_there_is_one_clear_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "--history", "nowhere", "--tag", "machine"]) == 1
    said = capsys.readouterr().err
    assert "nowhere" in said
    assert "Traceback" not in said
    assert run(["fit"]) == 2
