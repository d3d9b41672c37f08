"""Dead letters: their headers there and back, the embedded store's reader, and the verbs over it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from stream_ad_connectors.kafka.dead_letters import MAX_KEY_BYTES, MAX_VALUE_BYTES, dead_letter_headers, dead_letter_of
from stream_ad_connectors.sqlite.reader import SqliteReader
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad import cli
from stream_ad.errors import DataError
from stream_ad.records import DeadLetter, Outputs, SourceRecord
from tests.contracts.check_dead_letters import DeadLettersUnderTest, check_dead_letters, dead_letter, samples

RunCommand = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("one", samples("t")[:8], ids=lambda one: f"{one.record.position.offset}-{one.detail[:4]}")
def test_headers_round_trip(one: DeadLetter) -> None:
    value = b"" if one.record.value is None and one.record.key is None else one.record.value
    assert dead_letter_of(dead_letter_headers(one), one.record.key, value) == one


def test_a_truncated_dead_letter_is_marked() -> None:
    whole = dead_letter("t", 0, bytes(MAX_VALUE_BYTES + 5))
    cut = dead_letter_of(dead_letter_headers(whole), b"key", bytes(MAX_VALUE_BYTES))
    assert (cut.original_size, cut.original_key_size, cut.whole) == (MAX_VALUE_BYTES + 5, None, False)
    position = whole.record.position
    whole = replace(whole, record=SourceRecord(position, 0, bytes(MAX_KEY_BYTES + 1), b"v"))
    cut = dead_letter_of(dead_letter_headers(whole), bytes(MAX_KEY_BYTES), b"v")
    assert (cut.original_size, cut.original_key_size, cut.whole) == (None, MAX_KEY_BYTES + 1, False)


def test_foreign_headers_are_refused() -> None:
    headers = dead_letter_headers(dead_letter("t", 0, b"v"))
    with pytest.raises(DataError, match=r"expected a header 'source_topic' of a dead letter, found \['mine'\]"):
        dead_letter_of([("mine", b"1")], None, b"v")
    with pytest.raises(DataError, match="expected numbers"):
        dead_letter_of([*headers, ("source_offset", b"last")], None, b"v")


def test_sqlite_reader(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    check_dead_letters(DeadLettersUnderTest(SqliteStore(path), SqliteReader(path), "t"))


@pytest.fixture(name="run")
def fixture_run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """The command line over an embedded store that holds the samples."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STREAM_AD__")]:
        monkeypatch.delenv(name)
    store = SqliteStore(tmp_path / ".stream_ad" / "store.db")
    store.write(Outputs(dead_letters=samples("t")))
    store.close()

    def run(*args: object) -> tuple[int, str, str]:
        code = cli.run(["dlq", *map(str, args)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def test_list_counts_all_and_shows_the_last(run: RunCommand) -> None:
    code, out, err = run("list", "--limit", 3, "--json")
    listed = json.loads(out)
    assert (code, err) == (0, "")
    assert listed["counts"] == {"broken_json": 201, "too_big": 10, "empty": 4, "unknown_channel": 2, "not_utf8": 1}
    assert [one["offset"] for one in listed["letters"]] == [507, 508, 509]
    code, out, _ = run("list", "--reason", "unknown_channel")
    assert code == 0
    assert out.count("unknown_channel") == 3
    assert "1970-01-01T00:00:01.004Z" in out
    out = run("list", "--limit", 2, "--series-key", "key", "--start", "1970-01-01T00:00:01.300Z")[1]
    assert "the last 2 of 210" in out
    assert json.loads(run("list", "--series-key", "nobody", "--json")[1]) == {"counts": {}, "letters": []}
    assert run("list", "--start", "2024-01-01")[1] == "no dead letters\n"
    assert run("list", "--reason", "none_such")[1] == "no dead letters\n"


def test_show_gives_everything(run: RunCommand, tmp_path: Path) -> None:
    code, out, _ = run("show", "t", 0, 4, "--json")
    listed = json.loads(out)
    assert code == 0
    assert listed["problems"] == [{"reason": "unknown_channel", "detail": detail} for detail in "ab"]
    assert (listed["key"], listed["value"], listed["size"], listed["whole"]) == ("key", "{}", 2, True)
    code, out, _ = run("show", "t", 1, 1)
    assert "fffe00" in out.splitlines()
    assert "Größe" in out
    assert "(no value)" in run("show", "t", 0, 2)[1]
    assert "7b7d" in run("show", "t", 0, 4, "--bytes", "hex")[1].splitlines()
    assert json.loads(run("show", "t", 1, 1, "--bytes", "base64", "--json")[1])["value_base64"] == "//4A"
    code, out, err = run("show", "t", 1, 1, "--raw", "record.bin")
    assert (code, err) == (0, "wrote 3 bytes to record.bin\n")
    assert (tmp_path / "record.bin").read_bytes() == b"\xff\xfe\x00"


def test_bytes_that_would_steer_a_terminal_are_not_printed(run: RunCommand, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / ".stream_ad" / "store.db")
    body = b"\x1b]0;owned\x07{}"
    record = SourceRecord(replace(dead_letter("evil", 0, b"").record.position, topic="evil"), 0, b"\x1b[2Jkey", body)
    store.write(Outputs(dead_letters=[DeadLetter(record, "broken_json", "why")]))
    store.close()
    listed, shown = run("list", "--topic", "evil")[1], run("show", "evil", 0, 0)[1]
    assert "\x1b" not in listed + shown
    assert r"\x1b[2Jkey" in listed
    assert body.hex() in shown.splitlines()
    assert json.loads(run("show", "evil", 0, 0, "--json")[1])["value"] == body.decode()


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("show", "t", 0, 999), 1, "no dead letter from t:0:999"),
        (("show", "t", 0, 4, "--raw", "no/such/file"), 1, "no/such/file cannot be written"),
        (("list", "--start", "tomorrow"), 2, "--start: expected a time"),
        (("replay",), 2, "kafka.bootstrap is not set"),
    ],
)
def test_what_is_wrong_is_one_line(run: RunCommand, args: tuple[object, ...], code: int, text: str) -> None:
    found, out, err = run(*args)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert text in err
