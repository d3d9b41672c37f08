"""A secured broker and a secured store: the whole path runs, a refused client gets the reason, secrets stay secret."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stream_ad_connectors._redaction import SHOWN
from stream_ad_connectors.kafka.admin import KafkaAdmin
from stream_ad_connectors.kafka.source import KafkaSource
from stream_ad_connectors.kafka.state_store import KafkaStateStore

from stream_ad import Client, cli
from stream_ad.settings import KafkaSettings
from tests.support.jobs import START, Job, opened_jobs, write_plant
from tests.support.kafka_helpers import Tracker
from tests.support.services.certificates import KEY_PASSWORD, Certificates
from tests.support.services.errors import skip_if_unavailable
from tests.support.services.influxdb import Influx, InfluxServer, create_bucket, prepare_influxdb, with_limited_token
from tests.support.services.kafka import prepare_kafka
from tests.support.services.kafka_secured import KAFKA_PASSWORD, KAFKA_USER, SecuredKafkaServer
from tests.support.services.process import wait_until

pytestmark = pytest.mark.integration
TRAIN, TEST = 600, 400
PREFIX = "STREAM_AD__KAFKA__"
WRONG = "not-the-Pa55word"
# Every logger logs at every level, regardless of the product's settings.
DEBUG_MAIN = """
import json, logging, sys
logging.Logger.isEnabledFor = lambda self, level: True
logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))
from stream_ad.cli import run
sys.exit(max(run(["--debug", *verb]) for verb in json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    with skip_if_unavailable():
        return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(certificates: Certificates) -> Iterator[SecuredKafkaServer]:
    with skip_if_unavailable():
        prepare_kafka()
        with SecuredKafkaServer(certificates) as server:
            yield server


@pytest.fixture(scope="module")
def store(certificates: Certificates) -> Iterator[Influx]:
    """An InfluxDB over TLS, with the token of its first user."""
    with skip_if_unavailable():
        prepare_influxdb()
        with InfluxServer(certificates=certificates) as server:
            yield server.setup()


def by_password(certificates: Certificates, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
    """The environment of a client that authenticates by password over TLS."""
    return {
        f"{PREFIX}SECURITY_PROTOCOL": "SASL_SSL",
        f"{PREFIX}SASL_MECHANISM": mechanism,
        f"{PREFIX}SASL_USERNAME": KAFKA_USER,
        f"{PREFIX}SASL_PASSWORD": KAFKA_PASSWORD,
        f"{PREFIX}SSL_CA_FILE": str(certificates.ca),
    }


def by_certificate(certificates: Certificates) -> dict[str, str]:
    return {
        f"{PREFIX}SECURITY_PROTOCOL": "SSL",
        f"{PREFIX}SSL_CA_FILE": str(certificates.ca),
        f"{PREFIX}SSL_CERT_FILE": str(certificates.client),
        f"{PREFIX}SSL_KEY_FILE": str(certificates.client_encrypted_key),
        f"{PREFIX}SSL_KEY_PASSWORD": KEY_PASSWORD,
    }


@pytest.fixture
def make_job(
    tmp_path: Path, broker: SecuredKafkaServer, store: Influx, certificates: Certificates, namespace: str
) -> Iterator[Callable[[str], Job]]:
    """A job that authenticates by password or by certificate, with a token limited to its bucket."""
    with opened_jobs() as opened:

        def make(way: str) -> Job:
            address = broker.mutual_tls if way == "certificate" else broker.sasl_ssl
            security = by_certificate(certificates) if way == "certificate" else by_password(certificates, way)
            bucket = create_bucket(store, namespace, certificates.ca)
            limited = with_limited_token(bucket, "read", "write", ca=certificates.ca)
            more = {"STREAM_AD__INFLUXDB__CA_FILE": str(certificates.ca), "STREAM_AD__DETECTOR__SCORER": "ar"}
            return opened(tmp_path / way, address, limited, f"{namespace}-in", namespace, environment=security | more)

        yield make


@pytest.fixture(name="printed")
def fixture_printed(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a verb of a job in this process; its output as JSON."""

    def printed(job: Job, *args: str) -> Any:
        monkeypatch.chdir(job.home)
        for name, value in job.env.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        code = cli.run((*args, "--json"))
        captured = capfd.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)

    return printed


@pytest.mark.parametrize("way", ["SCRAM-SHA-512", "certificate"])
def test_the_whole_path_over_secured_connections(
    make_job: Callable[[str], Job], printed: Callable[..., Any], tmp_path: Path, way: str
) -> None:
    job = make_job(way)
    name = write_plant(tmp_path / "data", TRAIN, TEST)[0]
    train, test = (str(tmp_path / "data" / "PLANT" / f"{name}.{part}.parquet") for part in ("train", "test"))
    (tmp_path / f"{name}.csv").write_text("nobody_knows_me\n1\n")
    printed(job, "fit", train)
    assert printed(job, "replay", test, "--topic", job.topic, "--start", START, "--create")["sent"] == TEST
    assert printed(job, "replay", str(tmp_path / f"{name}.csv"), "--topic", job.topic, "--start", START)["sent"] == 1
    assert all(finding["ok"] for finding in printed(job, "check"))
    worker = job.worker()
    found: list[Any] = []

    def there() -> bool:
        found[:] = printed(job, "status")["series"]
        return [(one["series"], one["scores"]) for one in found] == [(name, TEST)]

    assert wait_until(there, every_s=1), (found, job.log_of(worker))
    assert job.stop(worker) == 0

    assert len(printed(job, "scores", name, "--start", START)) == TEST
    assert {alert["series"] for alert in printed(job, "alerts", "--start", START)} == {name}
    assert [dead["reason"] for dead in printed(job, "dlq", "list")["letters"]] == ["unknown_channel"]
    assert [one["lag"] for one in printed(job, "status")["lag"]] == [0]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
async def test_other_mechanisms(
    broker: SecuredKafkaServer, certificates: Certificates, mechanism: str, topic_names: Callable[[str], str]
) -> None:
    """With both Kafka libraries."""
    settings = KafkaSettings(
        bootstrap=broker.sasl_ssl,
        namespace=topic_names("own"),
        security_protocol="SASL_SSL",
        sasl_mechanism=mechanism,
        sasl_username=KAFKA_USER,
        sasl_password=KAFKA_PASSWORD,
        ssl_ca_file=certificates.ca,
    )
    admin = KafkaAdmin(settings)
    admin.create_topic(topic_names("in"), 1)
    admin.create_topic(settings.state_topic, 1)
    admin.close()
    source, states = KafkaSource(settings, [topic_names("in")]), KafkaStateStore(settings)
    await source.start(Tracker(source))
    assert await source.poll(0.1) == []
    await states.save("t", 0, {"s": b"state"})
    assert await states.load("t", 0) == {"s": b"state"}
    await states.stop()
    await source.stop()


# ---- refused clients


@pytest.fixture(name="run")
def fixture_run(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    topic_names: Callable[[str], str],
) -> Callable[..., tuple[int, str]]:
    """Runs a verb in this process against one topic; its exit code, and its output, which must hold no secret."""
    (tmp_path / "stream-ad.toml").write_text(f'[[subscription]]\ntopic = "{topic_names("in")}"\nstep = "1s"\n')
    (tmp_path / "one.csv").write_text("a\n1\n2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{PREFIX}REQUEST_TIMEOUT_S", "5")

    def run(*args: str) -> tuple[int, str]:
        capfd.readouterr()
        code = cli.run(args)
        captured = capfd.readouterr()
        said = captured.out + captured.err
        assert "Traceback" not in said
        assert not [secret for secret in (KAFKA_PASSWORD, KEY_PASSWORD, WRONG) if secret in said]
        return code, said

    return run


REFUSALS = [
    ("password", {"SASL_PASSWORD": WRONG}, "refused user 'stream-ad'", "STREAM_AD__KAFKA__SASL_PASSWORD", 1),
    ("password", {"SASL_USERNAME": "nobody"}, "refused user 'nobody'", "kafka.sasl_username", 1),
    ("password", {"SASL_PASSWORD": ""}, "there is no password", "kafka.sasl_password_file", 2),
    ("password", {"SSL_CA_FILE": "stranger"}, "is not trusted", "kafka.ssl_ca_file", 1),
    ("password", {"SSL_CA_FILE": "/nowhere.pem"}, "No such file", "kafka.ssl_ca_file", 2),
    ("password", {"SECURITY_PROTOCOL": "PLAINTEXT"}, "does not use it", "SASL_SSL", 2),
    (
        "certificate",
        {"SSL_CERT_FILE": None, "SSL_KEY_FILE": None, "SSL_KEY_PASSWORD": None},
        "requires one",
        "cert_file",
        1,
    ),
    ("certificate", {"SSL_CERT_FILE": "stranger", "SSL_KEY_FILE": "stranger"}, "did not accept", "ssl_cert_file", 1),
    ("certificate", {"SSL_KEY_PASSWORD": WRONG}, "ssl_cert_file", "kafka.ssl_key_password", 2),
    ("certificate", {"SSL_CERT_FILE": None}, "without the certificate", "set ssl_cert_file", 2),
    ("nothing", {}, "hung up on a client that speaks PLAINTEXT", "kafka.security_protocol", 1),
]


@pytest.mark.parametrize(("way", "changes", "says", "hint", "code"), REFUSALS)
def test_a_refused_client_gets_the_reason_and_a_hint(
    run: Callable[..., tuple[int, str]],
    broker: SecuredKafkaServer,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    changes: dict[str, str | None],
    says: str,
    hint: str,
    code: int,
) -> None:
    given = {"password": by_password(certificates), "certificate": by_certificate(certificates)}.get(way, {})
    stranger = {
        "SSL_CA_FILE": certificates.stranger_ca,
        "SSL_CERT_FILE": certificates.stranger,
        "SSL_KEY_FILE": certificates.stranger_key,
    }
    monkeypatch.setenv(f"{PREFIX}BOOTSTRAP", broker.mutual_tls if way == "certificate" else broker.sasl_ssl)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for key, change in changes.items():
        if change is None:
            monkeypatch.delenv(PREFIX + key)
        else:
            monkeypatch.setenv(PREFIX + key, str(stranger[key]) if change == "stranger" else change)
    for verb in (("check",), ("worker",), ("replay", "one.csv", "--topic", "t", "--step", "1s"), ("dlq", "list")):
        found, said = run(*verb)
        assert found == code, (verb, said)
        (line,) = [line for line in said.splitlines() if says in line]
        assert hint in line


@pytest.mark.parametrize(
    ("changes", "says", "hint", "code"),
    [
        ({}, "", "", 0),
        ({"TOKEN": "read"}, "may not write", "STREAM_AD__INFLUXDB__TOKEN", 1),
        ({"TOKEN": WRONG}, "is not accepted", "STREAM_AD__INFLUXDB__TOKEN", 1),
        ({"TOKEN": f"{WRONG}\n"}, "invalid character", "copied", 2),
        ({"CA_FILE": "stranger"}, "is not trusted", "influxdb.ca_file", 1),
        ({"CA_FILE": None}, "is not trusted", "influxdb.ca_file", 1),
        ({"URL": "http"}, "url is not https", "https://", 2),
        ({"BUCKET": "_monitoring"}, "could not find bucket", "influxdb.bucket", 2),
    ],
)
def test_check_names_what_the_store_refuses(
    run: Callable[..., tuple[int, str]],
    store: Influx,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str | None],
    says: str,
    hint: str,
    code: int,
) -> None:
    """The token is limited to its bucket, so the store does not find other buckets."""
    actions = ("read",) if changes.get("TOKEN") == "read" else ("read", "write")
    limited = with_limited_token(store, *actions, ca=certificates.ca)
    values: dict[str, str | None] = {
        "URL": limited.url, "ORG": limited.org, "BUCKET": limited.bucket, "TOKEN": limited.token,
        "CA_FILE": str(certificates.ca),
    }  # fmt: skip
    special = {
        ("CA_FILE", "stranger"): str(certificates.stranger_ca),
        ("URL", "http"): limited.url.replace("https", "http"),
        ("TOKEN", "read"): limited.token,
    }
    values |= {key: special.get((key, value or ""), value) for key, value in changes.items()}
    Path("stream-ad.toml").unlink()
    for key, value in values.items():
        if value is not None:
            monkeypatch.setenv(f"STREAM_AD__INFLUXDB__{key}", value)
    found, said = run("check")
    assert found == code, said
    assert limited.token not in said
    if code:
        (line,) = [line for line in said.splitlines() if says in line]
        assert hint in line


# ---- secrets stay secret


def test_no_secret_is_printed_or_logged(make_job: Callable[[str], Job], tmp_path: Path) -> None:
    """Neither by the verbs with every logger at its lowest level, nor in their processes' arguments in /proc."""
    job = make_job("PLAIN")  # the mechanism that sends the password itself
    (tmp_path / "s.csv").write_text("a\n" + "1\n2\n" * 200)
    before = (
        ("replay", str(tmp_path / "s.csv"), "--topic", job.topic, "--start", START, "--create", "--json"),
        ("check", "--json"),
    )
    after = (
        ("status", "--json"),
        ("scores", "s", "--start", START, "--json"),
        ("alerts", "--json"),
        ("dlq", "list", "--json"),
    )
    for verbs in (before, (("worker",),), after):
        said, shown = run_with_debug_logs(job, verbs)
        assert "SaslAuthenticateRe" in said, "expected debug logs of the Kafka libraries, found none"
        assert SHOWN in said
        for secret in (KAFKA_PASSWORD, job.influx.token):
            for spelled in (secret, repr(secret.encode())[2:-1]):
                assert spelled not in said
                assert spelled not in shown


def run_with_debug_logs(job: Job, verbs: tuple[tuple[str, ...], ...]) -> tuple[str, str]:
    """Output of the verbs, and the arguments of their processes; a worker is ended once it commits."""
    args = [sys.executable, "-c", DEBUG_MAIN, json.dumps(verbs)]
    path = job.home / "said.txt"
    with path.open("wb") as output:
        process = subprocess.Popen(args, cwd=job.home, env=job.env, stdout=output, stderr=output)
    shown: set[str] = set()
    endless = verbs == (("worker",),)

    def done() -> bool:
        shown.update(arguments_of(process.pid))
        return process.poll() is not None or (endless and "OffsetCommitRe" in path.read_text(errors="replace"))

    try:
        assert wait_until(done, every_s=0.2), path.read_text(errors="replace")[-2000:]
        process.terminate()
        process.wait(240)
    finally:
        process.kill()
        process.wait(240)
    said = path.read_text(errors="replace")
    assert process.returncode == 0, said[-3000:]
    return said, "\n".join(shown)


def arguments_of(pid: int) -> set[str]:
    """The command lines of a process and of its children."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if pid in (int(entry.name), parent):
                found.add((entry / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return found


def test_the_sdk_shows_no_secret(
    broker: SecuredKafkaServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in by_password(certificates).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(f"{PREFIX}BOOTSTRAP", broker.sasl_ssl)
    monkeypatch.setenv("STREAM_AD__INFLUXDB__TOKEN", WRONG)
    with Client() as client:
        shown = f"{client.settings!r} {client.settings} {client.settings.model_dump()} {vars(client)}"
        shown += json.dumps(client.settings.model_dump(mode="json"))
    assert KAFKA_USER in shown
    assert KAFKA_PASSWORD not in shown
    assert WRONG not in shown
