"""Fixtures over real services, and names that no other test uses."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from playwright.sync_api import Browser

from tests.support.services.chromium import prepare_chromium, running_chromium
from tests.support.services.errors import ServiceUnavailableError, skip_if_unavailable
from tests.support.services.influxdb import (
    Influx,
    InfluxServer,
    create_bucket,
    delete_bucket,
    prepare_influxdb,
    running_influxdb,
)
from tests.support.services.kafka import KafkaServer, prepare_kafka, running_kafka

_PREPARE = {
    prepare_kafka: {"kafka", "kafka_server"},
    prepare_influxdb: {"influx", "influx_server"},
    prepare_chromium: {"chromium"},
}


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs a real service is an integration test."""
    for item in items:
        if _fixtures(item) & set().union(*_PREPARE.values()):
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Build what the chosen tests need before the first test's time limit runs."""
    if session.config.option.collectonly:
        return
    needed: set[str] = set().union(*map(_fixtures, session.items))
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for prepare, names in _PREPARE.items():
        if needed & names:
            with suppress(ServiceUnavailableError):  # the fixture tells
                prepare(reporter.write_line if reporter else lambda line: None)


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Address of a Kafka broker shared by the session; topics are not created by use."""
    with skip_if_unavailable(), running_kafka() as address:
        yield address


@pytest.fixture(scope="session")
def influx() -> Iterator[Influx]:
    """An InfluxDB shared by the session; `influx_bucket` is the one to write to."""
    with skip_if_unavailable(), running_influxdb() as store:
        yield store


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser. Trap: while it runs, its event loop does, so no coroutine can be a test: not for a session."""
    with skip_if_unavailable(), running_chromium() as browser:
        yield browser


@pytest.fixture
def kafka_server() -> Iterator[KafkaServer]:
    """A running broker of the test's own: to stop, kill, pause and start again."""
    with skip_if_unavailable(), KafkaServer() as server:
        yield server


@pytest.fixture
def influx_server() -> Iterator[InfluxServer]:
    """A running store of the test's own, set up: to stop, kill, pause and start again."""
    with skip_if_unavailable(), InfluxServer() as server:
        server.setup()
        yield server


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A name that no other test and no other run uses: for groups, applications, measurements."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")[:60]
    return f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def topic_names(namespace: str) -> Callable[[str], str]:
    """Turns a label into a topic name of this test's own; the same label gives the same name."""
    return lambda label: f"{namespace}-{label}"


@pytest.fixture
def influx_bucket(influx: Influx, namespace: str) -> Iterator[Influx]:
    """A fresh bucket, deleted after the test."""
    store = create_bucket(influx, namespace)
    yield store
    delete_bucket(store)
