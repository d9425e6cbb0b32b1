"""What a slice remembers of one signal: one file a kind, every kind adds to its own kind only."""

from __future__ import annotations

from monitor.model import Column, Hashes, Ints, Kind, Signal
from monitor.summaries.category import Category
from monitor.summaries.counts import Counts
from monitor.summaries.numeric import Numeric
from monitor.summaries.rate import Rate

AnySummary = Numeric | Rate | Category

SUMMARIES: dict[Kind, type[Numeric | Rate | Category]] = {
    "numeric": Numeric,
    "rate": Rate,
    "category": Category,
}
"""Kind of signal -> class of its summary. `level` (volume) is a plain count and has none."""

__all__ = ["SUMMARIES", "AnySummary", "Category", "Counts", "Numeric", "Rate", "merged", "summarise"]


def summarise(signal: Signal, values: Column, groups: Ints, number: int, session: Hashes) -> list[AnySummary]:
    """One summary of `signal` for each group 0 .. `number` - 1.

    Parameters
    ----------
    values, groups, session : one entry a record: its value, its group, the hash of its session (0 = none)

    """
    return list(SUMMARIES[signal.kind].grouped(signal, values, groups, number, session))  # type: ignore[arg-type]


def merged(parts: list[AnySummary]) -> AnySummary:
    """The sum of one or more summaries of one kind."""
    return type(parts[0]).merged(parts)  # type: ignore[arg-type]
