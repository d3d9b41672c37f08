"""Many series at once: records in, outputs out; checkpoints and restarts.

The one path of live, backtest, demo and tests.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from stream_ad.detection.absence import LiveSeries, SilenceWatch
from stream_ad.detection.emission import Teller, Told
from stream_ad.durations import duration_ns
from stream_ad.pipeline.batch_scorer import Rounds
from stream_ad.pipeline.poll_batch import Inbox
from stream_ad.pipeline.series import Key, Series
from stream_ad.pipeline.series_config import SeriesRules
from stream_ad.pipeline.snapshot import newest_of_state, restore_series, save_series
from stream_ad.pipeline.status import status_of
from stream_ad.ports import Checkpoint, ProfileStore, Scorer
from stream_ad.records import DeadLetter, Observation, Outputs, SeriesStatus, SourcePosition, SourceRecord
from stream_ad.serde.decoder import Decoder
from stream_ad.settings import Settings, Subscription

__all__ = ["Pipeline"]

PARK_RECORDS = 100_000  # a series this far behind its partition keeps its rows in its state, not in the log

Partition = tuple[str, int]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    """Where a partition stands: `next_offset` follows the last record taken; dead letters below `answered` are told."""

    next_offset: int = 0
    answered: int = 0
    touched: set[Key] = field(default_factory=set)
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
        self._rules: dict[str, SeriesRules] = {}
        self._series: dict[Key, Series] = {}
        self._progress: dict[Partition, _Progress] = {}
        self._silences: dict[Partition, SilenceWatch] = {}
        self.observations = 0  # decoded from records that were not answered for before
        self._rounds = Rounds(scorer)
        self._changed: set[Key] = set()
        self._full = False
        self._silence_s = duration_ns(settings.detector.silence) / 1e9
        detector = settings.detector
        slack = 2 * (scorer.delay_steps + 2 * scorer.hop_steps)
        self._told_capacity = detector.revise_steps + detector.allowed_lateness_steps + slack

    # ---- records to outputs

    def process(self, records: Sequence[SourceRecord], now_s: float = 0.0) -> Outputs:
        """Everything that these records make due."""
        out = Outputs()
        inbox = Inbox()
        for number, record in enumerate(records):
            position = record.position
            progress = self._progress.setdefault((position.topic, position.partition), _Progress())
            if position.offset < progress.next_offset:
                continue  # taken already
            progress.next_offset = position.offset + 1
            found, letters = self._decoder(position.topic).read(record)
            if position.offset >= progress.answered:
                inbox.letters += [(number, letter) for letter in letters]
                self.observations += sum(1 if isinstance(part, Observation) else len(part) for part in found)
            for part in found:
                series = progress.series.get(part.series) or self._find(position, part.series, progress)
                if series is not None:
                    inbox.add(series, part, number, position.offset)
                elif position.offset >= progress.answered:
                    limit = f"expected at most {self.settings.detector.max_series} series (detector.max_series)"
                    inbox.letters.append((number, DeadLetter(record, "too_many_series", limit)))
        active = inbox.series
        for series in active:
            self._observe(series, inbox, records, out)
            series.last_seen_s = now_s
            if series.silent_ns is not None:
                self._end_silence(series, out)
            self._changed.add(series.key)
            self._progress[series.key.place].touched.add(series.key)
        out.dead_letters.extend(letter for _, letter in sorted(inbox.letters, key=itemgetter(0)))
        self._rounds.drain(active, out)
        return out

    def _observe(self, series: Series, inbox: Inbox, records: Sequence[SourceRecord], out: Outputs) -> None:
        """Hands a series its part of the records, in their order."""
        answered = self._progress[series.key.place].answered
        for block, numbers, offsets in inbox.blocks(series):
            for row, reason, detail in series.observe_all(block, offsets, lambda: self._rounds.drain([series], out)):
                if offsets[row] >= answered:
                    inbox.letters.append((numbers[row], DeadLetter(records[numbers[row]], reason, detail)))

    def flush(self, now_s: float | None = None) -> Outputs:
        """Tells the waiting slots of series silent at `now_s` (None = of all) with what is there."""
        out = Outputs()
        silent = [s for s in self._series.values() if not s.flushed and self._is_silent(s, now_s)]
        self._changed.update(series.key for series in silent)
        for series in silent:
            self._progress[series.key.place].touched.add(series.key)
            if series.resume_offset is not None:
                series.resume()
        self._rounds.drain(silent, out)
        for series in silent:
            work = series.provisional()
            if work is not None:
                series.windowing.queue.append(work)
        self._rounds.drain(silent, out)
        if now_s is not None:
            self._open_silences(out)
        return out

    def heard(self, topic: str, partition: int, end: int, at_s: float) -> None:
        """At `at_s`, on the clock of `now_s`, a partition held records below `end`. Once all of them are processed, who
        was not among them is silent. May be called while another thread works."""
        watch = self._silences.get((topic, partition))
        if watch is not None:
            watch.asked(end, at_s)

    def _open_silences(self, out: Outputs) -> None:
        """Those that the partitions read to their end since the last call show."""
        for place, watch in self._silences.items():
            progress = self._progress[place]
            if not watch.answered(progress.next_offset):
                continue
            live = (LiveSeries(name, one.newest_ns, one.last_seen_s) for name, one in progress.series.items())
            for alert in watch.due(live):
                series = progress.series.get(alert.series)
                if series is not None:
                    series.silent_ns = alert.start_ns
                out.alerts.append(alert)

    def _end_silence(self, series: Series, out: Outputs) -> None:
        end_ns = series.returned_ns
        if end_ns is not None:
            series.silent_ns = series.returned_ns = None
            out.alerts.append(self._silences[series.key.place].ended(series.key.series, end_ns))

    def _is_silent(self, series: Series, now_s: float | None) -> bool:
        progress = self._progress[series.key.place]
        if series.resume_offset is not None and progress.next_offset < series.resume_offset:
            return False
        return now_s is None or now_s - series.last_seen_s >= self._silence_s

    def _find(self, position: SourcePosition, name: str, progress: _Progress) -> Series | None:
        """A series met for the first time; None when there are too many."""
        key = Key(position.topic, position.partition, name)
        if key.series not in progress.states and self._is_full():
            return None
        rules = self._rules_of(key.topic)
        series = Series(key, rules, self.scorer, Teller(key.series, rules.episodes, Told(self._told_capacity)))
        state = progress.states.pop(key.series, None)
        if state is None:
            series.begin(self.profiles.load(key.series, self.scorer.name))
        else:
            restore_series(series, state, self.profiles)
        self._series[key] = progress.series[name] = series
        watch = self._silences.get(key.place)
        series.silent_ns = watch.since_ns(key.series) if watch else None
        return series

    def _is_full(self) -> bool:
        """Whether a new series has to be refused; those with a state from before a restart keep their places."""
        limit = self.settings.detector.max_series
        if len(self._series) + sum(len(progress.states) for progress in self._progress.values()) < limit:
            return False
        if not self._full:
            self._full = True
            log.warning("%d series are known: new ones are dead-lettered from now on (detector.max_series)", limit)
        return True

    def _decoder(self, topic: str) -> Decoder:
        if topic not in self._decoders:
            self._decoders[topic] = Decoder(self.settings.subscription_of(topic), self.settings.detector)
        return self._decoders[topic]

    def _rules_of(self, topic: str) -> SeriesRules:
        if topic not in self._rules:
            self._rules[topic] = SeriesRules.of(self.settings, topic, self.scorer)
        return self._rules[topic]

    # ---- partitions, checkpoints

    def assign(
        self, topic: str, partition: int, states: Mapping[str, bytes], committed: Checkpoint | None
    ) -> int | None:
        """Takes over a partition; the offset to read from, None = from where the source begins."""
        own = dict(states)
        silent_after = self.settings.subscription_of(topic).silent_after or self.settings.alerts.silent_after
        after_s = duration_ns(silent_after) / 1e9 if silent_after else None
        self._silences[(topic, partition)] = SilenceWatch.restore(after_s, own, newest_of_state)
        progress = _Progress(states=own)
        self._progress[(topic, partition)] = progress
        if committed is None:
            return None
        progress.next_offset = committed.replay_from
        progress.answered = committed.next_offset
        return committed.replay_from

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """How topics are read from now on; those that are not named stay as they are. ConfigError = nothing changed."""
        known = {one.topic: one for one in self.settings.subscription}
        changed = [one for one in subscriptions if known.get(one.topic) != one or one.topic not in self._decoders]
        self._decoders |= {one.topic: Decoder(one, self.settings.detector) for one in changed}
        for one in changed:
            self._rules.pop(one.topic, None)
        known |= {one.topic: one for one in subscriptions}
        self.settings = self.settings.model_copy(update={"subscription": tuple(known.values())})

    def revoke(self, topic: str, partition: int) -> None:
        """Forgets a partition and its series."""
        progress = self._progress.pop((topic, partition), None)
        self._silences.pop((topic, partition), None)
        for series in progress.series.values() if progress else ():
            del self._series[series.key]
            self._changed.discard(series.key)

    def save_profiles(self, *, promote: bool) -> None:
        """Stores the profiles that were filled since the last call.

        promote: the next start scores with them. Only for streams that cannot be read again: elsewhere a restart must
        find what the state names, and nothing newer.
        """
        unsaved = self._rounds.unsaved
        while unsaved:
            self.profiles.save(unsaved[0], promote=promote)
            unsaved.pop(0)

    def checkpoint(self, topic: str, partition: int) -> tuple[dict[str, bytes], Checkpoint] | None:
        """States of the series touched since the last call, and where to go on from once these are durable.

        None when there is nothing new to store. Profiles that the states name are saved first.
        """
        progress = self._progress.get((topic, partition))
        if progress is None or progress.next_offset < progress.answered:
            return None  # still reading back
        silences = self._silences.get((topic, partition))
        silent = silences.states() if silences else {}
        if progress.next_offset == progress.answered and not progress.touched and not silent:
            return None
        self.save_profiles(promote=False)
        next_offset = replay_from = progress.next_offset
        states = silent
        for series in progress.series.values():
            pin = series.pin()
            parked = series.parked_to > series.windowing.need_from or (
                pin is not None and next_offset - pin > PARK_RECORDS
            )
            parked = parked and series.resume_offset is None
            if pin is not None and not parked:
                replay_from = min(replay_from, pin)
            newly = parked and not series.parked_to
            due = (series.key in progress.touched and series.windowing.grid is not None) or parked
            if due and (newly or series.key in progress.touched) and series.resume_offset is None:
                states[series.key.series] = save_series(series, next_offset, with_rows=parked)
        progress.touched.clear()
        progress.answered = next_offset
        return states, Checkpoint(next_offset, replay_from)

    # ---- for who watches, from any thread

    @property
    def series_count(self) -> int:
        return len(self._series)

    @property
    def restoring(self) -> bool:
        """Some partition is still reading records again that were answered for."""
        return any(progress.next_offset < progress.answered for progress in list(self._progress.values()))

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
