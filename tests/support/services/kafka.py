"""A real Kafka broker (KRaft, one process) for tests."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from tests.support.services.cache import Build, Say, cached, say_on_stderr
from tests.support.services.containers import ContainerServer, image_ready
from tests.support.services.errors import StartError, require
from tests.support.services.process import HOST, LocalServer, free_ports, port_answers, wait_until

__all__ = ["KAFKA_VARIABLE", "KafkaServer", "broker_answers", "create_topics", "prepare_kafka", "running_kafka"]

KAFKA_VARIABLE = "STREAM_AD_TEST_KAFKA"
KAFKA_VERSION = "4.1.1"
_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
_LOG4J_VERSION = "2.24.3"
_DEPENDENCIES = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-core", _LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", _LOG4J_VERSION),
)
_LOG4J = """rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
"""


def _kafka_home(say: Say = say_on_stderr) -> Path:
    """The directory with lib/ and log4j2.properties, built on first use."""
    require("Kafka", KAFKA_VARIABLE, "java")
    return cached("kafka", KAFKA_VERSION, _build, say, summary="Kafka from its Maven packages: under a minute")


def _build(build: Build) -> None:
    require("Kafka", KAFKA_VARIABLE, "mvn")
    dependencies = "".join(
        f"<dependency><groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in _DEPENDENCIES
    )
    pom = build.target / "pom.xml"
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>stream-ad</groupId><artifactId>test-kafka</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )
    options = [f"-DoutputDirectory={build.target / 'lib'}", "-DincludeScope=runtime"]
    build.run("mvn", ["mvn", "-B", "-f", str(pom), "dependency:copy-dependencies", *options], cwd=build.target)
    (build.target / "log4j2.properties").write_text(_LOG4J)


def _metadata(address: str) -> bool:
    """One metadata request; KafkaError without an answer."""
    client = KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=2000, request_timeout_ms=5000)
    try:
        return bool(client.describe_cluster()["brokers"])
    finally:
        client.close()


def broker_answers(address: str) -> bool:
    """True when the broker lists itself in a metadata answer."""
    host, _, port = address.rpartition(":")
    try:
        return port_answers(int(port), host) and _metadata(address)
    except (KafkaError, OSError):
        return False


class KafkaServer(LocalServer):
    """A separate broker, from the packages: for tests that stop, kill, pause or restart it.

    `advertised` is the address that clients are sent to when it differs (a proxy in front). `second` is one
    more listener: its port and the address that its clients are sent to. `properties` add to or replace lines of
    server.properties.
    """

    title = "Kafka"

    def __init__(
        self,
        port: int | None = None,
        data_dir: Path | None = None,
        *,
        heap: str = "512m",
        auto_create_topics: bool = False,
        advertised: str | None = None,
        second: tuple[int, str] | None = None,
        properties: Mapping[str, str] | None = None,
        jvm_options: Sequence[str] = (),
    ) -> None:
        super().__init__(port, data_dir)
        self._controller_port: int | None = None
        self._heap = heap
        self._auto_create_topics = auto_create_topics
        self._advertised = advertised
        self._second = second
        self._properties = dict(properties or {})
        self._jvm_options = list(jvm_options)

    def _command(self, port: int) -> list[str]:
        home = _kafka_home()
        settings = self.data_dir / "server.properties"
        lines = [f"{key}={value}" for key, value in self._settings(port).items()]
        settings.write_text("\n".join(lines) + "\n")
        java = ["java", f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}", "-cp", str(home / "lib" / "*")]
        if not (self.data_dir / "logs" / "meta.properties").exists():
            self._format([*java, "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool"], settings)
        return [*java, f"-Xmx{self._heap}", *self._jvm_options, "kafka.Kafka", str(settings)]

    def _format(self, tool: Sequence[str], settings: Path, *more: str) -> None:
        cluster = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # a leading "-" reads as an option
        done = subprocess.run(
            [*tool, "format", "-t", cluster, "-c", str(settings), *more], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise StartError(f"Kafka's storage format ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _settings(self, port: int) -> dict[str, str]:
        # Like the broker's own, the controller's port is free to change until the first start has succeeded.
        if self._controller_port is None or self._port is None:
            self._controller_port = free_ports(1)[0]
        controller = f"{HOST}:{self._controller_port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self._advertised or f'{HOST}:{port}'}",
            "log.dirs": str(self.data_dir / "logs"),
            "auto.create.topics.enable": str(self._auto_create_topics).lower(),
            **_ONE_NODE,
        }
        if self._second is not None:
            inner, advertised = self._second
            settings["listeners"] += f",SECOND://{HOST}:{inner}"
            settings["advertised.listeners"] += f",SECOND://{advertised}"
            settings["listener.security.protocol.map"] += ",SECOND:PLAINTEXT"
        return settings | self._properties

    def _ready(self, port: int) -> bool:
        if self._advertised is not None or "listeners" in self._properties:
            return port_answers(port)  # a proxy may come after the broker, and other listeners need other clients
        return broker_answers(f"{HOST}:{port}")


_ONE_NODE = {
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A broker that was killed may come back only when its old session is over.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


def _container(port: int | None) -> ContainerServer:
    def settings(outer: int) -> dict[str, str]:
        values = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": "1@localhost:9093",
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{outer}",
            "auto.create.topics.enable": "false",
            **_ONE_NODE,
        }
        return {f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in values.items()}

    return ContainerServer(_IMAGE, 9092, lambda outer: broker_answers(f"{HOST}:{outer}"), settings, port)


def prepare_kafka(say: Say = say_on_stderr) -> None:
    """Build or pull what `running_kafka` needs."""
    if not os.environ.get(KAFKA_VARIABLE) and not image_ready(_IMAGE):
        _kafka_home(say)


@contextmanager
def running_kafka(port: int | None = None) -> Iterator[str]:
    """Yield the address of a broker: the environment's, a container's, or one from the packages.

    ServiceUnavailableError when there is none to be had. For a broker to stop and restart take `KafkaServer`.
    """
    given = os.environ.get(KAFKA_VARIABLE)
    if given:
        if not wait_until(lambda: broker_answers(given), timeout_s=30):
            raise StartError(f"{KAFKA_VARIABLE}={given}: no Kafka broker answers there")
        yield given
        return
    prepare_kafka()
    with _container(port) if image_ready(_IMAGE) else KafkaServer(port) as server:
        yield server.address


def create_topics(address: str, *names: str, partitions: int = 1, timeout_s: float = 240.0) -> None:
    """Create topics and wait until every one has leaders."""
    client = KafkaAdminClient(bootstrap_servers=address)
    try:
        client.create_topics([NewTopic(name, partitions, 1) for name in names], timeout_ms=int(timeout_s * 1000))
        client.wait_for_topics(list(names))
    finally:
        client.close()
