"""The reference: what normal looks like for each stream and segment, learned from its own first slices.

Comes in: closed slices. Goes out: for every signal one full summary and, for every window size, the slices that tell
how much windows differ when nothing changes. What is frozen never changes. Pure: the caller says how far time has come.
"""

from monitor.reference.course import remedy
from monitor.reference.exchanges import EXCHANGES, KIND, PROMPT, Exchanges, sampled
from monitor.reference.learning import BLOCKS, RUNS, VECTORS, Learning, kept_starts
from monitor.reference.series import (
    BINS,
    KEPT,
    ScopeReference,
    SeriesReference,
    VectorNull,
    coarse_cells,
    differing,
    mismatch,
    never_logged,
    place_keys,
)
from monitor.reference.settings import ReferenceSettings
from monitor.reference.steady import UNSTEADY, cut

__all__ = [
    "BINS",
    "BLOCKS",
    "EXCHANGES",
    "KEPT",
    "KIND",
    "PROMPT",
    "RUNS",
    "UNSTEADY",
    "VECTORS",
    "Exchanges",
    "Learning",
    "ReferenceSettings",
    "ScopeReference",
    "SeriesReference",
    "VectorNull",
    "coarse_cells",
    "cut",
    "differing",
    "kept_starts",
    "mismatch",
    "never_logged",
    "place_keys",
    "remedy",
    "sampled",
]
