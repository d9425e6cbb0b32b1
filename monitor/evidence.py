"""Shares: evidence over time that the part of the units that lies in some bins has changed since the reference.

For each stretch of slices up to now an e-value says how much better a change explains it than none, and over starts
they are summed, as in an e-detector (Shin, Ramdas and Rinaldo, New England J. Stat. Data Sci. 2023): were each an
e-process, the mean number of slices until the sum reaches 1/a would be at least 1/a while nothing changes. No tail is
extrapolated; what simulation says of that time is in the README.

An e-value is a ratio of two mixtures of densities of the signed root of the deviance between stretch and reference.
Below stands the null: the root is normal, and its variance is that of the reference's own slices at all lags that these
show (slices differ by more than their units make them, sessions go on, traffic swells), averaged over what the
reference leaves open about it, so that few slices widen honestly; as far as slices differ by more than their units, its
tails are longer than normal ones. Above stands the same with a change whose size is normal (Robbins, Ann. Math. Stat.
41, 1970). The deviance has the reference's own uncertainty in it, so that its rate is never plugged in as known, and a
reference without a success is none the worse. Pure; arrays carry shares first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from scipy import special

from monitor.calibration import BOTH_SIDES, LAGS, ReferenceSlices, Season, lag_pairs
from monitor.model import Flags, Floats, Ints

STARTS = 32
"""Starts kept at a time: four to an octave of age."""
SUMS = 4
"""What is summed since each start."""
MIX = 2
"""What is summed besides where there is a season."""
REACH = 512
"""Slices that the oldest start kept may lie back."""
_EXCESS: Floats = np.concatenate([[0.0], 0.25 * 4.0 ** np.arange(7)])
"""What slices may differ by beyond what their units make them, as multiples of that, at the reference's traffic."""
_NONE = 0.65
"""Prior weight of no such excess."""
_ALIKE = 0.1
"""Greatest correlation of the units of a slice that is thought of where the reference does not show a greater one."""
_TIMES = 16.0
"""How many times its estimate an excess may be, however few slices there are."""
_SIZES: Floats = np.array([0.05, 0.2, 0.8]) ** 2
"""Variances of a change, in units of the variance of one unit."""
_SKEW = 0.25
"""Power of the odds ratio by which an excess grows with the rate: rates that swing, swing more where they are high."""
_AGES: Ints = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512])
"""Stretches for which the null is laid out; others take the next longer."""
_AGE_CLASS: Ints = np.searchsorted(_AGES, np.arange(REACH + 1)).astype(np.int64)
_SHORT, _LONGER = 3, (6, LAGS)
"""Lags that always count, and those that do where the reference shows them by more than a standard error."""
_SHOWN = 1.0
"""Standard errors by which longer lags must add to count."""
_FAR = 96
"""Lags to which a correlation that the last lags show is taken to go on, as it falls."""
_FEW = 20.0
"""Expected successes below which the reference does not say how units differ within a slice."""
_Z = 1.96
"""Normal quantile of a 95 % interval; Student's is Cornish and Fisher's series of it."""
_TAIL = 0.1
"""By how much more what slices differ by counts, for each unit of the root of the deviance: a rate that swings on the
normal scale or that of odds has longer tails than a normal one."""
_LONG_TAIL = 0.8
"""The same of a share of the units on both sides of the others, which rises whichever way these swing."""
_LESS_FREE = 0.5
"""Part of the degrees of freedom of an excess that it has where slices go on like each other, as simulation shows."""
_WORTH = 4.0
"""Deviance from which a stretch counts. Below it an e-value is less than e^2/_NONE, a ten-thousandth of what decides:
leaving it out loses nothing and saves most of the work."""
_POWER = 0.9
"""The power that `detectable` stands for."""


