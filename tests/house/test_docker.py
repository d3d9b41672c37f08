"""docker/ is valid: nothing is exposed or without a version, and its settings and metrics exist."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream_ad.cli.app import app
from stream_ad.errors import ConfigError
from stream_ad.observability.metrics import METRICS
from stream_ad.settings import Settings, load_settings
from tests.support.docker_files import dashboards, instructions, queries, read_yaml
from tests.support.paths import DOCKER, ROOT
from tests.support.services.influxdb_build import INFLUXDB_VERSION
from tests.support.services.kafka import KAFKA_VERSION

IMAGE = instructions(DOCKER / "Dockerfile")
COMPOSE: dict[str, Any] = read_yaml(DOCKER / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
MANIFESTS: dict[str, Any] = {path.stem: read_yaml(path) for path in sorted((DOCKER / "kubernetes").glob("*.yaml"))}
TEXTS = [path for path in DOCKER.rglob("*") if path.is_file() and "secrets" not in path.relative_to(DOCKER).parts]
SECRET = re.compile(r"TOKEN|PASSWORD|SECRET", re.IGNORECASE)
WORKER_PORT = 9464


def last(word: str) -> str:
    return [rest for found, rest in IMAGE if found == word][-1]


def environment(name: str) -> dict[str, str]:
    """A worker's environment variables: the image's and the deployment's."""
    given = {"compose": SERVICES["worker"]["environment"], "kubernetes": MANIFESTS["config"]["data"]}[name]
    image = dict(pair.split("=", 1) for rest in (r for w, r in IMAGE if w == "ENV") for pair in rest.split())
    return {**{key: value for key, value in image.items() if key.startswith("STREAM_AD__")}, **given}


def test_the_image_has_a_version_is_slim_and_not_root() -> None:
    defaults = dict(rest.split("=", 1) for word, rest in IMAGE if word == "ARG" and "=" in rest)
    for base in (rest.split()[0] for word, rest in IMAGE if word == "FROM"):
        tag = base.replace("${PYTHON}", defaults["PYTHON"]).partition(":")[2]
        assert re.match(r"\d+\.\d+-slim-", tag), f"expected a slim image of a version, found {base}"
    assert len([word for word, _ in IMAGE if word == "FROM"]) == 2
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last("USER")), "runAsNonRoot wants a number"
    assert last("STOPSIGNAL") == "SIGTERM"
    assert last("VOLUME") in last("ENV")
    assert not {word for word, _ in IMAGE} & {"ADD", "SHELL", "ONBUILD", "MAINTAINER"}


def test_the_image_holds_no_secret_and_no_address() -> None:
    for word, rest in IMAGE:
        assert word not in ("ARG", "ENV") or not SECRET.search(rest)
    for path in TEXTS:
        for host in re.findall(r"https?://([^/:\s\"']+)", path.read_text(encoding="utf-8")):
            known = host in {*SERVICES, "localhost", "127.0.0.1"} or host.endswith(".svc")
            assert known, f"{path.name}: {host} is no service of compose.yaml and none of a cluster"


def test_the_build_context_is_exactly_what_the_image_copies() -> None:
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text().split("\n")
    lines = [line for line in allowed if line and not line.startswith("#")]
    assert lines[0] == "*"
    seen = {line[1:] for line in lines if line.startswith("!")}
    copied = {name for word, rest in IMAGE if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]}
    assert copied == seen
    assert all((ROOT / name).exists() for name in seen)


def test_installed_packages_are_locked_by_hash() -> None:
    script = (DOCKER / "install.sh").read_text()
    installs = re.findall(r"pip install .*(?:\\\n.*)?", script)
    assert len(installs) == 5
    unchecked = [line for line in installs if "--require-hashes" not in line and "dist/*.whl" not in line]
    assert len(unchecked) == 1, "PyTorch's own build alone has no hash in the lock"
    assert "torch.txt" in unchecked[0]
    locks = (ROOT / "requirements.lock").read_text() + (ROOT / "requirements-nodeps.lock").read_text()
    (listed,) = re.findall(r"for name in (.*); do", script)
    for name in ("uv", "torch", *listed.split()):
        assert re.search(rf"^{name}==", locks, re.MULTILINE)


@pytest.mark.parametrize("script", ["install.sh", "up.sh"])
def test_scripts_have_valid_syntax(script: str) -> None:
    subprocess.run(["sh", "-n", DOCKER / script], check=True)


