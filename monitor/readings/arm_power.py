"""The smallest difference of two arms that a window would have shown with 90 % power. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from monitor.arm_evidence import ArmEvidence
from monitor.model import Floats, Ints
from monitor.readings.compared import Compared
from monitor.readings.watched import first_shown

_CHANGES: Floats = np.geomspace(0.001, 0.95, 34)
"""Differences of a share that are tried for the smallest that would have shown."""
_BOTH_WAYS: Floats = np.concatenate([_CHANGES, -_CHANGES])
_LEAST = 1e-9
"""Least share that is tried."""


def detectable(
    series: Sequence[Compared], first: Ints, evidence: ArmEvidence, threshold: float, least: Floats
) -> Floats:
    """For each series in the units of its effect; NaN where none would have shown. Shape (S,).

    Parameters
    ----------
    first : of each series its first share in `evidence`, and at the end how many there are
    threshold : error probability that each slice of each series may spend
    least : what matters

    """
    found, usual = np.full(len(series), np.nan), evidence.predicted
    live = evidence.window[:, :, 1].max(axis=1, initial=0) > 0
    for numeric in (True, False):
        rows = [row for row, one in enumerate(series) if live[first[row]] and (one.signal.kind == "numeric") is numeric]
        if not rows:
            continue
        shares = [np.arange(first[row], first[row + 1]) for row in rows]
        moves = [
            series[row].moves if numeric else np.broadcast_to(_BOTH_WAYS, (len(mine), len(_BOTH_WAYS)))
            for row, mine in zip(rows, shares, strict=True)
        ]
        every = np.concatenate(shares)
        shown = evidence.shown(every, np.clip(usual[every, None] + np.concatenate(moves), _LEAST, 1 - _LEAST))
        parts = np.split(shown, np.cumsum([len(mine) for mine in shares])[:-1])
        for row, mine, part in zip(rows, shares, parts, strict=True):
            needed = math.log(len(mine)) - math.log(threshold)
            if numeric:
                found[row] = _smallest_move(series[row].effects, part.max(axis=0), needed)
            else:
                found[row] = _smallest_change(usual[mine], part, needed, float(least[row]))
    return found


def _smallest_move(effects: Floats, shown: Floats, needed: float) -> float:
    """The smallest effect at which moves of all values would have shown either way; NaN where none is possible.

    Parameters
    ----------
    effects : of moves up, then of as many down; 0 marks one that is not possible
    shown : log evidence of each

    """
    sides = []
    for effect, reached in zip(np.split(effects, 2), np.split(shown, 2), strict=True):
        order = np.argsort(effect[effect > 0], kind="stable")
        if len(order):
            sides.append(first_shown(effect[effect > 0][order], reached[effect > 0][order], needed))
    return float(np.max(sides)) if sides else math.nan


def _smallest_change(usual: Floats, shown: Floats, needed: float, least: float) -> float:
    """The smallest change, up or down, that would have shown whichever share makes it; NaN where none.

    Shares that have no room for what matters do not count.

    Parameters
    ----------
    shown : log evidence of each of `_BOTH_WAYS` at each share

    """
    sides = [0.0]
    for room, reached in zip((1 - usual, usual), np.split(shown, 2, axis=1), strict=True):
        possible = np.where(room[:, None] >= _CHANGES, reached, -np.inf)
        sides += [first_shown(_CHANGES, one, needed) for one in possible[room >= least]]
    return float(np.max(sides))
