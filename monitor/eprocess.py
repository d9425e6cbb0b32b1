"""Rates: evidence over time that a rate has changed, with a bound on the mean time to a false decision.

An e-process is a running product that has mean at most 1 while nothing changes. Summed over starts it is an e-detector
(Shin, Ramdas and Rinaldo, New England J. Stat. Data Sci. 2023): under the null the mean number of steps until the sum
reaches 1/a is at least 1/a. Each factor is a ratio of two mixtures over a grid of (rate, correlation within a slice):
above an alternative prior, below the posterior given the reference, so that what the reference does not know of its own
rate is never plugged in as known. Counts of a slice are beta-binomial. Pure; arrays carry the series on the first axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import special

from monitor.model import Flags, Floats, Ints

STARTS = 32
"""Starts kept at a time; four to an octave of age, so that they reach 512 steps back."""
REACH = 512
"""Steps that the oldest start kept may lie back."""
BLOCKS = (1, 2, 3, 4, 6, 12)
"""Slices that may make up a step, chosen by how far slices correlate."""
_LONG = 12
"""Slices over which correlation is summed up, and at least two steps."""
_LITTLE, _CLEARLY = 0.25, 1.645
"""More variance than this, or than this many standard errors of it, is a reason for longer steps (one-sided, 5 %)."""
_CORRELATIONS: Floats = np.array([0.0, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1])
_INNER: Floats = np.linspace(-4.5, 4.5, 19)
"""Posterior standard deviations at which the null is laid out."""
_OUTER = 10
"""Alternatives on each side beyond it, geometric in log odds up to `_FAR`."""
_FAR = 7.0


@dataclass(frozen=True, slots=True)
class RateNull:
    """What a reference says of one rate. Shapes (Q,) and (Q, K) for Q rates and K correlations on the grid."""

    rates: Floats
    log_null: Floats
    """Log posterior of each grid point given the reference."""
    log_alternative: Floats
    """Log prior of each grid point should the rate have changed."""
    rate: float
    """The reference's own rate."""
    block: int
    """Slices that make up a step."""
    more: float
    """How much more the sum of steps varies than if they were independent: what counts are divided by."""

    @property
    def correlation(self) -> float:
        """Posterior mean of the correlation of units within a slice."""
        return float(np.exp(self.log_null).sum(axis=0) @ _CORRELATIONS)


def log_likelihood(successes: Floats, trials: Floats, rates: Floats) -> Floats:
    """Beta-binomial log likelihood on the grid, without its constant. (...), (...), (..., Q) -> (..., Q, K)."""
    k, m, q = successes[..., None, None], (trials - successes)[..., None, None], rates[..., :, None]
    binomial = special.xlogy(k, q) + special.xlog1py(m, -q)
    concentration = 1 / _CORRELATIONS[1:] - 1
    a, b = q * concentration, (1 - q) * concentration
    mixed = special.betaln(k + a, m + b) - special.betaln(a, b)
    return np.concatenate([np.broadcast_to(binomial, (*mixed.shape[:-1], 1)), mixed], axis=-1)


