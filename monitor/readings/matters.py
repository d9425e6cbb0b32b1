"""How large a change must be to matter, in the units of its owner."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.model import Signal

LOG_CHANGE = 0.10
"""Amounts: a tenth of the median or of a decile."""
SCORE_CHANGE = 0.03
"""Scores from 0 to 1: in the mean."""
RATE_CHANGE = 0.005
"""Rates: half a point, or a quarter of the rarer outcome where that is more."""
CATEGORY_CHANGE = 0.05
"""Categories: total variation."""
VECTOR_CHANGE = 0.02
"""Vectors: share of records that were replaced, at least."""
VOLUME_FACTOR = 3.0
"""Volume: this many times the greatest, or this part of the least, of the reference."""


def matters(signal: Signal, own: Mapping[str, float], rate: float | None = None) -> float:
    """The smallest change of `signal` that its owner wants to hear of.

    Parameters
    ----------
    own : what the owner set, by signal name
    rate : the reference's rate, for rates

    >>> matters(Signal("error", "rate"), {}, rate=0.04), matters(Signal("error", "rate"), {}, rate=0.001)
    (0.01, 0.005)

    """
    if signal.name in own:
        return own[signal.name]
    if signal.kind == "rate":
        rarer = min(rate, 1 - rate) if rate is not None else 0.0
        return max(RATE_CHANGE, rarer / 4)
    if signal.kind == "category":
        return CATEGORY_CHANGE
    if signal.kind == "vector":
        return VECTOR_CHANGE
    if signal.kind == "level":
        return VOLUME_FACTOR
    return LOG_CHANGE if signal.scale == "log" else SCORE_CHANGE
