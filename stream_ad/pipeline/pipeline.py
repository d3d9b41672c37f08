"""The pipeline of live worker, backtest, demo and tests: records in, outputs out; checkpoints and restarts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

from stream_ad.detection.absence import AbsenceMonitor
from stream_ad.detection.emission import Emitter
from stream_ad.detection.emitted_scores import EmittedScores
from stream_ad.durations import duration_ns
from stream_ad.pipeline.batch_scorer import BatchScorer
from stream_ad.pipeline.partition import PartitionState
from stream_ad.pipeline.poll_batch import PollBatch
from stream_ad.pipeline.series import Series, SeriesKey
from stream_ad.pipeline.series_config import SeriesConfig
from stream_ad.pipeline.snapshot import newest_of_state, restore
from stream_ad.pipeline.status import status_of
from stream_ad.ports import Checkpoint, ProfileStore, Scorer
from stream_ad.records import DeadLetter, Observation, Outputs, Partition, SeriesStatus, SourcePosition, SourceRecord
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import Settings, Subscription

__all__ = ["Pipeline"]

log = logging.getLogger(__name__)


class Pipeline:
    """Scores the series of the assigned partitions. Not thread-safe: one caller at a time.

    Outputs are a function of the records alone; `now_s` (any monotonic clock) only decides which series are silent.
    """

    def __init__(self, settings: Settings, scorer: Scorer, profiles: ProfileStore) -> None:
        self.settings = settings
        self.scorer = scorer
        self.profiles = profiles
        self.observations = 0  # decoded, without replayed ones
        self._decoders: dict[str, Decoder] = {}
        self._configs: dict[str, SeriesConfig] = {}
        self._partitions: dict[Partition, PartitionState] = {}
        self._batch_scorer = BatchScorer(scorer)
        self._limit_logged = False
        detector = settings.detector
        self._silence_s = duration_ns(detector.silence) / 1e9
        slack = 2 * (scorer.delay_steps + 2 * scorer.hop_steps)
        self._emitted_capacity = detector.revise_steps + detector.allowed_lateness_steps + slack

    # ---- records to outputs

    def process(self, records: Sequence[SourceRecord], now_s: float = 0.0) -> Outputs:
        """Outputs of all windows that these records complete."""
        out, batch = Outputs(), PollBatch()
        for number, record in enumerate(records):
            self._decode(number, record, batch)
        active = batch.series
        for series in active:
            partition = self._partitions[series.key.topic_partition]
            self._ingest(series, partition.committed, batch, records, out)
            series.last_seen_s = now_s
            partition.touch(series.key.series)
            if series.returned_ns is not None:
                out.alerts.append(partition.absence.resolve(series.key.series, series.returned_ns))
                series.absent_since_ns = series.returned_ns = None
        out.dead_letters.extend(dead for _, dead in sorted(batch.dead_letters, key=itemgetter(0)))
        self._batch_scorer.run_pending(active, out)
        return out

    def _decode(self, number: int, record: SourceRecord, batch: PollBatch) -> None:
        """Adds the record's observations and dead letters to the batch, unless it was processed before."""
        position = record.position
        partition = self._partitions.get((position.topic, position.partition))
        if partition is None:
            partition = self._partitions[position.topic, position.partition] = PartitionState()
        if position.offset < partition.position:
            return
        partition.position = position.offset + 1
        replayed = position.offset < partition.committed
        parts, dead_letters = self._decoder(position.topic).read(record)
        if not replayed:
            batch.dead_letters += [(number, dead) for dead in dead_letters]
            self.observations += sum(1 if isinstance(part, Observation) else len(part) for part in parts)
        for part in parts:
            series = partition.series.get(part.series) or self._create_series(position, part.series, partition)
            if series is not None:
                batch.add(series, part, number, position.offset)
            elif not replayed:
                limit = f"expected at most {self.settings.detector.max_series} series (detector.max_series)"
                batch.dead_letters.append((number, DeadLetter(record, "too_many_series", limit)))

    def _ingest(
        self, series: Series, committed: int, batch: PollBatch, records: Sequence[SourceRecord], out: Outputs
    ) -> None:
        """Passes a series its observations in log order, and adds what it refuses to the dead letters."""
        for block, numbers, offsets in batch.blocks(series):
            for row, reason, detail in series.ingest(
                block, offsets, lambda: self._batch_scorer.run_pending([series], out)
            ):
                if offsets[row] >= committed:
                    batch.dead_letters.append((numbers[row], DeadLetter(records[numbers[row]], reason, detail)))

    def flush(self, now_s: float | None = None) -> Outputs:
        """Provisional scores of the series that are silent at `now_s` (None = of all), and new absence alerts."""
        out = Outputs()
        silent: list[Series] = []
        for partition in self._partitions.values():
            for name, series in partition.series.items():
                if not series.provisional_emitted and self._is_silent(series, partition.position, now_s):
                    silent.append(series)
                    partition.touch(name)
                    if series.replay_until is not None:
                        series.go_live()
        self._batch_scorer.run_pending(silent, out)
        for series in silent:
            task = series.provisional()
            if task is not None:
                series.windower.queue.append(task)
        self._batch_scorer.run_pending(silent, out)
        if now_s is not None:
            for partition in self._partitions.values():
                out.alerts.extend(partition.open_absences())
        return out

    def _is_silent(self, series: Series, position: int, now_s: float | None) -> bool:
        if series.replay_until is not None and position < series.replay_until:
            return False
        return now_s is None or now_s - series.last_seen_s >= self._silence_s

    def observe_end_offset(self, topic: str, partition: int, end: int, at_s: float) -> None:
        """Reports the partition's log-end offset, read at monotonic time `at_s`. Once processing passes it, every
        series without a record in between counts as silent up to `at_s`. Thread-safe."""
        state = self._partitions.get((topic, partition))
        if state is not None:
            state.absence.probe(end, at_s)

    def _create_series(self, position: SourcePosition, name: str, partition: PartitionState) -> Series | None:
        """The series of a name without a record since the assignment; None when there are too many."""
        if name not in partition.states and self._is_full():
            return None
        config = self._config_of(position.topic)
        emitter = Emitter(name, config.episodes, EmittedScores(self._emitted_capacity))
        series = Series(SeriesKey(position.topic, position.partition, name), config, self.scorer, emitter)
        saved = partition.states.pop(name, None)
        if saved is None:
            series.begin(self.profiles.load(name, self.scorer.name))
        else:
            restore(series, saved, self.profiles)
        partition.series[name] = series
        series.absent_since_ns = partition.absence.activate(name)
        return series

    def _is_full(self) -> bool:
        """Whether a new series must be refused; series restored from a state always have a place."""
        limit = self.settings.detector.max_series
        if sum(len(one.series) + len(one.states) for one in self._partitions.values()) < limit:
            return False
        if not self._limit_logged:
            self._limit_logged = True
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
        """Starts a partition from its saved states; the offset to read from, None = the source's start position."""
        own = dict(states)
        silent_after = self.settings.subscription_of(topic).silent_after or self.settings.alerts.silent_after
        after_s = duration_ns(silent_after) / 1e9 if silent_after else None
        absence = AbsenceMonitor.restore(after_s, own, newest_of_state)
        state = self._partitions[topic, partition] = PartitionState(states=own, absence=absence)
        if committed is None:
            return None
        state.position, state.committed = committed.replay_offset, committed.next_offset
        return committed.replay_offset

    def revoke(self, topic: str, partition: int) -> None:
        """Forgets a partition and its series."""
        self._partitions.pop((topic, partition), None)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Changes the settings of these topics; other topics keep theirs. ConfigError = nothing changed."""
        known = {one.topic: one for one in self.settings.subscription}
        changed = [one for one in subscriptions if known.get(one.topic) != one or one.topic not in self._decoders]
        self._decoders |= {one.topic: Decoder(one, self.settings.detector) for one in changed}
        for one in changed:
            self._configs.pop(one.topic, None)
        known |= {one.topic: one for one in subscriptions}
        self.settings = self.settings.model_copy(update={"subscription": tuple(known.values())})

    def save_profiles(self, *, promote: bool) -> None:
        """Stores the profiles fitted since the last call.

        promote: the next start scores with them. Only for streams that cannot be replayed: elsewhere a restart must
        find the profiles that the snapshots name, and no newer ones.
        """
        unsaved = self._batch_scorer.unsaved_profiles
        while unsaved:
            self.profiles.save(unsaved[0], promote=promote)
            unsaved.pop(0)

    def checkpoint(self, topic: str, partition: int) -> tuple[dict[str, bytes], Checkpoint] | None:
        """Snapshots of the series touched since the last call, and the checkpoint to commit once these are durable.

        None when there is nothing to store. Saves the profiles first, since the snapshots name them.
        """
        state = self._partitions.get((topic, partition))
        if state is None or not state.has_progress:
            return None
        self.save_profiles(promote=False)
        return state.checkpoint()

    # ---- for monitoring, from any thread

    @property
    def series_count(self) -> int:
        return sum(len(one.series) for one in list(self._partitions.values()))

    @property
    def restoring(self) -> bool:
        """Whether some partition is replaying."""
        return any(one.position < one.committed for one in list(self._partitions.values()))

    def newest_ns(self) -> dict[Partition, int]:
        """Newest event time of each partition with readings."""
        newest: dict[Partition, int] = {}
        for series in self._all_series():
            partition, time_ns = series.key.topic_partition, series.newest_ns
            if time_ns is not None and time_ns > newest.get(partition, -1):
                newest[partition] = time_ns
        return newest

    def statuses(self) -> list[SeriesStatus]:
        return [status_of(series) for series in self._all_series()]

    def changed_statuses(self) -> list[SeriesStatus]:
        """Statuses of the series touched since the last call: idle ones cost nothing."""
        statuses: list[SeriesStatus] = []
        for partition in self._partitions.values():
            changed, partition.changed = partition.changed, set()
            statuses += [status_of(partition.series[name]) for name in changed]
        return statuses

    def _all_series(self) -> Iterator[Series]:
        for partition in list(self._partitions.values()):
            yield from list(partition.series.values())
