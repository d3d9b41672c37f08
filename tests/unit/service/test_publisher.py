"""The shared producer: opened once, one request at a time, replaced after a failure."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from stream_ad.errors import ConfigError, DataError, UnavailableError
from stream_ad.service import publisher as module
from stream_ad.service.publisher import SharedPublisher
from stream_ad.settings import KafkaSettings, Settings, Subscription

TOPIC = "sensors"
SETTINGS = Settings(kafka=KafkaSettings(bootstrap="nowhere:1"), subscription=(Subscription(topic=TOPIC),))


class FakeProducer:
    """Fails `flush` while `broken`; checks that requests do not mix."""

    made: ClassVar[list[FakeProducer]] = []
    broken = False

    def __init__(self) -> None:
        self.made.append(self)
        self.sent: list[bytes] = []
        self.unflushed: list[bytes] = []
        self.closed = False

    def send(self, topic: str, key: bytes, value: bytes, timestamp_ms: int) -> None:
        assert not self.unflushed or self.unflushed[-1] == key, "two requests at once"
        self.unflushed.append(key)
        self.sent.append(value)

    def flush(self) -> None:
        self.unflushed.clear()
        if self.broken:
            raise UnavailableError("publishing: broker down")

    def close(self) -> None:
        self.closed = True


@pytest.fixture(name="made")
def fixture_made(monkeypatch: pytest.MonkeyPatch) -> list[FakeProducer]:
    monkeypatch.setattr(module, "open_publisher", lambda settings: FakeProducer())
    monkeypatch.setattr(module, "resolve_subscriptions", lambda settings: settings)
    monkeypatch.setattr(FakeProducer, "made", [])
    monkeypatch.setattr(FakeProducer, "broken", False)
    return FakeProducer.made


def test_concurrent_requests_share_one_producer(made: list[FakeProducer]) -> None:
    shared = SharedPublisher(SETTINGS)
    assert made == [], "opened on first use"
    with ThreadPoolExecutor(8) as pool:
        for number in range(50):
            pool.submit(shared.publish, TOPIC, [(f"s{number}", {"a": 1.0}, row) for row in range(0, 10**7, 10**6)])
    (one,) = made
    assert len(one.sent) == 500
    assert one.sent[0].startswith(b'{"series":"s')
    shared.close()
    assert one.closed
    shared.close()


def test_a_failure_reaches_its_request_and_the_next_one_opens_a_new_producer(
    made: list[FakeProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedPublisher(SETTINGS)
    monkeypatch.setattr(FakeProducer, "broken", True)
    with pytest.raises(UnavailableError, match="broker down"):
        shared.publish(TOPIC, [("s", {"a": 1.0}, None)])
    assert made[0].closed
    monkeypatch.setattr(FakeProducer, "broken", False)
    shared.publish(TOPIC, [("s", {"a": 1.0}, None)])
    assert [one.closed for one in made] == [True, False]


def test_wrong_requests_publish_nothing(made: list[FakeProducer]) -> None:
    shared = SharedPublisher(SETTINGS)
    with pytest.raises(ConfigError, match="other"):
        shared.publish("other", [("s", {"a": 1.0}, None)])
    with pytest.raises(DataError, match="at least one reading"):
        shared.publish(TOPIC, [("s", {"a": 1.0}, None), ("s", {}, None)])
    assert made == []
    embedded = SharedPublisher(SETTINGS.model_copy(update={"kafka": KafkaSettings()}))
    with pytest.raises(ConfigError, match="publishing needs a broker"):
        embedded.publish(TOPIC, [("s", {"a": 1.0}, None)])


def test_a_request_does_not_wait_without_end(made: list[FakeProducer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    entered, leave = threading.Event(), threading.Event()

    def blocked(self: FakeProducer) -> None:
        entered.set()
        leave.wait(10)

    monkeypatch.setattr(FakeProducer, "flush", blocked)
    shared = SharedPublisher(SETTINGS)
    first = threading.Thread(target=shared.publish, args=(TOPIC, [("s", {"a": 1.0}, None)]))
    first.start()
    assert entered.wait(10)
    with pytest.raises(UnavailableError, match="earlier publish requests"):
        shared.publish(TOPIC, [("s", {"a": 1.0}, None)])
    leave.set()
    first.join(10)


def test_subscriptions_are_read_again_after_a_change(made: list[FakeProducer], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Settings] = []
    monkeypatch.setattr(module, "resolve_subscriptions", lambda settings: read.append(settings) or settings)
    shared = SharedPublisher(SETTINGS)
    for _ in range(3):
        shared.publish(TOPIC, [("s", {"a": 1.0}, None)])
    assert len(read) == 1
    shared.refresh()
    shared.publish(TOPIC, [("s", {"a": 1.0}, None)])
    assert len(read) == 2
