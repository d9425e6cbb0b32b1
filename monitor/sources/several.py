"""Live sources as one: each partition is its own source's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from monitor.contracts import LiveSource
from monitor.model import Position, Raw, Refused, Reject


class Several:
    """Several live sources (`monitor.contracts.LiveSource`), whose partitions have different names."""

    def __init__(self, sources: Sequence[LiveSource]) -> None:
        self._sources = sources
        self._owner: dict[str, int] = {}

    def number_of(self, partition: str) -> int:
        """Which of the sources a partition is of."""
        return self._owner[partition]

    def partitions(self) -> Mapping[str, bool]:
        found: dict[str, bool] = {}
        for number, source in enumerate(self._sources):
            mine = source.partitions()
            self._owner |= dict.fromkeys(mine, number)
            found |= mine
        return found

    def resume(self, positions: Mapping[str, Position]) -> None:
        for source in self._sources:
            source.resume(positions)

    def peek(self, partition: str, limit: int) -> Raw:
        return self._sources[self._owner[partition]].peek(partition, limit)

    def poll(self, wanted: Sequence[str], limit: int) -> list[Raw]:
        """What comes, first of sources that can be read: one that cannot is waited for only where nothing came."""
        found: list[Raw] = []
        order = sorted(range(len(self._sources)), key=lambda number: bool(self._sources[number].trouble))
        for number in order:
            mine = [name for name in wanted if self._owner[name] == number]
            left = limit - sum(len(raw.payloads) + len(raw.rejects) for raw in found)
            if left > 0 and not (found and self._sources[number].trouble):
                found += self._sources[number].poll(mine, left)
        return found

    def close(self) -> None:
        for source in self._sources:
            source.close()

    @property
    def name(self) -> str:
        return ", ".join(source.name for source in self._sources)

    def troubles(self) -> Mapping[str, bool]:
        """Name of each of the sources -> whether it cannot be read now."""
        return {source.name: bool(source.trouble) for source in self._sources}

    def lag(self) -> Mapping[str, int]:
        return {name: count for source in self._sources for name, count in source.lag().items()}

    @property
    def trouble(self) -> str:
        return "; ".join(source.trouble for source in self._sources if source.trouble)

    def drained(self) -> Collection[str]:
        return {name for source in self._sources for name in source.drained()}

    def set_aside(self, refused: Sequence[Refused]) -> Sequence[Reject] | None:
        left: list[Reject] = []
        for number, source in enumerate(self._sources):
            mine = [each for each in refused if self._owner[each.reject.source] == number]
            answer = source.set_aside(mine) if mine else []
            if answer is None:
                return None
            left += answer
        return left

    def committed(self, positions: Mapping[str, Position]) -> None:
        for source in self._sources:
            source.committed(positions)

    def notices(self) -> list[str]:
        return [notice for source in self._sources for notice in source.notices()]
