"""How much of a shift of a mean goes with other prompts, and how much with other answers to the same prompts.

Prompts fall into kinds, the clusters of their vectors. A mean over exchanges is the sum over kinds of the share w of
the exchanges times their mean m, so that between a reference (0) and a window it shifts by

    sum (w - w0) m0   prompts: kinds are more or less frequent
  + sum w (m - m0)    answers: those of the same kind are others

(Kitagawa, J. Am. Stat. Assoc. 50, 1955; Oaxaca, Int. Econ. Rev. 14, 1973; Blinder, J. Hum. Resour. 8, 1973). Of kinds
that the reference hardly holds it cannot say what the same prompts were answered. They are joined to one, and by as
much as it is more frequent than it was it counts as other prompts, with the mean that it has now (as what lies outside
the common support in Nopo, Rev. Econ. Stat. 90, 2008). Within a kind prompts are taken to be the same. Pure numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.model import Floats, Hashes, Ints

LEAST = 40
"""Exchanges on either side below which nothing is said."""
LEAST_OF_KIND = 8
"""Exchanges of a kind in the reference below which it is joined to what the reference hardly holds."""
MOST_UNTOLD = 0.2
"""Part of the reference, without a prompt or of kinds that it hardly holds, above which nothing is said."""
WIDEST = 1.0
"""Widest interval of the share that says anything: it tells all from nothing."""
_NORMAL = 1.96
_BLOCKS = 6
"""Slices from which on their differences are looked at beside those of units."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Exchanges of a window or of a reference, one entry each."""

    value: Floats
    kind: Ints
    """Of the prompt, from 0; -1 of an exchange without a prompt, which is a kind as well."""
    weight: Floats
    """Records that each stands for."""
    session: Hashes
    """Exchanges of one session are no independent ones; 0 is a session of its own."""
    block: Ints
    """Slice that each lies in."""
    part: float
    """Part of the records behind the shift that these are, 0 .. 1."""


@dataclass(frozen=True, slots=True)
class Split:
    """What part of a shift goes with other prompts: 0 none, 1 all; outside where prompts and answers pull apart."""

    prompts: float
    low: float
    high: float
    """Bounds of a 95 % interval."""


def split(window: Side, reference: Side, shift: float, strange: int) -> Split | None:
    """How a shift splits; None where there are too few exchanges or prompts to say.

    The interval is that of a ratio of two linearised estimates, over units or over slices, whichever is wider; the
    share of the records that were not sampled tells of the shift, but not of its parts.

    Parameters
    ----------
    shift : of the mean from reference to window, over all of their records
    strange : the kind of prompts that are unlike any other

    """
    if min(len(window.value), len(reference.value)) < LEAST or not shift:
        return None
    here, there = window.weight / window.weight.sum(), reference.weight / reference.weight.sum()
    kinds = int(max(window.kind.max(), reference.kind.max(), strange)) + 2
    known = np.bincount(reference.kind % kinds, minlength=kinds) >= LEAST_OF_KIND
    known[strange] = False
    joined = np.where(known, np.arange(kinds), kinds)  # -1 is the last kind, and what is hardly known comes behind it
    at, at0 = joined[window.kind % kinds], joined[reference.kind % kinds]
    share, share0 = (np.bincount(k, v, minlength=kinds + 1) for k, v in ((at, here), (at0, there)))
    if share0[-2:].sum() > MOST_UNTOLD:
        return None
    mean0 = np.bincount(at0, there * reference.value, minlength=kinds + 1) / np.maximum(share0, 1e-300)
    grown = bool(share[-1] > share0[-1])
    now = float(here[at == kinds] @ window.value[at == kinds] / share[-1]) if grown else float(mean0[-1])
    expected = np.append(mean0[:-1], now)
    prompts = float((share - share0) @ expected)
    ratio = prompts / shift
    # What each exchange adds to `prompts`, in units of its weight.
    more, more0 = expected[at], share[at0] / np.maximum(share0[at0], 1e-300) * (reference.value - mean0[at0])
    more0 = more0 - reference.value
    if grown:
        of_new = at == kinds
        more[of_new] = window.value[of_new] - share0[-1] / share[-1] * (window.value[of_new] - now)
        more0[at0 == kinds] = -now
    variance = _variance(window, here, more, ratio) + _variance(reference, there, more0, -ratio)
    reach = _NORMAL * float(np.sqrt(variance)) / abs(shift)
    return Split(ratio, ratio - reach, ratio + reach) if 2 * reach <= WIDEST else None


def _variance(side: Side, weight: Floats, more: Floats, ratio: float) -> float:
    """Variance of what one side adds to prompts - ratio * shift, given what its exchanges add to prompts."""
    more, value = more - weight @ more, side.value - weight @ side.value
    rest = ratio**2 * side.part * (1 - side.part)
    alone = side.session == 0
    units = np.where(alone, np.arange(len(value)), len(value) + np.unique(side.session, return_inverse=True)[1])
    found = []
    for of in (units, side.block):
        groups = np.unique(of, return_inverse=True)[1]
        count = int(groups.max()) + 1
        if of is side.block and count < _BLOCKS:
            continue
        sums = [np.bincount(groups, weight * each) for each in (more - ratio * side.part * value, value)]
        squares = [float(part @ part) * count / max(count - 1, 1) for part in sums]
        found.append(squares[0] + rest * squares[1])
    return max(found)
