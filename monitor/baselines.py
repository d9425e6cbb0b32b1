"""What every series is held against: learned at first, given by a file, or learned anew after its alert was accepted.

Comes in: closed slices, and what an owner accepts. Goes out: frozen references, each for the signals that it rules.
A scope has one reference at first; what is accepted is a further one, and takes its signals from those before it.
Pure: all state leaves as packed pieces and comes back the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, takewhile
from typing import NamedTuple

import msgspec

from monitor.calibration import Cycle
from monitor.clusters import NO_BOOKS, Books
from monitor.model import Pieces, Scope, Signal, piece_key
from monitor.reference import PROMPT, Learning, ReferenceSettings, ScopeReference
from monitor.reference_file import ReferenceFile
from monitor.windows import SLICES, Slice, scope_order


class Part(NamedTuple):
    """One reference of a scope: 0 is its first, 1, 2, ... are for signals that were learned anew."""

    scope: Scope
    number: int = 0


@dataclass(slots=True)
class Baselines:
    """The references of all scopes, and those that are being learned."""

    settings: ReferenceSettings
    sizes: Sequence[int]
    file: ReferenceFile | None = None
    """What scopes are held against that it has; others learn for as long as it did."""
    until: int | None = None
    """When every scope ends learning, whenever it was first seen: for a reference that is made into a file."""
    origin: int | None = None
    """Start of the first slice of all."""
    begun: dict[Scope, int] = field(default_factory=dict)
    """Start of the first slice of each scope."""
    learning: dict[Part, Learning] = field(default_factory=dict)
    references: dict[Part, ScopeReference] = field(default_factory=dict)
    """As frozen, in the order in which windows began to be held against them."""
    taken: dict[Part, frozenset[str]] = field(default_factory=dict)
    """Signals that a later part of the scope has taken over."""
    accepted: dict[str, frozenset[str]] = field(default_factory=dict)
    """Stream -> signals whose change was accepted for all of its segments, those to come among them."""

    def begin(self, closed: Slice) -> list[ScopeReference]:
        """Take in the scopes that are seen for the first time; returns what is held against from now on."""
        if self.origin is None:
            self.origin = closed.start
        given = []
        for scope in closed.scopes:
            if scope in self.begun:
                continue
            self.begun[scope] = closed.start
            known = None if self.file is None else self.file.scopes.get(scope)
            if known is not None:
                self.references[Part(scope)] = known
                self.relearn(scope, self.accepted.get(scope.stream, ()), closed.start)
                given.append(self.ruling(Part(scope)))
            elif self.until is None or closed.start < self.until:
                end = self._end(closed.start, self.origin)
                self.learning[Part(scope)] = Learning(scope, closed.start, end, self.sizes, cycle=self._cycle())
        return given

    def _cycle(self) -> Cycle | None:
        if self.file is not None:
            return self.file.cycle
        period = self.settings.period
        return None if period is None else Cycle.of(period, self.sizes[0] // SLICES)

    def _end(self, begin: int, origin: int) -> int:
        if self.until is not None:
            return self.until
        return self.settings.end(begin, origin) if self.file is None else begin + self.file.length

    def take(self, size: int, found: Slice, books: Books = NO_BOOKS) -> None:
        """Learn from a closed slice of one window size."""
        for part, learning in self.learning.items():
            learning.take(size, found, books.get((part.scope.stream, PROMPT)))

    def due(self, now: int) -> list[Part]:
        """What has learned by `now`: at the last end of a finest slice in its period."""
        length = self.sizes[0] // SLICES
        return [
            part
            for part, found in self.learning.items()
            if now >= max(found.end // length * length, found.begin + length)
        ]

    def freeze(self, part: Part, signals: Mapping[str, Signal]) -> ScopeReference:
        """A part has learned: what windows are held against from now on."""
        self.references[part] = self.learning.pop(part).freeze(signals)
        return self.ruling(part)

    def ruling(self, part: Part) -> ScopeReference:
        """A reference with those of its signals that no later one took over."""
        return self.references[part].without(self.taken.get(part, frozenset()))

    def apart(self, scope: Scope) -> bool:
        """Whether a scope has something of its own to say.

        A segment has not if it was the whole of its stream while that was learned, and no other value of its label was
        seen since.
        """
        own, whole = self.references.get(Part(scope)), self.references.get(Part(Scope(scope.stream)))
        if scope.segment is None or own is None or whole is None or not own.volume:
            return True
        label = scope.segment.partition("=")[0]
        values = {s.segment for s in self.begun if s.stream == scope.stream and s.segment is not None}
        alone = sum(value.partition("=")[0] == label for value in values) == 1
        return not (alone and (own.begin, own.end, own.volume) == (whole.begin, whole.end, whole.volume))

    def hidden(self) -> set[Scope]:
        """The scopes with a reference that have nothing of their own to say."""
        return {part.scope for part in self.references if not self.apart(part.scope)}

    def come_forth(self, scope: Scope) -> Iterator[ScopeReference]:
        """The references of a scope that was hidden: windows are held against them from now on, after all others."""
        for part in [part for part in self.references if part.scope == scope]:
            self.references[part] = self.references.pop(part)
            yield self.ruling(part)

    def all_ruling(self) -> Iterator[ScopeReference]:
        """All references with the signals that they rule, in the order in which they came."""
        return map(self.ruling, self.references)

    def learns(self, part: Part, signal: str) -> bool:
        """Whether a signal is being learned by this part."""
        only = self.learning[part].only
        return (only is None or signal in only) and signal not in self.taken.get(part, frozenset())

    def began(self, scope: Scope, signal: str) -> int | None:
        """Since when a signal is what it is held to be now; None where nothing is known of it."""
        part = self._ruler(scope, signal)
        if part is None:
            return None
        return self.begun[scope] if part.number == 0 else self._held(part).begin

    def scopes(self) -> list[Scope]:
        """Every stream and segment that was seen, in the order of readings."""
        return sorted(self.begun, key=lambda scope: scope_order((scope, None)))

    # ---- a new normal -----------------------------------------------------------------------------------------------

    def accept(self, of: Scope, signals: Collection[str], at: int) -> list[Scope]:
        """Learn signals anew from `at` on, of a segment or of a stream with all of its segments; returns which."""
        covered = [scope for scope in self.scopes() if of in {scope, Scope(scope.stream)}]
        for scope in covered:
            self.relearn(scope, signals, at)
        if of.segment is None:
            self.accepted[of.stream] = self.accepted.get(of.stream, frozenset()) | frozenset(signals)
        return covered

    def relearn(self, scope: Scope, signals: Collection[str], at: int) -> None:
        """Learn some signals of a scope anew, each for as long as it was learned.

        It begins with the first slice of the longest window, so that no slice of any size holds what was before.
        """
        coarsest = self.sizes[-1] // SLICES
        begin = -(-at // coarsest) * coarsest
        by_length: dict[tuple[int, Cycle | None], set[str]] = {}
        for name in sorted(signals):
            part = self._ruler(scope, name)
            if part is not None:
                found = self._held(part)
                by_length.setdefault((found.end - found.begin, found.cycle), set()).add(name)
                self.taken[part] = self.taken.get(part, frozenset()) | {name}
        for (length, cycle), names in sorted(by_length.items(), key=lambda found: found[0][0]):
            number = sum(1 for _ in self._parts(scope))
            learning = Learning(scope, begin, begin + length, self.sizes, only=frozenset(names), cycle=cycle)
            self.learning[Part(scope, number)] = learning

    # ---- other signals ----------------------------------------------------------------------------------------------

    def forget(self, signals: Collection[str], *, exchanges: bool = False) -> None:
        """Drop what was learned of some signals, and with `exchanges` those that were sampled while others learn.

        Later references that were of nothing else go, and those behind them take their numbers.
        """
        lost = frozenset(signals)
        for learning in self.learning.values():
            learning.forget(lost)
            learning.exchanges = None if exchanges else learning.exchanges
        for part, reference in self.references.items():
            left, sampled = reference.without(lost), reference.exchanges
            self.references[part] = replace(left, exchanges=None if sampled is None else sampled.without(lost))
        self.accepted = {stream: names - lost for stream, names in self.accepted.items() if names - lost}
        self.taken = {part: names - lost for part, names in self.taken.items()}
        number = {
            part: Part(scope, at)
            for scope in self.begun
            for at, part in enumerate([part for part in self._parts(scope) if part.number == 0 or self._is_of(part)])
        }
        self.learning = {number[part]: found for part, found in self.learning.items() if part in number}
        self.references = {number[part]: found for part, found in self.references.items() if part in number}
        self.taken = {number[part]: names for part, names in self.taken.items() if part in number and names}

    def _is_of(self, part: Part) -> bool:
        """Whether a part is of any signal, be it one that a later part has taken over."""
        held = self._held(part)
        return bool(held.signals if isinstance(held, ScopeReference) else held.only)

    def learn(self, signals: Collection[str], at: int) -> None:
        """Learn signals that are new from `at` on, in every scope for as long as it learned the others."""
        coarsest = self.sizes[-1] // SLICES
        begin, only = -(-at // coarsest) * coarsest, frozenset(signals)
        for scope in self.begun if only else ():
            parts = list(self._parts(scope))
            for part in parts:
                if part in self.learning and self.learning[part].only is None:  # it would learn them as well, for less
                    self.taken[part] = self.taken.get(part, frozenset()) | only
            if parts:
                first = self._held(parts[0])
                end = begin + first.end - first.begin
                learning = Learning(scope, begin, end, self.sizes, only=only, cycle=first.cycle)
                self.learning[Part(scope, len(parts))] = learning

    def _ruler(self, scope: Scope, signal: str) -> Part | None:
        """The part that a signal is held against, or learned by."""
        for part in self._parts(scope):
            if part in self.learning:
                if self.learns(part, signal):
                    return part
            elif signal in self.references[part].signals and signal not in self.taken.get(part, frozenset()):
                return part
        return None

    def _parts(self, scope: Scope) -> Iterator[Part]:
        parts = (Part(scope, number) for number in count())
        return takewhile(lambda part: part in self.references or part in self.learning, parts)

    def _held(self, part: Part) -> Learning | ScopeReference:
        return self.learning.get(part) or self.references[part]

    # ---- state ------------------------------------------------------------------------------------------------------

    def pieces(self) -> Pieces:
        """Packed state that never changes: references, and slices and phases that are kept of what is being learned."""
        found: Pieces = {}
        for part, learning in self.learning.items():
            for size, kept in learning.kept.items():
                for start in kept:
                    found["kept", piece_key(*part, size, start)] = partial(learning.dump_kept, size, start)
            if learning.exchanges is not None:
                found["sampled", piece_key(*part, learning.added)] = learning.dump_exchanges
            for size, sums in learning.phases.items():
                for phase, times, dump in sums.pieces():
                    found["phase", piece_key(*part, size, phase, times)] = dump
        for part, reference in self.references.items():
            found["reference", piece_key(*part)] = reference.dump
        return found

    def dump(self) -> bytes:
        """The rest, packed."""
        learning = [(part.number, found.dump()) for part, found in self.learning.items()]
        taken = [(part, sorted(names)) for part, names in self.taken.items()]
        accepted = {stream: sorted(names) for stream, names in self.accepted.items()}
        begun = list(self.begun.items())
        return msgspec.msgpack.encode((self.origin, begun, learning, list(self.references), taken, accepted))

    def restore(self, held: Mapping[tuple[str, str], bytes], data: bytes) -> None:
        """The inverse of `pieces` and `dump`."""
        self.origin, begun, learning, references, taken, accepted = msgspec.msgpack.decode(data)
        self.begun = {Scope(*scope): start for scope, start in begun}
        for number, packed in learning:
            found = Learning.load(packed, self.sizes)
            self.learning[Part(found.scope, number)] = found
        for (table, key), piece in held.items():
            if table == "kept":
                scope, number, size, start = msgspec.json.decode(key)
                self.learning[Part(Scope(*scope), number)].put_back(size, start, piece)
            elif table == "sampled":
                scope, number, added = msgspec.json.decode(key)
                self.learning[Part(Scope(*scope), number)].put_exchanges(added, piece)
            elif table == "phase":
                scope, number, size, phase, times = msgspec.json.decode(key)
                self.learning[Part(Scope(*scope), number)].phases[size].put_back(phase, times, piece)
        for scope, number in references:
            part = Part(Scope(*scope), number)
            self.references[part] = ScopeReference.load(held["reference", piece_key(*part)])
        self.taken = {Part(Scope(*scope), number): frozenset(names) for (scope, number), names in taken}
        self.accepted = {stream: frozenset(names) for stream, names in accepted.items()}
