"""The test services answer, keep their data over a crash, and end with their starter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from kafka import KafkaConsumer, KafkaProducer

from tests.support.services.influxdb import Influx, InfluxServer
from tests.support.services.kafka import KafkaServer, broker_answers, create_topics
from tests.support.services.process import port_answers, wait_until


def _produce(address: str, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=address)
    for value in values:
        producer.send(topic, value)
    producer.flush(timeout=240)
    producer.close()


def _consume(address: str, topic: str, group: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(topic, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest")
    values: list[bytes] = []

    def enough() -> bool:
        values.extend(record.value for batch in consumer.poll(timeout_ms=500).values() for record in batch)
        return len(values) >= count

    try:
        assert wait_until(enough), f"expected {count} records, found {len(values)}"
    finally:
        consumer.close()
    return values


def _write(store: Influx, lines: list[str]) -> None:
    with InfluxDBClient(store.url, store.token, org=store.org) as client:
        client.write_api(write_options=SYNCHRONOUS).write(store.bucket, record="\n".join(lines))


def _count(store: Influx) -> int:
    query = f'from(bucket: "{store.bucket}") |> range(start: 0) |> group() |> count()'
    with InfluxDBClient(store.url, store.token, org=store.org) as client:
        return sum(int(record.get_value()) for table in client.query_api().query(query) for record in table.records)


def _lines(count: int) -> list[str]:
    return [f"reading,series=a value={n}.5 {1_700_000_000_000_000_000 + n}" for n in range(count)]


def test_kafka_round_trip(kafka: str, topic_names: Callable[[str], str], namespace: str) -> None:
    topic = topic_names("in")
    create_topics(kafka, topic)
    sent = [b"%d" % n for n in range(100)]
    _produce(kafka, topic, sent)
    assert _consume(kafka, topic, namespace, 100) == sent


def test_influx_write_and_count(influx_bucket: Influx) -> None:
    _write(influx_bucket, _lines(500))
    assert _count(influx_bucket) == 500


def test_influx_bucket_is_fresh(influx_bucket: Influx) -> None:
    assert _count(influx_bucket) == 0


def test_kafka_keeps_records_over_a_kill(
    kafka_server: KafkaServer, topic_names: Callable[[str], str], namespace: str
) -> None:
    topic = topic_names("in")
    create_topics(kafka_server.address, topic)
    _produce(kafka_server.address, topic, [b"kept"])
    before = kafka_server.address
    kafka_server.kill()
    assert not port_answers(kafka_server.port)
    assert kafka_server.start().address == before
    assert _consume(before, topic, namespace, 1) == [b"kept"]


def test_influx_keeps_points_over_a_stop(influx_server: InfluxServer) -> None:
    _write(influx_server.influx, _lines(10))
    influx_server.stop()
    assert not port_answers(influx_server.port)
    influx_server.start()
    assert influx_server.setup() == influx_server.influx
    assert _count(influx_server.influx) == 10


def test_server_dies_with_its_starter(influx: Influx, tmp_path: Path) -> None:
    # The fixture `influx` makes sure that the binary is built.
    script = (
        "import sys; from pathlib import Path; from tests.support.services.influxdb import InfluxServer\n"
        "server = InfluxServer(data_dir=Path(sys.argv[1])).start(); print(server.port, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert starter.stdout is not None
    port = int(starter.stdout.readline())
    assert port_answers(port)
    os.kill(starter.pid, signal.SIGKILL)
    starter.communicate()
    assert wait_until(lambda: not port_answers(port))


def test_no_broker_answers_on_a_free_port() -> None:
    assert not broker_answers("127.0.0.1:1")
