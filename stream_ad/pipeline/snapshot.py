"""The snapshot of a series: the small part of its state that a replay of the log cannot rebuild (ADR 3).

The buffer is not in it, since a replay of the last slots refills it. Only a series far behind its partition has a
self-contained snapshot, with its rows, so that the partition need not be replayed from there.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec
import numpy as np

from stream_ad.errors import ModelError
from stream_ad.pipeline.series import Series
from stream_ad.ports import ProfileStore
from stream_ad.records import Alert, Observation
from stream_ad.windowing.slot_buffer import SlotBuffer

__all__ = ["newest_of_state", "restore", "snapshot"]

FORMAT = 1


class _Rows(msgspec.Struct):
    base: int
    top: int
    values: bytes  # zlib of float32 [top - base, channel]
    seen: bytes  # zlib of bool [top - base]


# Field -> its name in format 1, where the two differ.
_STORED = {
    "emitted_from": "told_from",
    "history_start": "origin",
    "next_fit_slots": "next_fit",
    "late_slots": "dirty",
    "alert_intervals": "spans",
    "speculative": "early",
    "first_emitted_ns": "first_told_ns",
    "last_emitted_ns": "last_told_ns",
    "pre_grid": "waiting",
    "uncaptured_late_slots": "unsettled",
}


class _State(msgspec.Struct, rename=_STORED):
    """offset: the first record whose effect is not in the state."""

    format: int
    offset: int
    channels: list[str]
    channels_fixed: bool
    step_ns: int
    anchor_ns: int
    max_slot: int
    next_end: int
    next_emit: int
    emitted_from: int | None
    history_start: int
    next_fit_slots: int | None
    need_from: int
    late_slots: list[int]
    revised: dict[int, int]
    profile: str
    tracker: dict[str, Any]
    alert_intervals: list[tuple[str, int, int]]
    speculative: dict[str, Alert]
    first_emitted_ns: int | None
    last_emitted_ns: int | None
    rows: _Rows | None = None
    pre_grid: list[tuple[int, dict[str, float], int]] = []  # event time, values, offset; only while there is no grid
    scorer: str = ""  # name and version; under another one only the emitted slots still count
    # Slot -> emitted score, where late data may still move it and the rows do not reproduce it.
    uncaptured_late_slots: dict[int, float] = {}


class _Newest(msgspec.Struct, rename=_STORED):
    """The part of a `_State` that `newest_of_state` needs."""

    step_ns: int
    anchor_ns: int
    max_slot: int
    pre_grid: list[tuple[int, Any, Any]] = []


_decoder: Final = msgspec.msgpack.Decoder(_State)
_newest_decoder: Final = msgspec.msgpack.Decoder(_Newest)


def snapshot(series: Series, offset: int, *, with_rows: bool = False) -> bytes:
    """The state of a series after all records below `offset`. with_rows: self-contained, as that of a series without a
    grid always is."""
    windower, grid, emitter = series.windower, series.windower.grid, series.emitter
    rows = None
    if grid is None:
        series.snapshot_rows_to = 1
    elif with_rows:
        base, top = windower.need_from, windower.rows.top
        values, seen = windower.rows.window(base, top).tobytes(), windower.rows.seen(base, top).tobytes()
        rows = _Rows(base, top, zlib.compress(values, 1), zlib.compress(seen, 1))
        series.snapshot_rows_to = top
    else:
        series.snapshot_rows_to = 0
    state = _State(
        format=FORMAT,
        offset=offset,
        channels=series.channels.names,
        channels_fixed=series.channels.fixed,
        step_ns=grid.step_ns if grid else 0,
        anchor_ns=grid.anchor_ns if grid else 0,
        max_slot=grid.max_slot if grid else -1,
        next_end=windower.next_end,
        next_emit=windower.next_emit,
        emitted_from=windower.emitted_from,
        history_start=windower.history_start,
        next_fit_slots=windower.next_fit_slots,
        need_from=windower.need_from,
        late_slots=sorted(windower.late_slots),
        revised=emitter.emitted.revisions(),
        profile=series.profile.version if series.profile else "",
        scorer=_scorer_of(series),
        tracker=emitter.tracker.state(),
        alert_intervals=emitter.alert_intervals,
        speculative=emitter.speculative,
        first_emitted_ns=emitter.first_emitted_ns,
        last_emitted_ns=emitter.last_emitted_ns,
        rows=rows,
        pre_grid=[(one.event_time_ns, dict(one.values), at) for one, at in series.pre_grid],
        uncaptured_late_slots=emitter.emitted.scores(windower.uncaptured_late_slots, windower.revisable_from),
    )
    return msgspec.msgpack.encode(state)


def _scorer_of(series: Series) -> str:
    return f"{series.scorer.name}-{series.scorer.version}"


def newest_of_state(data: bytes) -> int | None:
    """`Series.newest_ns` of a snapshot. ModelError when it cannot be decoded."""
    try:
        state = _newest_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ModelError(f"the state of a series cannot be read: {error}") from error
    if state.max_slot >= 0:
        return state.anchor_ns + state.max_slot * state.step_ns
    return max((time_ns for time_ns, _, _ in state.pre_grid), default=None)


def restore(series: Series, data: bytes, profiles: ProfileStore) -> None:
    """Restores a fresh `series` from its `snapshot`; unless that is self-contained, a replay then refills the buffer.

    ModelError when the snapshot cannot be decoded, or its profile is not in the store.
    """
    try:
        state = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ModelError(f"state of series {series.key.series!r} cannot be read: {error}") from error
    if state.format != FORMAT:
        raise ModelError(f"state of series {series.key.series!r}: expected format {FORMAT}, found {state.format}")
    series.adopt_channels(tuple(state.channels))
    series.channels.fixed = state.channels_fixed
    windower, emitter = series.windower, series.emitter
    if state.pre_grid:
        series.pre_grid = [(Observation(series.key.series, t, values), at) for t, values, at in state.pre_grid]
        series.snapshot_rows_to = 1
    else:
        windower.grid = series.make_grid(state.step_ns, state.anchor_ns)
        windower.grid.max_slot = state.max_slot
        series.replay_grid = series.make_grid(state.step_ns, state.anchor_ns)
        emitter.step_ns = state.step_ns
        windower.rows = SlotBuffer(len(state.channels), state.need_from)
    windower.next_end, windower.next_emit = state.next_end, state.next_emit
    windower.emitted_from, windower.late_slots = state.emitted_from, set(state.late_slots)
    windower.history_start, windower.next_fit_slots = state.history_start, state.next_fit_slots
    series.provisional_emitted = False  # the sinks may lack the last provisional scores: they are emitted again
    emitter.first_emitted_ns, emitter.last_emitted_ns = state.first_emitted_ns, state.last_emitted_ns
    series.replay_until = state.offset
    emitter.tracker.restore(state.tracker)
    emitter.alert_intervals, emitter.speculative = state.alert_intervals, state.speculative
    if state.scorer != _scorer_of(series):
        series.change_scorer(profiles.load(series.key.series, series.scorer.name))
    elif state.profile:
        profile = profiles.load(series.key.series, series.scorer.name, state.profile)
        if profile is None:
            raise ModelError(
                f"profile {state.profile!r} of series {series.key.series!r} is not in the model store",
                hint="point models.url of all workers of a group at the same store",
            )
        series.use_profile(profile)
    _restore_emitted(series, state)
    _restore_rows(series, state)


def _restore_emitted(series: Series, state: _State) -> None:
    if slots := sorted(state.revised.keys() | state.uncaptured_late_slots.keys()):
        scores = [state.uncaptured_late_slots.get(slot, np.nan) for slot in slots]
        revisions = [state.revised.get(slot, 0) for slot in slots]
        emitted = series.emitter.emitted
        emitted.store(np.array(slots), np.array(scores), np.array(revisions, dtype=np.int32))
        emitted.set_stale(np.array(slots), ~np.isnan(scores))


def _restore_rows(series: Series, state: _State) -> None:
    if state.rows is not None:
        count, width = state.rows.top - state.rows.base, len(state.channels)
        values = np.frombuffer(_inflate(state.rows.values, 4 * count * width), dtype=np.float32).reshape(count, width)
        rows = series.windower.rows = SlotBuffer(width, state.rows.base)
        every = np.arange(width)
        for i in np.flatnonzero(np.frombuffer(_inflate(state.rows.seen, count), dtype=bool)):
            rows.put(state.rows.base + int(i), every, values[i], state.offset)
        series.snapshot_rows_to, series.replay_grid = state.rows.top, None


def _inflate(packed: bytes, size: int) -> bytes:
    """Exactly `size` bytes. ModelError for another size; a decompression bomb is never unpacked beyond it."""
    try:
        plain = zlib.decompressobj().decompress(packed, max(0, size) + 1)
    except zlib.error as error:
        raise ModelError(f"rows in the state of a series cannot be unpacked: {error}") from error
    if len(plain) != size:
        found = f"{len(plain)} bytes" if len(plain) < size else "more"
        raise ModelError(f"rows in the state of a series: expected {size} bytes, found {found}")
    return plain
