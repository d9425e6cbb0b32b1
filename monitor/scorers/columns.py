"""From columns of Python values, as records carry them, to arrays, and through pyarrow's text kernels.

Arrays are handed to and from pyarrow as buffers: `pyarrow.array`, `pyarrow.scalar` and `to_numpy` import pandas where
it is installed, which would cost the daemon half a second and its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import is_not
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from monitor.model import Categories, Flags, Floats, Ints, Records

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts as UTF-8, end to end: text i is `data[edges[i]:edges[i + 1]]`."""

    data: Bytes
    edges: Ints
    there: Flags
    """False where there is no text at all; its place is empty."""

    @classmethod
    def of(cls, values: Sequence[str | None]) -> Self:
        """Texts of a column. Raises UnicodeEncodeError for a lone surrogate, which no decoder lets through."""
        there = np.fromiter(map(is_not, values, repeat(None)), np.bool_, len(values))
        parts = list(map(str.encode, values if there.all() else [value or "" for value in values]))  # type: ignore[arg-type]
        edges = np.zeros(len(parts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=edges[1:])
        return cls(np.frombuffer(b"".join(parts), np.uint8), edges, there)

    def strings(self) -> Any:
        """The same as a pyarrow array without nulls, and without a copy."""
        return pa.LargeStringArray.from_buffers(len(self.there), pa.py_buffer(self.edges), pa.py_buffer(self.data))


def take(strings: Any, rows: Ints) -> Any:
    """The strings at `rows`."""
    if len(rows) == len(strings):
        return strings
    return strings.take(pa.Int64Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)]))


def matches(strings: Any, pattern: str) -> Flags:
    """Which strings an RE2 pattern is found in."""
    found = pc.match_substring_regex(strings, pattern)
    octets = np.frombuffer(found.buffers()[1], np.uint8)
    return np.unpackbits(octets, bitorder="little", count=len(found)).astype(np.bool_)


def numbers(values: Sequence[float | None]) -> Floats:
    """The values, NaN for None.

    >>> numbers([1.5, None]).tolist()
    [1.5, nan]
    """
    return np.array(values, np.float64)


def categories(values: Sequence[str | None]) -> Categories:
    """The values by code, names in the order in which they were first seen. Empty text is no value.

    >>> categories(["stop", None, "length", "stop", ""])
    Categories(names=['stop', 'length'], codes=array([ 0, -1,  1,  0, -1], dtype=int32))
    """
    names = [name for name in dict.fromkeys(values) if name]
    codes = {name: code for code, name in enumerate(names)} | {None: -1, "": -1}
    return Categories(names, np.fromiter(map(codes.__getitem__, values), np.int32, len(values)))


def exchanges(records: Records) -> Flags:
    """True for exchanges, False for feedback events, which are observed for feedback only."""
    kinds = records.columns["kind"]
    return np.fromiter(map("feedback".__ne__, kinds), np.bool_, len(kinds))
