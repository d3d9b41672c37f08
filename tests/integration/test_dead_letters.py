"""Dead letters on a real broker: read back, listed, shown, and sent to where they came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.dead_letters import KafkaDeadLetterReader
from stream_ad_connectors.kafka.publisher import KafkaPublisher
from stream_ad_connectors.kafka.sink import KafkaSink
from stream_ad_connectors.kafka.tail import KafkaTail

from stream_ad import cli
from stream_ad.errors import ConfigError, UnavailableError
from stream_ad.records import DeadLetter, Outputs, SourcePosition, SourceRecord
from stream_ad.settings import KafkaSettings
from tests.contracts.check_dead_letters import DeadLettersUnderTest, check_dead_letters, dead_letter

BAD = [b"{broken", b"\xff\xfe", b'{"a": 1}']
RunCommand = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="settings")
def fixture_settings(kafka: str, namespace: str) -> KafkaSettings:
    """A separate namespace with its dead-letter topic."""
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace)
    create(settings, settings.dlq_topic, 1)
    return settings


@pytest.fixture(name="run")
def fixture_run(
    settings: KafkaSettings, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunCommand:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAM_AD__KAFKA__BOOTSTRAP", settings.bootstrap or "")
    monkeypatch.setenv("STREAM_AD__KAFKA__NAMESPACE", settings.namespace)

    def run(*args: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.run(["dlq", *map(str, args)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def create(settings: KafkaSettings, topic: str, partitions: int) -> None:
    admin = KafkaAdmin(settings)
    admin.create_topic(topic, partitions)
    admin.close()


def records(settings: KafkaSettings, topic: str) -> list[SourceRecord]:
    tail = KafkaTail(settings, [topic])
    try:
        return sorted(tail.last(1000, 10), key=lambda record: (record.position.partition, record.position.offset))
    finally:
        tail.close()


@pytest.fixture(name="source")
def fixture_source(settings: KafkaSettings, topic_names: Callable[[str], str]) -> str:
    """A topic of two partitions with BAD in each; all dead letters, one twice, and one that was too large to keep."""
    topic = topic_names("in")
    create(settings, topic, 2)
    publisher = KafkaPublisher(settings)
    for partition in (0, 1):
        for value in BAD:
            publisher.send(topic, b"pump", value, partition=partition)
    publisher.close()
    dead_letters = [DeadLetter(one, "broken_json", f"record {n}") for n, one in enumerate(records(settings, topic))]
    dead_letters.append(DeadLetter(dead_letters[2].record, "unknown_channel", "a is not known"))
    dead_letters.append(dead_letter(topic, 3, bytes(900_000), "too_big"))
    sink = KafkaSink(settings)
    sink.write(Outputs(dead_letters=dead_letters))
    sink.write(Outputs(dead_letters=dead_letters[:2]))
    sink.close()
    return topic


def test_contract(settings: KafkaSettings) -> None:
    check_dead_letters(DeadLettersUnderTest(KafkaSink(settings), KafkaDeadLetterReader(settings), "t"))


def test_records_that_are_no_dead_letters_are_skipped(
    settings: KafkaSettings, run: RunCommand, caplog: pytest.LogCaptureFixture
) -> None:
    publisher, sink = KafkaPublisher(settings), KafkaSink(settings)
    publisher.send(settings.dlq_topic, None, b"mine")
    publisher.close()
    sink.write(Outputs(dead_letters=[dead_letter("t", 0, b"v")]))
    sink.close()
    code, out, _ = run("list", "--json")
    assert (code, json.loads(out)["counts"]) == (0, {"broken_json": 1})
    assert f"record 0 of {settings.dlq_topic}-0 is skipped" in caplog.text


def test_list_and_show(run: RunCommand, source: str) -> None:
    listed = json.loads(run("list", "--json")[1])
    assert listed["counts"] == {"broken_json": 6, "unknown_channel": 1, "too_big": 1}
    assert {(one["topic"], one["partition"]) for one in listed["letters"]} == {(source, 0), (source, 1)}
    assert json.loads(run("list", "--series-key", "pump", "--start", "-1h", "--json")[1])["counts"]["broken_json"] == 6
    listed = json.loads(run("show", source, 0, 2, "--json")[1])
    assert (listed["key"], listed["value"]) == ("pump", '{"a": 1}')
    assert {one["reason"] for one in listed["problems"]} == {"broken_json", "unknown_channel"}
    assert "cut from 900000" in run("show", source, 1, 3)[1]


def test_replay_sends_the_bytes_as_they_came_and_refuses_what_was_cut(
    run: RunCommand, source: str, settings: KafkaSettings
) -> None:
    code, out, err = run("replay", "--dry-run")
    assert (code, out) == (0, f"would send 6, 6 to {source}\n")
    reason = "truncated in the dead-letter topic, it had 900000 bytes: send it from its producer"
    assert err == f"not {source}:1:3: {reason}\n"
    assert len(records(settings, source)) == 6
    code, out, _ = run("replay", "--reason", "unknown_channel", "--json")
    assert json.loads(out) == {"sent": 1, "topics": {source: 1}, "refused": {}, "dry_run": False}
    code, out, _ = run("replay", "--position", f"{source}:1:0", "--position", f"{source}:1:1")
    assert (code, out) == (0, f"sent 2, 2 to {source}\n")
    found = [(one.position.partition, one.key, one.value) for one in records(settings, source)]
    first, second = ([(p, b"pump", value) for value in BAD] for p in (0, 1))
    assert found == [*first, first[2], *second, second[0], second[1]]


def test_what_cannot_be_sent_is_one_line(run: RunCommand, source: str, settings: KafkaSettings) -> None:
    sink = KafkaSink(settings)
    nothing = DeadLetter(SourceRecord(SourcePosition(source, 0, 77), 0, None, None), "empty", "")
    sink.write(Outputs(dead_letters=[nothing, dead_letter("gone", 0, b"v"), dead_letter(source, 41, b"v")]))
    sink.close()
    wrong = [
        ("nonsense", 2, "expected TOPIC:PARTITION:OFFSET"),
        (f"{source}:0:999", 1, f"no such dead letter: {source}:0:999"),
        (f"{source}:1:3", 1, "nothing could be sent"),
        (f"{source}:0:77", 1, "it has neither key nor value"),
        ("gone:0:0", 2, "topic 'gone' does not exist"),
    ]
    for position, code, text in wrong:
        found, _, err = run("replay", "--position", position)
        assert found == code, err
        assert text in err
    assert len(records(settings, source)) == 6


def test_without_a_topic_or_a_broker(kafka: str, namespace: str) -> None:
    with pytest.raises(ConfigError, match="a worker creates it"):
        KafkaDeadLetterReader(KafkaSettings(bootstrap=kafka, namespace=namespace))
    with pytest.raises(UnavailableError):
        KafkaDeadLetterReader(KafkaSettings(bootstrap="127.0.0.1:9", request_timeout_s=1))


def test_more_than_ten_thousand_dead_letters(run: RunCommand, settings: KafkaSettings) -> None:
    sink = KafkaSink(settings)
    for first in range(0, 10_050, 1005):
        many = range(first, first + 1005)
        sink.write(
            Outputs(dead_letters=[dead_letter(f"t{i % 2}", i, b"%d" % i, ("late", "empty")[i % 3 == 0]) for i in many])
        )
    sink.close()
    listed = json.loads(run("list", "--limit", 100, "--skip", 100, "--json")[1])
    assert listed["counts"] == {"late": 6700, "empty": 3350}
    assert [one["offset"] for one in listed["letters"]] == list(range(9850, 9950))
    listed = json.loads(run("list", "--topic", "t1", "--reason", "empty", "--limit", 2, "--json")[1])
    assert listed["counts"] == {"empty": 1675}
    assert [one["offset"] for one in listed["letters"]] == [10041, 10047]
    assert "the last 50 of 10050" in run("list")[1]
    code, out, _ = run("replay", "--dry-run", "--topic", "t0", "--reason", "late")
    assert (code, out) == (0, "would send 3350, 3350 to t0\n")


def test_what_fails_again_is_sent_once_however_often_it_came_back(
    run: RunCommand, source: str, settings: KafkaSettings
) -> None:
    """A replayed record that fails again gets a second dead letter: the next replay does not send both."""
    sent = []
    for _ in range(3):
        sent.append(json.loads(run("replay", "--reason", "broken_json", "--json")[1])["sent"])
        again = records(settings, source)[-3:]
        sink = KafkaSink(settings)
        sink.write(Outputs(dead_letters=[DeadLetter(one, "broken_json", "again") for one in again]))
        sink.close()
    assert sent == [6, 6, 6]
