"""Notifications by Apprise: a receiver that is down, a worker that is killed, and each alert sent once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from stream_ad_connectors.kafka.sink import KafkaSink

from stream_ad.records import Alert, AlertChannel, AlertState, Outputs
from stream_ad.settings import KafkaSettings
from tests.support.jobs import START_NS, Job, opened_jobs
from tests.support.services.influxdb import Influx
from tests.support.services.process import free_ports, wait_until

S = 1_000_000_000
SECRET = "token-of-the-team"  # part of an address that must not be shown
ROUTES = """
[[notify.routes]]
name = "team"
series = ["pump-*"]
group_wait = "500ms"
"""
OPEN = Alert(
    "a" * 24, "pump-1", "threshold", AlertState.OPEN, START_NS, START_NS - 30 * S, START_NS + 9 * S, None,
    START_NS + 9 * S, 2.5, START_NS + 5 * S, (AlertChannel("pressure", 0.8, 4.25, 3.0, 2.9, 3.1),), "universal/1",
)  # fmt: skip
RESOLVED = replace(OPEN, state=AlertState.RESOLVED, end_ns=START_NS + 60 * S, updated_ns=START_NS + 80 * S, revision=1)


class Receiver:
    """A webhook that records the messages it gets while it runs."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.messages: list[dict[str, Any]] = []
        self.answer = 200

    def __enter__(self) -> Receiver:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.answer == 200:
                    outer.messages.append(body)
                self.send_response(outer.answer)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def job(
    tmp_path: Path,
    kafka: str,
    influx_bucket: Influx,
    topic_names: Callable[[str], str],
    namespace: str,
    receiver: Receiver,
) -> Iterator[Job]:
    with opened_jobs() as opened:
        made = opened(tmp_path / "job", kafka, influx_bucket, topic_names("sensors"), namespace)
        config = made.home / "stream-ad.toml"
        config.write_text(config.read_text(encoding="utf-8") + ROUTES, encoding="utf-8")
        made.environment["STREAM_AD__NOTIFY__LINK_BASE"] = "https://watch.example"
        made.environment["STREAM_AD__NOTIFY__URLS__TEAM"] = f"json://user:{SECRET}@127.0.0.1:{receiver.port}/hook"
        made.create_topic(2)
        yield made


def write(job: Job, *alerts: Alert) -> None:
    sink = KafkaSink(KafkaSettings(bootstrap=job.kafka, namespace=job.namespace))
    sink.write(Outputs(alerts=list(alerts)))
    sink.close()


def logged(job: Job, text: str) -> bool:
    return any(text in job.log_of(worker) for worker in job.workers)


def test_the_next_worker_sends_missed_alerts_once_the_receiver_is_back(job: Job, receiver: Receiver) -> None:
    first = job.worker()
    assert wait_until(lambda: job.assigned(first) == 2, every_s=0.2), job.log_of(first)
    write(job, replace(OPEN, series="fan-1", id="b" * 24), OPEN)
    assert wait_until(lambda: logged(job, "the message is sent again later")), job.log_of(first)
    first.kill()
    first.wait(240)
    with receiver:
        second = job.worker()
        assert wait_until(lambda: bool(receiver.messages)), job.log_of(second)
        (message,) = receiver.messages
        assert message["title"] == "critical: pump-1, pressure 4.25 for 3"
        assert f"https://watch.example/alerts/{OPEN.id}" in message["message"]
        write(job, OPEN, RESOLVED)
        assert wait_until(lambda: len(receiver.messages) == 2), job.log_of(second)
        assert receiver.messages[1]["title"].startswith("resolved: pump-1 after")
        assert job.stop(second) == 0, job.log_of(second)[-2000:]
        third = job.worker()
        assert wait_until(lambda: job.assigned(third) == 2, every_s=0.2)
        write(
            job, replace(OPEN, id="c" * 24, series="pump-3", start_ns=START_NS + 500 * S, updated_ns=START_NS + 500 * S)
        )
        assert wait_until(lambda: len(receiver.messages) == 3), job.log_of(third)
        assert "pump-3" in receiver.messages[2]["title"]
        assert job.stop(third) == 0
    for worker in job.workers:
        assert SECRET not in job.log_of(worker)
        assert "Traceback" not in job.log_of(worker)


def test_check_and_test_notification_do_not_show_the_address(job: Job, receiver: Receiver) -> None:
    checked = job.run("check")
    assert "notify team" in checked
    assert "series pump-*" in checked
    assert SECRET not in checked
    with receiver:
        assert "accepted the example" in job.run("alerts", "--test-notification", "team")
        assert "example" in receiver.messages[0]["title"]
        receiver.answer = 503
        refused = job.run("alerts", "--test-notification", "team", code=1)
    assert "answered with 503" in refused
    assert SECRET not in refused
    assert "found ['team']" in job.run("alerts", "--test-notification", "other", code=2)
