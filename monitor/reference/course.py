"""What course a signal took while it was learned: a trend, a cycle and its period, or a step. Pure.

Slice means are laid along one direction, and a straight line, sines and a step are fitted to them by least squares,
weighted by units. Lines and sines are held against what they leave by F tests. Neighbouring slices are alike, so that
they count as the n / (1 + 2 sum rho_l) that are not; the probability is for all that were tried. Of those that explain
more than chance and enough to matter, and the step, the one with the least BIC names the course.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special

from monitor.calibration import LAGS, ReferenceSlices, lag_pairs
from monitor.model import Floats, Ints
from monitor.settings import DAY, HOUR, MINUTE, SECOND, format_duration, parse_duration
from monitor.windows import SLICES

STEP, TREND, CYCLE = "a step", "a trend", "a cycle of about "
_NATURAL = (HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 6 * HOUR, 8 * HOUR, 12 * HOUR, DAY, 7 * DAY)
"""Periods that are tried wherever they fit, with a third of the level of their own."""
_RATIO, _CYCLES, _MOST = 1.02, 0.25, 48
"""Other periods are tried so close: each shorter by this ratio, or by a quarter of a cycle over the whole reference
where that is closer; down to so many cycles."""
_LEAST_PERIOD = 2 * SLICES
"""Slices of a period: two windows."""
_DIRECTIONS = 16
"""Directions in which slices differ most, of which that one is taken in which neighbours are most alike."""
_NEIGHBOURS = 3
"""Lags of neighbours."""


class Span(NamedTuple):
    """What the numbers of slices stand for."""

    length: int
    """Milliseconds of a slice."""
    slices: int
    """Of the whole reference, kept or not."""


class _Fit(NamedTuple):
    """A course that was fitted."""

    name: str
    curve: Floats
    squares: float
    """Weighted squares that it leaves."""
    slopes: int
    """Degrees of freedom of its F test."""
    parameters: int
    """Of BIC: a line's slope; a step's size and place; a sine's amplitude and phase, and its period unless natural."""


def course(rows: ReferenceSlices, span: Span, *, level: float, matters: Callable[[Floats], bool], stepped: bool) -> str:
    """What is said of a signal that was not steady, "" where it was.

    Parameters
    ----------
    level : the probability below which a course is not put down to chance
    matters : whether a difference of two means is large enough to be of interest
    stepped : whether two parts differ by chance no more, which needs no other course

    """
    live, otherwise = np.flatnonzero(rows.seen > 0), STEP if stepped else ""
    if len(live) < 4 * LAGS:
        return otherwise
    number, units = rows.number[live], rows.units[live] / rows.units[live].mean()
    direction, y = _leading(rows.shares[live], units, number)
    if not y.any():
        return otherwise
    path = _Path(number, y, units)
    fits = [(path.line(), level / 3)]
    if rows.season is None:  # a reference that knows a cycle has taken it out of its slices
        for periods, fitted in ((_natural(span), 0), (_other(span), 1)):
            if periods:
                fits.append((path.sine(np.array(periods), span.length, fitted), level / 3 / len(periods)))
    found = [fit for fit, least in fits if matters(direction * float(np.ptp(fit.curve))) and path.chance(fit) < least]
    if not found:
        return otherwise
    found.append(path.step())
    apart = path.apart(min(found, key=lambda fit: fit.squares))
    return min(found, key=lambda fit: apart * np.log(fit.squares) + fit.parameters * np.log(apart)).name


def remedy(courses: Sequence[str]) -> str:
    """The reference that would know the longest cycle among courses, "" where there is none.

    >>> remedy(["a trend", "a cycle of about 1h", "a cycle of about 6h"])
    '`reference: {kind: seasonal, period: 6h}`'
    """
    periods = [name.removeprefix(CYCLE) for name in courses if name.startswith(CYCLE)]
    return f"`reference: {{kind: seasonal, period: {max(periods, key=parse_duration)}}}`" if periods else ""


def _leading(shares: Floats, units: Floats, number: Ints) -> tuple[Floats, Floats]:
    """The direction in which slices differ and neighbours are alike, and where slices lie along it.

    The direction of the greatest variance would be one of chance where units are few to a slice; neighbours do not
    share chance.
    """
    centred = (shares - units @ shares / units.sum()) * np.sqrt(units)[:, None]
    wide = len(shares) < shares.shape[1]
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    axes = vectors[:, -_DIRECTIONS:]
    if wide:
        axes = centred.T @ axes / np.sqrt(np.maximum(values[-_DIRECTIONS:], 1e-300))
    scores = centred @ axes
    alike = np.zeros((scores.shape[1],) * 2)
    for lag in range(1, _NEIGHBOURS + 1):
        first, second = lag_pairs(number, lag)
        alike += scores[first].T @ scores[second]
    direction = axes @ np.linalg.eigh(alike + alike.T)[1][:, -1]
    return direction, centred @ direction / np.sqrt(units)


def _natural(span: Span) -> list[float]:
    """In slices, as `_other`; at least two periods lie in the reference."""
    natural = [period / span.length for period in _NATURAL]
    return [period for period in natural if _LEAST_PERIOD <= period <= span.slices / 2]


def _other(span: Span) -> list[float]:
    cycles, periods = 2.0, []
    while cycles <= min(span.slices / _LEAST_PERIOD, _MOST):
        periods.append(span.slices / cycles)
        cycles += min(cycles * (_RATIO - 1), _CYCLES)
    return periods


