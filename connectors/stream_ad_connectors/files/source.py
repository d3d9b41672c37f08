"""Tables as a finite source, for backtests and tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from stream_ad.errors import DataError
from stream_ad.ports import AssignmentListener, Checkpoint
from stream_ad.records import SourcePosition, SourceRecord, Table
from stream_ad.serde.encoder import TimeFormat, table_records, table_times

__all__ = ["FileSource"]

TOPIC = "file"


class FileSource:
    """ports.Source over rows: topic "file", partition = the table's index, offset = the row, key = the series.

    A record's timestamp is its event time, so no event time is ahead of it. Polls take `poll_rows` rows from each table
    in turn, so that series of one length advance together. Ends with None. Commits are kept in this object only.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        *,
        start_ns: int | None = None,
        step_ns: int | None = None,
        time_format: TimeFormat = "ms",
        poll_rows: int = 500,
    ) -> None:
        names = [table.series for table in tables]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(f"expected one table per series, found two of {repeated}")
        for table in tables:
            table_times(table, start_ns, step_ns)
        self._tables = tuple(tables)
        self._start_ns, self._step_ns, self._time_format = start_ns, step_ns, time_format
        self._poll_rows = poll_rows
        self._open: list[Iterator[SourceRecord]] = []
        self._next_table = 0
        self._committed: dict[tuple[str, int], Checkpoint] = {}

    async def start(self, listener: AssignmentListener) -> None:
        for partition in range(len(self._tables)):
            begin = await listener.assigned(TOPIC, partition)
            self._open.append(self._records(partition, begin or 0))

    async def poll(self, timeout_s: float) -> Sequence[SourceRecord] | None:
        """The next rows of the next table that is not exhausted. Never waits."""
        await asyncio.sleep(0)  # a long file must not starve other tasks
        while self._open:
            self._next_table %= len(self._open)
            records = list(islice(self._open[self._next_table], self._poll_rows))
            if records:
                self._next_table += 1
                return records
            del self._open[self._next_table]
        return None

    async def commit(self, checkpoints: Mapping[tuple[str, int], Checkpoint]) -> None:
        self._committed.update(checkpoints)

    async def owns_partitions(self) -> bool:
        return True

    async def committed(self, topic: str, partition: int) -> Checkpoint | None:
        return self._committed.get((topic, partition))

    async def stop(self) -> None:
        self._open.clear()

    def _records(self, partition: int, first_row: int) -> Iterator[SourceRecord]:
        table = self._tables[partition]
        key = table.series.encode()
        rows = table_records(table, self._start_ns, self._step_ns, first_row=first_row, time_format=self._time_format)
        for row, (time_ns, value) in enumerate(rows, start=first_row):
            yield SourceRecord(SourcePosition(TOPIC, partition, row), time_ns, key, value)
