"""What level rules look at: a mean, a rate, a quantile or a count of one window, with one-sided 95 % bounds."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from monitor.summaries import AnySummary, Category, Numeric, Vector
from monitor.summaries.numeric import grid_values

Measure = Literal["mean", "rate", "quantile", "count"]
_ONE_SIDED = 1.645


class Measured(NamedTuple):
    """A value with its lower and upper bound; None where it cannot be said."""

    value: float | None
    low: float | None
    high: float | None


NOTHING = Measured(None, None, None)


def measure(summary: AnySummary, what: Measure, q: float | None = None) -> Measured:
    """One value of a window, with bounds by its independent units.

    mean: normal bounds from the variance on the grid; rate: Wilson's score bounds (JASA 1927); quantile: the order
    statistics a standard error of the binomial away; count: records, which are exact.

    Raises ValueError where the kind of signal has no such value.
    """
    if what == "count":
        count = float(round(summary.cells.population)) if summary.cells.sampled else float(summary.n)
        return Measured(count, count, count)
    if isinstance(summary, Category | Vector):
        raise ValueError(f"a {type(summary).__name__.lower()} has no {what}")  # noqa: TRY004  the measure is wrong
    if not summary.n:
        return NOTHING
    units = max(summary.cells.effective, 1)
    if what == "rate" or not isinstance(summary, Numeric):
        if isinstance(summary, Numeric) or what == "quantile":
            raise ValueError(f"a {'numeric signal' if isinstance(summary, Numeric) else 'rate'} has no {what}")
        return _wilson(float(summary.mean or 0.0), units)
    if what == "quantile":
        return _quantile(summary, 0.5 if q is None else q, units)
    values = grid_values(summary.scale)[summary.cells.keys]
    mean = float(summary.mean or 0.0)
    spread = float(summary.cells.mass @ (values - mean) ** 2) / summary.n
    error = _ONE_SIDED * float(np.sqrt(spread / units))
    return Measured(mean, mean - error, mean + error)


def passed_from(
    summary: AnySummary, what: Measure, level: float, units: float, *, above: bool, q: float | None = None
) -> float:
    """What a window of so many units must show for its bound to pass a level: the inverse of `measure`.

    A mean or a rate; of a quantile the share of the records that lie beyond the level; a count is the level itself.
    The spread of a mean is taken from `summary`, that of what is usual.

    >>> from monitor.summaries import Counts, Rate
    >>> round(passed_from(Rate(Counts()), "rate", 0.02, 7200, above=True), 4)
    0.0227
    """
    if what == "count":
        return level
    sign = 1 if above else -1
    if what == "rate" or not isinstance(summary, Numeric):  # Wilson's bounds are those rates that a score test leaves
        return level + sign * _ONE_SIDED * float(np.sqrt(level * (1 - level) / units))
    if what == "quantile":
        part = 0.5 if q is None else q
        return (1 - part if above else part) + _ONE_SIDED * float(np.sqrt(part * (1 - part) / units))
    values = grid_values(summary.scale)[summary.cells.keys]
    spread = float(summary.cells.mass @ (values - float(summary.mean or 0.0)) ** 2) / max(summary.n, 1)
    return level + sign * _ONE_SIDED * float(np.sqrt(spread / units))


def _wilson(rate: float, units: float) -> Measured:
    centre = (rate + _ONE_SIDED**2 / (2 * units)) / (1 + _ONE_SIDED**2 / units)
    spread = np.sqrt(rate * (1 - rate) / units + _ONE_SIDED**2 / (4 * units**2))
    half = float(_ONE_SIDED * spread / (1 + _ONE_SIDED**2 / units))
    return Measured(rate, centre - half, centre + half)


def _quantile(summary: Numeric, q: float, units: float) -> Measured:
    error = _ONE_SIDED * float(np.sqrt(q * (1 - q) / units))
    return Measured(summary.quantile(q), summary.quantile(max(q - error, 0.0)), summary.quantile(min(q + error, 1.0)))
