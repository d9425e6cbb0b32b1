"""The null: how much do windows differ from the reference when nothing changes, and what follows from it.

Comes in: the slices of a reference. Goes out: p-values, thresholds from the false-alarm budget, and the change that a
window would have shown. Pure; arrays carry the series on their first axis unless said.

A slice's mean of k units has covariance W/k + B_0: W is how units differ within a slice, B_l the autocovariance of
slice means at lag l, beyond what comes of units that lie in both slices. A window with slice weights w_s = n_s/N, in
which unit j has part A_j, then differs from the reference with covariance

    C = W sum A_j^2 + sum over |l| < LAGS of B_l sum w_s w_(s+l),      summed over window and reference,

whatever the traffic and whether all units are scored or a sample. Of a unit in several slices only a part of W stays
the same; sum A_j^2 has its products of two slices weakened by it. A unit of which a sample holds fewer records than the
reference's did counts as less than one.

A quadratic statistic d'Dd of the difference d is then a weighted sum of chi-squares, the weights being the eigenvalues
of DC. Two moments, tr(DC) and tr(DCDC), and the greatest eigenvalue are estimated; tr(DCDC) leaves out the products of
a slice with itself and the eigenvalue is measured on one half of the slices in the direction that the other half gave,
so that noise in B does not pass for spread. The tail comes from the saddlepoint of that sum, with the noise in tr(DC)
as a further chi-square in the denominator.
"""

from monitor.calibration.budget import FalseAlarmSettings, Spending, decided, thresholds
from monitor.calibration.lags import LAGS, lag_pairs
from monitor.calibration.season import LEAST_PERIODS, Cycle, Season, season_of
from monitor.calibration.tails import (
    SUPPORTED,
    NullMoments,
    critical,
    needed_shift,
    null_moments,
    raised_lead,
    shift_ends,
    tail,
)
from monitor.calibration.terms import (
    BOTH_SIDES,
    FEW_SLICES,
    NullTerms,
    null_terms,
    stack_terms,
    vector_terms,
)
from monitor.calibration.within import ReferenceSlices, like_reference, multinomial_within, vector_within

__all__ = [
    "BOTH_SIDES",
    "FEW_SLICES",
    "LAGS",
    "LEAST_PERIODS",
    "SUPPORTED",
    "Cycle",
    "FalseAlarmSettings",
    "NullMoments",
    "NullTerms",
    "ReferenceSlices",
    "Season",
    "Spending",
    "critical",
    "decided",
    "lag_pairs",
    "like_reference",
    "multinomial_within",
    "needed_shift",
    "null_moments",
    "null_terms",
    "raised_lead",
    "season_of",
    "shift_ends",
    "stack_terms",
    "tail",
    "thresholds",
    "vector_terms",
    "vector_within",
]
