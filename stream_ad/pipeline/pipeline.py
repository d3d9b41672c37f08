"""Many series at once: records in, outputs out; checkpoints and restarts.

The one path of live, backtest, demo and tests.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from stream_ad.detection.absence import AbsenceMonitor, LiveSeries
from stream_ad.detection.emission import EmittedScores, Emitter
from stream_ad.durations import duration_ns
from stream_ad.pipeline.batch_scorer import BatchScorer
from stream_ad.pipeline.poll_batch import PollBatch
from stream_ad.pipeline.series import Series, SeriesKey
from stream_ad.pipeline.series_config import SeriesConfig
from stream_ad.pipeline.snapshot import newest_of_state, restore_series, save_series
from stream_ad.pipeline.status import status_of
from stream_ad.ports import Checkpoint, ProfileStore, Scorer
from stream_ad.records import DeadLetter, Observation, Outputs, SeriesStatus, SourcePosition, SourceRecord
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import Settings, Subscription

__all__ = ["Pipeline"]

MAX_REPLAY_RECORDS = 100_000  # a series this far behind its partition keeps its rows in its state, not in the log

Partition = tuple[str, int]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class PartitionState:
    """Where a partition stands: `next_offset` follows the last record taken; dead letters below `committed` are
    told."""

    next_offset: int = 0
    committed: int = 0
    touched: set[SeriesKey] = field(default_factory=set)
    states: dict[str, bytes] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)


class Pipeline:
    """Scores the series of the partitions it is given. Not thread-safe: one caller at a time.

    Outputs are a function of the records alone; `now_s` (any monotonic clock) only says when a series fell silent.
    """

    def __init__(self, settings: Settings, scorer: Scorer, profiles: ProfileStore) -> None:
        self.settings = settings
        self.scorer = scorer
        self.profiles = profiles
        self._decoders: dict[str, Decoder] = {}
        self._configs: dict[str, SeriesConfig] = {}
        self._series: dict[SeriesKey, Series] = {}
        self._partitions: dict[Partition, PartitionState] = {}
        self._silences: dict[Partition, AbsenceMonitor] = {}
        self.observations = 0  # decoded from records that were not answered for before
        self._batch_scorer = BatchScorer(scorer)
        self._changed: set[SeriesKey] = set()
        self._full = False
        self._silence_s = duration_ns(settings.detector.silence) / 1e9
        detector = settings.detector
        slack = 2 * (scorer.delay_steps + 2 * scorer.hop_steps)
        self._emitted_capacity = detector.revise_steps + detector.allowed_lateness_steps + slack

    # ---- records to outputs

    def process(self, records: Sequence[SourceRecord], now_s: float = 0.0) -> Outputs:
        """Everything that these records make due."""
        out = Outputs()
        batch = PollBatch()
        for number, record in enumerate(records):
            position = record.position
            partition_state = self._partitions.setdefault((position.topic, position.partition), PartitionState())
            if position.offset < partition_state.next_offset:
                continue  # taken already
            partition_state.next_offset = position.offset + 1
            found, letters = self._decoder(position.topic).read(record)
            if position.offset >= partition_state.committed:
                batch.letters += [(number, letter) for letter in letters]
                self.observations += sum(1 if isinstance(part, Observation) else len(part) for part in found)
            for part in found:
                series = partition_state.series.get(part.series) or self._find(position, part.series, partition_state)
                if series is not None:
                    batch.add(series, part, number, position.offset)
                elif position.offset >= partition_state.committed:
                    limit = f"expected at most {self.settings.detector.max_series} series (detector.max_series)"
                    batch.letters.append((number, DeadLetter(record, "too_many_series", limit)))
        active = batch.series
        for series in active:
            self._observe(series, batch, records, out)
            series.last_seen_s = now_s
            if series.silent_ns is not None:
                self._end_silence(series, out)
            self._changed.add(series.key)
            self._partitions[series.key.place].touched.add(series.key)
        out.dead_letters.extend(letter for _, letter in sorted(batch.letters, key=itemgetter(0)))
        self._batch_scorer.run_pending(active, out)
        return out

    def _observe(self, series: Series, batch: PollBatch, records: Sequence[SourceRecord], out: Outputs) -> None:
        """Hands a series its part of the records, in their order."""
        committed = self._partitions[series.key.place].committed
        for block, numbers, offsets in batch.blocks(series):
            for row, reason, detail in series.observe_all(
                block, offsets, lambda: self._batch_scorer.run_pending([series], out)
            ):
                if offsets[row] >= committed:
                    batch.letters.append((numbers[row], DeadLetter(records[numbers[row]], reason, detail)))

    def flush(self, now_s: float | None = None) -> Outputs:
        """Tells the waiting slots of series silent at `now_s` (None = of all) with what is there."""
        out = Outputs()
        silent = [s for s in self._series.values() if not s.provisional_emitted and self._is_silent(s, now_s)]
        self._changed.update(series.key for series in silent)
        for series in silent:
            self._partitions[series.key.place].touched.add(series.key)
            if series.replay_until is not None:
                series.go_live()
        self._batch_scorer.run_pending(silent, out)
        for series in silent:
            work = series.provisional()
            if work is not None:
                series.windower.queue.append(work)
        self._batch_scorer.run_pending(silent, out)
        if now_s is not None:
            self._open_silences(out)
        return out

    def observe_end_offset(self, topic: str, partition: int, end: int, at_s: float) -> None:
        """At `at_s`, on the clock of `now_s`, a partition held records below `end`. Once all of them are processed, who
        was not among them is silent. May be called while another thread works."""
        watch = self._silences.get((topic, partition))
        if watch is not None:
            watch.probe(end, at_s)

    def _open_silences(self, out: Outputs) -> None:
        """Those that the partitions read to their end since the last call show."""
        for place, watch in self._silences.items():
            partition_state = self._partitions[place]
            if not watch.caught_up(partition_state.next_offset):
                continue
            live = (LiveSeries(name, one.newest_ns, one.last_seen_s) for name, one in partition_state.series.items())
            for alert in watch.due(live):
                series = partition_state.series.get(alert.series)
                if series is not None:
                    series.silent_ns = alert.start_ns
                out.alerts.append(alert)

    def _end_silence(self, series: Series, out: Outputs) -> None:
        end_ns = series.returned_ns
        if end_ns is not None:
            series.silent_ns = series.returned_ns = None
            out.alerts.append(self._silences[series.key.place].ended(series.key.series, end_ns))

    def _is_silent(self, series: Series, now_s: float | None) -> bool:
        partition_state = self._partitions[series.key.place]
        if series.replay_until is not None and partition_state.next_offset < series.replay_until:
            return False
        return now_s is None or now_s - series.last_seen_s >= self._silence_s

    def _find(self, position: SourcePosition, name: str, partition_state: PartitionState) -> Series | None:
        """A series met for the first time; None when there are too many."""
        key = SeriesKey(position.topic, position.partition, name)
        if key.series not in partition_state.states and self._is_full():
            return None
        config = self._config_of(key.topic)
        series = Series(
            key, config, self.scorer, Emitter(key.series, config.episodes, EmittedScores(self._emitted_capacity))
        )
        state = partition_state.states.pop(key.series, None)
        if state is None:
            series.begin(self.profiles.load(key.series, self.scorer.name))
        else:
            restore_series(series, state, self.profiles)
        self._series[key] = partition_state.series[name] = series
        watch = self._silences.get(key.place)
        series.silent_ns = watch.since_ns(key.series) if watch else None
        return series

    def _is_full(self) -> bool:
        """Whether a new series has to be refused; those with a state from before a restart keep their places."""
        limit = self.settings.detector.max_series
        if (
            len(self._series) + sum(len(partition_state.states) for partition_state in self._partitions.values())
            < limit
        ):
            return False
        if not self._full:
            self._full = True
            log.warning("%d series are known: new ones are dead-lettered from now on (detector.max_series)", limit)
        return True

    def _decoder(self, topic: str) -> Decoder:
        if topic not in self._decoders:
            self._decoders[topic] = Decoder(self.settings.subscription_of(topic), self.settings.detector)
        return self._decoders[topic]

    def _config_of(self, topic: str) -> SeriesConfig:
        if topic not in self._configs:
            self._configs[topic] = SeriesConfig.of(self.settings, topic, self.scorer)
        return self._configs[topic]

    # ---- partitions, checkpoints

    def assign(
        self, topic: str, partition: int, states: Mapping[str, bytes], committed: Checkpoint | None
    ) -> int | None:
        """Takes over a partition; the offset to read from, None = from where the source begins."""
        own = dict(states)
        silent_after = self.settings.subscription_of(topic).silent_after or self.settings.alerts.silent_after
        after_s = duration_ns(silent_after) / 1e9 if silent_after else None
        self._silences[(topic, partition)] = AbsenceMonitor.restore(after_s, own, newest_of_state)
        partition_state = PartitionState(states=own)
        self._partitions[(topic, partition)] = partition_state
        if committed is None:
            return None
        partition_state.next_offset = committed.replay_offset
        partition_state.committed = committed.next_offset
        return committed.replay_offset

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """How topics are read from now on; those that are not named stay as they are. ConfigError = nothing changed."""
        known = {one.topic: one for one in self.settings.subscription}
        changed = [one for one in subscriptions if known.get(one.topic) != one or one.topic not in self._decoders]
        self._decoders |= {one.topic: Decoder(one, self.settings.detector) for one in changed}
        for one in changed:
            self._configs.pop(one.topic, None)
        known |= {one.topic: one for one in subscriptions}
        self.settings = self.settings.model_copy(update={"subscription": tuple(known.values())})

    def revoke(self, topic: str, partition: int) -> None:
        """Forgets a partition and its series."""
        partition_state = self._partitions.pop((topic, partition), None)
        self._silences.pop((topic, partition), None)
        for series in partition_state.series.values() if partition_state else ():
            del self._series[series.key]
            self._changed.discard(series.key)

    def save_profiles(self, *, promote: bool) -> None:
        """Stores the profiles that were filled since the last call.

        promote: the next start scores with them. Only for streams that cannot be read again: elsewhere a restart must
        find what the state names, and nothing newer.
        """
        unsaved_profiles = self._batch_scorer.unsaved_profiles
        while unsaved_profiles:
            self.profiles.save(unsaved_profiles[0], promote=promote)
            unsaved_profiles.pop(0)

    def checkpoint(self, topic: str, partition: int) -> tuple[dict[str, bytes], Checkpoint] | None:
        """States of the series touched since the last call, and where to go on from once these are durable.

        None when there is nothing new to store. Profiles that the states name are saved first.
        """
        partition_state = self._partitions.get((topic, partition))
        if partition_state is None or partition_state.next_offset < partition_state.committed:
            return None  # still reading back
        silences = self._silences.get((topic, partition))
        silent = silences.states() if silences else {}
        if partition_state.next_offset == partition_state.committed and not partition_state.touched and not silent:
            return None
        self.save_profiles(promote=False)
        next_offset = replay_offset = partition_state.next_offset
        states = silent
        for series in partition_state.series.values():
            min_required_offset = series.min_required_offset()
            self_contained = series.snapshot_rows_to > series.windower.need_from or (
                min_required_offset is not None and next_offset - min_required_offset > MAX_REPLAY_RECORDS
            )
            self_contained = self_contained and series.replay_until is None
            if min_required_offset is not None and not self_contained:
                replay_offset = min(replay_offset, min_required_offset)
            newly_self_contained = self_contained and not series.snapshot_rows_to
            windower = (series.key in partition_state.touched and series.windower.grid is not None) or self_contained
            if (
                windower
                and (newly_self_contained or series.key in partition_state.touched)
                and series.replay_until is None
            ):
                states[series.key.series] = save_series(series, next_offset, with_rows=self_contained)
        partition_state.touched.clear()
        partition_state.committed = next_offset
        return states, Checkpoint(next_offset, replay_offset)

    # ---- for who watches, from any thread

    @property
    def series_count(self) -> int:
        return len(self._series)

    @property
    def restoring(self) -> bool:
        """Some partition is still reading records again that were answered for."""
        return any(
            partition_state.next_offset < partition_state.committed
            for partition_state in list(self._partitions.values())
        )

    def newest_ns(self) -> dict[Partition, int]:
        """Newest event time of each partition's series."""
        newest: dict[Partition, int] = {}
        for series in list(self._series.values()):
            place, time_ns = series.key.place, series.newest_ns
            if time_ns is not None and time_ns > newest.get(place, -1):
                newest[place] = time_ns
        return newest

    def statuses(self) -> list[SeriesStatus]:
        """How far each series is."""
        return [status_of(series) for series in self._series.values()]

    def changed_statuses(self) -> list[SeriesStatus]:
        """Of the series that something happened to since the last call: idle ones cost nothing."""
        changed, self._changed = self._changed, set()
        return [status_of(self._series[key]) for key in changed]