@lru_cache(maxsize=8)
def _waves(number: bytes, periods: bytes) -> tuple[Floats, Floats]:
    """Cosines and sines at each period, shape (periods, R); the same for most signals of a scope."""
    turns = np.frombuffer(number, np.int64) / np.frombuffer(periods)[:, None]
    return np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)


def _rounded(period: float) -> int:
    """A period in the coarsest unit that is at most 2 % off.

    >>> _rounded(6.05 * HOUR) // MINUTE, _rounded(6.3 * HOUR) // MINUTE
    (360, 375)
    """
    for unit in (DAY, HOUR, 15 * MINUTE, MINUTE, 15 * SECOND, SECOND):
        rounded = round(period / unit) * unit
        if abs(rounded - period) <= 0.02 * period:
            return rounded
    return max(round(period), 1)


@dataclass(frozen=True, slots=True)
class _Path:
    """Where slices lie along one direction, their weighted mean being 0."""

    number: Ints
    y: Floats
    units: Floats
    """Of mean 1."""
    pairs: Sequence[tuple[Ints, Ints]] = field(init=False)
    """Places of slices that lie 1 .. 11 apart."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", [lag_pairs(self.number, lag) for lag in range(1, LAGS)])

    def line(self) -> _Fit:
        time = self.number - self.units @ self.number / self.units.sum()
        return self._fit(TREND, time * float((self.units * time) @ self.y / (self.units @ time**2)), 1, 1)

    def step(self) -> _Fit:
        """The step that leaves least, wherever it lies."""
        before, sums = np.cumsum(self.units)[:-1], np.cumsum(self.units * self.y)[:-1]
        after = self.units.sum() - before
        end = int((sums**2 * (1 / before + 1 / after)).argmax())
        means = sums[end] / before[end], -sums[end] / after[end]
        return self._fit(STEP, np.where(np.arange(len(self.y)) <= end, *means), 1, 2)

    def sine(self, periods: Floats, length: int, fitted: int) -> _Fit:
        """The sine that leaves least.

        Parameters
        ----------
        periods : in slices
        length : milliseconds of a slice
        fitted : 1 where the period is one of many, 0 where it is natural

        """
        cosines, sines = _waves((self.number - self.number[0]).tobytes(), periods.tobytes())
        n, units, weighted = self.units.sum(), self.units, self.units * self.y
        c, s, cy, sy = cosines @ units / n, sines @ units / n, cosines @ weighted, sines @ weighted
        cc, ss = cosines**2 @ units - n * c**2, sines**2 @ units - n * s**2
        cs = (cosines * sines) @ units - n * c * s
        determinant = np.maximum(cc * ss - cs**2, 1e-9 * n**2)
        a, b = (ss * cy - cs * sy) / determinant, (cc * sy - cs * cy) / determinant
        i = int((a * cy + b * sy).argmax())
        name = CYCLE + format_duration(_rounded(periods[i] * length))
        return self._fit(name, a[i] * (cosines[i] - c[i]) + b[i] * (sines[i] - s[i]), 2, 2 + fitted)

    def _fit(self, name: str, curve: Floats, slopes: int, parameters: int) -> _Fit:
        return _Fit(name, curve, max(float(self.units @ (self.y - curve) ** 2), 1e-300), slopes, parameters)

    def apart(self, fit: _Fit) -> float:
        """How many slices that are not alike tell as much as these, by what a fit leaves of each.

        n / (1 + 2 sum rho_l m_l / n), where m_l of n slices have another l later, up to the first two lags whose
        sum is not positive (Geyer 1992); or, where that is less, with rho_1^l. Each parameter that was fitted, k with
        the mean, takes k/(slices not alike) of the variance and of the covariance of neighbours; that is put back.
        Slices of unequal units are as many equal ones as have their sum by their sum of squares.
        """
        left = np.sqrt(self.units) * (self.y - fit.curve)
        n, size = len(left), float(self.units.sum() ** 2 / (self.units @ self.units))
        products = [float(left[first] @ left[second]) / max(len(first), 1) for first, second in self.pairs]
        raw = np.array(products) / max(float(left @ left) / n, 1e-300)
        ended = np.flatnonzero(raw[:-1] + raw[1:] <= 0)
        until = int(ended[0]) if len(ended) else len(raw)
        part = np.array([len(first) for first, _ in self.pairs]) / n
        inflation = 1.0
        for _ in range(3):
            taken = min((1 + fit.slopes) * inflation / size, 0.5)
            alike = raw * (1 - taken) + taken
            near = min(max(float(alike[0]), 0.0), 0.99) if until else 0.0
            powers = near ** np.arange(1, LAGS)
            beyond = part[-1] * powers[-1] * near / (1 - near)
            inflation = 1 + 2 * max(float(part[:until] @ alike[:until]), float(part @ powers) + beyond)
        return size / inflation

    def chance(self, fit: _Fit) -> float:
        """The probability that chance explains as much: that of F with the slices that are not alike."""
        free = self.apart(fit) - 1 - fit.slopes
        if free < 2:
            return 1.0
        ratio = (float(self.units @ self.y**2) / fit.squares - 1) * free / fit.slopes
        return float(special.fdtrc(fit.slopes, free, max(ratio, 0.0)))
