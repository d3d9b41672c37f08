"""What the sink checks write and how they compare what comes back; see check_sink for the promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream_ad.ports import AlertReader, ScoreReader, Sink, StatusReader
from stream_ad.records import Alert, AlertChannel, AlertState, Outputs, ScoreBatch, SeriesStatus

AWKWARD_NAMES = (
    "plain",
    "with space",
    " edges ",
    "comma,comma",
    "equals=sign",
    'double"quote',
    "single'quote",
    "back\\slash",
    "ends in backslash\\",
    "slash/../..",
    "percent%20%",
    "Größe Ω 温度 🌡",
    "'; DROP TABLE score; --",
    "{brace} [bracket] $var ${var}",
    "_underscore",
    "0123",
    "true",
    "a.b:c|d?e&f#g",
)
STEP_NS = 1_000_000_000
START_NS = 1_735_689_600_123_456_789  # odd nanoseconds: a store that keeps only milliseconds is found out
FAR_NS = 2**62


@dataclass(frozen=True)
class SinkUnderTest:
    """A sink and the readers that see what it wrote; None = this sink has no such reader, its checks pass over."""

    sink: Sink
    scores: ScoreReader | None = None
    alerts: AlertReader | None = None
    statuses: StatusReader | None = None


@dataclass(frozen=True)
class SinkPromises:
    """What the implementation promises beyond the port.

    prefix: put before every series name and alert id; make it unique per check when the store is shared or kept.
    wait_s: how long a reader may lag behind `write`; 0 = it sees it at once.
    channel_detail: value, expected, band and attribution of every channel come back.
    keeps_newer: a lower revision, or an older state of an alert, written later is ignored. Turn it off only for a store
        that cannot compare before it writes: there the order of the log is all that protects the newest.
    start_ns: event time of the first sample; move it into the store's retention period.
    """

    prefix: str = "check"
    wait_s: float = 0.0
    channel_detail: bool = True
    keeps_newer: bool = True
    start_ns: int = START_NS

    def time_ns(self, slot: int) -> int:
        return self.start_ns + slot * STEP_NS

    def name(self, text: str) -> str:
        return f"{self.prefix} {text}" if self.prefix else text


def eventually(expect: Callable[[], None], wait_s: float) -> None:
    """`expect` until it raises no AssertionError, for at most wait_s; the last one is raised."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return expect()
        except AssertionError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.05)


def batch(
    series: str,
    times_ns: Sequence[int],
    channels: tuple[str, ...] = ("a", "b"),
    *,
    seed: int = 0,
    revision: int = 0,
    alert_id: str = "",
    model_version: str = "v1",
    missing: bool = False,
) -> ScoreBatch:
    """A batch whose numbers depend on `seed`; `missing` masks every third value and the whole first row."""
    random = np.random.default_rng(seed)
    shape = (len(times_ns), len(channels))
    value = random.normal(size=shape).astype(np.float32)
    if missing:
        value.reshape(-1)[::3] = np.nan
        value[:1] = np.nan
    attribution = random.random(shape).astype(np.float32) + np.float32(1e-3)
    return ScoreBatch(
        series=series,
        channels=channels,
        event_time_ns=np.array(times_ns, dtype=np.int64),
        score=random.exponential(size=len(times_ns)),
        value=value,
        expected=random.normal(size=shape).astype(np.float32),
        lower=np.full(shape, -3.0e38, dtype=np.float32),
        upper=np.full(shape, 1e-40, dtype=np.float32),
        attribution=attribution / attribution.sum(axis=1, keepdims=True),
        revision=np.full(len(times_ns), revision, dtype=np.int32),
        alert_id=(alert_id,) * len(times_ns),
        model_version=model_version,
    )


def rows_of(one: ScoreBatch, rows: slice) -> ScoreBatch:
    """Some of a batch's slots as a batch."""
    arrays = ("event_time_ns", "score", "value", "expected", "lower", "upper", "attribution", "revision", "alert_id")
    return replace(one, **{name: getattr(one, name)[rows] for name in arrays})