@dataclass(frozen=True, slots=True)
class ShareNulls:
    """What a reference says of some shares. Shapes (S,), (S, ages) and (S, ages, excesses)."""

    rate: Floats
    """Share of the units."""
    known: Floats
    """Independent units that would know the rate as well as the reference does."""
    unit: Floats
    """Variance of one unit over rate (1 - rate)."""
    base: Floats
    """Variance of a slice mean by its units alone, over rate (1 - rate), at the reference's traffic."""
    going_on: Floats
    """By how much the units' part of a stretch's variance grows because units lie in several of its slices."""
    excess: Floats
    """Estimate of the excess for each age."""
    freedom: Floats
    """Degrees of freedom of that, for each age."""
    log_weights: Floats
    """Posterior log weight of each excess for each age."""
    of_phase: Floats
    """Where there is a season: independent units that would know the rate of a typical phase as well; else 0."""
    phases: Floats
    """How many phases; 0 where there is no season."""
    phase_slices: Floats
    """Slices to a phase; 1 where there is no season."""
    tail: Floats
    """By how much more the estimated excess counts for each unit of the root of the deviance."""

    def __len__(self) -> int:
        return len(self.rate)

    def first(self, count: int) -> ShareNulls:
        """Those of the first so many shares."""
        return ShareNulls(*(getattr(self, f.name)[:count] for f in fields(ShareNulls)))

    def per_slice(self, rows: Ints, ages: Ints) -> tuple[Floats, Floats, Floats]:
        """Of stretches of `ages` slices: by how much units add because they go on, and what one slice's swing adds.

        Both variances over rate (1 - rate), the first of one unit; with them the degrees of freedom of the second.
        """
        age = _AGE_CLASS[ages]
        by_units, swing = self.unit[rows] * self.going_on[rows, age], self.excess[rows, age] * self.base[rows]
        return by_units, swing, _LESS_FREE * self.freedom[rows, age]


def join_nulls(parts: Sequence[ShareNulls]) -> ShareNulls:
    """Those of several series as one."""
    return ShareNulls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(ShareNulls)))