def step_length(number: Ints, successes: Floats, trials: Floats) -> tuple[int, float]:
    """Slices to a step, and how much more the sum of such steps varies than if they were independent (at least 1).

    The least of BLOCKS whose steps sum up as independent ones do, to a quarter of the variance or to what chance can do
    to the estimate of it; else the greatest, and a standard error of the estimate on top.
    """
    total = max(float(trials.sum()), 1.0)
    excess = successes - float(successes.sum()) / total * trials
    more, error = 1.0, 0.0
    for block in BLOCKS:
        names, row = np.unique(number // block, return_inverse=True)
        score = np.bincount(row, excess) / np.sqrt(np.maximum(np.bincount(row, trials), 1))
        lags = max(_LONG // block, 2)
        more = _long_run(names, score, lags)
        error = 2 * np.sqrt(lags / 3 / max(len(score), 1))
        if more <= 1 + max(_LITTLE, _CLEARLY * error):
            return block, max(more, 1.0)
    return BLOCKS[-1], float(more + error)


def _long_run(number: Ints, score: Floats, lags: int) -> float:
    """Variance of the sum of steps over that of independent ones (Newey and West, Econometrica 1987)."""
    variance, found = float((score**2).mean()) if len(score) else 0.0, 1.0
    if variance <= 0:
        return found
    for lag in range(1, lags + 1):
        at = np.searchsorted(number, number + lag)
        first = np.flatnonzero((at < len(number)) & (number[np.minimum(at, len(number) - 1)] == number + lag))
        if len(first) >= 4:  # fewer pairs say nothing
            correlation = float((score[first] * score[at[first]]).mean()) / variance
            found += 2 * (1 - lag / (lags + 1)) * correlation
    return found


def rate_null(number: Ints, successes: Floats, trials: Floats, rest: tuple[float, float], matters: float) -> RateNull:
    """The null of one rate from its reference.

    Parameters
    ----------
    number, successes, trials : numbers and units of the slices kept, shape (R,)
    rest : successes and trials of all others; they tell of the rate, not of how slices differ
    matters : smallest change of interest; alternatives begin at half of it

    """
    block, more = step_length(number, successes, trials)
    _, row = np.unique(number // block, return_inverse=True)
    k: Floats = np.bincount(row, successes).astype(np.float64)
    n: Floats = np.bincount(row, trials).astype(np.float64)
    total = max(float(n.sum()) + rest[1], 1.0)
    rate = (float(k.sum()) + rest[0]) / total
    centre, width = _centre(rate, total / more)
    inner = centre + width * _INNER
    near = max(_logit(min(rate + matters / 2, 0.999)) - _logit(max(rate, 1e-6)), width) if rate < 1 else width
    outer = np.geomspace(max(near, 0.02), _FAR, _OUTER)
    grid = np.sort(np.concatenate([inner, centre - outer, centre + outer]))
    rates = special.expit(grid)
    width_of = np.gradient(grid)[:, None]
    jeffreys = 0.5 * np.log(rates * (1 - rates))[:, None]  # Beta(1/2, 1/2) in log odds
    likelihood = log_likelihood(k, n, np.broadcast_to(rates, (len(k), len(rates)))).sum(axis=0)
    likelihood += _of_rest(rest, float(n.mean()) if len(n) else 1.0, rates)
    log_null = _normalised(likelihood / more + jeffreys + np.log(width_of))
    by_correlation = special.logsumexp(log_null, axis=0)
    changed = np.where(np.isin(grid, centre + np.concatenate([-outer, outer])), 0.0, -np.inf)[:, None]
    return RateNull(rates, log_null, _normalised(changed + by_correlation), rate, block, more)


def _of_rest(rest: tuple[float, float], step: float, rates: Floats) -> Floats:
    """What slices that were not kept say of the rate: binomial, weakened by the correlation within a step. (Q, K)."""
    successes, trials = rest
    binomial = special.xlogy(successes, rates) + special.xlog1py(trials - successes, -rates)
    weaker = 1 + max(step - 1, 0) * _CORRELATIONS
    found: Floats = (binomial - binomial.max())[:, None] / weaker
    return found


def _centre(rate: float, units: float) -> tuple[float, float]:
    """Centre and standard deviation, in log odds, of the rate given the reference (half a count added)."""
    yes, no = rate * units + 0.5, (1 - rate) * units + 0.5
    return float(np.log(yes / no)), float(np.sqrt(1 / yes + 1 / no))


def _logit(rate: float) -> float:
    return float(np.log(rate / (1 - rate)))


def _normalised(log_weights: Floats) -> Floats:
    normal: Floats = log_weights - special.logsumexp(log_weights)
    return normal


def _used(births: Ints) -> int:
    """Places up to the last that holds a start in any series."""
    return int(np.flatnonzero((births >= 0).any(axis=0)).max()) + 1


@dataclass(slots=True)
class Evidence:
    """The e-processes of S series, all of one slice length. Grows by `join`, moves by `step`."""

    nulls: list[RateNull] = field(default_factory=list)
    step_number: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Steps taken by each series since its e-processes began."""
    history: Floats = field(default_factory=lambda: np.empty((0, REACH, 2)))
    """Successes and trials of the last REACH steps, the newest last."""
    filling: Floats = field(default_factory=lambda: np.empty((0, 2)))
    """Successes and trials of the step that is being filled."""
    drifting: Flags = field(default_factory=lambda: np.empty(0, bool))
    """Decided, and not yet calm for a window."""
    calm: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Slices for which the window's rate has been within what matters, since the decision."""
    _sums: Floats = field(default_factory=lambda: np.empty((0, STARTS, 0, 0)))
    """Log likelihood on the grid since each start."""
    _births: Ints = field(default_factory=lambda: np.empty((0, STARTS), np.int64))
    """Step at which each start began, -1 for a free place."""
    log_sum: Floats = field(default_factory=lambda: np.empty(0))
    """Log of the sum of e-processes after the last step, -inf before one."""
    strongest: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Steps in the stretch of the strongest e-process."""
    blocks: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Of each null: slices to a step, variance of a sum over that of independent units, correlation within a slice."""
    more: Floats = field(default_factory=lambda: np.empty(0))
    correlations: Floats = field(default_factory=lambda: np.empty(0))
    _rates: Floats = field(default_factory=lambda: np.empty((0, 0)))
    _changed: Floats = field(default_factory=lambda: np.empty((0, 0)))
    """Weight of each grid point in the alternative, and below in the null."""
    _null: Floats = field(default_factory=lambda: np.empty((0, 0)))

    def join(self, null: RateNull) -> None:
        """Add a series that has not begun."""
        grid = (len(null.rates), len(_CORRELATIONS))
        self.nulls.append(null)
        self.blocks, self.more = np.append(self.blocks, null.block), np.append(self.more, null.more)
        self.correlations = np.append(self.correlations, null.correlation)
        self._rates = np.concatenate([self._rates.reshape(-1, grid[0]), null.rates[None]])
        points = grid[0] * grid[1]
        self._changed = np.concatenate([self._changed.reshape(-1, points), np.exp(null.log_alternative).reshape(1, -1)])
        self._null = np.concatenate([self._null.reshape(-1, points), np.exp(null.log_null).reshape(1, -1)])
        self.step_number = np.append(self.step_number, 0)
        self.history = np.concatenate([self.history, np.zeros((1, REACH, 2))])
        self.filling = np.concatenate([self.filling, np.zeros((1, 2))])
        self.drifting, self.calm = np.append(self.drifting, False), np.append(self.calm, 0)
        self._sums = np.concatenate([self._sums.reshape(-1, STARTS, *grid), np.zeros((1, STARTS, *grid))])
        self._births = np.concatenate([self._births, np.full((1, STARTS), -1)])
        self.log_sum, self.strongest = np.append(self.log_sum, -np.inf), np.append(self.strongest, 0)

    def step(self, slice_number: int, successes: Floats, trials: Floats) -> Flags:
        """Add one slice's units, shapes (S,); returns for which series a step was completed."""
        self.filling += np.stack([successes, trials], axis=1)
        complete: Flags = (slice_number + 1) % self.blocks == 0
        rows = np.flatnonzero(complete)
        if len(rows):
            self.history[rows] = np.roll(self.history[rows], -1, axis=1)
            self.history[rows, -1] = self.filling[rows]
            self.filling[rows] = 0
            self._accumulate(rows, self.history[rows, -1])
            self._weigh(rows)
        return complete

    def _accumulate(self, rows: Ints, counts: Floats) -> None:
        """One more step for the series at `rows`: a start is born, starts too many are let go, all others grow."""
        number = self.step_number[rows]
        births = self._births[rows]
        age = np.where(births >= 0, number[:, None] - births, 0)
        stride = 2 ** np.maximum(np.floor(np.log2(np.maximum(age, 1))) - 2, 0).astype(np.int64)
        births = np.where((births >= 0) & (births % stride == 0) & (age < REACH), births, -1)
        place = (births < 0).argmax(axis=1)
        births[np.arange(len(rows)), place] = number
        self._births[rows] = births
        grown = log_likelihood(counts[:, 0], counts[:, 1], self._rates[rows])[:, None]
        grown /= self.more[rows][:, None, None, None]
        self._sums[rows, place] = 0
        used = _used(births)
        if len(rows) == len(self.nulls):
            self._sums[:, :used] += grown
        else:
            self._sums[rows, :used] += grown
        self.step_number[rows] = number + 1

    def _weigh(self, rows: Ints) -> None:
        births = self._births[rows]
        used = _used(births)
        sums = self._sums[rows, :used].reshape(len(rows), used, -1)
        sums -= sums.max(axis=2, keepdims=True)
        np.exp(sums, out=sums)
        # Not a matrix product: its last bits depend on how many starts there are, and evidence must rebuild exactly.
        changed, null = (np.einsum("sjg,sg->sj", sums, weights[rows]) for weights in (self._changed, self._null))
        log_e = np.full(births.shape, -np.inf)
        with np.errstate(divide="ignore"):
            log_e[:, :used] = np.log(changed) - np.log(np.maximum(null, 1e-300))
        order = np.argsort(births, axis=1)  # by age, so that places do not matter to the sum
        births = np.take_along_axis(births, order, axis=1)
        log_e = np.where(births >= 0, np.take_along_axis(log_e, order, axis=1), -np.inf)
        best = log_e.argmax(axis=1)
        self.log_sum[rows] = special.logsumexp(log_e, axis=1)
        self.strongest[rows] = self.step_number[rows] - births[np.arange(len(rows)), best]

    def stretch(self, row: int) -> tuple[float, float]:
        """Successes and trials since the start of the strongest e-process of one series."""
        counts = self.history[row, REACH - int(self.strongest[row]) :].sum(axis=0)
        return float(counts[0]), float(counts[1])

    def restart(self, rows: Ints) -> None:
        """Forget all evidence of the series at `rows` and begin anew."""
        self.step_number[rows] = 0
        self.history[rows], self.filling[rows], self._sums[rows] = 0, 0, 0
        self._births[rows] = -1
        self.drifting[rows], self.calm[rows] = False, 0
        self.log_sum[rows], self.strongest[rows] = -np.inf, 0

    def replay(self) -> None:
        """Rebuild what is derived from `history` and `step_number`, exactly as stepping built it."""
        steps = np.minimum(self.step_number, REACH)
        taken, self.step_number = self.step_number, self.step_number - steps
        for back in range(int(steps.max(initial=0)), 0, -1):
            rows = np.flatnonzero(steps >= back)
            self._accumulate(rows, self.history[rows, REACH - back])
        if not np.array_equal(taken, self.step_number):
            raise ValueError("evidence whose steps and history disagree")
        live = np.flatnonzero(taken > 0)
        if len(live):
            self._weigh(live)
