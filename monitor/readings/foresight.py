"""What a series would see of changes to come, and how soon, from its reference, its traffic and its threshold alone.

The delay of a change of a share is the shortest stretch of slices, of those tried up to 512, whose evidence such a
change passes with the power that is asked: `shown_by`, with the slower direction of a rate or a number, and the slowest
value of a category. That of vectors follows the chains of blocks of `VectorTable` slice by slice, each statistic being
its mean. Both are the change's as if it began with a slice. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import special

from monitor.calibration import NullMoments, null_moments, stack_terms, tail
from monitor.evidence import REACH, shown_by
from monitor.model import Floats, Ints, Kind
from monitor.readings.lacking import LEAST_REFERENCE_UNITS, LEAST_UNITS, lacking
from monitor.readings.vectors import BLOCKS, GOING_ON, cautious, e_value, smallest_shift
from monitor.readings.watched import Watched
from monitor.reference import SeriesReference
from monitor.summaries import Vector
from monitor.summaries.vector import farthest
from monitor.windows import SLICES

HALF, MOST = 0.5, 0.9
"""The powers that delays are told for."""
LARGER = 2.0
"""Nine of ten are told of changes this many times as large as what matters: of those that are just as large, half are
measured to be smaller, and wait until they are not."""
_STRETCHES: Ints = np.unique(np.geomspace(1, REACH, 73).round().astype(np.int64))
"""Slices of the stretches that are tried: eight to an octave."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a slice brings of one series on average."""

    records: float
    """Records of the stream or segment that have the signal."""
    seen: float
    """Units that were scored."""
    known: float
    """Units of equal weight that would tell as much of a long stretch."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What windows of one size would see of one series."""

    size: int
    kind: Kind
    traffic: Traffic
    matters: float
    judged: bool
    """Whether reference and window hold enough for a verdict."""
    detectable: float | None
    """The smallest change that a window shows with 90 % power."""
    half: int | None
    """Slices until half of the changes as large as what matters are found; None if not within 512."""
    most: int | None
    """The same of nine of ten changes that are twice as large."""
    lacks: str
    """Why a window says nothing, or shows no change that matters by itself."""

    @property
    def length(self) -> int:
        """Milliseconds of a slice."""
        return self.size // SLICES


def traffic_of(series: SeriesReference, size: int, slices: int, factor: float = 1.0) -> Traffic:
    """What a slice brings.

    Parameters
    ----------
    slices : of the whole reference, of this size
    factor : traffic against that of the reference; of a sample no more is scored where there is more

    """
    cells = series.summary.cells
    records = cells.population / slices * factor
    if size in series.vectors:
        scored = min(cells.effective / slices, records)
        return Traffic(records, scored, scored)
    rows = series.slices[size]
    if not rows.units.sum():
        return Traffic(records, 0.0, 0.0)
    units = rows.units * factor
    seen = np.minimum(rows.seen, units) if cells.sampled else rows.seen * factor
    count = slices * float(rows.units.sum()) / rows.total  # slices that were kept, empty ones among them
    known = float(units.sum()) ** 2 / float((units**2 / np.maximum(seen, 1e-9)).sum()) / count
    return Traffic(records, float(seen.sum()) / count, known)


def sight_of_shares(watched: Watched, traffic: Traffic, threshold: float) -> Sight:
    """Of a number, a category or a rate.

    Parameters
    ----------
    threshold : error probability that each slice may spend

    """

    def delay(times: float, power: float) -> int | None:
        return share_delay(watched, times * watched.matters, traffic.known, threshold, power=power)

    detectable = watched.detectable(traffic.known * SLICES, threshold)
    return _sight(watched.reference, watched.size, traffic, watched.matters, detectable=detectable, delay=delay)


def sight_of_vectors(series: SeriesReference, size: int, matters: float, traffic: Traffic, threshold: float) -> Sight:
    """Of vectors; that a share of the texts is replaced is a shift by as much of the farthest one of the reference."""
    assert isinstance(series.summary, Vector)
    far = math.sqrt(farthest(series.summary.units, series.summary.embedding))
    _, block = _moments(series, size, BLOCKS[0], traffic.known)
    detectable = float(smallest_shift(block, np.array([threshold]))[0]) / far if far > 0 else math.nan

    def delay(times: float, power: float) -> int | None:
        slices = vector_delay(series, size, times * matters * far, traffic.known, threshold, power=power)
        # The window's effect reaches what matters when so much of it is behind the change.
        return None if slices is None else max(slices, math.ceil(SLICES / times))

    return _sight(series, size, traffic, matters, detectable=detectable, delay=delay)


def _sight(
    series: SeriesReference,
    size: int,
    traffic: Traffic,
    matters: float,
    *,
    detectable: float,
    delay: Callable[[float, float], int | None],
) -> Sight:
    told = detectable if math.isfinite(detectable) else None
    units, known = math.floor(traffic.seen * SLICES + 1e-9), series.known(size)
    judged = units >= LEAST_UNITS and known >= LEAST_REFERENCE_UNITS
    return Sight(
        size=size,
        kind=series.signal.kind,
        traffic=traffic,
        matters=matters,
        judged=judged,
        detectable=told if judged else None,
        half=delay(1, HALF) if judged else None,
        most=delay(LARGER, MOST) if judged else None,
        lacks="" if judged and told is not None and told <= matters else lacking(size, units, known, told, matters),
    )


