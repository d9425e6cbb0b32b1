"""Whether vectors of a window are distributed as in the reference: `rff_mmd`.

The statistic is the squared distance of the window's mean features from the reference's: the maximum mean discrepancy
(Gretton et al., JMLR 13, 2012) of the kernel that the features stand for. Its null is that of calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from monitor.calibration import FEW_SLICES, NullTerms, needed_shift, stack_terms, tail
from monitor.distances import DISTANCES
from monitor.model import Flags, Floats, Ints
from monitor.readings.effects import window_counts
from monitor.readings.units import WindowUnits
from monitor.reference import SeriesReference
from monitor.summaries import Vector
from monitor.summaries.vector import FEATURES, farthest
from monitor.windows import SLICES, Slice


@dataclass(frozen=True, slots=True)
class Embedded:
    """What one pass over the vectors of a window found. Shape (S,) each."""

    p_value: Floats
    effect: Floats
    """Share of the records that must have been replaced, at least; NaN where no record is there to tell."""
    detectable: Floats
    """The same for the smallest change that would have been seen."""
    value: Floats
    """Distance of the mean features."""
    reference_value: Floats
    """The distance that is expected when nothing changes."""
    records: Ints
    units: Ints
    widened: Flags
    """Whether the reference had too few slices to say exactly how much they differ."""


@dataclass(slots=True)
class VectorTable:
    """All vector series of one window size, with the mean features of their last twelve slices."""

    size: int
    series: list[SeriesReference] = field(default_factory=list)
    features: Floats = field(default_factory=lambda: np.zeros((0, SLICES, FEATURES)))
    usual: Floats = field(default_factory=lambda: np.zeros((0, FEATURES)))
    """Mean features of the references."""
    units: WindowUnits = field(default_factory=WindowUnits)
    far: Floats = field(default_factory=lambda: np.zeros((0, SLICES)))
    """Greatest squared distance of a kept unit's records from the reference's mean."""
    _stacked: NullTerms | None = None

    def join(self, reference: SeriesReference, window: Sequence[tuple[int, Slice]]) -> None:
        """Add a series, with the slices that its window holds already."""
        self.series.append(reference)
        usual = reference.summary.embedding if isinstance(reference.summary, Vector) else np.zeros(FEATURES)
        self.usual = np.concatenate([self.usual, usual[None, :]])
        self.features = np.concatenate([self.features, np.zeros((1, SLICES, FEATURES))])
        self.far = np.concatenate([self.far, np.zeros((1, SLICES))])
        self.units.join()
        self._stacked = None
        for place, found in window:
            self._put(len(self.series) - 1, place, found)

    def push(self, found: Slice | None) -> None:
        """The next slice (None: without records)."""
        for array in (self.features, self.far):
            array[:, :-1] = array[:, 1:].copy()
            array[:, -1] = 0
        self.units.push()
        if found is not None:
            for row in range(len(self.series)):
                self._put(row, SLICES - 1, found)

    def _put(self, row: int, place: int, found: Slice) -> None:
        summary = _vector(self.series[row], found)
        if summary is not None and summary.n:
            self.features[row, place] = summary.embedding
            cells = summary.cells
            self.units.put(row, place, cells, units=cells.population, seen=cells.effective)
            self.far[row, place] = farthest(summary.units, self.usual[row])

    def read(self, window: Sequence[tuple[int, Slice]], threshold: Floats) -> Embedded:
        """Hold the present window of every series against its reference.

        Parameters
        ----------
        window : the slices of the window
        threshold : p-value at which each series decides, shape (S,)

        """
        if self._stacked is None:
            self._stacked = stack_terms([reference.vectors[self.size].terms for reference in self.series])
        weights = self.units.weights
        total = weights.sum(axis=1)
        mean = np.einsum("sw,swf->sf", weights, self.features) / np.maximum(total, 1e-300)[:, None]
        squared = np.where(total > 0, ((mean - self.usual) ** 2).sum(axis=1), 0)
        (moments,) = self.units.moments(self._stacked)
        far = np.sqrt(self.far.max(axis=1))
        far = np.where(far > 0, far, np.nan)
        counts = window_counts(self.series, window)
        return Embedded(
            np.where(total > 0, tail(squared, moments), 1.0),
            np.sqrt(np.maximum(squared - moments.trace, 0)) / far,
            np.sqrt(needed_shift(threshold, moments)) / far,
            np.sqrt(squared),
            np.sqrt(moments.trace),
            np.array([found.n for found in counts], np.int64),
            np.array([found.units for found in counts], np.int64),
            np.array([reference.vectors[self.size].slices < FEW_SLICES for reference in self.series], np.bool_),
        )

    def distances(self, row: int, window: Sequence[tuple[int, Slice]]) -> dict[str, float]:
        """The descriptive distances of one series, over records."""
        of_window = [_vector(self.series[row], found) for _, found in window]
        here = Vector.merged([Vector.empty(self.series[row].signal), *(part for part in of_window if part)])
        there = self.series[row].summary
        assert isinstance(there, Vector)
        sides: dict[str, tuple[Floats, Floats]] = {
            "features": (here.embedding, there.embedding),
            "moments": (here.projected, there.projected),
            "centroid": (here.centroid, there.centroid),
        }
        rows = (distance for distance in DISTANCES.values() if "vector" in distance.kinds)
        return {distance.name: float(distance(*sides[distance.cells])) for distance in rows}


def _vector(reference: SeriesReference, found: Slice) -> Vector | None:
    summary = found.summary(reference.scope, reference.signal.name)
    return summary if isinstance(summary, Vector) else None
