"""What the InfluxDB adapters promise beyond the contracts, against a real server (and a stub for its moods)."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stream_ad_connectors.influxdb.client import InfluxConnection
from stream_ad_connectors.influxdb.history import InfluxHistoryReader, flux_string
from stream_ad_connectors.influxdb.store import InfluxStore

from stream_ad.errors import AccessError, ConfigError, DataError, UnavailableError
from stream_ad.records import Alert, AlertChannel, AlertState, Outputs
from stream_ad.settings import InfluxSettings, Settings
from tests.support.services.influxdb import Influx
from tests.support.sink_samples import START_NS, SinkPromises, alert, batch, status

FAR_NS = 2**62
TIMES = [START_NS + i for i in range(10)]
FORGERIES = (
    "s,channel=x score=9 9",
    's score=9,x="',
    '") or (true',
    '" or r.series != "',
    "${bucket}",
    'x" }) //',
    "\\",
    '\\"',
    "a\\,b",
    "a\\ b",
    "a\\=b",
    "\u241b",
    "",
)


def settings_of(store: Influx, **changes: object) -> Settings:
    values = {"url": store.url, "org": store.org, "bucket": store.bucket, "token": store.token, **changes}
    return Settings(influxdb=InfluxSettings(**values))


@contextmanager
def opened(store: Influx, **changes: object) -> Iterator[InfluxStore]:
    made = InfluxStore(settings_of(store, **changes))
    yield made
    made.close()


def flux_rows(store: Influx, flux: str) -> int:
    connection = InfluxConnection(settings_of(store))
    found = connection.query(flux, {}, {"_value": pa.int64()})["_value"].to_pylist()
    connection.close()
    return sum(found)


def api(store: Influx, path: str, method: str = "GET", body: object = None) -> Any:
    headers = {"Authorization": f"Token {store.token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{store.url}/api/v2/{path}", data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=240) as response:
        content = response.read()
    return json.loads(content) if content else None


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"token": "a-wrong-token"}, AccessError, "STREAM_AD__INFLUXDB__TOKEN"),
        ({"bucket": "no-such-bucket"}, ConfigError, "no-such-bucket"),
        ({"org": "no-such-org"}, ConfigError, "no-such-org"),
        ({"url": "http://127.0.0.1:1"}, UnavailableError, "127.0.0.1:1"),
    ],
)
def test_errors_name_their_cause(influx: Influx, changes: dict[str, str], kind: type[Exception], says: str) -> None:
    with opened(influx, **changes) as store:
        for work in (
            store.check,
            lambda: store.write(Outputs(scores=[batch("s", TIMES)])),
            lambda: store.reader.scores("s", 0, FAR_NS),
            store.reader.score_counts,
            lambda: store.reader.alerts(None, 0, FAR_NS),
            store.reader.statuses,
        ):
            with pytest.raises(kind, match=says) as raised:
                work()
            assert influx.token not in str(raised.value)
            assert "a-wrong-token" not in str(raised.value)


def test_the_check_looks_at_the_right_to_write(influx: Influx) -> None:
    with opened(influx) as store:
        assert influx.bucket in store.check()
    org = api(influx, f"orgs?org={influx.org}")["orgs"][0]["id"]
    permission = {"action": "read", "resource": {"type": "buckets", "orgID": org}}
    reader = api(influx, "authorizations", "POST", {"orgID": org, "permissions": [permission]})
    with opened(influx, token=reader["token"]) as store:
        assert store.reader.scores("never", 0, FAR_NS) == []
        with pytest.raises(AccessError, match="write"):
            store.check()
    api(influx, f"authorizations/{reader['id']}", "DELETE")


@pytest.mark.parametrize(
    ("answer", "header", "expected"), [(503, "7", 7.0), (429, "1.5", 1.5), (500, None, None), (503, "soon", None)]
)
def test_a_busy_store_sets_retry_after(answer: int, header: str | None, expected: float | None) -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(answer)
            if header:
                self.send_header("Retry-After", header)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stub = Influx(f"http://127.0.0.1:{server.server_port}", "o", "b", "t")
    with opened(stub) as store, pytest.raises(UnavailableError) as raised:
        store.write(Outputs(scores=[batch("s", TIMES)]))
    assert raised.value.retry_after_s == expected
    server.shutdown()
    server.server_close()


def test_a_store_that_hangs_times_out() -> None:
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # listens, answers nobody
    stub = Influx(f"http://127.0.0.1:{server.server_port}", "o", "b", "t")
    begun = time.monotonic()
    with opened(stub, timeout_s=0.5) as store, pytest.raises(UnavailableError):
        store.write(Outputs(scores=[batch("s", TIMES)]))
    assert time.monotonic() - begun < 30  # without a limit it would hang for ever
    server.server_close()


def test_names_forge_no_lines_and_widen_no_query(influx_bucket: Influx) -> None:
    written = {name: batch(name, TIMES, (*FORGERIES,), seed=i) for i, name in enumerate(FORGERIES)}
    with opened(influx_bucket) as store:
        store.write(Outputs(scores=[*written.values(), batch("other", TIMES)]))
        assert store.reader.score_counts() == {**dict.fromkeys(FORGERIES, 10), "other": 10}
        for name, one in written.items():
            (found,) = store.reader.scores(name, 0, FAR_NS)
            assert set(found.channels) == set(FORGERIES)
            assert np.array_equal(found.score, one.score)
            assert np.array_equal(found.value[:, found.channels.index(name)], one.value[:, FORGERIES.index(name)])
        for name in ('other" or true or r.series == "', "oth", "other\\", "${series}", ".*"):
            assert store.reader.scores(name, 0, FAR_NS) == []
            assert store.reader.alerts(name, 0, FAR_NS) == []
        for name in ("s\nscore,series=forged score=9 9", "s\r", "s\t", "s\0", "\ud800"):
            with pytest.raises(DataError, match="control characters"):
                store.write(Outputs(scores=[batch(name, TIMES)]))
        assert "forged" not in store.reader.score_counts()


def test_a_count_of_scores_is_a_count_of_slots(influx_bucket: Influx) -> None:
    everything = 'from(bucket: bucket) |> range(start: 0) |> filter(fn: (r) => r._measurement == "score"%s) |> count()'
    with opened(influx_bucket, channel_detail="none") as slim:
        slim.write(Outputs(scores=[batch("slim", TIMES)]))
        (found,) = slim.reader.scores("slim", 0, FAR_NS)
        assert (found.channels, found.value.shape) == ((), (10, 0))
        assert flux_rows(influx_bucket, everything % "") == 10 * 5
    with opened(influx_bucket) as store:
        store.write(Outputs(scores=[batch("s", TIMES, missing=True)]))
    assert flux_rows(influx_bucket, everything % ' and r._field == "score"') == 20


def test_nan_and_infinite_numbers_round_trip(influx_bucket: Influx) -> None:
    """NaN and infinity have no line protocol: no line breaks, an infinite score stays the highest."""
    whole = batch("s", TIMES[:4])
    for array in (whole.value, whole.expected, whole.lower, whole.upper, whole.attribution):
        array[1] = np.nan
        array[2] = np.inf
    whole.score[1:4] = [np.inf, 1e-300, 0.1 + 0.2]
    with opened(influx_bucket) as store:
        store.write(Outputs(scores=[whole]))
        (found,) = store.reader.scores("s", 0, FAR_NS)
    assert found.score.tolist() == [whole.score[0], np.finfo(float).max, 1e-300, 0.1 + 0.2]
    assert np.isnan(found.expected[1:3]).all()
    assert found.imputed.tolist() == [[False] * 2, [True] * 2, [True] * 2, [False] * 2]


def test_a_bad_line_is_found(influx_bucket: Influx) -> None:
    connection = InfluxConnection(settings_of(influx_bucket))
    lines = [f"score,series=s score={i} {i}" for i in range(3000)]
    lines[2345] = "score,series=s oh no"
    with pytest.raises(DataError, match="oh no"):
        connection.write(lines)
    connection.close()
    with opened(influx_bucket) as store:
        assert store.reader.score_counts() == {"s": 2345}
        foreign = replace(batch("s", [5]), revision=np.array([0], dtype=np.int32))
        store.write(Outputs(scores=[foreign]))
    connection = InfluxConnection(settings_of(influx_bucket))
    with pytest.raises(DataError, match="revision"):
        connection.write(['score,series=s revision="text" 6'])
    connection.close()


def test_points_older_than_the_retention_are_dropped(influx_bucket: Influx) -> None:
    (bucket,) = api(influx_bucket, f"buckets?org={influx_bucket.org}&name={influx_bucket.bucket}")["buckets"]
    rule = {"type": "expire", "everySeconds": 7200, "shardGroupDurationSeconds": 3600}
    api(influx_bucket, f"buckets/{bucket['id']}", "PATCH", {"retentionRules": [rule]})
    now = time.time_ns()
    with opened(influx_bucket) as store:
        store.write(Outputs(scores=[batch("s", [START_NS, now - 10**9, now])], statuses=[status("s", 20)]))
        assert store.points_too_old == 3
        assert store.reader.score_counts() == {"s": 2}
        assert store.reader.statuses() == [status("s", 20)]


def test_an_alert_of_a_thousand_channels(influx_bucket: Influx) -> None:
    small = alert(SinkPromises(), "1", "s", AlertState.OPEN)
    wide: Alert = replace(
        small, channels=tuple(AlertChannel(f"channel {i}", 0.001, None, 0.1, 0.0, float("nan")) for i in range(1000))
    )
    with opened(influx_bucket) as store:
        store.write(Outputs(alerts=[wide]))
        (found,) = store.reader.alerts("s", 0, FAR_NS)
    assert [one.channel for one in found.channels] == [one.channel for one in wide.channels]
    assert np.isnan(found.channels[0].upper)


def test_history_for_fit(influx_bucket: Influx) -> None:
    connection = InfluxConnection(settings_of(influx_bucket))
    lines = [f'raw,host=a"${{b}} temp={i * 0.5},fan={i}i {i}' for i in range(5)]
    connection.write([*lines, 'raw,host=a"${b} temp=9 9', "raw,host=other temp=1 1", 'raw,host=text note="x" 1'])
    connection.close()
    reader = InfluxHistoryReader(settings_of(influx_bucket))
    assert reader.series("raw", "host") == ['a"${b}', "other", "text"]
    table = reader.read('a"${b}', 1, FAR_NS, measurement="raw", series_tag="host")
    assert (table.channels, table.times_ns.tolist()) == (("fan", "temp"), [1, 2, 3, 4, 9])  # type: ignore[union-attr]
    assert table.values[:4].tolist() == [[1, 0.5], [2, 1], [3, 1.5], [4, 2]]
    assert np.isnan(table.values[4, 0])
    with pytest.raises(DataError, match="no readings"):
        reader.read("a", 0, FAR_NS, measurement="raw", series_tag="host")
    with pytest.raises(DataError, match="note"):
        reader.read("text", 0, FAR_NS, measurement="raw", series_tag="host")
    assert reader.read('a"${b}', 0, FAR_NS, measurement="raw", series_tag="host", fields=["temp"]).channels == ("temp",)
    reader.close()


def test_flux_strings_stay_strings() -> None:
    assert flux_string('a"\\${x}\n') == '"a\\"\\\\\\${x}\\n"'
