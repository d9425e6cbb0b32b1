"""How many units the last twelve slices of each series hold, and which of them lie in several slices."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from monitor.calibration import NullMoments, NullTerms, null_moments
from monitor.model import Floats
from monitor.summaries import Counts
from monitor.summaries.units import UnitParts, shared_by_window
from monitor.windows import SLICES


@dataclass(slots=True)
class WindowUnits:
    """One row a series, a place for each slice of its window, the newest last."""

    units: Floats = field(default_factory=lambda: np.zeros((0, SLICES)))
    """Units in all, n_s."""
    seen: Floats = field(default_factory=lambda: np.zeros((0, SLICES)))
    """Units whose values are in the slice's mean, k_s."""
    _slices: list[list[UnitParts | None]] = field(default_factory=list)

    def join(self) -> None:
        """Add a series."""
        nothing = np.zeros((1, SLICES))
        self.units, self.seen = np.concatenate([self.units, nothing]), np.concatenate([self.seen, nothing])
        self._slices.append([None] * SLICES)

    def add(self, other: WindowUnits) -> None:
        """Add the series of another."""
        self.units, self.seen = np.concatenate([self.units, other.units]), np.concatenate([self.seen, other.seen])
        self._slices += other._slices

    def push(self) -> None:
        """The next slice, empty as yet."""
        for array in (self.units, self.seen):
            array[:, :-1] = array[:, 1:].copy()
            array[:, -1] = 0
        self._slices = [[*slices[1:], None] for slices in self._slices]

    def put(self, row: int, cells: Counts, *, units: float, seen: float) -> None:
        """What the newest slice holds of a series."""
        self.units[row, -1], self.seen[row, -1] = units, seen
        self._slices[row][-1] = UnitParts.of(cells)

    def weights(self, last: int = SLICES) -> Floats:
        """Units of the last slices that are known, 0 for the others. Shape (S, 12)."""
        return np.where((self.seen > 0) & (np.arange(SLICES) >= SLICES - last), self.units, 0)

    def _shared(self, last: int) -> tuple[Floats, Floats]:
        """What units in several slices add to sum A_j^2, and sum A_j^3. Shape (S,) each."""
        weights = self.weights(last)
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
        found = [shared_by_window(slices, row) for slices, row in zip(self._slices, weights, strict=True)]
        squares, cubes = np.array(found).reshape(-1, 2).T
        return squares, cubes

    def moments(self, terms: NullTerms, last: int = SLICES) -> NullMoments:
        """The null of the present windows, or of so many of their last slices."""
        squares, cubes = self._shared(last)
        seen = np.where(np.arange(SLICES) >= SLICES - last, self.seen, 0)
        return null_moments(terms, self.units, seen, squares, cubes)
