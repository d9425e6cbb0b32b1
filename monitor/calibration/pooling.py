"""Bins joined until each expects enough units of a window, and the G statistic over them. Pure."""

from __future__ import annotations

import numpy as np
from scipy import special

from monitor.model import Floats, Ints

CELL_UNITS = 10
"""Units of the window that each pooled bin expects."""


def pool_bins(expected: Floats, units: float) -> Ints:
    """Labels 0, 1, ... that join neighbouring bins until each expects at least 10 of `units`; the last may join back.

    >>> pool_bins(np.array([0.25, 0.25, 0.25, 0.25]), 25).tolist()
    [0, 0, 1, 1]
    """
    labels, label, mass = np.zeros(len(expected), np.int64), 0, 0.0
    for i, share in enumerate(expected.tolist()):
        labels[i] = label
        mass += share * units
        if mass >= CELL_UNITS - 1e-9:
            label, mass = label + 1, 0.0
    if label and labels[-1] == label:  # what is left over is too little for a bin of its own
        labels[labels == label] = label - 1
    return labels


def pool_small(expected: Floats, units: float) -> Ints:
    """Labels that keep cells expecting at least 10 of `units` and join all others, the last cell (`other`) with them.

    Where those together expect fewer, the smallest kept cells join them too.

    >>> pool_small(np.array([0.7, 0.25, 0.04, 0.01]), 100).tolist()
    [0, 1, 1, 1]
    """
    order = np.argsort(-expected[:-1], kind="stable")
    kept = [int(i) for i in order if expected[i] * units >= CELL_UNITS]
    while kept and units * (expected.sum() - expected[kept].sum()) < CELL_UNITS:
        kept.pop()
    labels = np.full(len(expected), len(kept), np.int64)
    labels[sorted(kept)] = np.arange(len(kept))
    return labels


def ladder(units: float) -> int:
    """The largest of a geometric ladder of sizes (40, 57, 80, ...) that is not above `units`: few sizes, few poolings.

    >>> ladder(41), ladder(100)
    (40, 80)
    """
    steps = int(np.floor(2 * np.log2(max(units, 40) / 40) + 1e-9))
    return round(40 * 2 ** (steps / 2))


def pooled(values: Floats, labels: Ints, cells: int) -> Floats:
    """Sum the last axis by labels, one set of labels a series. Shapes (S, r), (S, r) -> (S, cells)."""
    flat = labels + np.arange(len(labels))[:, None] * cells
    sums: Floats = np.bincount(flat.ravel(), values.ravel(), minlength=len(labels) * cells).astype(np.float64)
    return sums.reshape(len(labels), cells)


def g_statistic(window: Floats, reference: Floats, n: Floats, m: Floats) -> Floats:
    """The log-likelihood ratio of two multinomials against one, divided by n m/(n + m). Shapes (S, r), (S,).

    Near the null it equals the chi-square form sum (x - p)^2/e; beyond it, it keeps to its tail better.

    >>> float(g_statistic(np.array([[0.5, 0.5]]), np.array([[0.5, 0.5]]), np.array([10.0]), np.array([99.0]))[0])
    0.0
    """
    n, m = n[:, None], m[:, None]
    joint = (n * window + m * reference) / (n + m)
    safe = np.where(joint > 0, joint, 1)
    terms = n * special.xlogy(window, window / safe) + m * special.xlogy(reference, reference / safe)
    statistic: Floats = 2 * terms.sum(axis=1) * (n + m)[:, 0] / (n * m)[:, 0]
    return np.maximum(statistic, 0)
