"""How units differ within the slices of a reference. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.calibration import multinomial_within
from monitor.model import Floats, Ints, Signal
from monitor.reference.series import place_keys
from monitor.summaries import Counts

SAMPLE = 2048
"""Units from which the covariance within slices is taken where units are sessions."""
_ALONE = 0.95
"""Where units have hardly more than one record each, nothing tells what stays the same: all is taken to."""


def unit_within(signal: Signal, slices: Sequence[Counts], cells: Ints, shares: Floats, units: Floats) -> Floats:
    """Covariance of one unit's value within a slice, pooled over slices."""
    bins = len(cells) + 1
    if not any(len(found.session) for found in slices):
        return multinomial_within(shares, units)
    each = max(SAMPLE // max(len(slices), 1), 8)
    total, freedom = np.zeros((bins, bins)), 0
    for found in slices:
        values = _unit_values(signal, found, cells, each)
        if len(values) > 1:
            centred = values - values.mean(axis=0)
            total += centred.T @ centred
            freedom += len(values) - 1
    return total / max(freedom, 1)


def sampled_within(signal: Signal, slices: Sequence[Counts], cells: Ints, shares: Floats, seen: Floats) -> Floats:
    """The same of samples, whose means are over records: W as in `vector_within`, here from all units of a slice."""
    if not any(len(found.session) for found in slices):
        return multinomial_within(shares, seen)
    bins = len(cells) + 1
    total, weight = np.zeros((bins, bins)), 0.0
    for found, mean, known in zip(slices, shares, seen.tolist(), strict=True):
        if known <= 1 + 1e-6:
            continue
        means, records, loose = _units_of(signal, found, cells)
        apart = (means - mean) * records[:, None]
        alone = np.eye(bins) - mean
        spread = apart.T @ apart + alone.T @ (alone * loose[:, None])
        total += spread * known / (known - 1) / float((records**2).sum() + loose.sum()) * known
        weight += known
    return total / max(weight, 1.0)


def part_that_stays(
    slices: Sequence[Counts], shares: Floats, seen: Floats, trace: float, *, length: float = 1.0
) -> tuple[float, float]:
    """The part of W that stays the same in a session from slice to slice, and the mean of 1/m that it follows from.

    Records of one session have the variance w about what the session is about, and sessions b: a record has b + w, and
    the mean of the m records that a unit has in a slice b + w/m. With W known, and how records differ, b/W follows.

    Parameters
    ----------
    shares, seen : means and effective number of units of each slice, shapes (R, r) and (R,)
    trace : tr W
    length : mean squared length of a record's value; 1 of bins and of features

    """
    if trace <= 0 or not any(len(found.session) for found in slices):
        return 0.0, 1.0
    weight = seen / max(float(seen.sum()), 1e-300)
    by_record = float(weight @ (length - (shares**2).sum(axis=1) + trace / np.maximum(seen, 1)))
    fewer = float(weight @ [_mean_of_inverse(found) for found in slices])
    if fewer > _ALONE:
        return 1.0, fewer
    return float(np.clip((trace - fewer * by_record) / (1 - fewer) / trace, 0, 1)), fewer


def _mean_of_inverse(found: Counts) -> float:
    """Mean over the units of a slice of 1/m; of a sample, where units weigh by m^2, sum m over sum m^2."""
    if found.sampled:
        return found.effective / max(found.n, 1)
    _, records = found.session_records()
    units, loose = max(found.units(), 1), found.loose
    inverse = float((1 / records).mean()) if len(records) else 0.0
    return (inverse * (units - loose) + loose) / units


def _units_of(signal: Signal, found: Counts, cells: Ints) -> tuple[Floats, Floats, Floats]:
    """Shares of the bins in each session, records of each session, and the records without one in each bin."""
    bins = len(cells) + 1

    def place(keys: Ints) -> Ints:
        return place_keys(signal, cells, keys)

    _, means = found.session_means(place, bins)
    _, records = found.session_records()
    loose = np.bincount(place(found.keys), found.counts, minlength=bins)
    loose = loose - np.bincount(place(found.inside_keys), found.inside_counts, minlength=bins)
    return means, records.astype(np.float64), loose.astype(np.float64)


def _unit_values(signal: Signal, found: Counts, cells: Ints, each: int) -> Floats:
    """Shares of the bins in at most about `each` units of a slice: its sessions of least hash and its loose records."""
    bins = len(cells) + 1
    means, _, loose = _units_of(signal, found, cells)
    rows = np.repeat(np.arange(bins), np.rint(loose).astype(np.int64))
    wanted = each if not len(rows) else max(round(each * len(means) / (len(means) + len(rows))), 1)
    singles = (
        rows[np.linspace(0, len(rows) - 1, min(len(rows), max(each - wanted, 1))).astype(np.int64)]
        if len(rows)
        else rows
    )
    return np.concatenate([means[:wanted], np.eye(bins)[singles]])


def lag_sum(number: Ints, units: Floats, lag: int) -> float:
    """Sum of n_s n_(s+lag) over the slices kept."""
    if not len(number):
        return 0.0
    at = np.minimum(np.searchsorted(number, number + lag), len(number) - 1)
    return float((units * units[at] * (number[at] == number + lag)).sum())