@dataclass(frozen=True)
class Slot:
    """One scored slot as it is compared; channels: name -> value, expected, lower, upper, attribution (NaN as None)."""

    score: float
    revision: int
    alert_id: str
    model_version: str
    channels: dict[str, tuple[float | None, ...]]


def slots(batches: Sequence[ScoreBatch], *, detail: bool = True) -> list[tuple[int, Slot]]:
    """Batches as (time, slot) in the order given, however they were cut."""
    found: list[tuple[int, Slot]] = []
    for one in batches:
        arrays = (one.value, one.expected, one.lower, one.upper, one.attribution)
        for row in range(len(one)):
            channels = {
                name: tuple(None if np.isnan(array[row, c]) else float(array[row, c]) for array in arrays)
                for c, name in enumerate(one.channels)
            }
            slot = Slot(
                float(one.score[row]),
                int(one.revision[row]),
                one.alert_id[row],
                one.model_version,
                channels if detail else {},
            )
            found.append((int(one.event_time_ns[row]), slot))
    return found


def write_scores(target: SinkUnderTest, *batches: ScoreBatch) -> None:
    target.sink.write(Outputs(scores=list(batches)))


def expect_scores(target: SinkUnderTest, promises: SinkPromises, series: str, *expected: ScoreBatch) -> None:
    """The reader returns exactly the slots of `expected` for the series, in time order, each once."""
    reader = target.scores
    if reader is None:
        return
    wanted = slots(expected, detail=promises.channel_detail)

    def check() -> None:
        found = reader.scores(series, 0, FAR_NS)
        for one in found:
            check_shapes(one, series)
        assert slots(found, detail=promises.channel_detail) == wanted
        assert reader.score_counts().get(series, 0) == len(wanted)

    eventually(check, promises.wait_s)


def check_shapes(one: ScoreBatch, series: str) -> None:
    shape = (len(one), len(one.channels))
    assert one.series == series
    assert one.event_time_ns.dtype == np.int64
    assert one.score.dtype == np.float64
    assert one.revision.dtype == np.int32
    assert len(one.alert_id) == len(one) > 0, "a reader returns no empty batches"
    for array in (one.value, one.expected, one.lower, one.upper, one.attribution):
        assert array.dtype == np.float32
        assert array.shape == shape


def alert(
    promises: SinkPromises,
    name: str,
    series: str,
    state: AlertState,
    *,
    slot: int = 0,
    length: int = 0,
    revision: int = 0,
) -> Alert:
    """An alert of an episode that began at `slot` and is `length` slots old; its peak grows with it."""
    start_ns, now_ns = promises.time_ns(slot), promises.time_ns(slot + length)
    return Alert(
        id=promises.name(name),
        series=series,
        rule="score",
        state=state,
        start_ns=start_ns,
        likely_start_ns=start_ns - 3 * STEP_NS,
        detected_ns=start_ns + STEP_NS,
        end_ns=now_ns if state is AlertState.RESOLVED else None,
        updated_ns=now_ns,
        peak_score=1.25 + length,
        peak_ns=now_ns,
        channels=(
            AlertChannel("Druck, bar=1", 0.75, actual=1.5, expected=0.5, lower=-0.25, upper=1.0),
            AlertChannel("b", 0.25, actual=None, expected=0.1, lower=0.0, upper=0.2),
        ),
        model_version="universal-1",
        revision=revision,
    )


def status(series: str, slots_seen: int) -> SeriesStatus:
    return SeriesStatus(
        series=series,
        state="scoring" if slots_seen > 10 else "filling",
        channels=("a", "b c"),
        step_ns=STEP_NS if slots_seen else None,
        slots_seen=slots_seen,
        ready_in_slots=max(0, 10 - slots_seen),
        memory_slots=slots_seen,
        memory_capacity=4096,
        profile_version="",
        first_score_ns=START_NS if slots_seen > 10 else None,
        last_score_ns=START_NS + slots_seen if slots_seen > 10 else None,
        open_alerts=1,
        detail="not ready: 3 of 10 slots, ready at about 12:00",
        counters={"late": slots_seen, "dead_letters": 0},
    )