def test_the_cli_accepts_the_commands() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["stream-ad"]
    container = MANIFESTS["worker"]["spec"]["template"]["spec"]["containers"][0]
    for arguments in (json.loads(last("CMD")), SERVICES["worker"]["command"], container["args"]):
        assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0
        assert arguments[1:3] == ["--port", str(WORKER_PORT)]
    assert CliRunner().invoke(app, ["worker", "--prot", "1", "--help"]).exit_code != 0
    assert f"127.0.0.1:{WORKER_PORT}/healthz" in last("HEALTHCHECK")
    assert last("EXPOSE") == str(WORKER_PORT)


def test_serve_accepts_its_command_and_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Users have tokens from files."""
    monkeypatch.chdir(tmp_path)
    (container,) = MANIFESTS["serve"]["spec"]["template"]["spec"]["containers"]
    for arguments in (SERVICES["serve"]["command"], container["args"]):
        assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0
    assert SERVICES["serve"]["ports"] == ["127.0.0.1:8080:8080"]
    pod = {one["name"]: one["value"] for one in container["env"]} | MANIFESTS["config"]["data"]
    for given in (SERVICES["serve"]["environment"], pod):
        with monkeypatch.context() as patch:
            for key, value in given.items():
                patch.setenv(key, value)
            settings = load_settings()
            with pytest.raises(ConfigError, match="serve_token"):
                settings.serve_token(settings.serve.users[0])
            assert (settings.serve.host, settings.serve.access) == ("0.0.0.0", "token")


@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_the_worker_accepts_its_environment(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for key, value in environment(name).items():
        monkeypatch.setenv(key, value)
    settings = load_settings()
    assert settings.subscription[0].topic == "sensors"
    assert settings.observability.host == "0.0.0.0"  # within its container
    assert settings.models.url.startswith(last("VOLUME"))
    with pytest.raises(ConfigError, match=str(settings.influxdb.token_file)):
        settings.influx_token()
    monkeypatch.setenv("STREAM_AD__KAFKA__BOOTSTARP", "kafka:19092")
    with pytest.raises(ConfigError, match="bootstarp"):
        load_settings()


def test_compose_exposes_nothing_and_fixes_every_version() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":(v?\d+\.\d+\.\d+|local)$", service["image"]), f"{name}: {service['image']}"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for key, value in service.get("environment", {}).items():
            assert not SECRET.search(key) or (key.endswith("_FILE") and value.startswith("/run/secrets/")), key
    assert SERVICES["kafka"]["image"] == SERVICES["topics"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert SERVICES["influxdb"]["image"] == f"influxdb:{INFLUXDB_VERSION}", "what the tests run against"


def test_compose_waits_for_healthy_services() -> None:
    for name, service in SERVICES.items():
        once = name == "topics"
        assert once or service["restart"] == "unless-stopped"
        assert once or "healthcheck" in service or "build" in service, f"{name} has no health check"
        for other, wanted in service.get("depends_on", {}).items():
            ends = "service_completed_successfully" if other == "topics" else "service_healthy"
            assert wanted == {"condition": ends}
            assert other in SERVICES
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        for source, _, _ in (volume.partition(":") for volume in service.get("volumes", ())):
            assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    (job,) = read_yaml(DOCKER / "prometheus.yaml")["scrape_configs"]
    assert job["dns_sd_configs"] == [{"names": ["worker"], "type": "A", "port": WORKER_PORT, "refresh_interval": "15s"}]


def test_up_creates_secrets_once_and_calls_compose(tmp_path: Path) -> None:
    here, programs = tmp_path / "docker", tmp_path / "bin"
    here.mkdir()
    programs.mkdir()
    (here / "up.sh").write_text((DOCKER / "up.sh").read_text())
    (programs / "docker").write_text('#!/bin/sh\necho "$@"\n')
    (programs / "docker").chmod(0o755)
    paths = {"PATH": f"{programs}:{os.environ['PATH']}"}
    made = []
    for _ in range(2):
        done = subprocess.run(
            ["sh", here / "up.sh", "--scale", "worker=3"], env=paths, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["compose", "up", "--build", "--detach", "--wait", "--scale", "worker=3"]
        made.append({path.name: path.read_text() for path in (here / "secrets").iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert len({secret for secret in made[0].values() if re.fullmatch(r"[0-9a-f]{48}", secret)}) == len(made[0])
    assert stat.S_IMODE((here / "secrets").stat().st_mode) == 0o700
    assert (DOCKER / ".gitignore").read_text().split() == ["secrets/"]


def test_grafana_has_its_data_sources_and_dashboards() -> None:
    sources = read_yaml(DOCKER / "grafana/provisioning/datasources/stream-ad.yaml")["datasources"]
    known = {(source["type"], source["uid"]) for source in sources}
    boards = dashboards()
    assert set(boards) == {"overview", "series", "operations"}
    for board in boards.values():
        asks = [*board["panels"], *board["templating"]["list"], *board["annotations"]["list"]]
        asks += [target for panel in board["panels"] for target in panel["targets"]]
        assert {(one["datasource"]["type"], one["datasource"]["uid"]) for one in asks} <= known
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
        links = {link["url"] for link in board["links"]}
        assert links == {f"/d/{other['uid']}" for other in boards.values() if other is not board}
    (provider,) = read_yaml(DOCKER / "grafana/provisioning/dashboards/stream-ad.yaml")["providers"]
    assert any(volume.split(":")[1] == provider["options"]["path"] for volume in SERVICES["grafana"]["volumes"])
    influx = {**SERVICES["influxdb"]["environment"]}
    (flux,) = [source["jsonData"] for source in sources if source["type"] == "influxdb"]
    assert flux["organization"] == influx["DOCKER_INFLUXDB_INIT_ORG"]
    assert flux["defaultBucket"] == influx["DOCKER_INFLUXDB_INIT_BUCKET"]


def test_dashboards_query_existing_metrics() -> None:
    """Names and labels are those of docs/metrics.md; every metric of the product is shown."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    labels = {measure.full_name: {*measure.labels, "le", "instance"} for measure in METRICS}
    documented = set(re.findall(r"^\| `(\w+)` ", page, re.MULTILINE))
    shown = set()
    for where, text in queries(dashboards()["operations"], "prometheus"):
        (name,) = re.findall(r"\b((?:stream_ad|process)_\w+)", text)
        base = name if name in documented else re.sub(r"_(bucket|sum|count)$", "", name)
        assert base in documented, f"{where}: {name} is not in docs/metrics.md"
        assert text.count("(") == text.count(")")
        for grouped in re.findall(r"by \(([^)]*)\)", text):
            assert set(grouped.split(", ")) <= labels[base], f"{where}: {grouped}"
        shown.add(base)
    assert set(labels) <= shown


