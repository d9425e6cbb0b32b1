"""Live sources as one: each partition is its own source's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from monitor.contracts import LiveSource
from monitor.model import Position, Raw, Refused, Reject


class Several:
    """Several live sources (`monitor.contracts.LiveSource`), whose partitions have different names."""

    def __init__(self, sources: Sequence[LiveSource]) -> None:
        self.sources = sources
        self._owner: dict[str, int] = {}
        self._turn = 0
        """Which of the sources is asked first, or waited for."""

    def number_of(self, partition: str) -> int:
        """Which of the sources a partition is of."""
        return self._owner[partition]

    def partitions(self) -> Mapping[str, bool]:
        found: dict[str, bool] = {}
        for number, source in enumerate(self.sources):
            mine = source.partitions()
            self._owner |= dict.fromkeys(mine, number)
            found |= mine
        return found

    def resume(self, positions: Mapping[str, Position]) -> None:
        for source in self.sources:
            source.resume(positions)

    def peek(self, partition: str, limit: int) -> Raw:
        return self.sources[self._owner[partition]].peek(partition, limit)

    def poll(self, wanted: Sequence[str], limit: int, *, wait: bool = True) -> list[Raw]:
        """What comes of any of them; where nothing does, one of them is waited for, another one each time."""
        mine: dict[int, list[str]] = {number: [] for number in range(len(self.sources))}
        for name in wanted:
            mine[self._owner[name]].append(name)
        found: list[Raw] = []
        for number in sorted(mine, key=lambda number: (number - self._turn) % len(mine)):
            left = limit - sum(len(raw.payloads) + len(raw.rejects) for raw in found)
            if left > 0:
                found += self.sources[number].poll(mine[number], left, wait=False)
        if not found and wait:
            found = self.sources[self._turn].poll(mine[self._turn], limit)
        self._turn = (self._turn + 1) % len(mine)
        return found

    def close(self) -> None:
        for source in self.sources:
            source.close()

    @property
    def name(self) -> str:
        return ", ".join(source.name for source in self.sources)

    def troubles(self) -> Mapping[str, bool]:
        """Name of each of the sources -> whether it cannot be read now."""
        return {source.name: bool(source.trouble) for source in self.sources}

    def lag(self) -> Mapping[str, int]:
        return {name: count for source in self.sources for name, count in source.lag().items()}

    @property
    def trouble(self) -> str:
        return "; ".join(source.trouble for source in self.sources if source.trouble)

    def drained(self) -> Collection[str]:
        return {name for source in self.sources for name in source.drained()}

    def set_aside(self, refused: Sequence[Refused]) -> Sequence[Reject] | None:
        left: list[Reject] = []
        for number, source in enumerate(self.sources):
            mine = [each for each in refused if self._owner[each.reject.source] == number]
            answer = source.set_aside(mine) if mine else []
            if answer is None:
                return None
            left += answer
        return left

    def committed(self, positions: Mapping[str, Position]) -> None:
        for source in self.sources:
            source.committed(positions)

    def notices(self) -> list[str]:
        return [notice for source in self.sources for notice in source.notices()]
