"""An embedded store with two series and three alerts, and the service over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from pydantic import SecretStr
from stream_ad_connectors.sqlite.store import SqliteStore

from stream_ad.records import Alert, AlertChannel, AlertState, Outputs, ScoreBatch, SeriesStatus
from stream_ad.service import make_app
from stream_ad.settings import ServeSettings, ServeUser, Settings, StoreSettings

S = 1_000_000_000
START_NS = 1_767_225_600 * S
SLOTS = 2_500
PUMP, AWKWARD = "pump-1", "a/b <i> ü"
TOKENS = {role: f"token-of-{role}-0123456789" for role in ("read", "write", "admin")}


def scores(series: str) -> ScoreBatch:
    noise = np.random.default_rng(3).uniform(0, 0.9, SLOTS)
    noise[1_700] = 4.0
    value = np.linspace(0, 1, 2 * SLOTS, dtype=np.float32).reshape(SLOTS, 2)
    value[5, 1] = np.nan
    return ScoreBatch(
        series=series,
        channels=("pressure", "flow"),
        event_time_ns=START_NS + S * np.arange(SLOTS, dtype=np.int64),
        score=noise,
        value=value,
        expected=value * 0 + 1,
        lower=value * 0,
        upper=value * 0 + 2,
        attribution=value * 0 + 0.5,
        revision=np.zeros(SLOTS, dtype=np.int32),
        alert_id=tuple("c" * 24 if slot == 1_700 else "" for slot in range(SLOTS)),
        model_version="universal/1",
    )


def alert(digit: str, series: str, slot: int, state: AlertState, peak: float) -> Alert:
    start = START_NS + slot * S
    channels = (AlertChannel("pressure", 0.8, 4.25, 3.0, 2.9, 3.1), AlertChannel("flow", 0.2, None, 3.0, 2.9, 3.1))
    end = start + 5 * S if state is AlertState.RESOLVED else None
    return Alert(
        digit * 24, series, "threshold", state, start, start - 3 * S, start, end, start + 9 * S, peak, start, channels,
        "universal/1",
    )  # fmt: skip


ALERTS = (
    alert("a", PUMP, 100, AlertState.RESOLVED, 1.5),
    alert("b", AWKWARD, 900, AlertState.RESOLVED, 2.5),
    alert("c", PUMP, 1_700, AlertState.OPEN, 4.0),
)


def status(series: str, scoring: bool) -> SeriesStatus:
    last = START_NS + (SLOTS - 1) * S if scoring else None
    return SeriesStatus(
        series, "scoring" if scoring else "filling", ("pressure", "flow"), S, SLOTS, 0 if scoring else 40, 128, 4096,
        "auto-128" if scoring else "", START_NS if scoring else None, last, 1 if series == PUMP else 0,
    )  # fmt: skip


def fill(path: Path) -> None:
    store = SqliteStore(path)
    store.write(
        Outputs(
            scores=[scores(PUMP), scores(AWKWARD)],
            alerts=list(ALERTS),
            statuses=[status(PUMP, True), status(AWKWARD, True), status("new", False)],
        )
    )
    store.close()


def settings_with(path: Path, **serve: object) -> Settings:
    if "access" not in serve and "users" not in serve:
        serve["users"] = tuple(ServeUser(name=role, role=role) for role in TOKENS)
        serve["tokens"] = {role: SecretStr(token) for role, token in TOKENS.items()}
    return Settings(store=StoreSettings(path=path), serve=ServeSettings(**serve))


@contextmanager
def opened(path: Path, role: str | None = "read", **serve: object) -> Iterator[TestClient]:
    """A client of the service that shows the token of a role."""
    headers = {} if role is None else {"Authorization": f"Bearer {TOKENS[role]}"}
    with TestClient(
        make_app(settings_with(path, **serve)), base_url="http://127.0.0.1", headers=headers, follow_redirects=False
    ) as client:
        yield client