def share_nulls(
    slices: ReferenceSlices,
    yes: Flags | Floats,
    coarser: Sequence[tuple[int, ReferenceSlices]] = (),
    *,
    outside: Sequence[int] = (),
) -> ShareNulls:
    """The nulls of some shares of one series.

    Parameters
    ----------
    slices : what the reference says, in r bins
    yes : which bins make up each share, or a value from 0 to 1 of each bin of which the mean is meant, shape (S, r)
    coarser : slices of the same time that are so many times as long, ascending: of those that are kept in runs, what
        stretches longer than a run differ by is seen in these
    outside : shares that lie on both sides of all others

    """
    chosen = yes.astype(np.float64).T
    live = slices.seen > 0
    number, units, seen = slices.number[live], slices.units[live], slices.seen[live]
    mean = slices.mean @ chosen
    total = max(slices.total, 1.0)
    guess = (mean * total + 0.5) / (total + 1)
    spread = guess * (1 - guess) if slices.season is None else _spread(slices.season, chosen)
    unit = np.einsum("bs,bc,cs->s", chosen, slices.within, chosen) / spread
    unit = np.where((unit <= 0) | (np.minimum(guess, 1 - guess) * total < _FEW), 1.0, unit)
    inverse_seen = float((units / np.maximum(seen, 1e-9)).sum() / max(float(units.sum()), 1e-9)) if len(units) else 1.0
    base = unit * inverse_seen
    u = ((slices.shares[live] @ chosen - mean) * np.sqrt(units)[:, None]).T / np.sqrt(spread)[:, None]
    lags, pairs = _autocovariance(number, units, u)
    stays = slices.stays * slices.shared * unit[:, None]
    lags = lags / base[:, None]
    lags[:, 0] -= 1
    of_mean = slices.inverse * unit + (stays * BOTH_SIDES * slices.lag_weights).sum(axis=1)
    left = pairs.astype(np.float64)
    if slices.season is None:
        lags[:, 1:] -= stays[:, 1:] / base[:, None]
        # Residuals about the reference's own mean are too small by its variance.
        lags += of_mean[:, None] / base[:, None]
    else:
        lags = slices.season.given_back(lags, unit / base)
        lags[:, 1:] -= stays[:, 1:] / base[:, None]
        left *= slices.season.freedom
    going_on = 1 + np.stack([(stays * _kernel(int(age), LAGS)).sum(axis=1) for age in _AGES], axis=1) / base[:, None]
    # What has hardly been seen tells nothing of how its units go together: that they do then counts as a change.
    kurtosis = np.minimum(inverse_seen / spread / max(len(number), 1), 1 / _FEW)
    excess, freedom = _excess(lags, left, kurtosis, going_on)
    between = np.maximum((lags * base[:, None] * BOTH_SIDES * slices.lag_weights).sum(axis=1), 0)
    known = 1 / np.maximum(of_mean + between, 1e-12)
    if coarser:
        (times, rows), *rest = coarser
        longer = share_nulls(rows, yes, [(further // times, more) for further, more in rest])
        far = _AGES > LAGS
        age = _AGE_CLASS[-(-_AGES[far] // times)]
        excess[:, far] = longer.excess[:, age] * (times * longer.base / base)[:, None]
        freedom[:, far], known = longer.freedom[:, age], np.minimum(known, longer.known)
    weights = _weights(excess, freedom, going_on, base)
    seasonal = _of_phase(slices, lags * base[:, None], unit, stays)
    tails = np.where(np.isin(np.arange(len(mean)), outside), _LONG_TAIL, _TAIL)
    return ShareNulls(mean, known, unit, base, going_on, np.maximum(excess, 0), freedom, weights, *seasonal, tails)


def _spread(season: Season, chosen: Floats) -> Floats:
    """Mean of rate (1 - rate) over the units of all phases. Shape (S,)."""
    units = season.units[:, None]
    guess = (season.mean @ chosen * units + 0.5) / (units + 1)
    spread: Floats = (units * guess * (1 - guess)).sum(axis=0) / max(float(units.sum()), 1e-9)
    return spread


def _of_phase(slices: ReferenceSlices, between: Floats, unit: Floats, stays: Floats) -> tuple[Floats, Floats, Floats]:
    """How well a typical phase is known, how many there are, and slices to each; shapes (S,)."""
    season, every = slices.season, np.ones(len(unit))
    if season is None:
        return 0 * every, 0 * every, every
    variance = season.typical * unit + np.maximum((between + stays) @ season.lag_weights, 0)
    return 1 / np.maximum(variance, 1e-12), every * season.cycle.phases, every * season.phase_slices


def _kernel(age: int, lags: int) -> Floats:
    """Weights of the covariances at lags 1 .. 11 in `age` times the variance of a mean of `age` slices; 0 at lag 0."""
    lag = np.arange(LAGS)
    weight = np.where((lag < min(age, lags)) & (lag > 0), 2 * (1 - lag / age), 0.0)
    return np.asarray(weight, np.float64)


def _autocovariance(number: Ints, units: Floats, u: Floats) -> tuple[Floats, Ints]:
    """Covariances of slice means at lags 0 .. 11, shape (S, LAGS), and the pairs of slices that each comes from."""
    found, pairs = np.zeros((len(u), LAGS)), np.zeros(LAGS, np.int64)
    for lag in range(LAGS):
        first, second = lag_pairs(number, lag)
        weight = float(np.sqrt(units[first] * units[second]).sum())
        if weight > 0:
            found[:, lag] = (u[:, first] * u[:, second]).sum(axis=1) / weight
        pairs[lag] = len(first)
    return found, pairs


def _excess(lags: Floats, pairs: Floats, kurtosis: Floats, going_on: Floats) -> tuple[Floats, Floats]:
    """The excess of each stretch over what its units make it, and the degrees of freedom of that. Shapes (S, ages).

    Lags beyond the first few count where they add more than a standard error of what they add, and if they do, what
    the last of them show goes on for longer stretches.
    """
    slices = max(int(pairs[0]), 1)
    total = np.maximum(1 + lags[:, :1], 1.0)
    late, late_error = lags[:, LAGS // 2 :].mean(axis=1), total[:, 0] / np.sqrt(max(pairs[LAGS // 2 :].sum(), 1))
    late = np.where(late > _SHOWN * late_error, late, 0.0)
    near = np.maximum(lags[:, 1 : LAGS // 2].mean(axis=1), 1e-9)
    fall = np.clip(late / near, 0, 1) ** (2 / LAGS)
    beyond = late[:, None] * np.minimum(fall, 0.99)[:, None] ** (np.arange(LAGS, _FAR) - 0.75 * LAGS)
    spectra = [
        _spectrum(np.concatenate([total, np.where(np.arange(1, LAGS) < reach, np.maximum(lags[:, 1:], 0), 0), far], 1))
        for reach, far in ((_SHORT, 0 * beyond), (_LONGER[0], 0 * beyond), (_LONGER[1], beyond))
    ]
    excess, freedom = np.empty((len(lags), len(_AGES))), np.empty((len(lags), len(_AGES)))
    for column, age in enumerate(_AGES.tolist()):
        sums, noises = [], []
        for reach, spectrum in zip((_SHORT, *_LONGER), spectra, strict=True):
            kernel, wave = _kernel_and_wave(age, reach)
            spread = kernel**2
            each = float((spread / np.maximum(pairs, 1)).sum() / spread.sum())
            noises.append(2 * each * (spectrum**2 * wave**2).mean(axis=1) + kurtosis)
            sums.append(lags @ kernel)
        found, noise = sums[0], noises[0]
        for more, louder in zip(sums[1:], noises[1:], strict=True):
            shown = more - found > _SHOWN * np.sqrt(np.maximum(louder - noise, 1e-12))
            found, noise = np.where(shown, more, found), np.where(shown, louder, noise)
        if age > LAGS:
            far = late * 2 * (1 - np.arange(LAGS, min(age, slices)) / age).sum()
            noise = noise * ((1 + np.maximum(found, 0) + far) / (1 + np.maximum(found, 0))) ** 2
            found = found + far
        excess[:, column] = found
        freedom[:, column] = 2 * (going_on[:, column] + np.maximum(found, 0)) ** 2 / noise
    return excess, freedom


def _spectrum(one_side: Floats) -> Floats:
    """Fourier transform of a sequence that is the same on both sides of lag 0, given from there on."""
    length = 4 * _FAR
    padded = np.zeros((len(one_side), length))
    padded[:, : one_side.shape[1]] = one_side
    padded[:, length - one_side.shape[1] + 1 :] = one_side[:, :0:-1]
    spectrum: Floats = np.fft.fft(padded, axis=1).real
    return spectrum


@lru_cache(maxsize=len(_AGES) * (1 + len(_LONGER)))
def _kernel_and_wave(age: int, lags: int) -> tuple[Floats, Floats]:
    """The kernel with lag 0, and its Fourier transform: the same for every series."""
    kernel = _kernel(age, lags)
    kernel[0] = 1
    return kernel, _spectrum(np.concatenate([[1.0], kernel[1:] / 2])[None])


def _weights(excess: Floats, freedom: Floats, going_on: Floats, base: Floats) -> Floats:
    """Posterior log weight of each possible excess: the estimate of the variance is gamma about what is true."""
    most = np.maximum(_ALIKE / base[:, None], _TIMES * excess)
    possible = (most[..., None] >= _EXCESS) | (_EXCESS == 0)
    estimate = (going_on + np.maximum(excess, 0))[..., None]
    ratio = (going_on[..., None] + _EXCESS) / estimate
    likelihood = -freedom[..., None] / 2 * (np.log(ratio) + 1 / ratio)
    prior = np.log(np.where(_EXCESS == 0, _NONE, (1 - _NONE) / (len(_EXCESS) - 1)))
    weights: Floats = np.where(possible, likelihood + prior, -np.inf)
    normal: Floats = weights - special.logsumexp(weights, axis=-1, keepdims=True)
    return normal


def deviances(
    nulls: ShareNulls,
    rows: Ints,
    rate: Floats,
    known: Floats,
    *,
    ages: Ints,
    expected: tuple[Floats, Floats] | None = None,
) -> Floats:
    """Twice the log likelihood ratio between stretch and reference for units that are independent. Shape (P,).

    The parameters are those of `log_e_values`, of any shapes that go together; 0 where nothing is known.
    """
    units, (usual, there) = known / _grown(nulls, rows, ages), _expectation(nulls, rows, expected)
    joint = (units * rate + there * usual) / (units + there)
    found = 2 * (units * _divergence(rate, joint) + there * _divergence(usual, joint))
    return np.asarray(np.maximum(found, 0), np.float64)


def _expectation(nulls: ShareNulls, rows: Ints, expected: tuple[Floats, Floats] | None) -> tuple[Floats, Floats]:
    """What is usual, and how many units know it: of the whole reference, where a stretch has nothing of its own."""
    return (nulls.rate[rows], nulls.known[rows]) if expected is None else expected


def _grown(nulls: ShareNulls, rows: Ints, ages: Ints) -> Floats:
    """Variance of a stretch's mean by its units, over that of as many independent yes/no."""
    grown: Floats = nulls.unit[rows] * nulls.going_on[rows, _AGE_CLASS[ages]]
    return grown


def log_e_values(
    nulls: ShareNulls,
    rows: Ints,
    rate: Floats,
    known: Floats,
    *,
    in_slice: Floats,
    ages: Ints,
    expected: tuple[Floats, Floats] | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Log e-value of stretches, the deviance, and the variance of its root by the estimated excess. Shapes (P,).

    Parameters
    ----------
    rows : share of each stretch
    rate : part of its units that lies in the share
    known : independent units that would know it as well: N^2/sum n^2/k of all units N and those scored, k
    in_slice : those of one slice on average, sum n^2/sum n^2/k
    ages : slices of the stretch
    expected : of each stretch the usual share, and independent units that would know it as well; without it, those of
        the whole reference

    """
    age = _AGE_CLASS[ages]
    grown, deviance = _grown(nulls, rows, ages), deviances(nulls, rows, rate, known, ages=ages, expected=expected)
    units, (usual, there) = known / grown, _expectation(nulls, rows, expected)
    both = units + there
    joint = (units * rate + there * usual) / both
    odds = (units * rate + 0.5) * (1 - joint) / ((units * (1 - rate) + 0.5) * np.maximum(joint, 1e-12))
    steeper = np.maximum(np.where(joint < 0.5, odds, 1 / np.maximum(odds, 1e-12)), 1) ** _SKEW
    part = steeper * nulls.base[rows] * in_slice / grown * (there / both)
    weights = nulls.log_weights[rows, age].T
    longer = nulls.tail[rows] * np.sqrt(deviance) * nulls.excess[rows, age]
    variances = [1 + (excess + longer) * part for excess in _EXCESS]
    below = [
        w - np.log(v) / 2 - deviance / (2 * v) if k else w - deviance / 2
        for k, (w, v) in enumerate(zip(weights, variances, strict=True))
    ]
    usual_variance = 1 + nulls.excess[rows, age] * part
    size = units * there / both
    wider = [usual_variance + size * change for change in _SIZES]
    above = [-np.log(v) / 2 - deviance / (2 * v) for v in wider]
    return _log_sum(above) - np.log(len(_SIZES)) - _log_sum(below), deviance, usual_variance


def variances(nulls: ShareNulls, rows: Ints, known: Floats, *, in_slice: Floats, ages: Ints) -> Floats:
    """Variance of the share in stretches over rate (1 - rate), as the null has it; parameters as in `log_e_values`.

    The excess is an estimate: the variance is larger by as much as makes a normal interval of 95 % one of Student's t
    with the degrees of freedom of the whole (Welch and Satterthwaite).
    """
    age = _AGE_CLASS[ages]
    by_units, each = nulls.unit[rows] * nulls.going_on[rows, age], nulls.base[rows] * in_slice
    excess, going_on = nulls.excess[rows, age], nulls.going_on[rows, age]
    found = by_units + excess * each
    freedom = _LESS_FREE * nulls.freedom[rows, age] * (found / ((going_on + excess) * each)) ** 2
    return np.asarray(found / known * students(freedom) ** 2, np.float64)


def students(freedom: Floats) -> Floats:
    """The 97.5 % quantile of Student's t over that of the normal, by Cornish and Fisher's series; at most 2.

    >>> students(np.array([10.0, 1e9])).round(3).tolist()  # 2.228/1.960 is 1.137
    [1.135, 1.0]
    """
    longer = 1 + (_Z**2 + 1) / (4 * freedom) + (5 * _Z**4 + 16 * _Z**2 + 3) / (96 * freedom**2)
    return np.minimum(longer, 2)


def _log_sum(terms: Sequence[Floats]) -> Floats:
    """Log of the sum of exponentials, always in one order, so that it does not depend on what else is computed."""
    most: Floats = np.maximum.reduce(terms)
    total: Floats = np.zeros_like(most)
    for term in terms:
        total += np.exp(term - most)
    found: Floats = most + np.log(total)
    return found


def _divergence(p: Floats, q: Floats) -> Floats:
    """Kullback-Leibler divergence of a yes/no with rate p from one with rate q."""
    q = np.clip(q, 1e-300, 1 - 1e-16)
    return np.asarray(special.xlogy(p, p / q) + special.xlogy(1 - p, (1 - p) / (1 - q)), np.float64)


def shown_by(
    nulls: ShareNulls, rows: Ints, rate: Floats, known: Floats | float, slices: Ints | int, *, power: float = _POWER
) -> Floats:
    """The log e-value that stretches with these true rates exceed with a probability of `power`. Shape (P,).

    Parameters
    ----------
    rows : share of each
    rate : its rate, should it have changed
    known : independent units of the stretch
    slices : over which they are spread evenly

    """
    ages, many = np.broadcast_to(slices, rows.shape), np.broadcast_to(np.asarray(known, np.float64), rows.shape)
    _, _, variance = log_e_values(nulls, rows, rate, many, in_slice=many / ages, ages=ages)
    grown = nulls.unit[rows] * nulls.going_on[rows, _AGE_CLASS[ages]]
    noise = np.sqrt(rate * (1 - rate) * variance * (grown / many + 1 / nulls.known[rows]))
    towards = np.sign(nulls.rate[rows] - rate)
    least = rate + towards * np.minimum(special.ndtri(power) * noise, np.abs(nulls.rate[rows] - rate))
    found, _, _ = log_e_values(nulls, rows, np.clip(least, 0, 1), many, in_slice=many / ages, ages=ages)
    return found


def no_nulls() -> ShareNulls:
    """Those of no share."""
    scalars = (np.empty(0), np.empty(0), np.empty(0), np.empty(0))
    by_age = (np.empty((0, len(_AGES))),) * 3
    seasonal = (np.empty(0), np.empty(0), np.empty(0), np.empty(0))
    return ShareNulls(*scalars, *by_age, np.empty((0, len(_AGES), len(_EXCESS))), *seasonal)


@dataclass(slots=True)
class Evidence:
    """The evidence of S shares, all of one slice length. Grows by `join`, moves by `step`."""

    nulls: ShareNulls
    step_number: Ints
    """Slices since the evidence of each share began."""
    births: Ints
    """Slice at which each start began, -1 for a free place."""
    sums: Floats
    """Since each start, of a slice of n units of which k were scored: sums of n times the share, n, n^2/k and n^2."""
    log_e: Floats
    """Log e-value of each start, -inf for a free place and where it tells nothing."""
    deviance: Floats
    """Twice the log likelihood ratio of each start for units that are independent, -inf for a free place."""
    log_sum: Floats
    """Log of their sum, -inf before the first slice."""
    mix: Floats | None = None
    """Where any share has a season: since each start, sums of n times the usual share and of n times how much less
    than a typical phase those of a slice are known."""

    @classmethod
    def begin(cls, nulls: ShareNulls) -> Evidence:
        """Evidence that has not begun."""
        count = len(nulls)
        return cls(
            nulls,
            np.zeros(count, np.int64),
            np.full((count, STARTS), -1),
            np.zeros((count, STARTS, SUMS)),
            np.full((count, STARTS), -np.inf),
            np.full((count, STARTS), -np.inf),
            np.full(count, -np.inf),
            np.zeros((count, STARTS, MIX)) if nulls.phases.any() else None,
        )

    def join(self, other: Evidence) -> None:
        """Add other shares with what is known of them."""
        self.nulls = join_nulls([self.nulls, other.nulls])
        if self.mix is not None or other.mix is not None:
            parts = [np.zeros((*part.births.shape, MIX)) if part.mix is None else part.mix for part in (self, other)]
            self.mix = np.concatenate(parts)
        for name in ("step_number", "births", "sums", "log_e", "deviance", "log_sum"):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(other, name)]))

    def step(
        self, share: Floats, units: Floats, seen: Floats, usual: Floats | None = None, vagueness: Floats | None = None
    ) -> None:
        """Add one slice, shapes (S,): the share of its units, how many there are, and how many were scored.

        Where a share has a season, also what is usual of it in such a slice, and how much less the phases of the slice
        are known than a typical one. The evidence of a share begins with the first slice that holds any.
        """
        some = (units > 0) & (seen > 0)
        begun, number = some | (self.step_number > 0), self.step_number
        age = np.where(self.births >= 0, number[:, None] - self.births, 0)
        stride = 2 ** np.maximum(np.floor(np.log2(np.maximum(age, 1))) - 2, 0).astype(np.int64)
        kept = (self.births >= 0) & (self.births % stride == 0) & (age < REACH)
        self.births = np.where(kept, self.births, -1)
        place = (self.births < 0).argmax(axis=1)
        every = np.arange(len(number))
        self.births[every, place] = np.where(begun, number, -1)
        self.sums[every, place] = 0
        squares = units**2
        new = np.stack([units * share, units, squares / np.maximum(seen, 1e-9), squares], axis=1)
        self.sums += np.where(some[:, None], new, 0.0)[:, None]
        if self.mix is not None and usual is not None and vagueness is not None:
            self.mix[every, place] = 0
            self.mix += np.where(some[:, None], np.stack([units * usual, units * vagueness], axis=1), 0.0)[:, None]
        self.step_number = number + begun
        self._weigh()

    def _weigh(self) -> None:
        successes, units, inverse, squares = np.moveaxis(self.sums, -1, 0)
        live = self.births >= 0
        some = live & (units > 0)
        ages = np.where(live, self.step_number[:, None] - self.births, 0)
        rate = np.clip(successes / np.where(some, units, 1.0), 0, 1)
        known = np.where(some, units**2 / np.where(some, inverse, 1.0), 0.0)
        every = np.arange(len(ages))[:, None]
        expected = None if self.mix is None else self._expected(every, self.mix, units, squares)
        deviance = deviances(self.nulls, every, rate, known, ages=ages, expected=expected)
        self.deviance = np.where(live, deviance, -np.inf)
        rows, places = worth = np.nonzero(self.deviance >= _WORTH)
        in_slice, of_worth = squares[worth] / inverse[worth], None
        if expected is not None:
            of_worth = expected[0][worth], expected[1][worth]
        found, _, _ = log_e_values(
            self.nulls, rows, rate[worth], known[worth], in_slice=in_slice, ages=ages[worth], expected=of_worth
        )
        self.log_e = np.full(self.births.shape, -np.inf)
        self.log_e[rows, places] = found
        self.log_sum = np.full(len(ages), -np.inf)
        tells = np.unique(rows)
        if len(tells):
            self.log_sum[tells] = special.logsumexp(self.log_e[tells], axis=1)

    def _expected(self, rows: Ints, mix: Floats, units: Floats, squares: Floats) -> tuple[Floats, Floats]:
        """The usual share of stretches, and the units that would know it as well. Shapes (P,).

        Phases are known each by its own slices: the mean of as many as a stretch covers, slices weighing as much as
        they hold (Kish's number of them), is known that much better, but no better than the whole reference is.
        """
        nulls, whole = self.nulls, self.nulls.known[rows]
        seasonal, some = nulls.phases[rows] > 0, units > 0
        units, squares = np.where(some, units, 1.0), np.where(some, squares, 1.0)
        covered = np.clip(units**2 / squares / nulls.phase_slices[rows], 1, np.maximum(nulls.phases[rows], 1))
        of_phases = nulls.of_phase[rows] * covered / np.maximum(mix[..., 1] / units, 1e-12)
        usual = np.where(seasonal, np.clip(mix[..., 0] / units, 0, 1), nulls.rate[rows])
        return usual, np.where(seasonal, np.minimum(of_phases, whole), whole)

    def strongest(self, row: int) -> tuple[int, float]:
        """Slices of the stretch that is likeliest to hold all of a change of a share, and the share of its units.

        Where it begins is the estimate of when the change did (Page, Biometrika 1954).
        """
        place = int(self.deviance[row].argmax())
        successes, units = self.sums[row, place, :2].tolist()
        return int(self.step_number[row] - self.births[row, place]), successes / units if units else float("nan")

    def strongest_known(self, rows: Ints) -> tuple[Floats, Floats, Ints]:
        """Of those stretches `known`, `in_slice` and `ages` as `variances` takes them. Shape (P,) each."""
        place = self.deviance[rows].argmax(axis=1)
        _, units, inverse, squares = self.sums[rows, place].T
        inverse = np.maximum(inverse, 1e-300)
        return units**2 / inverse, squares / inverse, self.step_number[rows] - self.births[rows, place]

    def strongest_usual(self, rows: Ints) -> tuple[Floats, Floats]:
        """What is usual of the shares at `rows` in those stretches, and the units that know it. Shape (P,) each."""
        if self.mix is None:
            return self.nulls.rate[rows], self.nulls.known[rows]
        place = self.deviance[rows].argmax(axis=1)
        _, units, _, squares = self.sums[rows, place].T
        return self._expected(rows, self.mix[rows, place], units, squares)

    def recent(self, slices: int) -> Floats:
        """Log e-value of the longest stretch of at most so many slices. Shape (S,)."""
        age = np.where(self.births >= 0, self.step_number[:, None] - self.births, -1)
        place = np.where(age <= slices, age, -1).argmax(axis=1)
        found: Floats = self.log_e[np.arange(len(place)), place]
        return found

    def restart(self, rows: Ints) -> None:
        """Forget all evidence of the shares at `rows` and begin anew."""
        self.step_number[rows] = 0
        self.births[rows], self.sums[rows] = -1, 0
        if self.mix is not None:
            self.mix[rows] = 0
        self.log_e[rows], self.deviance[rows], self.log_sum[rows] = -np.inf, -np.inf, -np.inf

    def state(self) -> tuple[Ints, Ints, Floats]:
        """What cannot be derived, beside `mix`: steps, births and sums."""
        return self.step_number, self.births, self.sums

    def put_back(self, steps: Ints, births: Ints, sums: Floats, mix: Floats | None = None) -> None:
        """The inverse of `state` and `mix`, after the same shares have joined."""
        self.step_number, self.births, self.sums, self.mix = steps, births, sums, mix
        if len(steps):
            self._weigh()
        self.log_sum[steps == 0] = -np.inf
