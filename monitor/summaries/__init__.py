"""What a slice remembers of one signal: one file a kind, every kind adds to its own kind only."""

from __future__ import annotations

from monitor.model import Column, Floats, Hashes, Ints, Kind, Signal
from monitor.summaries.category import Category
from monitor.summaries.counts import Counts
from monitor.summaries.numeric import Numeric
from monitor.summaries.rate import Rate
from monitor.summaries.vector import Vector

AnySummary = Numeric | Rate | Category | Vector

SUMMARIES: dict[Kind, type[Numeric | Rate | Category | Vector]] = {
    "numeric": Numeric,
    "rate": Rate,
    "category": Category,
    "vector": Vector,
}
"""Kind of signal -> class of its summary. `level` (volume) is a plain count and has none."""

__all__ = ["SUMMARIES", "AnySummary", "Category", "Counts", "Numeric", "Rate", "Vector", "merged", "summarise"]


def summarise(  # noqa: PLR0917  the records' columns, then what they stand for
    signal: Signal,
    values: Column,
    groups: Ints,
    number: int,
    session: Hashes,
    weight: Floats | None = None,
    order: Hashes | None = None,
) -> list[AnySummary]:
    """One summary of `signal` for each group 0 .. `number` - 1.

    Parameters
    ----------
    values, groups, session : one entry a record: its value, its group, the hash of its session (0 = none)
    weight : records that each record of a group stands for, one entry a group, each group being a whole slice of a
        scope; None where all records are measured
    order : vectors only, and needed there: hash of the id of each record, by which a few rows are kept

    """
    if signal.kind == "vector":
        return list(Vector.grouped(signal, values, groups, number, session, weight=weight, order=order))  # type: ignore[arg-type]
    return list(SUMMARIES[signal.kind].grouped(signal, values, groups, number, session, weight=weight))  # type: ignore[arg-type]


def merged(parts: list[AnySummary]) -> AnySummary:
    """The sum of one or more summaries of one kind."""
    return type(parts[0]).merged(parts)  # type: ignore[arg-type]
