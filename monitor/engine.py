"""What event time drives: records -> slices -> references -> readings -> alerts, one step at each end of a slice.

Comes in: accepted records, and how far the watermark has come. Goes out: at every step the readings that are due for
the owner and the changes of alerts. Pure: all state leaves as packed pieces and comes back the same, so that a run that
was interrupted anywhere goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from monitor.appearances import Appearances
from monitor.baselines import Baselines
from monitor.calibration import FalseAlarmSettings, Spending
from monitor.clusters import Codebook, embedding_of
from monitor.explain import Moved, explain, moved
from monitor.model import (
    Alert,
    AlertChange,
    AlertKey,
    Blob,
    Level,
    Pieces,
    Reading,
    Scope,
    Scored,
    Signal,
    Verdict,
    piece_key,
)
from monitor.readings import LEAST_WINDOWS, Judge, Key, budget_of, key_of, learning_readings, with_trend
from monitor.readings.arms import ArmTable
from monitor.readings.levels import NOTHING, Measured, measure
from monitor.readings.matters import matters
from monitor.readings.trends import Trend, goes_on
from monitor.reference import ReferenceSettings, ScopeReference, mismatch, remedy
from monitor.reference_file import ReferenceFile
from monitor.rolling import Rolling
from monitor.rules import LevelSettings, RuleSettings, joined, next_deadline, selects, step
from monitor.sampled import SampledSignals
from monitor.sampling import SAMPLE, Redact
from monitor.settings import format_duration, format_time
from monitor.slices import OpenSlices, StreamSettings
from monitor.summaries import AnySummary, merged
from monitor.windows import SLICES, Contents, Rings, Slice, further

_FIXED = {"ring", "codebook", "kept", "phase", "sampled", "reference", "block", "block_kept", "block_sampled", "arm"}
"""Tables of pieces that never change."""


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
    sampled: int = SAMPLE
    """Exchanges of a slice of a stream that sample signals are measured on."""
    file: ReferenceFile | None = None
    """What windows are held against where the reference is a file."""
    until: int | None = None
    """When every scope ends learning, for a reference that is made into a file."""


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
    samples: SampledSignals
    """What measures the signals of samples; what it makes is among the plan's signals."""
    redact: Redact
    """What text passes through before it is kept."""
    slices: OpenSlices = field(init=False)
    rings: Rings = field(init=False)
    baselines: Baselines = field(init=False)
    judges: dict[int, Judge] = field(init=False)
    rolling: Rolling | None = field(init=False)
    rolled: dict[int, Judge] = field(init=False)
    """What holds windows against the rolling reference as well."""
    arms: dict[int, ArmTable] = field(init=False)
    """Window size -> versions that run at the same time, held against each other."""
    budget: dict[int, dict[bool, float]] = field(default_factory=dict)
    """Window size -> (is a segment's) -> threshold."""
    spending: Spending = field(default_factory=Spending)
    latest: dict[tuple[int, Key, str], Reading] = field(default_factory=dict)
    """Window size, series and the baseline of an arm -> what was read last."""
    described: dict[tuple[int, Key], Mapping[str, float | None]] = field(default_factory=dict)
    """Window size and series -> distances of the last reading that was due since this process began."""
    levels: dict[tuple[str, int, Scope, str], Level] = field(default_factory=dict)
    alerts: dict[AlertKey, Alert] = field(default_factory=dict)
    appearances: Appearances = field(default_factory=Appearances)
    now: int | None = None
    """End of the last slice that was stepped over."""
    _written: set[tuple[str, str]] = field(default_factory=set)
    _packed: tuple[int | None] | None = None
    """At which `now` what changes with a step was packed last; None before."""

    def __post_init__(self) -> None:
        whole = {name: signal for name, signal in self.plan.signals.items() if not signal.sample}
        length = self.plan.sizes[0] // SLICES
        self.slices = OpenSlices(length, whole, self.plan.streams, self.plan.sampled, self.redact)
        self.rings = Rings(self.plan.sizes, further(self.plan.sizes))
        plan = self.plan
        self.baselines = Baselines(plan.reference, plan.sizes, plan.file, plan.until)
        self.rolling = Rolling.of(plan.reference, plan.sizes)
        self.judges, self.rolled = self._new_judges(), {}
        labels = () if plan.until is not None else plan.streams.compared
        self.arms = {size: ArmTable(size, labels, plan.signals, plan.matters) for size in plan.sizes}

    def _new_judges(self) -> dict[int, Judge]:
        return {size: Judge(size, self.plan.matters) for size in self.plan.sizes}

    def add(self, records: Scored) -> dict[str, int]:
        """Add accepted records to the open slices; returns how many met which fate."""
        return self.slices.add(records)

    def close(self, upto: int, *, partial_from: int | None = None, forced_from: int | None = None) -> Iterator[Step]:
        """Step over every end of a slice up to `upto`, in order, leaping where nothing can happen.

        Parameters
        ----------
        upto : the watermark
        partial_from : windows that end later than this are cut short by the end of the data
        forced_from : windows that end later than this were closed because time passed, not because records said so

        """
        last = upto // self.slices.size * self.slices.size
        while (following := self._following(self.slices.oldest_end)) is not None and following <= last:
            closed = [self._sampled(found) for found in self.slices.close(following)]
            self.now = following
            step = self._step(following, closed[0] if closed else None, partial_from)
            forced = forced_from is not None and following > forced_from
            yield replace(step, readings=[_forced(reading) for reading in step.readings]) if forced else step
        self.slices.pass_over(last)

    def _sampled(self, closed: Slice) -> Slice:
        """The slice with the signals of its samples."""
        return self.samples.measure(closed, self.slices.remarks)

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
        notices: list[str] = []
        come: list[Scope] = []
        if closed is not None:
            self.rings.push(closed)
            come = self._begin(closed, notices)
            notices += self.appearances.take(closed, self._known_values)
        ended = self.rings.step(now)
        for size, found in ended:
            self._take(size, found)
        for scope in come:
            for reference in self.baselines.come_forth(scope):
                notices += self._join(reference, self.judges, now)
        due = self.baselines.due(now)
        for part in due:
            frozen = self.baselines.freeze(part, self.plan.signals)
            notices += self._join(frozen, self.judges, now)
        judged = [size for size, _ in ended if size in self.judges]
        stepped = {size: self.arms[size].push(self.rings.window(size, now), now) for size in judged}
        if due or come or any(arms.changed for arms in stepped.values()):
            self._split_budget()
        for size, arms in stepped.items():
            if arms.weight:
                self.spending.add(now, size // SLICES, arms.weight * self.budget[size][True])
        if self.rolling is not None and self.rolling.step(now):
            self._roll(now)
        partial = partial_from is not None and now > partial_from
        readings = [reading for size in judged for reading in self._read(size, now, partial=partial)]
        before = self.alerts
        self.alerts, changes = step(
            self.plan.rules, self.alerts, list(self.latest.values()), list(self.levels.values()), now
        )
        told = [self._explained(change, joined(change, before.get(change.key))) for change in changes]
        return Step(now, readings, told, notices)

    def _begin(self, closed: Slice, notices: list[str]) -> list[Scope]:
        """Take in scopes seen for the first time; returns those that are not alone with their label any more."""
        if self.baselines.begun.keys() >= closed.scopes.keys():
            return []
        hidden, given = self.baselines.hidden(), self.baselines.begin(closed)
        for reference in given:  # nothing of it is in any window yet
            notices += self._join(reference, self.judges, None)
            if reference.begin < closed.end and closed.start < reference.end:
                notices.append(
                    f"reference: {reference.scope.words}: the file learned from {format_time(reference.begin)} to "
                    f"{format_time(reference.end)}; windows with a part of that time are not judged"
                )
        if given:
            self._split_budget()
        return sorted(hidden - self.baselines.hidden(), key=lambda scope: key_of(scope, ""))

    def _known_values(self, scope: Scope, signal: str) -> AnySummary | None:
        """What the reference holds of a signal of all records; a sample misses values that are rare."""
        part = self.judges[self.plan.sizes[0]].parts.get((scope, signal))
        return None if part is None or self.plan.signals[signal].sample else part.series[signal].summary

    def _take(self, size: int, found: Slice | None) -> None:
        """A slice of one size ended (None: it holds no records)."""
        for judges in (self.judges, self.rolled):
            if size in judges:
                judges[size].push(found)
        if found is not None:
            books = self.samples.clusters.books
            self.baselines.take(size, found, books)
            if self.rolling is not None:
                self.rolling.take(size, found, books)

    def _join(self, reference: ScopeReference, judges: Mapping[int, Judge], now: int | None) -> list[str]:
        """Hold windows against a reference from now on, with the slices that they hold already."""
        if not self.baselines.apart(reference.scope):
            return []
        notices, name = [], reference.scope.words
        if reference.too_short and reference.cycle is not None:
            notices.append(
                f"reference: {name} learned for {format_duration(max(reference.end - reference.begin, 0))} up to "
                f"{format_time(reference.end)}, which does not hold two periods of "
                f"{format_duration(reference.cycle.period)}; it is not judged"
            )
            return notices
        for size in self.plan.sizes:
            length = size // SLICES
            if reference.slices[size] < LEAST_WINDOWS * SLICES:
                notices.append(
                    f"reference: {name} learned for {format_duration(max(reference.end - reference.begin, 0))} up to "
                    f"{format_time(reference.end)}, too short for a window of {format_duration(size)}: it needs "
                    f"{LEAST_WINDOWS} times the window; this window is not judged"
                )
                continue
            judges[size].join(reference, [] if now is None else self.rings.window(size, now // length * length))
        if reference.unsteady:
            notices.append(f"reference: {name}: {_unsteady(reference)}")
        return notices

    def _roll(self, now: int) -> None:
        """The rolling reference has moved on: hold windows against it anew."""
        assert self.rolling is not None
        self.rolled = self._new_judges()
        books = self.samples.clusters.books
        for reference in self.rolling.references(self.plan.signals, self.baselines.began, books):
            self._join(reference, self.rolled, now)
        self._split_budget()

    def _split_budget(self) -> None:
        """Thresholds for the series that are alive."""
        second = {found.scope: found for judge in self.rolled.values() for found in judge.parts.values()}
        alive = [found for part, found in self.baselines.references.items() if self.baselines.apart(part.scope)]
        arms = set[tuple[Scope, str, str]]().union(*(table.alive() for table in self.arms.values()))
        self.budget = budget_of(self.plan.false_alarms, alive, self.plan.sizes, second.values(), arms)

    def _read(self, size: int, now: int, *, partial: bool) -> list[Reading]:
        """Judge the windows of one size; returns the readings that are due for the owner."""
        window = self.rings.window(size, now)
        boundary = now % size == 0
        readings = self._judged(size, now, window, partial=partial)
        if boundary:
            readings += self._learned(size, now, window)
        readings += self._compared(size, now, window)
        due = []
        for reading in readings:
            key = _latest_key(reading)
            if boundary or self._verdict(key) != reading.verdict:
                due.append(reading)
            self.latest[key] = reading
        self._measure_levels(size, now, window, partial=partial)
        return self._described(size, window, due)

    def _described(self, size: int, window: Sequence[tuple[int, Slice]], due: Sequence[Reading]) -> list[Reading]:
        """The readings with what describes them and decides nothing."""
        distances: dict[Key, dict[str, float | None]] = {}
        told: dict[Key, Reading] = {}
        trends: dict[Key, Trend] = {}
        for judge, rolls in ((self.judges[size], False), (self.rolled.get(size), True)):
            if judge is not None:
                asked = [
                    r for r in due if r.verdict != "learning" and not r.baseline and (r.against == "rolling") is rolls
                ]
                distances |= judge.distances(window, {key_of(reading.scope, reading.signal) for reading in asked})
                trends |= judge.trends(asked)
                for drift in (reading for reading in asked if reading.verdict == "drift"):
                    told[key_of(drift.scope, drift.signal)] = judge.told(drift, window, self.samples.clusters.books)
        found = []
        for reading in due:
            if reading.baseline:
                found.append(reading)
                continue
            key = key_of(reading.scope, reading.signal)
            self.described[size, key] = distances.get(key, {})
            more = msgspec.structs.replace(told.get(key, reading), distances=self.described[size, key])
            found.append(with_trend(more, trends.get(key)))
        return found

    def _compared(self, size: int, now: int, window: Sequence[tuple[int, Slice]]) -> list[Reading]:
        """Readings of arms; those of a pair that has ended are no longer the latest of anything."""
        alive = self.arms[size].alive()
        for key in [key for key, r in self.latest.items() if key[0] == size and r.baseline and _arm_of(r) not in alive]:
            del self.latest[key]
        return self.arms[size].read(now, window, self.budget[size][True]) if alive else []

    def _judged(self, size: int, now: int, window: Sequence[tuple[int, Slice]], *, partial: bool) -> list[Reading]:
        """Readings of the series whose window is full; of two references that of the graver verdict."""
        budget, begun = self.budget.get(size, {}), self.baselines.begun
        found = self.judges[size].read(now, window, budget, partial=partial)
        self._spend(size, now, found)
        if self.rolled:
            rolled = self.rolled[size].read(now, window, budget, partial=partial)
            self._spend(size, now, rolled)
            also = {(reading.scope, reading.signal): reading for reading in rolled}
            found = [_graver(reading, also.get((reading.scope, reading.signal))) for reading in found]
        return [reading for reading in found if reading.window_start >= begun[reading.scope]]

    def _spend(self, size: int, now: int, readings: Sequence[Reading]) -> None:
        """Each test, of whatever verdict, might have erred with the probability that it may spend."""
        tested = [reading.segment is not None for reading in readings if reading.p_value is not None]
        if tested:
            self.spending.add(now, size // SLICES, sum(self.budget[size][is_segment] for is_segment in tested))

    def _learned(self, size: int, now: int, window: Sequence[tuple[int, Slice]]) -> list[Reading]:
        """What is measured of the signals that are being learned."""
        parts = sorted(self.baselines.learning, key=lambda part: (key_of(part.scope, ""), part.number))
        return [
            reading
            for part in parts
            for reading in learning_readings(now, size, [part.scope], window)
            if self.baselines.learns(part, reading.signal)
        ]

    def _explained(self, change: AlertChange, new: Sequence[str]) -> AlertChange:
        """A change to pending or firing with what moved and where; `new` are the signals that joined by it."""
        if change.state not in {"pending", "firing"}:
            return change
        scope = Scope(change.stream, change.segment)
        together = [part for part in (self._moved(scope, signal) for signal in change.signals) if part is not None]
        if not together:
            return change
        signals = {part.reading.signal for part in together}
        elsewhere = [
            (reading, self._strength(reading))
            for reading in self.latest.values()
            if reading.stream == scope.stream and reading.segment != scope.segment and reading.signal in signals
        ]
        explanation = explain(together, elsewhere, joined=new, by_chance=self._by_chance(together))
        return msgspec.structs.replace(change, explanation=explanation)

    def _by_chance(self, together: Sequence[Moved]) -> float | None:
        """Milliseconds in which unchanged traffic shows as much once at most, as the budget allows at thresholds."""
        readings, allowed = [part.reading for part in together], self.plan.false_alarms
        rarest = max(((r.threshold or 0.0) / max(r.p_value or 1.0, 1e-300) for r in readings), default=0.0)
        return allowed.per / allowed.at_most * rarest if rarest >= 1 else None

    def _moved(self, scope: Scope, signal: str) -> Moved | None:
        """The window in which a signal of an alert moved most; None where none did."""
        drifted = [
            reading
            for reading in self.latest.values()
            if (reading.scope, reading.signal, reading.verdict) == (scope, signal, "drift")
        ]
        if not drifted:
            return None
        reading = max(drifted, key=lambda one: (self._strength(one), -one.window, one.baseline))
        window = self.rings.window(reading.window, reading.at)
        (reading,) = self._described(reading.window, window, [reading])
        before, parts = self._held_against(reading, window)
        since = reading.at - reading.window if reading.changed_at is None else min(reading.changed_at, reading.at - 1)
        samples = [s.samples[scope.stream] for _, s in window if scope.stream in s.samples and s.end > since]
        found = moved(reading, self._strength(reading), before, parts, samples, book=self._book(scope.stream, signal))
        if reading.baseline:
            return found
        ramp = self._judge_of(reading).trends([reading], strongest=True).get(key_of(scope, signal))
        return found if ramp is None or not goes_on(ramp, reading) else replace(found, ramp=ramp.words)

    def _book(self, stream: str, signal: str) -> Codebook | None:
        """The codebook of a signal of clusters."""
        vectors = embedding_of(signal)
        return None if vectors is None else self.samples.clusters.books.get((stream, vectors))

    def _held_against(
        self, reading: Reading, window: Sequence[tuple[int, Slice]]
    ) -> tuple[AnySummary | None, Sequence[AnySummary]]:
        """What a reading is held against, and what of the window."""
        if reading.baseline:
            return self.arms[reading.window].sides(reading, window) or (None, [])
        parts = [found.summary(reading.scope, reading.signal) for _, found in window]
        usual = self._judge_of(reading).usual(reading.scope, reading.signal, window)
        return usual, [part for part in parts if part is not None]

    def _judge_of(self, reading: Reading) -> Judge:
        """What held a window against the reference that a reading is of."""
        return (self.rolled if reading.against == "rolling" else self.judges)[reading.window]

    def _strength(self, reading: Reading) -> float:
        """Size of an effect in multiples of what matters."""
        signal = self.plan.signals.get(reading.signal, Signal(reading.signal, reading.kind))
        return abs(reading.effect or 0.0) / matters(signal, self.plan.matters, reading.reference_value)

    def _verdict(self, key: tuple[int, Key, str]) -> Verdict | None:
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
            if now - size < self.baselines.begun[scope]:
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
        return self.baselines.scopes()

    # ---- state ------------------------------------------------------------------------------------------------------

    def blobs(self) -> list[Blob]:
        """Packed state that has changed since the last call."""
        fixed: Pieces = {("ring", f"{size}:{found.start}"): found.dump for size, found in self.rings.held()}
        fixed |= self.baselines.pieces()
        fixed |= {("codebook", piece_key(*key)): book.dump for key, book in self.samples.clusters.books.items()}
        for table in self.arms.values():
            fixed |= table.pieces()
        if self.rolling is not None:
            fixed |= self.rolling.pieces(self.now)
        new = [Blob(*key, pack()) for key, pack in fixed.items() if key not in self._written]
        gone = [Blob(*key, None) for key in self._written - set(fixed)]
        self._written = set(fixed)
        return [*new, *gone, *self._moving()]

    def _moving(self) -> list[Blob]:
        """Packed state that changes with nearly every record; and with that of a step, where there was one since."""
        slices = Blob("engine", "slices", self.slices.dump())
        if self._packed == (self.now,):
            return [slices]
        self._packed = (self.now,)
        rolling = [] if self.rolling is None else [Blob("engine", "rolling", self.rolling.dump(self.now))]
        return [
            slices,
            *rolling,
            Blob("engine", "time", msgspec.msgpack.encode(self.now)),
            Blob("engine", "spending", msgspec.msgpack.encode(self.spending)),
            Blob("engine", "appearances", self.appearances.dump()),
            Blob("engine", "vectors", self.samples.clusters.dump_waiting()),
            Blob("engine", "baselines", self.baselines.dump()),
            Blob("engine", "latest", msgspec.msgpack.encode(list(self.latest.values()))),
            Blob("engine", "levels", msgspec.msgpack.encode(list(self.levels.values()))),
            Blob("engine", "alerts", msgspec.msgpack.encode(list(self.alerts.values()))),
            *(Blob("evidence", str(size), judge.dump()) for size, judge in self.judges.items()),
            *(Blob("evidence_rolling", str(size), judge.dump()) for size, judge in self.rolled.items()),
            *(Blob("evidence_arms", str(size), table.dump()) for size, table in self.arms.items()),
        ]

    def restore(self, blobs: Sequence[tuple[str, str, bytes]]) -> None:
        """Put back what `blobs` gave over time, into a new engine of the same plan."""
        held = {(table, key): data for table, key, data in blobs}
        if ("engine", "time") not in held:
            return
        self.slices.restore(held["engine", "slices"])
        self.now = msgspec.msgpack.decode(held["engine", "time"])
        self.appearances = Appearances.load(held["engine", "appearances"])
        self.spending = msgspec.msgpack.decode(held["engine", "spending"], type=Spending)
        for (table, key), data in held.items():
            if table == "ring":
                self.rings.restore(int(key.split(":")[0]), Slice.load(data))
            elif table == "codebook":
                stream, signal = msgspec.json.decode(key, type=tuple[str, str])
                self.samples.clusters.books[stream, signal] = Codebook.load(data)
        self.samples.clusters.restore_waiting(held["engine", "vectors"])
        self._restore_references(held)
        for reading in msgspec.msgpack.decode(held["engine", "latest"], type=list[Reading]):
            self.latest[_latest_key(reading)] = reading
        for level in msgspec.msgpack.decode(held["engine", "levels"], type=list[Level]):
            self.levels[level.rule, level.window, Scope(level.stream, level.segment), level.signal] = level
        for alert in msgspec.msgpack.decode(held["engine", "alerts"], type=list[Alert]):
            self.alerts[alert.key] = alert
        self._written = {key for key in held if key[0] in _FIXED}

    def _restore_references(self, held: Mapping[tuple[str, str], bytes]) -> None:
        """References join their judges in the order in which they did before."""
        self.baselines.restore(held, held["engine", "baselines"])
        for reference in self.baselines.all_ruling():
            problems = mismatch(reference, self.plan.signals)
            if problems:
                raise ValueError(f"what was learned does not fit what is measured now: {'; '.join(problems)}")
            self._join(reference, self.judges, self.now)
        if self.rolling is not None:
            self.rolling.restore(held, held["engine", "rolling"])
            if self.now is not None:
                self._roll(self.now)
        for table, judges in (("evidence", self.judges), ("evidence_rolling", self.rolled)):
            for size, judge in judges.items():
                judge.restore(held[table, str(size)])
        for size, arms in self.arms.items():
            arms.restore(held["evidence_arms", str(size)], held)
        if self.baselines.references or any(arms.series for arms in self.arms.values()):
            self._split_budget()


def _forced(reading: Reading) -> Reading:
    return msgspec.structs.replace(reading, forced=True)


def _latest_key(reading: Reading) -> tuple[int, Key, str]:
    return reading.window, key_of(reading.scope, reading.signal), reading.baseline


def _arm_of(reading: Reading) -> tuple[Scope, str, str]:
    """As in `ArmTable.alive`."""
    return reading.scope, reading.baseline, reading.signal


def _unsteady(reference: ScopeReference) -> str:
    """What is said of signals that were not steady, five by name; that which would know a cycle."""
    courses = list(reference.unsteady.items())
    named = ", ".join(f"{name} ({course})" for name, course in courses[:5]) + (" and others" if courses[5:] else "")
    cure = remedy([course for _, course in courses])
    known = f"; {cure} would know such a cycle" if cure else ""
    return f"not steady while it was learned, so that it tells little: {named}{known}"


def _graver(anchor: Reading, rolling: Reading | None) -> Reading:
    """The reading of a series that is held against two references: the rolling one's where none is graver."""
    if rolling is None or (anchor.verdict == "drift" != rolling.verdict):
        return msgspec.structs.replace(anchor, against="anchor")
    return msgspec.structs.replace(rolling, against="rolling")
