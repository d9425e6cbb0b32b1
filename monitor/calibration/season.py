"""Traffic that follows a cycle: what is usual at each time of it, and what the phases of a reference tell. Pure.

A cycle is cut into phases, and a reference knows the mean of each. What slices differ by is then what is left about the
mean of their own time. That mean has absorbed a part of it: residuals r = (1 - H) x of slice means x, H being what
makes means of phases from slices and lays them under the slices again, have covariance (1 - H) C (1 - H)' where slices
have C. C being W/k on its diagonal and B_l at lag l, products of residuals at each lag are a linear function of W and
the B_l, from which the B_l follow. Correlation beyond the lags that are estimated is taken to go on, within one passage
of a phase, as the last lags have it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from monitor.calibration.lags import LAGS, lag_pairs
from monitor.model import Floats, Ints
from monitor.settings import HOUR

PHASES, MOST_PHASES = 24, 168
"""Phases of a cycle of up to a day, and at most, one for each hour."""
LEAST_PERIODS = 1.9
"""Periods that a reference must have seen: two, of which a little may be missing."""
_PIECES = 4
"""Pieces to a phase by which a slice that is longer than a quarter of it is laid over phases."""
_LATE = LAGS // 2
"""From this lag on covariances say how they go on."""


class Cycle(NamedTuple):
    """Time cut into periods since the epoch, and each period into equal phases."""

    period: int
    """Milliseconds."""
    phases: int

    @classmethod
    def of(cls, period: int, finest: int) -> Cycle:
        """The phases of a period where the finest slices are so long.

        >>> Cycle.of(24 * HOUR, 25_000).phases, Cycle.of(168 * HOUR, 25_000).phases, Cycle.of(60_000, 10_000).phases
        (24, 168, 6)
        """
        wanted = max(PHASES, min(-(-period // HOUR), MOST_PHASES))
        return cls(period, max(min(wanted, period // finest), 1))

    @property
    def length(self) -> float:
        """Milliseconds of a phase."""
        return self.period / self.phases

    def passage(self, number: Ints, length: int) -> Ints:
        """Phases since the epoch up to the one in which the middle of each slice lies."""
        return np.asarray((2 * number + 1) * length * self.phases // (2 * self.period), np.int64)

    def phase(self, start: int, length: int) -> int:
        """The phase in which the middle of a slice lies.

        >>> Cycle(24, 24).phase(24 * 5 + 7, 1)
        7
        """
        return (2 * start + length) * self.phases // (2 * self.period) % self.phases

    def time_in(self, begin: int, end: int) -> Floats:
        """Milliseconds between two times that lie in each phase. Shape (phases,).

        >>> Cycle(40, 4).time_in(35, 95).tolist()
        [20.0, 15.0, 10.0, 15.0]
        """
        edges = np.arange(self.phases + 1) * self.length
        upto = [np.minimum(time % self.period, edges) + time // self.period * edges for time in (begin, end)]
        return np.asarray(np.diff(upto[1] - upto[0]), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Season:
    """What a reference says of one signal by phase, and what that leaves of its slices of one size."""

    cycle: Cycle
    mean: Floats
    """Shares of the bins, or mean features, in each phase; 0 where nothing was seen. Shape (P, r)."""
    units: Floats
    """Units in each phase. Shape (P,)."""
    inverse: Floats
    """One over the independent units that would know the mean of each phase as well: sum n^2/k / (sum n)^2; 0 where
    nothing was seen. Shape (P,)."""
    lines: bool
    """Whether what is usual goes in straight lines between the middles of phases; else it steps at their borders."""
    left: Floats
    """What is left in products of residuals at each lag (first axis) of covariances at each lag. Shape (LAGS, LAGS)."""
    own: Floats
    """What the mean of phases adds to them of W, beside W/k at lag 0. Shape (LAGS,)."""
    lag_weights: Floats
    """Part of the covariance at each lag, on both sides, in the variance of the mean of a phase. Shape (LAGS,)."""
    phase_slices: float = 1.0
    """Slices to a phase."""

    def weights(self, start: int, length: int) -> Floats:
        """Parts that phases have in what is usual in a slice; 0 where nothing is known of its time. Shape (P,)."""
        return _weights(self.cycle, start, length, lines=self.lines, units=self.units.tobytes())

    def usual(self, number: Ints, length: int) -> Floats:
        """What is usual in each slice. Shape (R, r)."""
        return np.stack([self.weights(n * length, length) for n in number.tolist()] or [0 * self.units]) @ self.mean

    @property
    def typical(self) -> float:
        """`inverse` of a typical phase."""
        known = self.inverse[self.inverse > 0]
        return float(known.mean()) if len(known) else 1.0

    def vagueness(self, weights: Floats) -> float:
        """How much less the phases of these weights are known than a typical one."""
        return float(weights @ self.inverse) / self.typical

    def known(self, weights: Floats, covered: float) -> float:
        """Independent units that would know as well what is usual over so many phases; 0 where nothing is known."""
        inverse = float(weights @ self.inverse) / min(max(covered, 1.0), self.cycle.phases)
        return 1 / inverse if inverse > 0 else 0.0

    @property
    def freedom(self) -> float:
        """The part of a variation that lasts for all lags which the means of phases have not absorbed."""
        return float(np.clip(self.left.sum() / LAGS, 0.05, 1))

    def given_back(self, products: Floats, within: Floats | float) -> Floats:
        """Covariances of slice means at each lag from those of residuals, last axis, and W, both without W/k."""
        rest = products - np.multiply.outer(within, self.own)
        return np.asarray(np.linalg.solve(self.left, rest.T).T, np.float64)

    def for_residuals(self, weights: Floats) -> Floats:
        """Weights of products of residuals that come to those of covariances of slice means, shape (LAGS,)."""
        return np.asarray(np.linalg.solve(self.left.T, weights), np.float64)

    def dump(self) -> tuple[Any, ...]:
        """Packed fields."""
        arrays = [getattr(self, name).tobytes() for name in _ARRAYS]
        return self.cycle.period, self.cycle.phases, self.lines, self.phase_slices, arrays

    @classmethod
    def load(cls, packed: Sequence[Any]) -> Season:
        """The inverse of `dump`."""
        period, phases, lines, phase_slices, arrays = packed
        of = {name: np.frombuffer(data, np.float64).copy() for name, data in zip(_ARRAYS, arrays, strict=True)}
        of["mean"], of["left"] = of["mean"].reshape(phases, -1), of["left"].reshape(LAGS, LAGS)
        return cls(Cycle(period, phases), lines=lines, phase_slices=phase_slices, **of)


_ARRAYS = ("mean", "units", "inverse", "left", "own", "lag_weights")


def season_of(
    cycle: Cycle,
    means: tuple[Floats, Floats, Floats],
    *,
    number: Ints,
    shares: Floats,
    units: Floats,
    seen: Floats,
    span: tuple[int, int, int],
) -> Season:
    """The season of one signal. Whether it goes in lines or steps is what leaves less of the slices.

    Parameters
    ----------
    means : mean, units and inverse of each phase, shapes (P, r), (P,) and (P,)
    number, shares, units, seen : the slices kept, as in ReferenceSlices
    span : first number of the slices of which the phases were made, the one behind the last, their length

    """
    length = span[2]
    nothing = np.eye(LAGS), np.zeros(LAGS), np.zeros(LAGS)
    fits = [Season(cycle, *means, lines, *nothing, cycle.length / length) for lines in (True, False)]
    live = np.flatnonzero(seen > 0)
    number, units, seen = number[live], units[live], seen[live]
    apart = [float(units @ ((shares[live] - fit.usual(number, length)) ** 2).sum(axis=1)) for fit in fits]
    best = fits[int(np.argmin(apart))]
    if not len(live):
        return best
    laid = np.stack([best.weights(n * length, length) for n in number.tolist()])
    left, lag_weights = _left(cycle, span, number.tobytes(), laid.tobytes())
    held = _held(cycle, number, length).toarray() * np.divide(1, best.units, where=best.units > 0, out=0 * best.units)
    own = _own(held * (units / seen)[:, None], number, laid, units, best.inverse)
    return replace(best, left=left, own=own, lag_weights=lag_weights)


def _pieces(cycle: Cycle, length: int) -> int:
    """Pieces by which a slice is laid over phases: one where it is much shorter than they are."""
    return math.ceil(_PIECES * length / cycle.length) if _PIECES * length > cycle.length else 1


def _middles(cycle: Cycle, start: Ints, length: int) -> Floats:
    """Where the middles of the pieces of each slice lie, in phases of the cycle. Shape (slices, pieces)."""
    pieces = _pieces(cycle, length)
    # In halves of a piece, so that whole numbers stay exact.
    halves = 2 * pieces * np.asarray(start, np.int64)[:, None] + (2 * np.arange(pieces) + 1) * length
    within = halves % (2 * pieces * cycle.period)
    return np.asarray(within * cycle.phases / (2 * pieces * cycle.period), np.float64)


@lru_cache(maxsize=4096)
def _weights(cycle: Cycle, start: int, length: int, *, lines: bool, units: bytes) -> Floats:
    known = np.frombuffer(units, np.float64)
    middle = _middles(cycle, np.array([start]), length)[0]
    here, piece = middle.astype(np.int64), np.arange(len(middle))
    rows = np.zeros((len(middle), cycle.phases))
    if lines:
        before = np.floor(middle - 0.5).astype(np.int64)
        after = middle - 0.5 - before
        rows[piece, before % cycle.phases] += 1 - after
        rows[piece, (before + 1) % cycle.phases] += after
    else:
        rows[piece, here] = 1
    rows = rows * (known > 0)
    total = rows.sum(axis=1)
    rows = rows / np.where(total > 0, total, 1)[:, None]
    traffic = known[here] * (total > 0)
    if not traffic.any():  # between phases that are known
        traffic = (total > 0).astype(np.float64)
    found: Floats = traffic @ rows / max(float(traffic.sum()), 1e-300)
    found.setflags(write=False)
    return found


def _held(cycle: Cycle, number: Ints, length: int) -> sparse.csr_array:
    """The part of each slice that was counted in each phase. Shape (slices, P)."""
    middle = _middles(cycle, number * length, length)
    row = np.repeat(np.arange(len(number)), middle.shape[1])
    part = np.full(len(row), 1 / middle.shape[1])
    return sparse.csr_array((part, (row, middle.astype(np.int64).ravel())), shape=(len(number), cycle.phases))


@lru_cache(maxsize=8)
def _layout(cycle: Cycle, first: int, last: int, length: int) -> tuple[Floats, Floats, dict[int, int]]:
    """How slices lie in phases.

    Slices in each phase, shape (P,); covariance of means of phases per covariance of slices at each lag, and beyond
    within one passage, shape (LAGS + 1, P, P); slices in each passage.
    """
    number = np.arange(first, last)
    held, passage = _held(cycle, number, length), cycle.passage(number, length)
    slices = np.asarray(held.sum(axis=0), np.float64)
    pairs = np.zeros((LAGS + 1, cycle.phases, cycle.phases))
    for lag in range(min(LAGS, len(number))):
        table = (held[: len(number) - lag].T @ held[lag:]).toarray()
        pairs[lag] = table + table.T if lag else table
    names, sizes = np.unique(passage, return_counts=True)
    near = np.array([(2 if lag else 1) * np.maximum(sizes - lag, 0) for lag in range(LAGS)]).sum(axis=0)
    pairs[LAGS] = np.diag(np.bincount(names % cycle.phases, sizes**2 - near, minlength=cycle.phases))
    over = np.where(slices > 0, slices, 1)
    return slices, pairs / over[:, None] / over, dict(zip(names.tolist(), sizes.tolist(), strict=True))


@lru_cache(maxsize=64)
def _left(cycle: Cycle, span: tuple[int, int, int], number: bytes, laid: bytes) -> tuple[Floats, Floats]:
    """`Season.left` and `Season.lag_weights` of slices with these numbers and weights of phases."""
    slices, of_means, sizes = _layout(cycle, *span)
    first, last, length = span
    numbers = np.frombuffer(number, np.int64)
    under = np.frombuffer(laid, np.float64).reshape(len(numbers), cycle.phases)
    own, same = cycle.passage(numbers, length), np.zeros(len(numbers))
    with_mean = np.zeros((LAGS + 1, *under.shape))
    for lag in range(1 - LAGS, LAGS):
        inside = (numbers + lag >= first) & (numbers + lag < last)
        with_mean[abs(lag)] += _held(cycle, numbers + lag, length).toarray() * inside[:, None]
        same += inside & (cycle.passage(numbers + lag, length) == own)
    beyond = np.array([sizes.get(name, 0) for name in own.tolist()]) - same
    with_mean[LAGS, np.arange(len(numbers)), own % cycle.phases] = np.maximum(beyond, 0)
    with_mean /= np.where(slices > 0, slices, 1)
    mean_under = under @ of_means
    left = np.zeros((LAGS, LAGS + 1))
    for lag in range(LAGS):
        one, two = lag_pairs(numbers, lag)
        if len(one):
            shared = np.einsum("kip,ip->k", with_mean[:, one], under[two])
            shared += np.einsum("kip,ip->k", with_mean[:, two], under[one])
            left[lag] = (np.einsum("kip,ip->k", mean_under[:, one], under[two]) - shared) / len(one)
        left[lag, lag] += 1
    weights = np.einsum("kpp->k", of_means) / max(int((slices > 0).sum()), 1)
    return _going_on(left), _going_on(weights)


def _going_on(by_lag: Floats) -> Floats:
    """What lies beyond the lags, last, shared out among the last of them."""
    found = by_lag[..., :LAGS].copy()
    found[..., _LATE:] += by_lag[..., LAGS:] / (LAGS - _LATE)
    return found


def _own(part: Floats, number: Ints, laid: Floats, units: Floats, inverse: Floats) -> Floats:
    """`Season.own` of slices.

    Parameters
    ----------
    part : covariance of each slice with the mean of each phase, per W; shape (R, P)
    laid : weights of phases under each slice, shape (R, P)

    """
    own = np.zeros(LAGS)
    for lag in range(LAGS):
        one, two = lag_pairs(number, lag)
        weight = np.sqrt(units[one] * units[two])
        if weight.sum() > 0:
            shared = (part[one] * laid[two] + part[two] * laid[one]).sum(axis=1)
            own[lag] = float(weight @ ((laid[one] * laid[two]) @ inverse - shared)) / float(weight.sum())
    return own
