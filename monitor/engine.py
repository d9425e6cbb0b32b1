"""What event time drives: records -> slices -> references -> readings -> alerts, one step at each end of a slice.

Comes in: accepted records, and how far the watermark has come. Goes out: at every step the readings that are due for
the owner and the changes of alerts. Pure: all state leaves as packed pieces and comes back the same, so that a run that
was interrupted anywhere goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from monitor.calibration import FalseAlarmSettings
from monitor.model import Alert, AlertChange, AlertKey, Blob, Level, Reading, Scope, Scored, Signal, Verdict
from monitor.readings import LEAST_WINDOWS, Judge, Key, budget_of, key_of, learning_readings
from monitor.readings.levels import NOTHING, Measured, measure
from monitor.reference import Learning, ReferenceSettings, ScopeReference
from monitor.rules import LevelSettings, RuleSettings, next_deadline, selects, step
from monitor.settings import format_duration, format_time
from monitor.slices import OpenSlices, StreamSettings
from monitor.summaries import merged
from monitor.windows import SLICES, Contents, Rings, Slice


@dataclass(frozen=True, slots=True)
class Plan:
    """What is watched and how, as configured."""

    signals: Mapping[str, Signal]
    sizes: Sequence[int]
    """Window sizes in milliseconds, ascending."""
    streams: StreamSettings
    reference: ReferenceSettings
    false_alarms: FalseAlarmSettings
    matters: Mapping[str, float]
    rules: Sequence[RuleSettings]


@dataclass(frozen=True, slots=True)
class Step:
    """What one end of a slice brought."""

    at: int
    readings: Sequence[Reading]
    changes: Sequence[AlertChange]
    notices: Sequence[str]


@dataclass(slots=True)
class Engine:
    """All state that event time moves."""

    plan: Plan
    slices: OpenSlices = field(init=False)
    rings: Rings = field(init=False)
    judges: dict[int, Judge] = field(init=False)
    learning: dict[Scope, Learning] = field(default_factory=dict)
    references: dict[Scope, ScopeReference] = field(default_factory=dict)
    budget: dict[int, dict[bool, float]] = field(default_factory=dict)
    """Window size -> (is a segment's) -> threshold."""
    latest: dict[tuple[int, Key], Reading] = field(default_factory=dict)
    levels: dict[tuple[str, int, Scope, str], Level] = field(default_factory=dict)
    alerts: dict[AlertKey, Alert] = field(default_factory=dict)
    now: int | None = None
    """End of the last slice that was stepped over."""
    origin: int | None = None
    """Start of the first slice of all."""
    _written: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.slices = OpenSlices(self.plan.sizes[0] // SLICES, self.plan.signals, self.plan.streams)
        self.rings = Rings(self.plan.sizes)
        self.judges = {size: Judge(size, self.plan.matters) for size in self.plan.sizes}

    def add(self, records: Scored) -> dict[str, int]:
        """Add accepted records to the open slices; returns how many met which fate."""
        return self.slices.add(records)

    def close(self, upto: int, *, partial_from: int | None = None) -> Iterator[Step]:
        """Step over every end of a slice up to `upto`, in order, leaping where nothing can happen.

        Parameters
        ----------
        upto : the watermark
        partial_from : windows that end later than this are cut short by the end of the data

        """
        last = upto // self.slices.size * self.slices.size
        while (following := self._following(self.slices.oldest_end)) is not None and following <= last:
            closed = list(self.slices.close(following))
            self.now = following
            yield self._step(following, closed[0] if closed else None, partial_from)
        self.slices.pass_over(last)

    def _following(self, end: int | None) -> int | None:
        """The next end of a slice at which something can happen; `end` is that of the next slice with records."""
        length = self.slices.size
        if self.now is None:
            return end
        if not self.rings.empty:
            return self.now + length
        deadline = next_deadline(self.plan.rules, self.alerts, self.now)
        due = None if deadline is None else max(-(-deadline // length) * length, self.now + length)
        return min((time for time in (due, end) if time is not None), default=None)

    def _step(self, now: int, closed: Slice | None, partial_from: int | None) -> Step:
        if closed is not None:
            self.rings.push(closed)
            self._begin(closed)
        notices: list[str] = []
        ended = self.rings.step(now)
        for size, found in ended:
            self.judges[size].push(now, found)
            if found is not None:
                for learning in self.learning.values():
                    learning.take(size, found)
        for scope in [scope for scope, found in self.learning.items() if now >= self._learned_at(found)]:
            notices += self._freeze(scope, now)
        partial = partial_from is not None and now > partial_from
        due = [reading for size, _ in ended for reading in self._read(size, now, partial=partial)]
        self.alerts, changes = step(
            self.plan.rules, self.alerts, list(self.latest.values()), list(self.levels.values()), now
        )
        return Step(now, due, changes, notices)

    def _learned_at(self, learning: Learning) -> int:
        """The last end of a finest slice in the learning period."""
        return max(learning.end // self.slices.size * self.slices.size, learning.begin + self.slices.size)

    def _begin(self, closed: Slice) -> None:
        """Scopes that are seen for the first time begin to learn."""
        if self.origin is None:
            self.origin = closed.start
        for scope in closed.scopes:
            if scope not in self.learning and scope not in self.references:
                end = self.plan.reference.end(closed.start, self.origin)
                self.learning[scope] = Learning(scope, closed.start, end, self.plan.sizes)

    def _freeze(self, scope: Scope, now: int) -> list[str]:
        """A scope has learned: judge it by what it learned from now on."""
        reference = self.learning.pop(scope).freeze(self.plan.signals)
        self.references[scope] = reference
        name = scope.stream if scope.segment is None else f"{scope.stream}, {scope.segment}"
        notices = []
        for size in self.plan.sizes:
            length = size // SLICES
            if reference.slices[size] < LEAST_WINDOWS * SLICES:
                notices.append(
                    f"reference: {name} learned for {format_duration(max(reference.end - reference.begin, 0))} up to "
                    f"{format_time(reference.end)}, too short for a window of {format_duration(size)}: it needs "
                    f"{LEAST_WINDOWS} times the window; this window is not judged"
                )
                continue
            self.judges[size].join(reference, self.rings.window(size, now // length * length))
        self.budget = budget_of(self.plan.false_alarms, self._in_order(self.references), self.plan.sizes)
        return notices

    def _in_order(self, references: Mapping[Scope, ScopeReference]) -> list[ScopeReference]:
        return [references[scope] for scope in sorted(references, key=lambda scope: key_of(scope, ""))]

    def _read(self, size: int, now: int, *, partial: bool) -> list[Reading]:
        """Judge the windows of one size; returns the readings that are due for the owner."""
        window = self.rings.window(size, now)
        boundary = now % size == 0
        readings = self.judges[size].read(now, window, self.budget.get(size, {}), partial=partial)
        if boundary and self.learning:
            scopes = sorted(self.learning, key=lambda scope: key_of(scope, ""))
            readings += learning_readings(now, size, scopes, window)
        due = []
        for reading in readings:
            key = (size, key_of(reading.scope, reading.signal))
            if boundary or self._verdict(key) != reading.verdict:
                due.append(reading)
            self.latest[key] = reading
        self._measure_levels(size, now, window, partial=partial)
        wanted = {key_of(reading.scope, reading.signal) for reading in due if reading.verdict != "learning"}
        distances = self.judges[size].distances(window, wanted)
        return [
            msgspec.structs.replace(reading, distances=distances.get(key_of(reading.scope, reading.signal), {}))
            for reading in due
        ]

    def _verdict(self, key: tuple[int, Key]) -> Verdict | None:
        known = self.latest.get(key)
        return known.verdict if known else None

    def _measure_levels(self, size: int, now: int, window: Sequence[tuple[int, Slice]], *, partial: bool) -> None:
        """What level rules look at, for every scope and signal that they select, once the window is full.

        A window that the end of the data cuts short is not counted: it holds fewer records for no reason.
        """
        asked = [
            (rule, rule.on) for rule in self.plan.rules if isinstance(rule.on, LevelSettings) and rule.window == size
        ]
        asked = [(rule, on) for rule, on in asked if not (partial and on.value == "count")]
        for scope in self.known_scopes() if asked else ():
            if now - size < (self.learning.get(scope) or self.references[scope]).begin:
                continue
            parts = [found.scopes[scope] for _, found in window if scope in found.scopes]
            for rule, on in asked:
                for name in (*self.plan.signals, "volume"):
                    key = (rule.name, size, scope, name)
                    measured = self._measured(on, name, parts) if selects(rule, scope, name) else None
                    if measured is None and key in self.levels:  # it was there and is not any more
                        measured = (Measured(0.0, 0.0, 0.0) if on.value == "count" else NOTHING), 0
                    if measured is not None:
                        value, n = measured
                        self.levels[key] = Level(rule.name, now, size, scope.stream, scope.segment, name, *value, n)

    @staticmethod
    def _measured(on: LevelSettings, name: str, parts: Sequence[Contents]) -> tuple[Measured, int] | None:
        """What one signal of a window comes to, and from how many records; None where it has none."""
        if name == "volume":
            records = sum(part.records for part in parts)
            return (Measured(*([float(records)] * 3)), records) if on.value == "count" else None
        found = [part.summaries[name] for part in parts if name in part.summaries]
        if not found:
            return None
        summary = merged(found)
        return measure(summary, on.value, on.q), summary.n

    def known_scopes(self) -> list[Scope]:
        """Every stream and segment that was seen, in the order of readings."""
        return sorted({*self.learning, *self.references}, key=lambda scope: key_of(scope, ""))

    # ---- state ------------------------------------------------------------------------------------------------------

    def blobs(self) -> list[Blob]:
        """Packed state that has changed since the last call."""
        fixed: dict[tuple[str, str], Sequence[object]] = {}
        for size, found in self.rings.held():
            fixed["ring", f"{size}:{found.start}"] = (found,)
        for scope, learning in self.learning.items():
            for size, kept in learning.kept.items():
                for start in kept:
                    fixed["kept", _scope_key(scope, size, start)] = (learning, size, start)
        for scope, reference in self.references.items():
            fixed["reference", _scope_key(scope)] = (reference,)
        new = [Blob(*key, _pack(what)) for key, what in fixed.items() if key not in self._written]
        gone = [Blob(*key, None) for key in self._written - set(fixed)]
        self._written = set(fixed)
        return [*new, *gone, *self._moving()]

    def _moving(self) -> list[Blob]:
        """Packed state that changes with nearly every record or step."""
        learning = [found.dump() for found in self.learning.values()]
        return [
            Blob("engine", "slices", self.slices.dump()),
            Blob("engine", "time", msgspec.msgpack.encode((self.now, self.origin))),
            Blob("engine", "learning", msgspec.msgpack.encode(learning)),
            Blob("engine", "joined", msgspec.msgpack.encode(list(self.references))),
            Blob("engine", "latest", msgspec.msgpack.encode(list(self.latest.values()))),
            Blob("engine", "levels", msgspec.msgpack.encode(list(self.levels.values()))),
            Blob("engine", "alerts", msgspec.msgpack.encode(list(self.alerts.values()))),
            *(Blob("evidence", str(size), judge.rates.dump()) for size, judge in self.judges.items()),
        ]

    def restore(self, blobs: Sequence[tuple[str, str, bytes]]) -> None:
        """Put back what `blobs` gave over time, into a new engine of the same plan."""
        held = {(table, key): data for table, key, data in blobs}
        if ("engine", "time") not in held:
            return
        self.slices.restore(held["engine", "slices"])
        self.now, self.origin = msgspec.msgpack.decode(held["engine", "time"])
        for (table, key), data in held.items():
            if table == "ring":
                self.rings.restore(int(key.split(":")[0]), Slice.load(data))
        for packed in msgspec.msgpack.decode(held["engine", "learning"]):
            learning = Learning.load(packed, self.plan.sizes)
            self.learning[learning.scope] = learning
        for (table, key), data in held.items():
            if table == "kept":
                scope, size, start = _parse_scope_key(key)
                self.learning[scope].put_back(size, start, data)
        self._restore_references(held)
        for reading in msgspec.msgpack.decode(held["engine", "latest"], type=list[Reading]):
            self.latest[reading.window, key_of(reading.scope, reading.signal)] = reading
        for level in msgspec.msgpack.decode(held["engine", "levels"], type=list[Level]):
            self.levels[level.rule, level.window, Scope(level.stream, level.segment), level.signal] = level
        for alert in msgspec.msgpack.decode(held["engine", "alerts"], type=list[Alert]):
            self.alerts[alert.key] = alert
        self._written = {key for key in held if key[0] in {"ring", "kept", "reference"}}

    def _restore_references(self, held: Mapping[tuple[str, str], bytes]) -> None:
        """References join their judges in the order in which they did before."""
        for names in msgspec.msgpack.decode(held["engine", "joined"]):
            scope = Scope(*names)
            reference = ScopeReference.load(held["reference", _scope_key(scope)])
            self.references[scope] = reference
            for size in self.plan.sizes:
                length = size // SLICES
                if reference.slices[size] >= LEAST_WINDOWS * SLICES and self.now is not None:
                    self.judges[size].join(reference, self.rings.window(size, self.now // length * length))
        for size, judge in self.judges.items():
            judge.rates.restore(held["evidence", str(size)])
        if self.references:
            self.budget = budget_of(self.plan.false_alarms, self._in_order(self.references), self.plan.sizes)


def _pack(what: Sequence[object]) -> bytes:
    first = what[0]
    if isinstance(first, Slice | ScopeReference):
        return first.dump()
    if isinstance(first, Learning) and isinstance(what[1], int) and isinstance(what[2], int):
        return first.dump_kept(what[1], what[2])
    raise TypeError(f"nothing to pack in {type(first).__name__}")


def _scope_key(*parts: object) -> str:
    return msgspec.json.encode(parts).decode()


def _parse_scope_key(key: str) -> tuple[Scope, int, int]:
    scope, size, start = msgspec.json.decode(key)
    return Scope(*scope), size, start
