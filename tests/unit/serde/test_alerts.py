"""The alert's JSON, and the line protocol's corners, without a server."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from stream_ad_connectors.influxdb.line_protocol import MARK, alert_lines, string_field, tag_value, untag

from stream_ad.errors import DataError
from stream_ad.records import AlertChannel, AlertState
from stream_ad.serde.alerts import alert_from_json, alert_to_json
from tests.support.sink_samples import AWKWARD_NAMES, SinkPromises, alert


@pytest.mark.parametrize("state", list(AlertState))
def test_alerts_round_trip(state: AlertState) -> None:
    wanted = alert(SinkPromises(), "1", 'a "series"\n', state, length=3, revision=2)
    assert alert_from_json(alert_to_json(wanted)) == wanted
    shown = json.loads(alert_to_json(wanted))
    assert shown["severity"] == "critical"
    assert shown["start"] == "2025-01-01T00:00:00.123456789Z"
    assert shown["end"] == ("2025-01-01T00:00:03.123456789Z" if state is AlertState.RESOLVED else None)
    assert shown["channels"][1] == {
        "channel": "b",
        "attribution": 0.25,
        "actual": None,
        "expected": 0.1,
        "lower": 0.0,
        "upper": 0.2,
    }


def test_nan_and_infinity_become_null_and_nan() -> None:
    bare = AlertChannel("a", math.nan, math.nan, math.inf, 0.0, 0.0)
    wanted = replace(alert(SinkPromises(), "1", "s", AlertState.OPEN), peak_score=math.nan, channels=(bare,))
    (found,) = alert_from_json(alert_to_json(wanted)).channels
    assert found.actual is None
    assert math.isnan(found.expected)
    assert math.isnan(alert_from_json(alert_to_json(wanted)).peak_score)


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff", b'{"id": 1}'])
def test_anything_but_an_alert_is_a_data_error(payload: bytes) -> None:
    with pytest.raises(DataError, match="alert"):
        alert_from_json(payload)


def test_an_unknown_alert_state_is_a_data_error() -> None:
    text = alert_to_json(alert(SinkPromises(), "1", "s", AlertState.OPEN)).replace(b'"open"', b'"muted"')
    with pytest.raises(DataError, match="muted"):
        alert_from_json(text)


@pytest.mark.parametrize("name", [*AWKWARD_NAMES, "", MARK, "\\" + MARK, "\\\\"])
def test_tags_neither_end_in_a_backslash_nor_are_empty(name: str) -> None:
    tag = tag_value(name)
    assert tag
    assert not tag.endswith("\\")
    plain = tag.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ")
    assert untag(plain) == name


def test_string_fields_escape_quotes_and_backslashes() -> None:
    assert string_field('a"\\') == '"a\\"\\\\"'


def test_alert_lines_has_one_line_per_episode() -> None:
    promises = SinkPromises()
    wanted = (AlertState.OPEN, AlertState.UPDATE, AlertState.RESOLVED)
    states = [alert(promises, "1", "s", state) for state in wanted]
    other = replace(states[0], rule="other")
    lines = alert_lines([*states, other])
    assert [line.split(" ")[0] for line in lines] == ["alert,series=s,rule=score", "alert,series=s,rule=other"]
    assert 'state="resolved"' in lines[0]
