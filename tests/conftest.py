"""Fixtures over real services, and names that no other test uses."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress

import pytest
from playwright.sync_api import Browser
from stream_ad_connectors import _redaction

from tests.support.paths import ROOT
from tests.support.services.cache import say_on_stderr
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
# Files that run longest, for `pytest -n`: they start first, so that no worker is left with one of them at the end.
_LONGEST_FIRST = (
    "tests/integration/test_main_job.py",
    "tests/integration/test_observability.py",
    "tests/integration/test_subscribe.py",
    "tests/integration/test_page.py",
    "tests/integration/test_security.py",
    "tests/integration/test_tutorial.py",
    "tests/integration/test_hostile.py",
    "tests/integration/test_notify.py",
    "tests/integration/test_contracts_real.py",
    "tests/integration/test_containers.py",
    "tests/integration/test_time.py",
    "tests/integration/test_back_pressure.py",
    "tests/integration/test_drills.py",
    "tests/contracts/test_scorers.py",
)


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def _is_xdist_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _rank(item: pytest.Item) -> tuple[int, bool]:
    """The longest files, then the other integration tests, then all else in the order of `testpaths`."""
    name = item.path.relative_to(ROOT).as_posix()
    rank = _LONGEST_FIRST.index(name) if name in _LONGEST_FIRST else len(_LONGEST_FIRST)
    return rank, not name.startswith("tests/integration/")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as integration every test that uses a real service; order the files for `pytest -n`."""
    for item in items:
        if _fixtures(item) & set().union(*_PREPARE.values()):
            item.add_marker(pytest.mark.integration)
    if _is_xdist_worker(config):
        items.sort(key=_rank)  # stable: tests of a file keep their order


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Build the services that the chosen tests need, before the first test's time limit starts.

    Under `pytest -n` each worker runs this: one builds, the others wait for it. A worker's stdout is discarded, its
    stderr is the terminal's.
    """
    config = session.config
    needed: set[str] = set() if config.option.collectonly else set().union(*map(_fixtures, session.items))
    reporter = None if _is_xdist_worker(config) else config.pluginmanager.get_plugin("terminalreporter")
    for prepare, names in _PREPARE.items():
        if needed & names:
            with suppress(ServiceUnavailableError):  # the fixture skips or fails its tests
                prepare(reporter.write_line if reporter else say_on_stderr)
    return (yield)


@pytest.fixture(autouse=True)
def log_redaction() -> Iterator[None]:
    """Log messages mask the secrets that a test registers until its end: a short one would garble other tests' logs."""
    hidden, factory = _redaction._hidden, logging.getLogRecordFactory()
    yield
    _redaction._hidden = hidden
    logging.setLogRecordFactory(factory)


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
    """A real browser. Trap: coroutine tests cannot run beside its event loop, so it lives for one module."""
    with skip_if_unavailable(), running_chromium() as browser:
        yield browser


@pytest.fixture
def kafka_server() -> Iterator[KafkaServer]:
    """A running broker for this test alone: to stop, kill, pause and start again."""
    with skip_if_unavailable(), KafkaServer() as server:
        yield server


@pytest.fixture
def influx_server() -> Iterator[InfluxServer]:
    """A running, initialised store for this test alone: to stop, kill, pause and start again."""
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
    """Turns a label into a topic name that only this test uses; the same label gives the same name."""
    return lambda label: f"{namespace}-{label}"


@pytest.fixture
def influx_bucket(influx: Influx, namespace: str) -> Iterator[Influx]:
    """A fresh bucket, deleted after the test."""
    store = create_bucket(influx, namespace)
    yield store
    delete_bucket(store)
