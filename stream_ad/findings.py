"""What one record gave, gathered part by part."""

from __future__ import annotations

from stream_ad.errors import RecordError
from stream_ad.records import Block, DeadLetter, Observation, SourceRecord

__all__ = ["Findings"]

_SHOWN_PLACES = 5  # indices named in one dead letter


class Findings:
    """Observations, and per reason the parts that could not be used."""

    def __init__(self) -> None:
        self.observations: list[Observation | Block] = []
        self._faults: dict[str, list[tuple[str, str]]] = {}

    def fault(self, place: str, error: RecordError) -> None:
        self._faults.setdefault(error.reason, []).append((place, error.message))

    def result(self, record: SourceRecord) -> tuple[list[Observation | Block], list[DeadLetter]]:
        """One dead letter per reason, however many parts had it: a letter carries the whole record."""
        letters = []
        for reason, faults in self._faults.items():
            place, detail = faults[0]
            text = f"{place}: {detail}" if place else detail
            if len(faults) > 1:
                more = ", ".join(p for p, _ in faults[1:_SHOWN_PLACES]) + (
                    ", ..." if len(faults) > _SHOWN_PLACES else ""
                )
                text += f" (and {len(faults) - 1} more: {more})"
            letters.append(DeadLetter(record, reason, text))
        return self.observations, letters
