"""Another configuration over the same store: what goes on as it was, what begins anew, and what is refused.

Comes in: what a store was made with and what is wanted now, and the packed state of a run that has stopped. Goes out:
what of the state changes, to be written in one transaction with the new configuration; a run that goes on from there
needs no further word. A signal is known by its fingerprint: unchanged ones keep references, windows, evidence and
alerts, others learn from the first slice that has not begun. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from monitor.appearances import Appearances
from monitor.baselines import Baselines
from monitor.calibration import Spending
from monitor.clusters import Codebooks
from monitor.engine import Engine
from monitor.model import Alert, AlertChange, Blob, Level, Pieces, Reading, Scope, Scored, Signal, Transcripts
from monitor.readings import arms, without
from monitor.reference import PROMPT
from monitor.rolling import Rolling
from monitor.rules import taken_away
from monitor.sampled import SampledSignals
from monitor.sampling import Sample, redacted
from monitor.slices import OpenSlices
from monitor.windows import Contents, Slice

CONTENT = ("none", "redacted", "full")
"""How much of what was said is kept, the strictest first."""
_OF_RULE = ("signal", "on", "window", "stream", "segment")
"""What makes a rule another one, so that its alerts are not those of the one before."""
_LEARNED_BY = "what was learned, and what is open, is kept by it"
_REFUSED = {
    "streams.by": _LEARNED_BY,
    "streams.segments": _LEARNED_BY,
    "streams.arms": "versions are held against each other from where they began",
    "windows": "what was learned is of these windows",
    "reference": "what was learned was learned so",
}
"""Keys that a store cannot go on with where they change, and why."""
_CURE = "put back what was there, or give another store.path, where everything is learned anew"


class RefusedError(Exception):
    """A store cannot go on with a configuration; the message says why and what to do, a line for each key."""


@dataclass(frozen=True, slots=True)
class Made:
    """What decides the results of a run, as a store remembers it."""

    configuration: str
    """JSON of all settings that decide."""
    signals: Mapping[str, str]
    """Signal -> what tells whether it is measured as it was."""
    reference: str = ""
    """Of a reference that is a file its id."""


def fingerprints(signals: Mapping[str, Signal], sampled: int, content: str) -> dict[str, str]:
    """Signal -> what decides how it is measured.

    Those of samples are of so many exchanges of a slice, and of redacted text unless all is kept; so are names of
    categories.
    """
    found = {}
    for name, signal in sorted(signals.items()):
        parts: list[object] = [signal.kind, signal.scale, signal.fingerprint, signal.size]
        parts += [sampled] if signal.sample else []
        parts += ["full"] if content == "full" and (signal.sample or signal.kind == "category") else []
        found[name] = " ".join(map(str, parts)).strip()
    return found


@dataclass(frozen=True, slots=True)
class Changes:
    """How a configuration differs from the one before, and what that means."""

    keys: Sequence[str]
    """Of the configuration, with dots."""
    kept: Sequence[str]
    """Signals that go on as they were."""
    new: Sequence[str]
    changed: Sequence[str]
    """Signals that are measured otherwise."""
    gone: Sequence[str]
    rules: frozenset[str]
    """Names of the rules that are what they were."""
    stricter: bool
    """Whether less of what was said is kept."""

    @property
    def lost(self) -> frozenset[str]:
        """Signals of which nothing that is known counts any more."""
        return frozenset({*self.changed, *self.gone})

    @property
    def learning(self) -> frozenset[str]:
        """Signals that begin to learn."""
        return frozenset({*self.new, *self.changed})

    @property
    def words(self) -> str:
        """As it is told to a person."""
        parts = [f"kept: {len(self.kept)} signal{'s' * (len(self.kept) != 1)}"]
        parts += [f"learning anew: {', '.join(sorted(self.learning))}"] if self.learning else []
        parts += [f"gone: {', '.join(self.gone)}"] if self.gone else []
        return f"configuration changed: {', '.join(self.keys) or 'signals'}; {'; '.join(parts)}"


# ---- two configurations ---------------------------------------------------------------------------------------------


def compare(before: Made, after: Made, store: str) -> Changes:
    """How what is wanted differs from what a store was made with. Raises RefusedError, which names the store."""
    old, new = json.loads(before.configuration), json.loads(after.configuration)
    keys = list(_differing(old, new))
    problems = [
        f"{key}: {store} was made with {_shown(old, key)}, and it is {_shown(new, key)} now; {why}: {_CURE}"
        for key, why in _REFUSED.items()
        if any(changed == key or changed.startswith(f"{key}.") for changed in keys)
    ]
    if before.reference != after.reference and not problems:
        problems.append(
            f"reference.path: {store} was made with the reference {before.reference}, and it is {after.reference} now: "
            f"{_CURE}"
        )
    is_new, is_gone = after.signals.keys() - before.signals.keys(), before.signals.keys() - after.signals.keys()
    both = after.signals.keys() & before.signals.keys()
    changed = {name for name in both if after.signals[name] != before.signals[name]}
    if after.reference and (is_new or is_gone or changed) and not problems:
        problems.append(
            f"signals: {', '.join(sorted(is_new | is_gone | changed))}: not measured as in the reference "
            f"{after.reference}: {_CURE}"
        )
    if problems:
        raise RefusedError("\n".join(problems))
    rules_before, rules_after = _rules(old), _rules(new)
    content = [CONTENT.index(settings["content"]) for settings in (old, new)]
    return Changes(
        keys,
        sorted(both - changed),
        sorted(is_new),
        sorted(changed),
        sorted(is_gone),
        frozenset(name for name, rule in rules_after.items() if rules_before.get(name) == rule),
        stricter=content[1] < content[0],
    )


def _differing(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Keys, with dots, at which two configurations differ; lists are compared whole."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield path
        return
    for key in [*old, *(key for key in new if key not in old)]:
        yield from _differing(old.get(key), new.get(key), f"{path}.{key}" if path else key)


def _shown(settings: Any, key: str) -> str:
    """The value at a key, as it is written; of settings below it what is set."""
    for name in key.split("."):
        settings = settings.get(name, {})
    if isinstance(settings, dict):
        settings = {name: value for name, value in settings.items() if value is not None}
    return json.dumps(settings, ensure_ascii=False)


def _rules(settings: Mapping[str, Any]) -> dict[str, object]:
    """Rules by name, with what makes each of them another one; built-in ones are all alike."""
    own: dict[str, object] = {rule["name"]: [rule[key] for key in _OF_RULE] for rule in settings["rules"]}
    return {**dict.fromkeys(settings["built_in_rules"], "built in"), **own}


# ---- the state ------------------------------------------------------------------------------------------------------

Held = Mapping[tuple[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Carried:
    """What a new configuration changes of the state."""

    blobs: Sequence[Blob]
    changes: Sequence[AlertChange]
    alerts: Sequence[Alert]
    """Those that are live after it."""


def carry(state: Sequence[tuple[str, str, bytes]], changes: Changes, engine: Engine) -> Carried:
    """Fit packed state to another configuration.

    Parameters
    ----------
    state : (table, key, data) of all packed state of at least one commit
    engine : one of the new configuration, without any state

    """
    held = {(table, key): data for table, key, data in state}
    now = msgspec.msgpack.decode(held["engine", "time"], type=int | None)
    before = msgspec.msgpack.decode(held["engine", "alerts"], type=list[Alert])
    moved = [taken_away(alert, now or 0, changes.rules, changes.lost) for alert in before]
    alerts, rows = [alert for alert, _ in moved if alert is not None], [row for _, row in moved if row is not None]
    blobs = [Blob("engine", "alerts", msgspec.msgpack.encode(alerts)), *_latest(held, changes)]
    if any(key.startswith("false_alarms") for key in changes.keys):
        blobs.append(Blob("engine", "spending", msgspec.msgpack.encode(Spending())))
    if changes.lost or changes.learning or changes.stricter:
        blobs += [*_windows(held, changes, engine), *_waiting(held, changes, engine)]
    if changes.lost or changes.learning:
        blobs += _learned(held, changes, engine)
    if changes.lost:
        blobs += _evidence(held, changes)
    return Carried(blobs, rows, alerts)


def prove(state: Sequence[tuple[str, str, bytes]], carried: Carried, engine: Engine) -> None:
    """Go on from a state as it is carried, with nothing written yet. Raises ValueError where that cannot be."""
    held = {(table, key): data for table, key, data in state}
    after = held | {(blob.table, blob.key): blob.data for blob in carried.blobs}
    found = [(*key, data) for key, data in after.items() if data is not None]
    Engine(engine.plan, SampledSignals(), engine.redact).restore(found)


def _latest(held: Held, changes: Changes) -> Iterator[Blob]:
    """What was last read and measured, of signals and rules that go on."""
    latest = msgspec.msgpack.decode(held["engine", "latest"], type=list[Reading])
    yield _packed("latest", [reading for reading in latest if reading.signal not in changes.lost])
    levels = msgspec.msgpack.decode(held["engine", "levels"], type=list[Level])
    kept = [level for level in levels if level.rule in changes.rules and level.signal not in changes.lost]
    yield _packed("levels", kept)


def _packed(name: str, value: object) -> Blob:
    return Blob("engine", name, msgspec.msgpack.encode(value))


def _open_slices(held: Held, engine: Engine) -> OpenSlices:
    found = OpenSlices(engine.slices.size, {}, engine.plan.streams, engine.plan.sampled, engine.redact)
    found.restore(held["engine", "slices"])
    return found


def _windows(held: Held, changes: Changes, engine: Engine) -> Iterator[Blob]:
    """Slices, open and closed, without the signals that are lost, and with no more text than is to be kept."""
    lost, samples = changes.lost, engine.samples

    def contents(found: Contents) -> Contents:
        return found.without(lost)

    def candidates(found: Sample) -> Sample:
        """Of an open slice: what is to be measured yet."""
        if not samples.scorers:
            return Sample()
        return _as_is_kept(found, engine) if changes.stricter else found

    def kept(found: Sample) -> Sample:
        found = found.without(lost)
        if not changes.stricter:
            return found
        return _as_is_kept(found, engine) if samples.keeps_text else _silent(found)

    slices = _open_slices(held, engine)
    slices.rewrite(contents, lambda found: candidates(found.without(lost)))
    yield Blob("engine", "slices", slices.dump())
    if lost or changes.stricter:
        for (table, key), data in held.items():
            if table == "ring":
                yield Blob(table, key, Slice.load(data).rewritten(contents, kept).dump())


def _as_is_kept(found: Sample, engine: Engine) -> Sample:
    return replace(found, transcripts=redacted(found.transcripts, engine.redact))


def _silent(found: Sample) -> Sample:
    return replace(found, transcripts=Transcripts.load([[None] * len(found)] * 3))


def _waiting(held: Held, changes: Changes, engine: Engine) -> Iterator[Blob]:
    """Records that are not in any slice yet, with the columns of the new signals."""

    def fitted(packed: Any, *, said: bool) -> Any:
        if packed is None:
            return None
        found = Scored.load(packed).fitted(engine.slices.signals, changes.lost, said=said)
        if changes.stricter and found.transcripts is not None:
            found = replace(found, transcripts=redacted(found.transcripts, engine.redact))
        return found.dump()

    watermark, times = msgspec.msgpack.decode(held["pipeline", "times"])
    sampling = bool(engine.samples.scorers)
    fresh = [(*rest, fitted(packed, said=sampling)) for *rest, packed in times]
    yield Blob("pipeline", "times", msgspec.msgpack.encode((watermark, fresh)))
    if ("waiting", "") in held:
        events = fitted(msgspec.msgpack.decode(held["waiting", ""]), said=False)
        yield Blob("waiting", "", msgspec.msgpack.encode(events))


def _learned(held: Held, changes: Changes, engine: Engine) -> Iterator[Blob]:
    """References and what is being learned; new signals learn from behind the last slice that is open."""
    plan, slices = engine.plan, _open_slices(held, engine)
    exchanges = PROMPT in changes.lost | changes.learning  # those to come are of other clusters, or the first of any
    baselines = Baselines(plan.reference, plan.sizes)
    baselines.restore(held, held["engine", "baselines"])
    if changes.lost or exchanges:
        baselines.forget(changes.lost, exchanges=exchanges)
        yield from _pieces(held, baselines.pieces(), {"kept", "sampled", "phase", "reference"})
    baselines.learn(changes.learning, max(slices.newest or 0, slices.closed_upto or 0))
    yield Blob("engine", "baselines", baselines.dump())
    rolling = Rolling.of(plan.reference, plan.sizes)
    if rolling is not None:
        now = msgspec.msgpack.decode(held["engine", "time"], type=int | None)
        rolling.restore(held, held["engine", "rolling"])
        if changes.lost or exchanges:
            rolling.forget(changes.lost, exchanges=exchanges)
            yield from _pieces(held, rolling.pieces(now), {"block", "block_kept", "block_sampled"})
        yield Blob("engine", "rolling", rolling.dump(now))


def _pieces(held: Held, pieces: Pieces, tables: Collection[str]) -> Iterator[Blob]:
    """All pieces of some tables, in the place of those that are held."""
    for key, pack in pieces.items():
        yield Blob(*key, pack())
    for key in held:
        if key[0] in tables and key not in pieces:
            yield Blob(*key, None)


def _evidence(held: Held, changes: Changes) -> Iterator[Blob]:
    """What speaks for changes of signals that are lost, codebooks and names that were told of them."""
    lost, (_, begun, *_) = changes.lost, msgspec.msgpack.decode(held["engine", "baselines"])
    gone = {(Scope(*scope), signal) for scope, _ in begun for signal in lost}
    told = Appearances.load(held["engine", "appearances"])
    told.forget(lost)
    yield Blob("engine", "appearances", told.dump())
    books = Codebooks()
    books.restore_waiting(held["engine", "vectors"])
    books.forget(lost)
    yield Blob("engine", "vectors", books.dump_waiting())
    for (table, key), data in held.items():
        if table in {"evidence", "evidence_rolling"}:
            yield Blob(table, key, without(data, gone))
        elif table == "evidence_arms":
            yield Blob(table, key, arms.without(data, lost))
        elif table in {"arm", "codebook"} and msgspec.json.decode(key)[-1] in lost:
            yield Blob(table, key, None)
