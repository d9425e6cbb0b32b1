"""Arms: evidence over time that two versions that run at the same time differ in a share of their units.

In each slice the units of both are held against each other by the e-variable of Turner, Ly and Grünwald (Generic
E-variables for exact sequential k-sample tests that allow for optional stopping, J. Stat. Plan. Inference 2024): with
n_a and n_b units and the predicted shares p_a and p_b,

    S = prod over units of p(y|p_a) or p(y|p_b), over p(y|p_0),       p_0 = (n_a p_a + n_b p_b) / (n_a + n_b).

While both have the same share in that slice, whatever it is and however it got there, E S <= 1: each unit's factor has
a mean that is linear in the share, and by the inequality of means their product is at most that of p_0 with itself.
The factor is convex in y, so a unit whose value lies between 0 and 1, a session's mean, does no harm (Jensen).

p_b is the baseline's share of late, p_a lies a fixed log odds ratio from it; there is a mixture over such ratios. Over
the slices at which a difference may have begun the products are summed (Shiryaev and Roberts), which takes one number
a ratio: R_t = (R_(t-1) + w_t) S_t. While nothing differs, the mean of R_t is at most the sum of the weights w: it
passes 1/a in t slices at most a times their sum often, at whatever time one looks. Pure; arrays carry shares first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from scipy import special

from monitor.model import Floats, Ints
from monitor.windows import SLICES

_RATIOS: Floats = 0.1 * np.exp2(np.arange(6))
ODDS: Floats = np.concatenate([-_RATIOS[::-1], _RATIOS])
"""Log odds ratios of arm to baseline that are bet on."""
HEAD = 72
"""Slices of a pair of arms whose starts share their weight with the first: six windows."""
MEMORY = 64
"""Slices over which the predicted share is taken."""
FAR = 512
"""Slices over which it is taken how much arms differ from slice to slice."""
COLUMNS = 4
"""Of a slice: yes and units of the arm, yes and units of the baseline."""
_MOST = 5.0
"""Most that one slice may add to the evidence, so that none decides alone."""
_FEARED = 4.0
"""Slices' worth of a fear that arms differ from slice to slice by twice what their units make them."""
_ALIKE = 20.0
"""Units of the baseline's share by which the arm's own begins."""
_POWER = 1.2816
"""Normal quantile of the 90 % power that `detectable` stands for."""


def start_weight(steps: Ints) -> Floats:
    """The weight of a start, by the slices before it; of the first `HEAD` half is on the very first.

    >>> [float(start_weight(np.arange(n)).sum()) for n in (1, HEAD, 2 * HEAD)]
    [36.5, 72.0, 144.0]
    """
    usual = np.where(steps < HEAD, 0.5, 1.0)
    weights: Floats = np.where(steps == 0, 0.5 + HEAD / 2, usual)
    return weights


def log_e_values(level: Floats, sums: Floats) -> Floats:
    """Log of S of one slice for each of `ODDS`. Shape (S, odds).

    Parameters
    ----------
    level : the baseline's share as it is predicted, shape (S,)
    sums : yes and units of the arm, yes and units of the baseline, shape (S, 4); units above 0

    >>> outcomes = np.array([[a, 2.0, b, 3.0] for a in range(3) for b in range(4)])
    >>> chance = special.comb(2, outcomes[:, 0]) * special.comb(3, outcomes[:, 2]) / 2**5
    >>> bool((chance @ np.exp(log_e_values(np.full(12, 0.2), outcomes)) <= 1).all())  # both have 1/2, not 0.2
    True
    """
    usual = special.logit(level)[:, None]
    yes, units, yes_b, units_b = (column[:, None] for column in sums.T)
    share = units / (units + units_b)
    both = share * special.expit(usual + ODDS) + (1 - share) * special.expit(usual)
    neither = share * special.expit(-usual - ODDS) + (1 - share) * special.expit(-usual)
    of_arm = yes * special.log_expit(usual + ODDS) + (units - yes) * special.log_expit(-usual - ODDS)
    of_baseline = yes_b * special.log_expit(usual) + (units_b - yes_b) * special.log_expit(-usual)
    at_once = (yes + yes_b) * np.log(both) + (units - yes + units_b - yes_b) * np.log(neither)
    total: Floats = of_arm + of_baseline - at_once
    return total


def _nothing(*shape: int) -> Floats:
    return np.zeros((0, *shape))


def _no_ints(*shape: int) -> Ints:
    return np.zeros((0, *shape), np.int64)