def earliest(sights: Iterable[Sight], power: float) -> tuple[Sight, int] | None:
    """The window size that finds a change first, and in how many of its slices; None where none does.

    Parameters
    ----------
    power : HALF, of changes as large as what matters, or MOST, of those twice as large

    """
    delays = [(sight, sight.half if power == HALF else sight.most) for sight in sights]
    found = [(sight, slices) for sight, slices in delays if slices is not None]
    return min(found, key=lambda one: one[1] * one[0].length, default=None)


# ---- shares ---------------------------------------------------------------------------------------------------------


def share_delay(watched: Watched, change: float, known: float, threshold: float, *, power: float) -> int | None:
    """Slices until a change is found with a probability of `power`, whichever it is of those as large; None if never.

    Parameters
    ----------
    change : in the units of the series' effect
    known : independent units a slice

    """
    if not len(watched.nulls) or known <= 0:
        return None
    rates = changed_rates(watched, change)
    if not len(rates):
        return None
    shape = (*rates.shape, len(_STRETCHES))
    rows = np.broadcast_to(np.arange(rates.shape[1])[None, :, None], shape)
    slices, rate = np.broadcast_to(_STRETCHES, shape), np.broadcast_to(rates[..., None], shape)
    shown, said = np.full(shape, -np.inf), ~np.isnan(rate)
    units = slices[said].astype(np.float64) * known
    shown[said] = shown_by(watched.nulls, rows[said], rate[said], units, slices[said], power=power)
    enough = shown.max(axis=1) >= np.log(rates.shape[1]) - np.log(threshold)
    if not enough.any(axis=1).all():
        return None
    return int(_STRETCHES[enough.argmax(axis=1)].max())


def changed_rates(watched: Watched, change: float) -> Floats:
    """The shares of a series after each of the changes of one size that there are. Shape (changes, shares).

    A rate rises or falls; so does each share of a category, of the others of which nothing is said (NaN); all values of
    a number move up or down. A change for which there is no room is left out, if it is smaller than what matters.
    """
    usual = watched.nulls.rate
    if watched.reference.signal.kind == "numeric":
        return _moved(watched, change)
    found = []
    for share, rate in enumerate(usual.tolist()):
        for room, sign in ((1 - rate, 1), (rate, -1)):
            if room >= watched.matters:
                row = np.full(len(usual), np.nan)
                row[share] = rate + sign * min(change, room)
                found.append(row)
    return np.array(found).reshape(-1, len(usual))


def _moved(watched: Watched, change: float) -> Floats:
    """Between the moves of the reference whose effects are next to the one asked for."""
    usual, (shares, effects) = watched.nulls.rate, watched.shape.shifted()
    found = []
    for by_move, effect in zip((shares - watched.shape.record_shares) @ watched.telling.T, effects, strict=True):
        possible = effect > 0
        if possible.any():
            at = np.concatenate([[0.0], np.maximum.accumulate(effect[possible])])
            steps = np.concatenate([np.zeros((1, len(usual))), by_move[possible]])
            found.append([rate + np.interp(change, at, step) for rate, step in zip(usual, steps.T, strict=True)])
    return np.clip(np.array(found).reshape(-1, len(usual)), 0, 1)


# ---- vectors --------------------------------------------------------------------------------------------------------


def vector_delay(
    series: SeriesReference, size: int, shift: float, known: float, threshold: float, *, power: float
) -> int | None:
    """Slices until a shift of the mean features is found with a probability of `power`; None if never.

    A chain over h slices has statistics whose noise averages over h; for more power than a half all of them are taken
    to be as low as their average then is, which is on the safe side.

    Parameters
    ----------
    shift : length of the difference of the mean features
    known : independent units a slice

    """
    if known <= 0:
        return None
    moments = {length: _moments(series, size, length, known) for length in BLOCKS}
    noise, low, high = float(special.ndtri(power)), 0, len(_STRETCHES)
    while low < high:
        middle = (low + high) // 2
        if _expected_evidence(moments, shift**2, noise, int(_STRETCHES[middle])) >= 1 / threshold:
            high = middle
        else:
            low = middle + 1
    return int(_STRETCHES[low]) if low < len(_STRETCHES) else None


def _moments(series: SeriesReference, size: int, length: int, known: float) -> tuple[NullMoments, NullMoments]:
    """Those of a block of slices as it is, and as it is judged beside others."""
    terms, seen = stack_terms([series.vectors[size].terms]), np.zeros((1, SLICES))
    seen[:, SLICES - length :] = known
    return null_moments(terms, seen, seen), null_moments(cautious(terms), seen, seen)


def _expected_evidence(
    moments: dict[int, tuple[NullMoments, NullMoments]], square: float, noise: float, slices: int
) -> float:
    """Evidence of all chains so many slices after a shift whose square is given; before it there is none.

    A block of which a part is behind the change shows that part of the shift.
    """
    e_values: dict[int, list[float]] = {}
    for length, (null, judged) in moments.items():
        shown = square * (np.arange(1, length + 1) / length) ** 2
        spread = np.sqrt((2 * null.square + 4 * shown * null.lead) * min(length / slices, 1.0))
        e_values[length] = e_value(tail(null.trace + shown - noise * spread, judged)).tolist()
    ended = [0.0] * (SLICES + 1)
    for at in range(1, slices + 1):
        chains = sum((1 + ended[-length]) * found[min(at, length) - 1] for length, found in e_values.items())
        ended.append(chains / len(BLOCKS))
    return float(np.array(ended[-len(GOING_ON) :]) @ GOING_ON)