def test_kubernetes_manifests_fit_together() -> None:
    listed = MANIFESTS["kustomization"]["resources"]
    apart = {"kustomization", "secret.example", "scaled-by-lag"}
    assert {Path(name).stem for name in listed} == set(MANIFESTS) - apart
    spec = MANIFESTS["worker"]["spec"]
    pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
    (container,) = pod["containers"]
    selectors = [
        spec["selector"]["matchLabels"], MANIFESTS["service"]["spec"]["selector"],
        MANIFESTS["disruption"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["network"]["spec"]["podSelector"]["matchLabels"],
    ]  # fmt: skip
    assert all(selector == labels for selector in selectors)
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert container["ports"] == [{"name": "metrics", "containerPort": WORKER_PORT}]
    assert pod["securityContext"]["runAsUser"] == int(last("USER").split(":")[0])
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    assert mounts["models"] == last("VOLUME")
    token = Path(MANIFESTS["config"]["data"]["STREAM_AD__INFLUXDB__TOKEN_FILE"])
    assert str(token.parent) == mounts["token"]
    assert list(MANIFESTS["secret.example"]["stringData"]) == [token.name, "serve_token"]
    for manifest in MANIFESTS.values():
        assert manifest.get("metadata", {}).get("namespace", "stream-ad") == "stream-ad"
        assert manifest["apiVersion"]
        assert manifest["kind"]


def test_the_scaler_watches_the_workers_consumer_group() -> None:
    spec, data = MANIFESTS["scaled-by-lag"]["spec"], MANIFESTS["config"]["data"]
    assert spec["scaleTargetRef"]["name"] == MANIFESTS["worker"]["metadata"]["name"]
    assert "replicas" not in MANIFESTS["worker"]["spec"]
    (trigger,) = spec["triggers"]
    asked = trigger["metadata"]
    assert asked["consumerGroup"] == data.get("STREAM_AD__KAFKA__GROUP", Settings().kafka.group)
    assert asked["bootstrapServers"] == data["STREAM_AD__KAFKA__BOOTSTRAP"]
    assert asked["topic"] == json.loads(data["STREAM_AD__SUBSCRIPTION"])[0]["topic"]
