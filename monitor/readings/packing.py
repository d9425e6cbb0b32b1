"""How the state of tables is packed: the names of their series, and columns with a row for each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate

from monitor.model import Scope
from monitor.reference import SeriesReference

Names = Sequence[Sequence[str | None]]


def packed_names(series: Sequence[SeriesReference]) -> list[list[str | None]]:
    """Stream, segment and signal of each series."""
    return [[*reference.scope, reference.signal.name] for reference in series]


def rows_but(names: Names, gone: Collection[tuple[Scope, str]]) -> list[int]:
    """Rows of the series that are not among those `gone`."""
    lost = {(*scope, signal) for scope, signal in gone}
    return [row for row, name in enumerate(names) if tuple(name) not in lost]


def packed_rows(column: bytes, count: int, wanted: Sequence[int]) -> bytes:
    """The wanted rows of a packed column of `count` rows."""
    width = len(column) // max(count, 1)
    return b"".join(column[width * row : width * (row + 1)] for row in wanted)


def packed_shares(
    columns: Sequence[bytes], of_series: Collection[int], counts: Sequence[int], kept: Sequence[int]
) -> list[bytes]:
    """The wanted series of packed columns that have a row for each share, or for each series.

    Parameters
    ----------
    of_series : which columns have one for each series
    counts : shares of each series

    >>> packed_shares([b"aabccc", b"xyz"], {1}, [2, 1, 3], [0, 2])
    [b'aaccc', b'xz']
    """
    begins = [0, *accumulate(counts)]
    places = [place for row in kept for place in range(begins[row], begins[row + 1])]
    by_share, by_series = (begins[-1], places), (len(counts), kept)
    return [packed_rows(column, *(by_series if at in of_series else by_share)) for at, column in enumerate(columns)]
