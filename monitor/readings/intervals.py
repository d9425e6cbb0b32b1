"""95 % intervals of effects: of the difference between a stretch of slices and the reference, both of them uncertain.

Every one comes from two intervals, of the stretch and of the reference, joined by the squares of their one-sided
lengths (Newcombe, Statistics in Medicine 17, 1998; Zou and Donner, ibid. 27, 2008), so that none needs a variance at a
rate of 0. How uncertain a share is says the null: `Uncertain` has its variance in parts of p (1 - p), with the units,
what they share over slices, and what slices differ by beyond that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from monitor.model import Floats

Z = 1.959964
"""Normal quantile of a 95 % interval."""
Z_STRETCH = 2.81
"""The same for the strongest of the stretches, which reach over ten octaves; those of one octave are much alike
(Bonferroni over ten)."""
Z_DECILES = 2.65
"""The same for all nine deciles at once, of which the one that moved most is told: the 95 % quantile of the greatest
standardised deviation of an empirical distribution at its deciles (an equal precision band: Nair, Technometrics 1984);
Bonferroni would say 2.77."""
_ROUNDING = 0.01
"""What the width of a cell of the log grid leaves open of a value, in logarithms."""
_LEAST = 1e-9
"""What an amount of 0 counts as, in logarithms: the lower end of the grid."""
_GRACE = 1.0
"""Standard errors nearer to 0 at which the bias of an absolute difference is taken."""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """How well some shares of one series are known. Shape (shares,) each; of scores the mean is the one share."""

    rate: Floats
    """Of the reference."""
    here: Floats
    """Variance of the stretch's share over p (1 - p)."""
    there: Floats
    """The same of the reference's."""
    z: float = Z
    """Normal quantile of the interval."""
    ends: Floats = field(default_factory=lambda: np.empty((0, 2)))
    """Amounts: the interval of each decile of the reference, shape (9, 2)."""


def wilson(rate: Floats, variance: Floats, z: Floats | float = Z) -> tuple[Floats, Floats]:
    """The score interval of rates (Wilson, JASA 1927), `variance` being one over the effective number of units.

    >>> [round(float(end), 4) for end in wilson(np.array(0.0), np.array(1 / 50))]
    [0.0, 0.0713]
    """
    rate, pull = np.clip(rate, 0, 1), z**2 * variance  # a mean of scores is off by rounding
    centre, half = rate + pull / 2, z * np.sqrt(rate * (1 - rate) * variance + pull * variance / 4)
    return np.maximum((centre - half) / (1 + pull), 0), np.minimum((centre + half) / (1 + pull), 1)


def of_differences(
    rate: Floats, usual: Floats, here: Floats, there: Floats, z: Floats | float = Z
) -> tuple[Floats, Floats]:
    """Newcombe's interval (1998, method 10) of `rate - usual`.

    Parameters
    ----------
    here, there : variance of each over p (1 - p)

    >>> n, m = 1 / np.array(70.0), 1 / np.array(80.0)  # 56/70 and 48/80, worked in the paper
    >>> [round(float(end), 4) for end in of_differences(np.array(56 / 70), np.array(48 / 80), n, m)]
    [0.0524, 0.3339]
    """
    (low, high), (usual_low, usual_high) = wilson(rate, here, z), wilson(usual, there, z)
    difference = rate - usual
    down, up = np.hypot(rate - low, usual_high - usual), np.hypot(high - rate, usual - usual_low)
    return np.asarray(difference - down, np.float64), np.asarray(difference + up, np.float64)


def of_total_variation(sides: Sequence[tuple[Floats, Floats]], known: Sequence[Uncertain]) -> tuple[Floats, Floats]:
    """The intervals of half the sum of absolute differences between two distributions over the same values.

    It is the difference in the share of those values that rose, which is what the interval is of. But these were
    chosen by their having risen, so that it is too large by as much as the absolute values of noise add: that is taken
    off the lower end. Of a value it is the excess of the mean of a folded normal (Leone, Nelson and Nottingham,
    Technometrics 1961), where the true difference is a standard error nearer to 0 than what was found.

    Parameters
    ----------
    sides : of each series the distribution of the stretch and of the reference
    known : of each series; two values have one share

    """
    here, there = (np.concatenate(column) for column in zip(*sides, strict=True))
    counts = [len(side) for side, _ in sides]
    first = np.cumsum([0, *counts[:-1]])
    of_here, of_there = (
        np.concatenate([np.repeat(part, count // len(part)) for part, count in zip(column, counts, strict=True)])
        for column in ([one.here for one in known], [one.there for one in known])
    )

    def total(values: Floats) -> Floats:
        found: Floats = np.add.reduceat(values, first)
        return found

    # Variances as if half a unit more had each outcome, so that there is one where a value was never seen.
    p, r = (here + of_here / 2) / (1 + of_here), (there + of_there / 2) / (1 + of_there)
    p, r = p * (1 - p), r * (1 - r)
    error, change = np.sqrt(p * of_here + r * of_there), here - there
    rose, z = change > 0, np.array([one.z for one in known])
    # What swings most makes most of the noise of the sum, so that it counts by its variance.
    of_sums = [total(part * of**2) / total(part * of) for part, of in ((p, of_here), (r, of_there))]
    low, high = of_differences(total(here * rose), total(there * rose), of_sums[0], of_sums[1], z)
    size = np.maximum(np.abs(change) / error - _GRACE, 0)
    more = error * (np.sqrt(2 / np.pi) * np.exp(-(size**2) / 2) - 2 * size * special.ndtr(-size))
    return np.maximum(low - total(more) / 2, 0), np.minimum(high, 1)


def share_bounds(share: Floats, variance: Floats, z: Floats | float = Z_DECILES) -> tuple[Floats, Floats]:
    """Between which shares of its sample the quantile at `share` lies (Woodruff, JASA 1952), for nine deciles at once.

    0 or 1 where no value bounds it.
    """
    error = z * np.sqrt(share * (1 - share) * variance)
    return np.maximum(share - error, 0), np.minimum(share + error, 1)


def of_ratios(found: Floats, low: Floats, high: Floats, usual: Floats, ends: Floats) -> tuple[Floats, Floats]:
    """The interval of found/usual for quantiles on the log grid, 0 to infinity.

    Parameters
    ----------
    low, high : the interval of `found`; infinite where there is no bound
    ends : the interval of `usual`, which is above 0. Shape (..., 2)

    """
    here = np.log(np.maximum(found, _LEAST))
    with np.errstate(divide="ignore"):
        down, up = here - np.log(low), np.log(np.maximum(high, _LEAST)) - here
        down_usual, up_usual = np.log(ends[..., 1] / usual), np.log(usual / ends[..., 0])
    ratio, rounding = here - np.log(usual), 2 * _ROUNDING**2
    least = ratio - np.sqrt(down**2 + down_usual**2 + rounding)
    most = ratio + np.sqrt(up**2 + up_usual**2 + rounding)
    return np.exp(least), np.exp(most)
