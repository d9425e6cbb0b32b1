"""Yes or no: trials and successes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from monitor.model import Floats, Hashes, Ints, Signal
from monitor.summaries.counts import Counts, count_groups, merge_counts, pack, unpack


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """Observations of a rate in one slice of one scope: cell 0 is no, cell 1 is yes."""

    cells: Counts

    @classmethod
    def empty(cls, signal: Signal) -> Self:  # noqa: ARG003  one signature for every kind
        return cls(Counts())

    @classmethod
    def grouped(
        cls,
        signal: Signal,  # noqa: ARG003
        values: Floats,
        groups: Ints,
        number: int,
        session: Hashes,
        *,
        weight: Floats | None = None,
    ) -> list[Self]:
        """One summary for each group 0 .. `number` - 1 of the records."""
        seen = ~np.isnan(values)
        keys = values[seen].astype(np.int64)
        return [cls(cells) for cells in count_groups(keys, groups[seen], number, session[seen], weight)]

    @property
    def n(self) -> int:
        return self.cells.n

    @property
    def successes(self) -> int:
        return int(self.cells.counts[self.cells.keys == 1].sum())

    @property
    def mean(self) -> float | None:
        return float(self.cells.mass[self.cells.keys == 1].sum()) / self.n if self.n else None

    def merge(self, other: Self) -> Self:
        return self.merged([self, other])

    @classmethod
    def merged(cls, parts: list[Self]) -> Self:
        """The sum of one or more summaries."""
        return cls(merge_counts([part.cells for part in parts]))

    def dump(self) -> bytes:
        return pack("rate", self.cells.arrays())

    @classmethod
    def load(cls, data: bytes) -> Self:
        return cls(Counts.of_arrays(unpack("rate", data)))
