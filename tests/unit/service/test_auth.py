"""Authentication, roles, rate limits and headers of the HTTP service."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from stream_ad.errors import ConfigError
from stream_ad.service import make_app
from stream_ad.service.auth import MAX_ADDRESSES, Rate
from stream_ad.service.middleware import HEADERS
from stream_ad.settings import ServeSettings, ServeUser, Settings
from tests.support.service_store import ALERTS, TOKENS, fill, opened, settings_with

PAGES = ["/", "/alerts", f"/alerts/{ALERTS[0].id}", "/series/pump-1", "/operations", "/docs"]
DATA = [
    "/api/v1/series",
    "/api/v1/series/pump-1/scores",
    "/api/v1/alerts",
    f"/api/v1/alerts/{ALERTS[0].id}",
    "/api/v1/alerts/stream",
    "/api/v1/stream",
    "/api/v1/state",
    "/api/v1/subscriptions",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/static/common.js",
    "/static/plotly.js",
    "/nothing",
    "/api/v1/nothing",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "store.sqlite"
    fill(path)
    return path


def test_only_health_and_login_need_no_token(store: Path) -> None:
    with opened(store, role=None) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/login").status_code == 200
        for path in DATA:
            answer = client.get(path)
            assert answer.status_code in (401, 303), path
            assert answer.status_code == 401 or answer.headers["location"].startswith("/login?"), path
        for path in PAGES:
            answer = client.get(path)
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/login?next=%2F"), path
            assert "pump-1" not in answer.text
        assert client.post("/api/v1/topics/t/observations", json=[]).status_code == 401
        assert client.put("/api/v1/subscriptions/t", json={}).status_code == 401
        assert client.delete("/api/v1/subscriptions/t").status_code == 401


def test_every_route_is_in_one_of_the_lists_above(store: Path) -> None:
    """So that no route is forgotten there."""
    listed = {path.partition("?")[0] for path in [*DATA, *PAGES]}
    for path in make_app(settings_with(store)).openapi()["paths"]:
        known = path in listed or any("{" in path and one.startswith(path.partition("{")[0]) for one in listed)
        changes = ("/api/v1/topics/{topic}/observations", "/api/v1/subscriptions/{topic}")
        assert known or path == "/healthz" or path in changes, path


@pytest.mark.parametrize(
    ("role", "reads", "writes", "watches"),
    [("read", 200, 403, 403), ("write", 200, 422, 403), ("admin", 200, 422, 200)],
)
def test_roles(store: Path, role: str, reads: int, writes: int, watches: int) -> None:
    """422: the topic is not subscribed; so far a writer comes."""
    with opened(store, role=role) as client:
        assert client.get("/api/v1/series").status_code == reads
        body = [{"series": "s", "values": {"a": 1.0}}]
        assert client.post("/api/v1/topics/t/observations", json=body).status_code == writes
        assert client.get("/metrics").status_code == watches
        changes = 422 if watches == 200 else 403  # 422: there is no broker
        assert client.put("/api/v1/subscriptions/t", json={}).status_code == changes
        assert client.delete("/api/v1/subscriptions/t").status_code == changes
        assert client.get("/readyz").status_code == watches


def test_wrong_tokens_are_rate_limited(store: Path) -> None:
    with opened(
        store, role=None, logins="3 per minute", users=(ServeUser(name="ops"),), tokens={"ops": SecretStr("o" * 16)}
    ) as client:
        wrong = {"Authorization": "Bearer not-the-token-at-all"}
        assert [client.get("/api/v1/series", headers=wrong).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
        answer = client.get("/api/v1/series", headers=wrong)
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200
        assert client.post("/login", data={"token": "o" * 16}).status_code == 429


def test_requests_are_rate_limited(store: Path) -> None:
    with opened(store, rate="5 per hour") as client:
        answers = [client.get("/api/v1/alerts") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert 0 < int(answers[6].headers["retry-after"]) <= 720


def test_a_bucket_refills_evenly_and_the_number_of_names_is_limited() -> None:
    now = 0.0
    rate = Rate(burst=2.0, per_s=0.5, clock=lambda: now)
    assert [rate.wait_s("a") for _ in range(3)] == [0.0, 0.0, 2.0]
    assert rate.wait_s("b") == 0.0
    now = 2.0
    assert [rate.wait_s("a") for _ in range(2)] == [0.0, 2.0]
    for number in range(MAX_ADDRESSES):
        rate.wait_s(str(number))
    assert rate.wait_s("a") == 0.0


def test_a_browser_signs_in_and_out(store: Path) -> None:
    with opened(store, role=None) as client:
        wrong = client.post("/login", data={"token": "not-the-token-at-all", "next": "/alerts"})
        assert wrong.status_code == 401
        assert "unknown token" in wrong.text
        right = client.post("/login", data={"token": TOKENS["read"], "next": "/alerts"})
        assert (right.status_code, right.headers["location"]) == (303, "/alerts")
        cookie = right.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert TOKENS["read"] not in cookie
        assert client.get("/alerts").status_code == 200
        assert client.get("/metrics").status_code == 403
        assert client.post("/logout", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
        assert client.get("/alerts").status_code == 303


def test_the_printed_link_becomes_a_session_without_the_token_in_the_address(store: Path) -> None:
    app = make_app(settings_with(store, users=()))
    token = app.state.access.generated
    assert token
    assert len(token) >= 32
    with TestClient(app, base_url="http://127.0.0.1", follow_redirects=False) as client:
        answer = client.get(f"/series/a%2Fb?token={token}&span=60")
        assert (answer.status_code, answer.headers["location"]) == (303, "/series/a/b?span=60")
        assert client.get("/").status_code == 200
        assert client.get("/api/v1/alerts?token=wrong").status_code == 200  # the session is enough
    with TestClient(app, base_url="http://127.0.0.1", follow_redirects=False) as other:
        assert other.get(f"/api/v1/alerts?token={token}").status_code == 401  # programs show it in the header


@pytest.mark.parametrize(
    "target", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "x", "/a\nb"]
)
def test_login_is_no_open_redirect(store: Path, target: str) -> None:
    with opened(store, role=None) as client:
        answer = client.post("/login", data={"token": TOKENS["read"], "next": target})
        assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 422),
        ({"Origin": "http://127.0.0.1"}, 422),
    ],
)
def test_another_site_changes_nothing_with_a_session(store: Path, headers: dict[str, str], status: int) -> None:
    body = [{"series": "s", "values": {"a": 1.0}}]
    with opened(store, role=None) as client:
        client.post("/login", data={"token": TOKENS["write"]})
        assert client.post("/api/v1/topics/t/observations", json=body, headers=headers).status_code == status


def test_a_token_needs_no_origin(store: Path) -> None:
    with opened(store, role="write") as client:
        body = [{"series": "s", "values": {"a": 1.0}}]
        answer = client.post("/api/v1/topics/t/observations", json=body, headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 422


def test_a_changed_token_ends_its_sessions(store: Path) -> None:
    with opened(store, role=None) as client:
        client.post("/login", data={"token": TOKENS["read"]})
        cookies = dict(client.cookies)
    users, tokens = (ServeUser(name="read"),), {"read": SecretStr("another-token-of-read")}
    with opened(store, role=None, users=users, tokens=tokens) as client:
        client.cookies.update(cookies)
        assert client.get("/").status_code == 303


def test_every_response_has_the_security_headers(store: Path) -> None:
    with opened(store) as client:
        for path in ("/healthz", "/", "/api/v1/series", "/api/v1/alerts/none", "/static/app.css", "/nothing"):
            answer = client.get(path)
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path
            assert "server" not in answer.headers
        assert "script-src 'self';" in HEADERS["Content-Security-Policy"]
        assert client.get("/api/v1/series").headers["cache-control"] == "no-store"


def test_an_unknown_host_name_is_refused(store: Path) -> None:
    with opened(store) as client:
        assert client.get("/healthz", headers={"Host": "elsewhere.example"}).status_code == 400
    with opened(store, hosts=("watch.example",)) as client:
        assert client.get("/healthz", headers={"Host": "watch.example"}).status_code == 200


def test_open_access_is_local_only(store: Path) -> None:
    with opened(store, role=None, access="open") as client:
        assert client.get("/api/v1/series").status_code == 200
        assert client.get("/").status_code == 200
        assert client.post("/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    with pytest.raises(ValidationError, match="this machine only"):
        ServeSettings(access="open", host="0.0.0.0")


def test_other_machines_need_a_token() -> None:
    with pytest.raises(ConfigError, match="no user has a token"):
        make_app(Settings(serve=ServeSettings(host="0.0.0.0")))
    with pytest.raises(ConfigError, match="has no token"):
        make_app(Settings(serve=ServeSettings(host="0.0.0.0", users=(ServeUser(name="ops"),))))
    make_app(Settings(serve=ServeSettings(host="0.0.0.0", tokens={"admin": SecretStr("a" * 16)})))


def test_a_short_token_is_refused_and_not_shown() -> None:
    serve = ServeSettings(users=(ServeUser(name="ops"),), tokens={"ops": SecretStr("secret-too")})
    with pytest.raises(ConfigError, match="16 ASCII characters") as caught:
        make_app(Settings(serve=serve))
    assert "secret-too" not in str(caught.value)


def test_a_token_from_a_file(store: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token-in-a-file-0123\n", encoding="utf-8")
    users = (ServeUser(name="ops", token_file=tmp_path / "token"),)
    with opened(store, role=None, users=users) as client:
        answer = client.get("/api/v1/series", headers={"Authorization": "Bearer token-in-a-file-0123"})
        assert answer.status_code == 200
