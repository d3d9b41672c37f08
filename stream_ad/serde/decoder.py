"""Record bytes -> observations, or dead-letter records that name what was expected and what was found.

JSON shapes: one object {series, time, values: {channel: number or null}}; an array of such objects, each checked
separately; columns {series, times: [...], values: {channel: [...]}} (the field is `time_field` + "s"); flat objects
when `values_field` is "". The fast path is msgspec's typed decoding in C; what it refuses (NaN and Infinity tokens,
numbers out of range, wrong types) is parsed again by the slow path, which also words the dead-letter record.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from stream_ad.durations import duration_ns
from stream_ad.errors import ConfigError, RecordError, describe_found
from stream_ad.records import Block, DeadLetter, Observation, SourceRecord
from stream_ad.serde.confluent import schema_parser
from stream_ad.serde.json_lenient import NameCheck, as_columns, as_reading, check_utf8, parse_json
from stream_ad.serde.json_typed import typed_decoders
from stream_ad.serde.telegraf import PayloadParser
from stream_ad.settings import DetectorSettings, Subscription
from stream_ad.timestamps import END_NS, UNIT_NS, describe_span, event_time_ns, format_ns

__all__ = ["DecodeResult", "Decoder"]

_SHOWN_FAULTS = 5  # positions named in one dead-letter record


class DecodeResult:
    """The observations of one record, and the faults of its other parts by reason."""

    def __init__(self) -> None:
        self.observations: list[Observation | Block] = []
        self._faults: dict[str, list[tuple[str, str]]] = {}

    def add_fault(self, where: str, error: RecordError) -> None:
        """where: "element 3", "row 7"; "" = the whole record."""
        self._faults.setdefault(error.reason, []).append((where, error.message))

    def dead_letters(self, record: SourceRecord) -> list[DeadLetter]:
        """One per reason, however many parts have it: each carries the whole record."""
        found = []
        for reason, faults in self._faults.items():
            first, detail = faults[0]
            text = f"{first}: {detail}" if first else detail
            if len(faults) > 1:
                shown = [where for where, _ in faults[1:_SHOWN_FAULTS]] + ["..."] * (len(faults) > _SHOWN_FAULTS)
                text += f" (and {len(faults) - 1} more: {', '.join(shown)})"
            found.append(DeadLetter(record, reason, text))
        return found


_NAN = math.nan
_REFUSED = (msgspec.MsgspecError, RecursionError, ValueError)


class Decoder:
    """Decodes the records of one subscription. Its only state is a bounded cache of valid names.

    ConfigError when the fields of the subscription collide or cannot be field names.
    """

    def __init__(self, subscription: Subscription, detector: DetectorSettings) -> None:
        self._arguments = (subscription, detector)
        self._series_field = subscription.series_field
        self._time_field = subscription.time_field
        self._values_field = subscription.values_field
        fields = [self._series_field, self._time_field, self._values_field]
        if len(set(fields)) != len(fields):
            raise ConfigError(f"series_field, time_field and values_field must differ, found {fields}")
        times = f"{self._time_field}s"
        self._times_field = times if times not in fields and self._values_field else None
        self._unit = subscription.time_unit
        self._max_ahead_ns = duration_ns(detector.max_ahead)
        self._max_ahead = detector.max_ahead
        self._max_channels = detector.max_channels
        self._max_bytes = detector.max_record_bytes
        self._max_observations = detector.max_record_observations
        self._names = NameCheck(detector.max_name_chars)
        self._parse: Callable[[bytes], Any] = parse_json
        self._rows, self._columns = typed_decoders(subscription, self._times_field)
        self._binary = subscription.format in ("avro", "protobuf")
        if subscription.format != "json":
            self._parse = (
                schema_parser(subscription, self._max_observations)
                if self._binary
                else PayloadParser(subscription).parse
            )
            self._rows = self._columns = None

    def __reduce__(self) -> tuple[type[Decoder], tuple[Subscription, DetectorSettings]]:
        """Copies and pickles its arguments: the parsers in C cannot be pickled."""
        return Decoder, self._arguments

    def decode(self, record: SourceRecord) -> tuple[list[Observation], list[DeadLetter]]:
        """`read`, the rows of columns one by one."""
        found, dead_letters = self.read(record)
        observations: list[Observation] = []
        for part in found:
            observations += [part] if isinstance(part, Observation) else map(part.observation, range(len(part)))
        return observations, dead_letters

    def read(self, record: SourceRecord) -> tuple[list[Observation | Block], list[DeadLetter]]:
        """Never raises, whatever the bytes; at least one of the two lists has an element.

        An event time too far ahead is found only where the source knows the record's own time (timestamp_ns > 0).
        """
        value = record.value
        try:
            if not value or (value.isspace() and not self._binary):
                raise RecordError("empty", f"expected a message, found {'no' if value is None else 'an empty'} value")
            if len(value) > self._max_bytes:
                raise RecordError("too_large", f"expected at most {self._max_bytes} bytes, found {len(value)}")
            if not self._binary:
                check_utf8(value)
            parsed = self._fast(value)
            if parsed is None:
                return self._slow(record, value)
            if type(parsed) is not list:
                series = self._series(record, parsed.series)
                time_ns = self._time(record, parsed.time)
                return [Observation(series, time_ns, self._typed_readings(parsed.values))], []
            self._check_count(parsed)
        except RecordError as error:
            return [], [DeadLetter(record, error.reason, error.message)]
        result = DecodeResult()
        for index, row in enumerate(parsed):
            try:
                series = self._series(record, row.series)
                time_ns = self._time(record, row.time)
                result.observations.append(Observation(series, time_ns, self._typed_readings(row.values)))
            except RecordError as error:
                result.add_fault(f"element {index}", error)
        return result.observations, result.dead_letters(record)

    def _fast(self, value: bytes) -> Any:
        """A typed row, a non-empty list of rows, or None: the slow path must parse it."""
        if self._rows is None:
            return None
        try:
            parsed = self._rows.decode(value)
        except _REFUSED:
            return None
        if type(parsed) is list:
            return parsed if parsed and all(row.time is not None for row in parsed) else None
        return parsed if parsed.time is not None else None

    def _typed_readings(self, readings: dict[str, float | None]) -> dict[str, float]:
        self._check_channels(readings)
        if None in readings.values():
            return {channel: _NAN if v is None else v for channel, v in readings.items()}
        return readings  # type: ignore[return-value]  # it holds no None

    def _check_count(self, observations: list[Any]) -> None:
        """Besides the limit of bytes: an observation needs few bytes in a record, and many in memory."""
        if len(observations) > self._max_observations:
            raise RecordError(
                "too_many_observations",
                f"expected at most {self._max_observations} observations (detector.max_record_observations), "
                f"found {len(observations)}",
            )

    def _check_channels(self, readings: dict[str, Any]) -> None:
        if not readings:
            raise RecordError("no_values", f"expected at least one reading in {self._values_field!r}, found none")
        if len(readings) > self._max_channels:
            raise RecordError(
                "too_many_channels",
                f"expected at most {self._max_channels} channels (detector.max_channels), found {len(readings)}",
            )
        self._names.check("channel", readings.keys())

    def _series(self, record: SourceRecord, series: Any) -> str:
        """The series in the payload, else the record's key."""
        if series is None:
            if not record.key:
                raise RecordError(
                    "missing_field", f"expected field {self._series_field!r} or a record key, found neither"
                )
            try:
                series = record.key.decode()
            except UnicodeDecodeError:
                found = describe_found(repr(record.key))
                raise RecordError("bad_name", f"expected a record key in UTF-8, found {found}") from None
        if not isinstance(series, str):
            raise RecordError("wrong_type", f"{self._series_field!r}: expected text, found {describe_found(series)}")
        self._names.check("series", {series})
        return series

    def _time(self, record: SourceRecord, time: Any) -> int:
        """Event time [ns], checked against the record's own time."""
        if time is None:
            raise RecordError("missing_field", f"expected field {self._time_field!r}, found none")
        time_ns = event_time_ns(time, self._unit, self._time_field)
        if 0 < record.timestamp_ns < time_ns - self._max_ahead_ns:
            raise RecordError(
                "future",
                f"{self._time_field!r}: expected at most {self._max_ahead} ahead of the record's own time "
                f"{format_ns(record.timestamp_ns)}, found {describe_span(time_ns - record.timestamp_ns)} ahead "
                f"({format_ns(time_ns)}): check time_unit = {self._unit!r} and the producer's clock, "
                "or raise detector.max_ahead",
            )
        return time_ns

    def _slow(self, record: SourceRecord, value: bytes) -> tuple[list[Observation | Block], list[DeadLetter]]:
        """Columns, flat objects, and whatever the typed rows refused."""
        result = DecodeResult()
        if self._columns is not None:
            try:
                parsed = self._columns.decode(value)
            except _REFUSED:
                pass
            else:
                self._typed_columns(record, parsed, result)
                return result.observations, result.dead_letters(record)
        document = self._parse(value)
        if not isinstance(document, list):
            self._element(record, document, "", result)
        elif not document:
            raise RecordError("empty", "expected observations, found an array of none")
        else:
            self._check_count(document)
            for index, element in enumerate(document):
                self._element(record, element, f"element {index}", result)
        return result.observations, result.dead_letters(record)

    def _typed_columns(self, record: SourceRecord, parsed: Any, result: DecodeResult) -> None:
        block = self._block(record, parsed)
        if block is not None:
            result.observations.append(block)
            return
        try:
            self._add_columns(record, (parsed.series, parsed.times, parsed.values), "", result)
        except RecordError as error:
            result.add_fault("", error)

    def _block(self, record: SourceRecord, parsed: Any) -> Block | None:
        """Columns without a fault, times whole numbers; None = each row must be checked."""
        times, columns = parsed.times, parsed.values
        if not 0 < len(times) <= self._max_observations or set(map(type, times)) != {int}:
            return None
        if {len(column) for column in columns.values()} != {len(times)}:
            return None
        first_ns, last_ns = (time * UNIT_NS[self._unit] for time in (min(times), max(times)))
        if first_ns < 0 or last_ns >= END_NS or 0 < record.timestamp_ns < last_ns - self._max_ahead_ns:
            return None
        try:
            series = self._series(record, parsed.series)
            self._check_channels(columns)
        except RecordError:
            return None
        values = np.array(list(columns.values()), dtype=np.float64).T  # null becomes NaN
        return Block(series, np.array(times, dtype=np.int64) * UNIT_NS[self._unit], tuple(columns), values)

    def _element(self, record: SourceRecord, element: Any, where: str, result: DecodeResult) -> None:
        """One untyped object: a row, columns, or a flat object."""
        try:
            if not isinstance(element, dict):
                raise RecordError("wrong_type", f"expected an object, found {describe_found(element)}")
            series, time = element.get(self._series_field), element.get(self._time_field)
            times = element.get(self._times_field) if self._times_field else None
            readings = self._values_of(element)
            if time is None and times is not None:
                self._add_columns(record, (series, times, as_columns(readings)), where, result)
                return
            name, time_ns = self._series(record, series), self._time(record, time)
            self._check_channels(readings)
            values = {channel: as_reading(channel, v) for channel, v in readings.items()}
            result.observations.append(Observation(name, time_ns, values))
        except RecordError as error:
            result.add_fault(where, error)

    def _values_of(self, element: dict[str, Any]) -> dict[str, Any]:
        """The readings of an object; in a flat one every number except series and time."""
        if not self._values_field:
            own = (self._series_field, self._time_field)
            return {k: v for k, v in element.items() if k not in own and type(v) in (int, float)}
        readings = element.get(self._values_field)
        if readings is None:
            raise RecordError("missing_field", f"expected field {self._values_field!r}, found none")
        if not isinstance(readings, dict):
            found = describe_found(readings)
            raise RecordError("wrong_type", f"{self._values_field!r}: expected an object, found {found}")
        return readings

    def _add_columns(
        self, record: SourceRecord, parts: tuple[Any, Any, dict[str, list[Any]]], where: str, result: DecodeResult
    ) -> None:
        """Adds rows of columns [row] of equal length, checking each row's time. `parts`: series, times, columns."""
        series, times, columns = parts
        if not isinstance(times, list):
            raise RecordError("wrong_type", f"{self._times_field!r}: expected an array, found {describe_found(times)}")
        self._check_count(times)
        name = self._series(record, series)
        self._check_channels(columns)
        for channel, column in columns.items():
            if len(column) != len(times):
                raise RecordError(
                    "wrong_length",
                    f"channel {channel!r}: expected {len(times)} readings, one per time, found {len(column)}",
                )
        if not times:
            raise RecordError("no_values", f"expected at least one time in {self._times_field!r}, found none")
        readings = [[as_reading(channel, v) for v in column] for channel, column in columns.items()]
        for index, (time, row) in enumerate(zip(times, zip(*readings, strict=True), strict=True)):
            try:
                values = dict(zip(columns, row, strict=True))
                result.observations.append(Observation(name, self._time(record, time), values))
            except RecordError as error:
                result.add_fault(f"{where}, row {index}" if where else f"row {index}", error)