@dataclass(slots=True)
class ArmEvidence:
    """The evidence of S shares, all of one slice length. Grows by `join`, moves by `step`."""

    steps: Ints = field(default_factory=_no_ints)
    """Slices in which both arms had units."""
    level: Floats = field(default_factory=lambda: _nothing(COLUMNS))
    """Their sums, older slices counting less: what shares are predicted from."""
    excess: Floats = field(default_factory=lambda: _nothing(5))
    """Of the last slice the standardised difference and the units that it stands for; sums over steps from slice to
    slice, older ones counting less, of half their squares less what units make these, of their units, and of 1."""
    log_sum: Floats = field(default_factory=lambda: _nothing(len(ODDS)))
    """Log of R, -inf before the first slice."""
    rise: Floats = field(default_factory=lambda: _nothing(len(ODDS)))
    """Log S of the likeliest stretch up to now, at least 0 (Page, Biometrika 1954)."""
    began: Ints = field(default_factory=lambda: _no_ints(len(ODDS)))
    """Begin of that stretch, in milliseconds."""
    since: Floats = field(default_factory=lambda: _nothing(len(ODDS), COLUMNS))
    """Sums since then."""
    window: Floats = field(default_factory=lambda: _nothing(SLICES, COLUMNS))
    """The last slices, the newest last; 0 where an arm had no units."""

    def join(self, yes: Floats, units: float) -> None:
        """Add shares of which so many of `units` are known to have been yes. Shape (S,)."""
        count, ratios = len(yes), len(ODDS)
        known = np.stack([np.zeros(count), np.zeros(count), yes, np.full(count, units)], axis=1)
        new = (
            np.zeros(count, np.int64),
            known,
            np.zeros((count, 5)),
            np.full((count, ratios), -np.inf),
            np.zeros((count, ratios)),
            np.zeros((count, ratios), np.int64),
            np.zeros((count, ratios, COLUMNS)),
            np.zeros((count, SLICES, COLUMNS)),
        )
        for name, part in zip(NAMES, new, strict=True):
            setattr(self, name, np.concatenate([getattr(self, name), part]))

    def keep(self, rows: Ints) -> None:
        """Let all other shares go."""
        for name in NAMES:
            setattr(self, name, getattr(self, name)[rows])

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def predicted(self) -> Floats:
        """The baseline's share, from the slices so far. Shape (S,)."""
        found: Floats = (self.level[:, 2] + 0.5) / (self.level[:, 3] + 1)
        return found

    def step(self, sums: Floats, start: int) -> Floats:
        """Add one slice, from `start` on, shape (S, 4); returns the weight of a start in it, 0 where an arm is not.

        Slices in which one of the arms has no units tell nothing and count for nothing.
        """
        some = (sums[:, 1] > 0) & (sums[:, 3] > 0)
        rows = np.flatnonzero(some)
        self.window = np.concatenate([self.window[:, 1:], np.where(some[:, None], sums, 0.0)[:, None]], axis=1)
        weight, here = np.where(some, start_weight(self.steps), 0.0), sums[rows]
        found = np.minimum(log_e_values(self.predicted[rows], here) / self._swollen(rows, here)[:, None], _MOST)
        self.log_sum[rows] = np.logaddexp(self.log_sum[rows], np.log(weight[rows])[:, None]) + found
        self._follow(rows, here, found, start)
        self._learn(rows, here)
        self.steps[rows] += 1
        return weight

    def _follow(self, rows: Ints, here: Floats, found: Floats, start: int) -> None:
        """Where the likeliest stretch begins."""
        new = self.rise[rows] <= 0
        self.began[rows] = np.where(new, start, self.began[rows])
        self.since[rows] = np.where(new[..., None], 0.0, self.since[rows]) + here[:, None]
        self.rise[rows] = np.maximum(self.rise[rows] + found, 0)

    def _swollen(self, rows: Ints, sums: Floats) -> Floats:
        """By how much more than their units say the arms of a slice are taken to differ, at least 1.

        What slices before it showed, and until they are many, some that is only feared.
        """
        _, _, over, units, count = self.excess[rows].T
        as_here = over * _harmonic(sums) * count / np.maximum(units, 1e-9)
        swollen: Floats = 1 + np.maximum(as_here + _FEARED, 0) / (count + _FEARED)
        return swollen

    def _learn(self, rows: Ints, sums: Floats) -> None:
        """Predictions for the next slice."""
        usual, level = self.predicted[rows], self.level[rows]
        own = (level[:, 0] + _ALIKE * usual) / (level[:, 1] + _ALIKE)
        spread = own * (1 - own) / sums[:, 1] + usual * (1 - usual) / sums[:, 3]
        z, units = (sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]) / np.sqrt(spread), _harmonic(sums)
        last, before, *totals = self.excess[rows].T
        new = (z - last) ** 2 / 2 - 1, (units + before) / 2, np.ones(len(rows))
        moved = [np.where(before > 0, (1 - 1 / FAR) * old + one, old) for old, one in zip(totals, new, strict=True)]
        self.excess[rows] = np.stack([z, units, *moved], axis=1)
        self.level[rows] = (1 - 1 / MEMORY) * level + sums

    def log_e(self) -> Floats:
        """Log of the evidence, the mean over the ratios that are bet on. Shape (S,)."""
        return _log_mean(self.log_sum)

    def strongest(self, row: int) -> tuple[int, Floats]:
        """Begin of the stretch that is likeliest to hold all of a difference, in milliseconds, and its sums."""
        place = int(self.rise[row].argmax())
        return int(self.began[row, place]), self.since[row, place]

    def recent(self) -> Floats:
        """Log e-value of the window alone; 0 where it says nothing. Shape (S,)."""
        sums, rows = self.window.sum(axis=1), np.arange(len(self))
        some = sums[:, 1] > 0
        sums = np.where(some[:, None], sums, 1.0)
        found = log_e_values(self.predicted, sums) / self._swollen(rows, self._mean_slice(rows, sums))[:, None]
        return np.where(some, _log_mean(found), 0.0)

    def shown(self, rows: Ints, tried: Floats) -> Floats:
        """The log evidence that all but a tenth of windows with the present units exceed. Shape (S, C).

        Parameters
        ----------
        rows : shares whose window holds units
        tried : what the arm's share might be instead of the baseline's, shape (S, C)

        """
        sums, usual = self.window[rows].sum(axis=1), self.predicted[rows, None]
        units, units_b = sums[:, 1, None], sums[:, 3, None]
        swollen = self._swollen(rows, self._mean_slice(rows, sums))[:, None]
        noise = np.sqrt(swollen * (tried * (1 - tried) / units + usual * (1 - usual) / units_b))
        gap = np.maximum(np.abs(tried - usual) - _POWER * noise, 0) * np.sign(tried - usual)
        yes = (usual + gap) * units
        columns = np.broadcast_arrays(yes, units, usual * units_b, units_b)
        flat = np.stack([column.ravel() for column in columns], axis=1)
        level = np.repeat(self.predicted[rows], tried.shape[1])
        found = log_e_values(level, flat).reshape(*tried.shape, len(ODDS)) / swollen[..., None]
        most = _MOST * (self.window[rows, :, 1] > 0).sum(axis=1)
        return _log_mean(np.minimum(found, most[:, None, None]))

    def _mean_slice(self, rows: Ints, sums: Floats) -> Floats:
        """Sums of a window as those of one of its slices."""
        found: Floats = sums / np.maximum((self.window[rows, :, 1] > 0).sum(axis=1), 1)[:, None]
        return found

    def restart(self, rows: Ints) -> None:
        """Forget the evidence of the shares at `rows`; what is known of their level stays."""
        self.steps[rows] = np.maximum(self.steps[rows], HEAD)
        self.log_sum[rows], self.rise[rows] = -np.inf, 0

    def dump(self) -> list[bytes]:
        """All of the state, packed."""
        return [np.ascontiguousarray(getattr(self, name)).tobytes() for name in NAMES]

    @classmethod
    def load(cls, packed: Sequence[bytes]) -> ArmEvidence:
        """The inverse of `dump`. Raises ValueError where lengths do not agree."""
        empty = cls()
        shapes = [getattr(empty, name) for name in NAMES]
        columns = [
            np.frombuffer(data, like.dtype).reshape(-1, *like.shape[1:]).copy()
            for data, like in zip(packed, shapes, strict=True)
        ]
        if len({len(column) for column in columns}) > 1:
            raise ValueError("evidence whose columns have different lengths")
        return cls(*columns)


def _harmonic(sums: Floats) -> Floats:
    """Units of a lone arm whose share would vary as the difference of both does."""
    found: Floats = sums[:, 1] * sums[:, 3] / (sums[:, 1] + sums[:, 3])
    return found


def _log_mean(logs: Floats) -> Floats:
    """Log of the mean of exponentials along the last axis."""
    most = logs.max(axis=-1)
    safe = np.where(np.isfinite(most), most, 0.0)
    total = np.exp(logs - safe[..., None]).sum(axis=-1)
    found: Floats = safe + np.log(np.where(total > 0, total, 1.0)) - np.log(logs.shape[-1])
    return np.where(total > 0, found, -np.inf)


NAMES: Sequence[str] = tuple(part.name for part in fields(ArmEvidence))
