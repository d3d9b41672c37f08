"""Records that a stream must survive: fuzzed by structure and by bytes, a function of the seed."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

START_MS = 1_767_225_600_000  # 2026-01-01
CHANNELS = ("a", "b", "c")
GIANT_EVERY = 4000
_ODD_NUMBERS = ["NaN", "-Infinity", "Infinity", "1e999", "-1e999", "9" * 400, "-0.0", "5e-324", "1.79769e308", "4e38"]
_NO_READINGS = ["1", True, False, {}, {"v": 1}, [], [1], [[2]], "NaN", "", "\x00"]
_NO_TIMES = ["", "yesterday", "2026-02-30T00:00:00Z", "1767225600000", True, [], {}, [5], -1, -1e18, 1e300, 10**30]
_NO_NAMES = ["", "a\nb", "\x00", "\x85", "\u2028", "x" * 257, "\ud800"]


@dataclass(frozen=True)
class Record:
    """A record to send. timestamp_ms 0 = without a timestamp."""

    kind: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


@dataclass
class Fuzzer:
    """Hostile records of separate series (`names`, each on one partition), and sure refusals that name `good` series.

    good: series -> its partition and one of its channels; its first readings must precede the hostile records.
    """

    rng: random.Random
    names: list[str]
    far: str
    partitions: int
    good: dict[str, tuple[int, str]] = field(default_factory=dict)
    clocks: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        rare = {"giant": self._giant, "columns": self._columns, "many channels": self._many_channels}
        often: dict[str, Callable[[], Record]] = {
            "plain": self._plain,
            "odd number": self._odd_number,
            "no reading": self._no_reading,
            "missing field": self._missing_field,
            "extra field": self._extra_field,
            "nested": self._nested,
            "duplicate field": self._duplicate_field,
            "no time": self._no_time,
            "text time": self._text_time,
            "wrong unit": self._wrong_unit,
            "ahead": self._ahead,
            "behind": self._behind,
            "repeated": self._repeated,
            "future": self._future,
            "far": self._far,
            "unknown channel": self._unknown_channel,
            "no name": self._no_name,
            "key": self._key,
            "batch": self._batch,
            "empty": self._empty,
            "unequal columns": self._unequal_columns,
            "rows in columns": self._rows_in_columns,
            "no object": self._no_object,
            "tombstone": self._tombstone,
            "bits": self._bits,
            "cut": self._cut,
            "noise": self._noise,
            "not utf-8": self._not_utf8,
            "mark": self._mark,
            "packed": self._packed,
            "deep": self._deep,
        }
        self.kinds = {**often, **rare}
        self._often = list(often.items())
        self._rare = list(rare.items())

    def records(self, count: int) -> Iterator[Record]:
        for _ in range(count):
            self.count += 1
            several = self._rare if self.count % GIANT_EVERY == 7 else self._often
            yield self.rng.choice(several)[1]()

    # ---- parts

    def _name(self) -> str:
        return self.rng.choice(self.names)

    def partition_of(self, name: str) -> int:
        if name in self.good:
            return self.good[name][0]
        return self.names.index(name) % self.partitions if name in self.names else 0

    def _tick(self, name: str, by_ms: int = 1000) -> int:
        """Advance the clock of the series by a step."""
        self.clocks[name] = self.clocks.get(name, START_MS) + by_ms
        return self.clocks[name]

    def _values(self) -> dict[str, Any]:
        chosen = self.rng.sample(CHANNELS, self.rng.randint(1, len(CHANNELS)))
        return {channel: self.rng.choice([None, 0, 1.5, round(self.rng.gauss(0, 1), 3)]) for channel in chosen}

    def _body(self, name: str | None = None, **changes: Any) -> dict[str, Any]:
        name = name or self._name()
        return {"series": name, "time": self._tick(name), "values": self._values()} | changes

    def _record(self, kind: str, body: Any, name: str = "", key: bytes | None = b"k", at_ms: int = 0) -> Record:
        """`body`: bytes, or what JSON can hold."""
        value = body if isinstance(body, bytes) else json.dumps(body).encode()
        name = name or (body.get("series") if isinstance(body, dict) else None) or self.names[0]
        stamp = at_ms or max(START_MS, self.clocks.get(name, START_MS) if isinstance(name, str) else START_MS)
        partition = self.partition_of(name) if isinstance(name, str) else 0
        return Record(kind, partition, key, value, stamp)

    def _one(self, name: str) -> dict[str, Any]:
        """A reading that is valid by itself."""
        return {self.good[name][1] if name in self.good else "a": 1e6}

    def _victim(self) -> str:
        """A series for a record that must be refused: a good or a hostile one."""
        return self.rng.choice([*self.good, self._name()])

    def _refused(self, kind: str, **changes: Any) -> Record:
        """A valid record of a victim, but for `changes`, which must be refused."""
        name = self._victim()
        own = self._body(name if name in self.names else self.names[0])
        return self._record(kind, {**own, "series": name} | changes, name)

    # ---- by structure

    def _plain(self) -> Record:
        return self._record("plain", self._body())

    def _odd_number(self) -> Record:
        body = self._body()
        readings = ",".join(f'"{c}":{self.rng.choice(_ODD_NUMBERS)}' for c in body["values"])
        text = f'{{"series":"{body["series"]}","time":{body["time"]},"values":{{{readings}}}}}'
        return self._record("odd number", text.encode(), body["series"])

    def _no_reading(self) -> Record:
        return self._refused("no reading", values={**self._values(), "a": self.rng.choice(_NO_READINGS)})

    def _missing_field(self) -> Record:
        record = json.loads(self._refused("", values={"a": 1}).value or b"")
        lost = self.rng.choice(["time", "values", "series"])
        name = record.pop("series") if lost == "series" else record["series"]
        record.pop(lost, None)
        return self._record("missing field", record, name, key=None)

    def _extra_field(self) -> Record:
        extra = {"host": {"rack": [3, {"u": None}]}, "Time": 5, "": "", "values ": {}, "times": None}
        return self._record("extra field", self._body() | extra)

    def _nested(self) -> Record:
        inner = self._body(self.names[0])
        time = inner["time"]
        wrapped = self.rng.choice([{"data": inner}, [[inner]], {"values": inner, "time": time}, {"a": [inner]}])
        return self._record("nested", wrapped, self.names[0], key=None)

    def _duplicate_field(self) -> Record:
        body = self._body()
        first = self.rng.choice(['"time":"x"', '"values":5', '"series":null', '"time":1'])
        text = b"{" + first.encode() + b"," + json.dumps(body).encode()[1:]
        return self._record("duplicate field", text, body["series"])

    def _no_time(self) -> Record:
        return self._refused("no time", time=self.rng.choice(_NO_TIMES))

    def _text_time(self) -> Record:
        body = self._body()
        seconds, rest = divmod(body["time"], 1000)
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:03d}Z"
        return self._record("text time", body | {"time": text})

    def _wrong_unit(self) -> Record:
        """Seconds read as ms lie in 1970: behind everything. us and ns lie beyond any time."""
        name = self._victim()
        time = self.rng.choice([START_MS // 1000, START_MS * 1000, START_MS * 10**6])
        return self._record("wrong unit", {"series": name, "time": time, "values": self._one(name)}, name)

    def _ahead(self) -> Record:
        """A gap up to and beyond the allowed distance ahead of the record's timestamp (which follows)."""
        name = self._name()
        self._tick(name, self.rng.choice([2_500, 60_000, 299_000, 4_000_000]))
        return self._record("ahead", self._body(name))

    def _behind(self) -> Record:
        name = self._name()
        back = self.rng.choice([1000, 2000, 20_000, 250_000, 10**7, 10**9, 10**12])
        now = self.clocks.get(name, START_MS)
        return self._record("behind", {"series": name, "time": max(0, now - back), "values": self._values()})

    def _repeated(self) -> Record:
        name = self._name()
        return self._record("repeated", {"series": name, "time": self.clocks.get(name, START_MS), "values": {"b": 2}})

    def _future(self) -> Record:
        name = self._victim()
        ahead = self.rng.choice([300_001, 3_600_000, 10**10, 7 * 10**12])
        body = {"series": name, "time": START_MS + ahead, "values": self._one(name)}
        return self._record("future", body, name, at_ms=START_MS)

    def _far(self) -> Record:
        """Records without a timestamp may have any event time, up to the last representable one."""
        time = self.rng.choice([0, 1, 10**12, 4 * 10**12, 9_214_646_399_999, 9_214_646_400_000, 2**63 - 1, -(2**63)])
        return Record("far", 0, None, json.dumps({"series": self.far, "time": time, "values": {"a": 1}}).encode(), 0)

    def _unknown_channel(self) -> Record:
        name = self._victim()
        values = {self.rng.choice(["nobody", "A", "a ", "'; DROP", "größe"]): 1.0}
        if name in self.good:
            return self._record("unknown channel", {"series": name, "time": START_MS, "values": values})
        known = {"a": 1} if self.rng.random() < 0.5 else {}
        return self._record("unknown channel", {"series": name, "time": self._tick(name), "values": values | known})

    def _no_name(self) -> Record:
        wrong = self.rng.choice([*_NO_NAMES, 5, [], {}, True])
        if isinstance(wrong, str) and self.rng.random() < 0.5:
            return self._refused("no name", values={wrong: 1.0})
        return self._record("no name", {"series": wrong, "time": START_MS, "values": {"a": 1}}, self.names[0])

    def _key(self) -> Record:
        name = self._name()
        key = self.rng.choice([None, b"", b"\xff\xfe", b"a\x00", b"x" * 300, name.encode()])
        return self._record("key", {"time": self._tick(name), "values": self._values()}, name, key=key)

    def _batch(self) -> Record:
        name = self._name()
        parts: list[Any] = [self._body(name) for _ in range(self.rng.randint(1, 4))]
        parts += self.rng.sample([5, None, [], {}, self._body(name, values={}), self._body(name, time=None)], 2)
        self.rng.shuffle(parts)
        return self._record("batch", parts, name)

    def _empty(self) -> Record:
        if self.rng.random() < 0.5:
            return self._refused("empty", values={})
        return self._record("empty", self.rng.choice([b"[]", b"{}", b"", b" \r\n\t", b"[[]]", b"[{}]", b'""']))

    def _unequal_columns(self) -> Record:
        name = self._victim()
        times = self.rng.choice([[START_MS], [], [START_MS, START_MS], {"0": START_MS}, START_MS])
        body = {"series": name, "times": times, "values": self.rng.choice([{"a": [1, 2, 3]}, {"a": []}, {"a": 1}])}
        return self._record("unequal columns", body | ({"time": None} if self.rng.random() < 0.3 else {}), name)

    def _rows_in_columns(self) -> Record:
        """A few rows, their times in any order, repeated or impossible, some readings missing or of no use."""
        name, rows = self._name(), self.rng.randint(1, 6)
        times: list[Any] = [self._tick(name) for _ in range(rows)]
        for _ in range(self.rng.randint(0, 2)):
            times[self.rng.randrange(rows)] = self.rng.choice([times[0], times[-1], 0, START_MS + 10**11, *_NO_TIMES])
        self.rng.shuffle(times)
        numbers = [None, 1, 2.5, 1e39, -0.0, 10**400]
        columns = {
            c: [self.rng.choice(numbers) for _ in range(rows)] for c in (*CHANNELS, self.rng.choice(["a", "new"]))
        }
        if self.rng.random() < 0.1:
            columns["a"][-1] = self.rng.choice(_NO_READINGS)
        return self._record("rows in columns", {"series": name, "times": times, "values": columns})

    def _no_object(self) -> Record:
        return self._record("no object", self.rng.choice([b"null", b"5", b"NaN", b'"text"', b"true", b"1e400", b"-"]))

    def _tombstone(self) -> Record:
        return Record("tombstone", self.rng.randrange(self.partitions), b"k", None, START_MS)

    # ---- by bytes: only records of hostile series, for the result may be valid

    def _bytes(self) -> tuple[str, bytearray]:
        body = self._body()
        return body["series"], bytearray(json.dumps(body).encode())

    def _bits(self) -> Record:
        name, data = self._bytes()
        for _ in range(self.rng.randint(1, 3)):
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        return self._record("bits", bytes(data), name)

    def _cut(self) -> Record:
        name, data = self._bytes()
        start = self.rng.choice([0, 0, self.rng.randrange(len(data))])
        return self._record("cut", bytes(data[start : self.rng.randrange(len(data) + 1)]), name)

    def _noise(self) -> Record:
        return self._record("noise", self.rng.randbytes(self.rng.choice([1, 2, 8, 60, 500])))

    def _not_utf8(self) -> Record:
        name, data = self._bytes()
        at = self.rng.randrange(len(data))
        data[at:at] = self.rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf"])
        return self._record("not utf-8", bytes(data), name)

    def _mark(self) -> Record:
        """A byte order mark before good JSON is passed over; other encodings are not JSON."""
        name, data = self._bytes()
        text = data.decode()
        wrapped = [b"\xef\xbb\xbf" + data, b"\xef\xbb\xbf" * 2 + data, text.encode("utf-16"), text.encode("utf-32")]
        return self._record("mark", bytes(self.rng.choice(wrapped)), name)

    def _packed(self) -> Record:
        name, data = self._bytes()
        return self._record("packed", gzip.compress(bytes(data), mtime=0), name)

    def _deep(self) -> Record:
        depth = 100_000 if self.rng.random() < 0.01 else 5_000
        opened, shut = self.rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
        inside = opened * depth + b"1" + (shut * depth if self.rng.random() < 0.5 else b"")
        return self._record("deep", inside if self.rng.random() < 0.5 else b'{"values":' + inside + b"}")

    # ---- large, hence rare

    def _giant(self) -> Record:
        size = self.rng.randint(200_000, 900_000)
        wrong = self.rng.choice([{"values": {"a": "x" * size}}, {"series": "y" * size}, {"time": "z" * size}])
        return self._record("giant", self._body(self.names[0]) | wrong, self.names[0])

    def _columns(self) -> Record:
        name, rows = self._name(), 300
        times = [self._tick(name) for _ in range(rows)]
        values: dict[str, list[Any]] = {c: [round(self.rng.gauss(0, 1), 3) for _ in range(rows)] for c in CHANNELS}
        values["b"][:20] = [None] * 20
        times[7] = -1
        return self._record("columns", {"series": name, "times": times, "values": values})

    def _many_channels(self) -> Record:
        return self._refused("many channels", values={f"c{i}": i for i in range(20_000)})
