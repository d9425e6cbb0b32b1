"""Categories: counts of at most CATEGORIES values, the rest in `other`.

Kept are the values of least hash, not the most frequent or the first: whoever is evicted from a part would be evicted
from the whole, so that merging stays exact and associative.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import xxhash

from monitor.model import OTHER, Categories, Floats, Hashes, Ints, Signal
from monitor.summaries.counts import Counts, count_groups, merge_counts, pack, unpack

CATEGORIES = 64
OTHER_KEY = -1


@lru_cache(maxsize=65_536)
def category_key(name: str) -> int:
    """The cell of a category: the low 63 bits of XXH3 of its name, OTHER_KEY for `other`.

    >>> category_key("stop") == category_key("stop") >= 0, category_key("other")
    (True, -1)
    """
    return OTHER_KEY if name == OTHER else xxhash.xxh3_64_intdigest(name.encode()) & (2**63 - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Category:
    """Observations of a category in one slice of one scope."""

    cells: Counts
    names: dict[int, str]
    """Key -> name, for every key in `cells` but OTHER_KEY."""

    @classmethod
    def empty(cls, signal: Signal) -> Self:  # noqa: ARG003  one signature for every kind
        return cls(Counts(), {})

    @classmethod
    def grouped(
        cls,
        signal: Signal,  # noqa: ARG003
        values: Categories,
        groups: Ints,
        number: int,
        session: Hashes,
        *,
        weight: Floats | None = None,
    ) -> list[Self]:
        """One summary for each group 0 .. `number` - 1 of the records."""
        seen = values.codes >= 0
        table = np.array([category_key(name) for name in values.names], np.int64)
        keys = table[values.codes[seen]] if len(table) else np.empty(0, np.int64)
        names = {int(key): name for key, name in zip(table, values.names, strict=True)}
        return [cls._capped(cells, names) for cells in count_groups(keys, groups[seen], number, session[seen], weight)]

    @classmethod
    def _capped(cls, cells: Counts, names: dict[int, str]) -> Self:
        keys = cells.keys[cells.keys != OTHER_KEY]
        if len(keys) > CATEGORIES:
            keys = keys[:CATEGORIES]
            cells = cells.renamed(lambda found: np.where(np.isin(found, keys), found, OTHER_KEY))
        return cls(cells, {key: names[key] for key in keys.tolist()})

    @property
    def n(self) -> int:
        return self.cells.n

    @property
    def whole(self) -> bool:
        """Whether every value is known by name: none was left out by the cap."""
        return OTHER_KEY not in self.cells.keys

    def counts(self) -> dict[str, int]:
        """Records by name, the most frequent first; `other` where the cap left some out."""
        pairs = zip(self.cells.keys.tolist(), self.cells.counts.tolist(), strict=True)
        named = {self.names.get(key, OTHER): count for key, count in pairs}
        return dict(sorted(named.items(), key=lambda pair: (-pair[1], pair[0])))

    def shares(self) -> dict[str, float]:
        """Share of the records by name, in the same order."""
        return {name: count / self.n for name, count in self.counts().items()}

    def merge(self, other: Self) -> Self:
        return self.merged([self, other])

    @classmethod
    def merged(cls, parts: list[Self]) -> Self:
        """The sum of one or more summaries."""
        names = {key: name for part in parts for key, name in part.names.items()}
        return cls._capped(merge_counts([part.cells for part in parts]), names)

    def dump(self) -> bytes:
        return pack("category", (list(self.names.items()), self.cells.arrays()))

    @classmethod
    def load(cls, data: bytes) -> Self:
        names, arrays = unpack("category", data)
        return cls(Counts.of_arrays(arrays), dict(names))
