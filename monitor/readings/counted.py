"""What a shift is counted in: one mean, so that it can be split and its parts be added.

Of a rate or a score it is its own; of a category the share of the value that moved most; of a number on a log scale the
mean of the log, values below a hundredth of the reference's median counting as that; of vectors the mean of their
features along the shift. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.model import Flags, Floats, Ints
from monitor.readings.effects import named_value
from monitor.readings.watched import Watched
from monitor.reference import SeriesReference
from monitor.sampling import Measures
from monitor.summaries import AnySummary, Vector
from monitor.summaries.category import category_key
from monitor.summaries.numeric import grid_keys, grid_values
from monitor.windows import Slice

Window = Sequence[tuple[int, Slice]]
"""Slices of a window by place."""
_SMALL = 0.01
"""Part of the reference's median below which amounts are told apart no more."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The mean of a number that each value is turned into."""

    of_cells: Callable[[Ints], Floats]
    """Of the cells that summaries count in."""
    of_measures: Callable[[Measures], Floats]
    """Of exchanges, NaN where the signal was not observed."""

    def mean(self, summary: AnySummary) -> float:
        """Over the records of a summary, which must have some."""
        mass = summary.cells.mass
        return float(mass @ self.of_cells(summary.cells.keys)) / float(mass.sum())


@dataclass(frozen=True, slots=True)
class Along:
    """The mean of vectors' features along a direction."""

    direction: Floats

    def mean(self, summary: AnySummary) -> float:
        """Over the records of a summary, which must have some."""
        assert isinstance(summary, Vector)
        return float(summary.embedding @ self.direction)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over some records."""

    mean: float
    mass: float
    """Records that it is over."""
    measured: int
    """How many of them were measured."""


def mean_over(parts: Sequence[AnySummary | None], how: Counted | Along) -> Mean | None:
    """The mean over the records of several slices; None where they have none."""
    there = [part for part in parts if part is not None and part.n]
    if not there:
        return None
    mass = [part.cells.population for part in there]
    total = sum(records * how.mean(part) for records, part in zip(mass, there, strict=True))
    return Mean(total / sum(mass), sum(mass), sum(part.n for part in there))


def counted(watched: Watched, moved: str) -> Counted | None:
    """What a shift is counted in; None of a category that did not move, or of an amount that is mostly nothing.

    Parameters
    ----------
    moved : of a category the value whose share moved most

    """
    series = watched.reference
    signal = series.signal
    if signal.kind == "rate":
        return Counted(lambda keys: (keys > 0).astype(np.float64), lambda found: found.number(signal.name))
    if signal.kind == "category":
        rows = [row for row in watched.yes if named_value(series, row) == moved]
        return _counted_names(signal.name, series.place, rows[0]) if rows else None
    worth = grid_values(signal.scale)
    if signal.scale == "log":
        median = float(watched.shape.deciles[4])
        if median <= 0:
            return None
        worth = np.log(np.maximum(worth, _SMALL * median))

    def of_measures(found: Measures) -> Floats:
        values = found.number(signal.name)
        there = ~np.isnan(values)
        values[there] = worth[grid_keys(values[there], signal.scale)]
        return values

    return Counted(lambda keys: worth[keys], of_measures)


def _counted_names(signal: str, place: Callable[[Ints], Ints], yes: Flags) -> Counted:
    """Whether a category has one of the values that lie in some bins."""

    def of_cells(keys: Ints) -> Floats:
        return yes[place(keys)].astype(np.float64)

    def of_measures(found: Measures) -> Floats:
        names = found.category(signal)
        keys = np.array([0 if name is None else category_key(name) for name in names], np.int64)
        return np.where([name is None for name in names], np.nan, of_cells(keys))

    return Counted(of_cells, of_measures)


def along(series: SeriesReference, window: Window) -> Along | None:
    """The direction in which vectors moved; None where there are none, or they have not moved at all."""
    found = [part.summary(series.scope, series.signal.name) for _, part in window]
    parts = [part for part in found if isinstance(part, Vector)]
    if not parts or not isinstance(series.summary, Vector):
        return None
    moved = Vector.merged(parts).embedding - series.summary.embedding
    return Along(moved / np.linalg.norm(moved)) if moved.any() else None


def since(window: Window, changed_at: int | None) -> Window:
    """The slices of a window from the change on; all where it began before, or none of them holds records."""
    return [part for part in window if changed_at is None or part[1].start >= changed_at] or window
