"""What two arms hold of one signal: the units of a slice in each bin, and the records of a window. Pure.

A session is one unit, though its records may lie in many slices: it counts in the first of them alone, by the mean of
its records there, if none of the eleven slices before held it in either arm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from monitor.model import Floats, Hashes, Ints, Scope, Signal
from monitor.summaries import SUMMARIES, AnySummary, Category, Counts, Numeric, Rate
from monitor.summaries.category import OTHER_KEY
from monitor.summaries.counts import SESSIONS
from monitor.windows import Slice

_ALL = 2**64 - 1


class Known(NamedTuple):
    """The sessions that some slices hold."""

    sessions: Hashes
    """Ascending, without repeats."""
    upto: int
    """Those of greater hash may be missing."""


NONE = Known(np.empty(0, np.uint64), _ALL)
"""No session."""


@dataclass(slots=True)
class SessionsBefore:
    """The sessions of slices, each looked for once."""

    _known: dict[tuple[int, Scope], Known] = field(default_factory=dict)
    """(Begin of a slice, scope) -> what it holds."""

    def of(self, slices: Sequence[Slice], scopes: Sequence[Scope]) -> Known:
        """The sessions of `scopes` in `slices`."""
        parts = [self._of(found, scope) for found in slices for scope in scopes if scope in found.scopes]
        return _together(parts)

    def forget(self, before: int) -> None:
        """Let slices go that begin before this."""
        self._known = {key: found for key, found in self._known.items() if key[0] >= before}

    def _of(self, found: Slice, scope: Scope) -> Known:
        key = found.start, scope
        if key not in self._known:
            cells = [part.cells for part in found.scopes[scope].summaries.values() if len(part.cells.session)]
            self._known[key] = _together([Known(part.session, _upto(part)) for part in cells])
        return self._known[key]


def _together(parts: Sequence[Known]) -> Known:
    if not any(len(part.sessions) for part in parts):
        return NONE
    return Known(np.unique(np.concatenate([part.sessions for part in parts])), min(part.upto for part in parts))


def _upto(cells: Counts) -> int:
    kept = cells.sessions()
    return _ALL if len(kept) < SESSIONS else int(kept[-1])


def units_by_bin(arms: Sequence[Counts], place: Callable[[Ints], Ints], bins: int, known: Known) -> list[Floats]:
    """Of one slice, units of each of two arms in each bin. Shape (bins,) each.

    Where not all sessions are kept, those up to one hash stand for the others, and records without a session weigh as
    much less, in both arms alike, so that their mixture is the same.

    Parameters
    ----------
    known : sessions of the slices before

    >>> one = Counts(np.array([0, 1]), np.array([3, 1]))  # four records without a session
    >>> [found.tolist() for found in units_by_bin([one, one], lambda keys: keys, 2, NONE)]
    [[3.0, 1.0], [3.0, 1.0]]
    """
    upto = min([known.upto, *(_upto(cells) for cells in arms if len(cells.session))])
    part = (upto + 1) / 2**64
    found = []
    for cells in arms:
        units = np.bincount(place(cells.keys), cells.counts, minlength=bins).astype(np.float64)
        if len(cells.session):
            inside = np.bincount(place(cells.inside_keys), cells.inside_counts, minlength=bins)
            sessions, means = cells.session_means(place, bins)
            at = np.minimum(np.searchsorted(known.sessions, sessions), max(len(known.sessions) - 1, 0))
            seen = known.sessions[at] == sessions if len(known.sessions) else np.zeros(len(sessions), np.bool_)
            units = (units - inside) * part + means[(sessions <= upto) & ~seen].sum(axis=0)
        else:
            units *= part
        found.append(units)
    return found


def common_place(arms: Sequence[AnySummary], place: Callable[[Ints], Ints]) -> Callable[[Ints], Ints]:
    """`place`, by which a value of a category that one of the arms may not hold by name is among all others in both."""
    capped = [part.cells.keys[-1] for part in arms if isinstance(part, Category) and not part.whole]
    if not capped:
        return place
    last = int(min(capped))
    return lambda keys: place(np.where(keys > last, OTHER_KEY, keys))


def records_of(signal: Signal, parts: Sequence[AnySummary]) -> AnySummary:
    """The sum of summaries without their sessions."""
    if not parts:
        return SUMMARIES[signal.kind].empty(signal)
    cells = [part.cells for part in parts]
    keys, row = np.unique(np.concatenate([one.keys for one in cells]), return_inverse=True)
    counts, weighted = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
    np.add.at(counts, row, np.concatenate([one.counts for one in cells]))
    if cells[0].sampled:
        np.add.at(weighted, row, np.concatenate([one.weighted for one in cells]))
    else:
        weighted = weighted[:0]
    together = Counts(keys, counts, weighted=weighted)
    first = parts[0]
    if isinstance(first, Category):
        names = {key: name for part in parts if isinstance(part, Category) for key, name in part.names.items()}
        return Category(together, {key: names[key] for key in keys.tolist() if key != OTHER_KEY})
    if isinstance(first, Numeric):
        return Numeric(first.scale, together)
    return Rate(together)
