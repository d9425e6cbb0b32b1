"""Laws of readings: what a stream comes to depends on its records alone, not on batches, names, units or the date.

Each law is a function of two ways to the same; beside it stands a planted fault that it must notice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from monitor import slices
from monitor.calibration import FalseAlarmSettings
from monitor.engine import Engine, Plan, Step
from monitor.model import Categories, Column, Hashes, Ints, Reading, Scope, Scored, Signal, Vectors
from monitor.readings import Judge, watched
from monitor.readings.shares import ShareTable
from monitor.reference import Learning, ReferenceSettings
from monitor.rules import RuleSettings
from monitor.sampled import SampledSignals
from monitor.settings import SECOND
from monitor.slices import StreamSettings
from monitor.summaries import AnySummary, Rate, summarise
from monitor.summaries.numeric import grid_keys, grid_values
from monitor.windows import SLICES, Contents, Slice, add_contents
from tests.replay.logs import config, lines, make_log, replay, same, write

SIGNALS = {
    signal.name: signal
    for signal in (
        Signal("latency", "numeric"),
        Signal("score", "numeric", "unit"),
        Signal("reason", "category"),
        Signal("error", "rate"),
    )
}
VECTOR = Signal("embedding", "vector", sample=True, fingerprint="m", size=6)
SIZES = (12 * SECOND, 24 * SECOND)
LEARNED, CHANGED, END = 144, 174, 204
"""Seconds."""
NAMES = tuple(f"value {i}" for i in range(9))
CELL = float(np.log(1.02))
FEW = settings(max_examples=2, deadline=None, derandomize=True, phases=[Phase.generate])  # each takes seconds


# ---- the records ----------------------------------------------------------------------------------------------------


def records(seed: int = 0, *, each: int = 60) -> Scored:
    """`each` records a second of one stream, of two tenants; all signals change at second 174."""
    rng, n = np.random.default_rng(seed), each * END
    ts = np.sort(rng.integers(0, END * SECOND, n))
    moved = ts >= CHANGED * SECOND
    reason = np.where(
        moved & (rng.random(n) < 0.2), 8, rng.choice(9, n, p=[0.4, 0.3, 0.1, 0.1, 0.06, 0.02, 0.01, 0.005, 0.005])
    )
    latency = rng.lognormal(np.where(moved, 0.3, 0.0), 0.7)
    sessions = rng.integers(1, n // 3, n).astype(np.uint64)
    return Scored(
        ts=ts,
        id_hash=np.arange(n, dtype=np.uint64),
        content_hash=np.arange(n, dtype=np.uint64),
        session_hash=np.where(rng.random(n) < 0.4, sessions, 0).astype(np.uint64),
        user_hash=np.zeros(n, np.uint64),
        of_hash=np.zeros(n, np.uint64),
        feedback_event=np.zeros(n, np.bool_),
        stream=Categories(["bot"], np.zeros(n, np.int32)),
        segments={"tenant": Categories(["a", "b"], (rng.random(n) < 0.3).astype(np.int32))},
        values={
            "latency": latency,
            "score": rng.beta(2, np.where(moved, 3.7, 5)),
            "reason": Categories(NAMES, reason.astype(np.int32)),
            "error": (rng.random(n) < np.where(moved, 0.2, 0.04)).astype(np.float64),
        },
    )


def engine() -> Engine:
    plan = Plan(
        SIGNALS,
        SIZES,
        StreamSettings(segments=("tenant",)),
        ReferenceSettings(size=f"{LEARNED}s"),
        FalseAlarmSettings(),
        {},
        [RuleSettings(name="AnyDrift", signal=("*",), on="drift")],
    )
    return Engine(plan, SampledSignals(), list)


def run(parts: Sequence[tuple[Sequence[Scored], int]]) -> list[Step]:
    """Add the batches of each part, then close what ended by its time (milliseconds)."""
    watched, steps = engine(), list[Step]()
    for batches, upto in parts:
        for batch in batches:
            watched.add(batch)
        steps += watched.close(upto)
    return steps


def at_once(log: Scored) -> list[Step]:
    return run([([log], int(log.ts.max()) + SIZES[-1])])


@pytest.fixture(scope="module")
def log() -> Scored:
    return records()


@pytest.fixture(scope="module")
def whole(log: Scored) -> list[Step]:
    """What the log comes to, all of it added at once."""
    return at_once(log)


def test_the_log_of_these_laws_has_something_to_find(whole: list[Step]) -> None:
    readings = [reading for step in whole for reading in step.readings]
    drifted = {(reading.signal, reading.segment, reading.window) for reading in readings if reading.verdict == "drift"}
    assert {(name, None, size) for name in SIGNALS for size in SIZES} <= drifted
    assert {"learning", "insufficient", "ok"} <= {reading.verdict for reading in readings}
    assert any(change.state == "firing" and change.segment for step in whole for change in step.changes)


# ---- batches and their order ----------------------------------------------------------------------------------------


def law_of_batches(log: Scored, whole: Sequence[Step], seed: int) -> None:
    """In any batches, in any order among records of open slices, closed whenever."""
    rng = np.random.default_rng(seed)
    ends = np.unique(np.append(rng.integers(1, END, rng.integers(1, 60)), END + 24)) * SECOND
    parts = []
    for begin, end in pairwise([0, *ends.tolist()]):
        rows = rng.permutation(np.flatnonzero((log.ts >= begin) & (log.ts < end)))
        cuts = np.sort(rng.integers(0, len(rows) + 1, rng.integers(0, 5)))
        parts.append(([log.take(part) for part in np.split(rows, cuts) if len(part)], end))
    found = [step for step in run(parts) if step.at <= whole[-1].at]
    for one, other in zip(found, whole, strict=True):
        assert one == other


@FEW
@given(seed=st.integers(0, 2**32))
def test_any_batches_in_any_order_give_the_same(log: Scored, whole: list[Step], seed: int) -> None:
    law_of_batches(log, whole, seed)


def test_the_law_of_batches_notices_records_that_are_lost(
    log: Scored, whole: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small batch loses the record in its middle."""

    def lossy(signal: Signal, values: Column, groups: Ints, number: int, session: Hashes) -> list[AnySummary]:
        kept = np.arange(len(groups)) != len(groups) // 2 if len(groups) < 40 else np.ones(len(groups), np.bool_)
        values = values.take(kept) if isinstance(values, Categories) else values[kept]
        return summarise(signal, values, groups[kept], number, session[kept])

    monkeypatch.setattr(slices, "summarise", lossy)
    with pytest.raises(AssertionError):
        law_of_batches(log, whole, 0)


# ---- the order in which summaries are merged ------------------------------------------------------------------------

BOT = Scope("bot")
WIDTH = SIZES[0] // SLICES
Tree = Callable[[list[Contents], np.random.Generator], Contents]


def parts_of(number: int, rng: np.random.Generator, shards: int) -> list[Contents]:
    """Contents of a slice, its records dealt to shards; none of a shard without records."""
    n = int(rng.poisson(50))
    moved = number >= 96
    columns: dict[str, Column] = {
        "latency": rng.lognormal(0.4 * moved, 0.7, n),
        "score": rng.beta(2, 5 - moved, n),
        "reason": Categories(NAMES, np.minimum(rng.geometric(0.3 if moved else 0.4, n) - 1, 8).astype(np.int32)),
        "error": (rng.random(n) < (0.3 if moved else 0.05)).astype(np.float64),
        "embedding": _vectors(rng, n, moved=moved),
    }
    session = np.where(rng.random(n) < 0.5, rng.integers(1, 12, n) + 100 * number, 0).astype(np.uint64)
    order, shard = rng.integers(1, 2**63, n).astype(np.uint64), rng.integers(0, shards, n)
    dealt: dict[str, list[AnySummary]] = {
        name: summarise(signal, columns[name], shard, shards, session) for name, signal in SIGNALS.items()
    }
    alone = np.zeros(n, np.uint64)  # a sample is one of a whole slice: its sessions lie in no two of them
    dealt["embedding"] = summarise(VECTOR, columns["embedding"], shard, shards, alone, np.ones(shards), order)
    held = np.bincount(shard, minlength=shards).tolist()
    return [Contents(held[i], {name: found[i] for name, found in dealt.items()}) for i in range(shards) if held[i]]


def _vectors(rng: np.random.Generator, n: int, *, moved: bool) -> Vectors:
    x = rng.normal(size=(n, 6)) + np.where(rng.random(n) < (0.8 if moved else 0.3), 2, 0)[:, None]
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def any_tree(parts: list[Contents], rng: np.random.Generator) -> Contents:
    """Any few of what is there are added, until one is left."""
    parts = [parts[i] for i in rng.permutation(len(parts))]
    while len(parts) > 1:
        few = int(rng.integers(2, len(parts) + 1))
        parts = [*parts[few:], add_contents(parts[:few])]
        parts = [parts[i] for i in rng.permutation(len(parts))]
    return parts[0]


def judged(seed: int, shards: int, tree: Tree) -> tuple[list[Reading], bytes]:
    """Readings of the windows behind a reference of 72 slices, and the evidence in the end."""
    order, learning, judge = np.random.default_rng(seed), Learning(BOT, 0, 72 * WIDTH, [SIZES[0]]), Judge(SIZES[0], {})
    ring: list[Slice] = []
    readings: list[Reading] = []
    for number in range(120):
        rng = np.random.default_rng([seed, number])
        contents = tree(parts_of(number, rng, shards), order)
        found = Slice(number * WIDTH, (number + 1) * WIDTH, {BOT: contents})
        if number < 72:
            learning.take(SIZES[0], found)
            continue
        if number == 72:
            judge.join(learning.freeze({**SIGNALS, VECTOR.name: VECTOR}), [])
        judge.push(found)
        ring = [*ring, found][-SLICES:]
        if number % 7 == 0 and len(ring) == SLICES:
            window = list(enumerate(ring))
            readings += judge.read(found.end, window, {False: 1e-5}, partial=False)
            for key, distances in judge.distances(
                window, {("bot", "", name) for name in (*SIGNALS, "embedding")}
            ).items():
                readings.append(msgspec.structs.replace(readings[-1], signal=key[2], distances=distances))
    return readings, judge.dump()


def law_of_merging(seed: int, shards: int, tree: Tree = any_tree) -> None:
    """Summaries of parts of a slice, added in any order and in any tree, are read as their sum."""
    found, evidence = judged(seed, shards, tree)
    expected, as_one = judged(seed, shards, lambda parts, _: add_contents(parts))
    assert {r.verdict for r in expected} >= {"drift", "insufficient"}
    for one, other in zip(found, expected, strict=True):
        assert one == other
    assert evidence == as_one


@FEW
@given(seed=st.integers(0, 2**32), shards=st.sampled_from([2, 7, 40]))
def test_summaries_merged_in_any_order_are_read_alike(seed: int, shards: int) -> None:
    law_of_merging(seed, shards)


def keeps_the_heavier(parts: list[Contents], rng: np.random.Generator) -> Contents:
    """A tree that loses a part."""
    return any_tree(sorted(parts, key=lambda part: part.records)[-6:], rng)


def counts_sessions_twice(parts: list[Contents], rng: np.random.Generator) -> Contents:
    """A session that lies in two parts becomes two."""
    renamed = []
    for i, part in enumerate(parts):
        error = part.summaries["error"]
        cells = replace(error.cells, session=error.cells.session + np.uint64(1_000_000 * i))
        renamed.append(Contents(part.records, {**part.summaries, "error": Rate(cells)}))
    return any_tree(renamed, rng)


@pytest.mark.parametrize("tree", [keeps_the_heavier, counts_sessions_twice])
def test_the_law_of_merging_notices_a_wrong_sum(tree: Tree) -> None:
    with pytest.raises(AssertionError):
        law_of_merging(0, 7, tree)


# ---- names and the date ---------------------------------------------------------------------------------------------


def with_names(log: Scored, rename: Callable[[str], str]) -> Scored:
    """The same records of another stream, of other tenants, with other values of the category."""

    def renamed(column: Categories) -> Categories:
        return Categories([rename(name) for name in column.names], column.codes)

    reason = log.values["reason"]
    assert isinstance(reason, Categories)
    segments = {label: renamed(column) for label, column in log.segments.items()}
    return replace(log, stream=renamed(log.stream), segments=segments, values={**log.values, "reason": renamed(reason)})


def law_of_names(log: Scored, whole: Sequence[Step], rename: Callable[[str], str]) -> None:
    """Names say nothing: p-values are equal but for the order in which shares are added up.

    Not so with sessions: which of the records without one stand for all in the covariance of units goes by key.
    """
    back = {rename(name): name for name in (*NAMES, "bot", "a", "b")}

    def labelled(segment: str) -> str:
        label, _, value = segment.partition("=")
        return f"{label}={back[value]}" if value in back else segment

    def named(reading: Reading) -> Reading:
        return msgspec.structs.replace(
            reading,
            stream=back[reading.stream],
            segment=labelled(reading.segment) if reading.segment else None,
            mostly=labelled(reading.mostly),
            moved=back.get(reading.moved, reading.moved),
        )

    found = at_once(with_names(log, rename))
    assert [step.at for step in found] == [step.at for step in whole]
    for one, other in zip(found, whole, strict=True):
        here = {(r.window, r.segment, r.signal): r for r in map(named, one.readings)}
        there = {(r.window, r.segment, r.signal): r for r in other.readings}
        assert here.keys() == there.keys()
        for key, reading in here.items():
            alike(reading, there[key])
        assert sorted((c.rule, c.state) for c in one.changes) == sorted((c.rule, c.state) for c in other.changes)


def alike(one: Reading, other: Reading) -> None:
    """Equal but for how sums were rounded."""
    here, there = msgspec.to_builtins(one), msgspec.to_builtins(other)
    here, there = ({**fields.pop("distances"), **fields} for fields in (here, there))
    assert here.keys() == there.keys()
    for name, value in here.items():
        assert value == (pytest.approx(there[name], rel=1e-9, abs=1e-12) if isinstance(value, float) else there[name])


@pytest.fixture(scope="module")
def loose(log: Scored) -> Scored:
    """The same records, no two of a session."""
    return replace(log, session_hash=np.zeros_like(log.session_hash))


@pytest.fixture(scope="module")
def of_loose(loose: Scored) -> list[Step]:
    return at_once(loose)


@FEW
@given(salt=st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8))
def test_names_of_values_tenants_and_streams_say_nothing(loose: Scored, of_loose: list[Step], salt: str) -> None:
    law_of_names(loose, of_loose, lambda name: f"{salt} {name[::-1]}")


def test_the_law_of_names_notices_values_that_are_watched_by_their_hash(
    loose: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that are frequent enough the first two are watched by themselves, not the two most frequent ones."""
    monkeypatch.setattr(watched, "_VALUES", 2)
    sound = np.argsort
    monkeypatch.setattr(np, "argsort", lambda a, **k: np.arange(len(a)) if k == {"kind": "stable"} else sound(a, **k))
    with pytest.raises(AssertionError):
        law_of_names(loose, at_once(loose), lambda name: f"x {name[::-1]}")


def law_of_dates(log: Scored, whole: Sequence[Step], windows: int) -> None:
    """Later by whole windows of the greatest size, all is the same but the times."""
    later = windows * SIZES[-1]
    found = at_once(replace(log, ts=log.ts + later))
    for one, other in zip(found, whole, strict=True):
        assert one.at == other.at + later
        for here, there in zip(one.readings, other.readings, strict=True):
            changed_at = None if there.changed_at is None else there.changed_at + later
            times = {"at": there.at + later, "window_start": there.window_start + later, "changed_at": changed_at}
            assert here == msgspec.structs.replace(there, **times)
        assert [(c.rule, c.state, c.segment, c.signals) for c in one.changes] == [
            (c.rule, c.state, c.segment, c.signals) for c in other.changes
        ]


@FEW
@given(windows=st.integers(1, 10**8))
def test_the_date_says_nothing(log: Scored, whole: list[Step], windows: int) -> None:
    law_of_dates(log, whole, windows)


def test_the_law_of_dates_notices_evidence_that_begins_at_round_times(
    log: Scored, whole: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = ShareTable.push

    def forgetful(self: ShareTable, found: Slice | None) -> None:
        if found is not None and found.start % (100 * SECOND) == 0:
            self.evidence.restart(np.arange(len(self.evidence.log_sum)))
        sound(self, found)

    monkeypatch.setattr(ShareTable, "push", forgetful)
    with pytest.raises(AssertionError):
        law_of_dates(log, whole, 2)


# ---- units of measure -----------------------------------------------------------------------------------------------


def times(log: Scored, factor: float) -> Scored:
    """The same amounts in another unit."""
    latency = log.values["latency"]
    assert isinstance(latency, np.ndarray)
    return replace(log, values={**log.values, "latency": latency * factor})


def of_latency(steps: Sequence[Step]) -> dict[tuple[int, int, str | None], Reading]:
    found = [reading for step in steps for reading in step.readings if reading.signal == "latency"]
    return {(reading.at, reading.window, reading.segment): reading for reading in found}


def law_of_units(log: Scored, whole: Sequence[Step], factor: float, cells: float) -> None:
    """An amount in another unit: relative changes within so many cells of the grid, p-values accordingly.

    Where that is more than none the edges of cells fall elsewhere among the values, so that each quantile of reference
    and window is off by up to one, and verdicts are equal unless what they follow from is as near to what decides.
    """
    here, there = of_latency(at_once(times(log, factor))), of_latency(whole)
    written = {key for key in here.keys() & there.keys() if key[0] % key[1] == 0}
    assert len(written) >= 10
    for key in written:
        one, other = here[key], there[key]
        assert (one.n, one.units, one.effect is None) == (other.n, other.units, other.effect is None)
        if one.effect is None or other.effect is None:
            continue
        assert abs(np.log1p(abs(one.effect)) - np.log1p(abs(other.effect))) <= cells * CELL + 1e-9
        assert abs(log_p(one) - log_p(other)) <= slack(other, cells)
        if not near(other, cells):
            assert one.verdict == other.verdict


def log_p(reading: Reading) -> float:
    assert reading.p_value is not None
    return float(np.log(reading.p_value))


def slack(reading: Reading, cells: float) -> float:
    return cells * (0.25 - 0.08 * log_p(reading))


def near(reading: Reading, cells: float) -> bool:
    """Whether another unit of measure might make another verdict of it."""
    assert reading.threshold is not None
    sizes = [abs(size) for size in (reading.effect, reading.detectable) if size is not None]
    return abs(log_p(reading) - np.log(reading.threshold)) <= slack(reading, cells) or any(
        abs(np.log1p(size) - np.log1p(0.1)) <= cells * CELL for size in sizes
    )


@pytest.mark.parametrize("factor", [2e-4])
def test_amounts_in_the_middle_of_cells_are_judged_alike_in_any_unit(log: Scored, factor: float) -> None:
    """There the same values share cells whatever the unit."""
    latency = log.values["latency"]
    assert isinstance(latency, np.ndarray)
    middles = replace(
        log, values={**log.values, "latency": grid_values("log")[grid_keys(latency.astype(np.float64), "log")]}
    )
    law_of_units(middles, at_once(times(middles, 60.0)), factor, 0)


@pytest.mark.parametrize("factor", [1000.0])
def test_amounts_are_judged_alike_in_any_unit(log: Scored, whole: list[Step], factor: float) -> None:
    law_of_units(log, whole, factor, 2)


def test_the_law_of_units_notices_amounts_that_are_not_taken_as_such(log: Scored) -> None:
    """A constant that is added, as of a clock that is off, is no unit of measure."""
    latency = log.values["latency"]
    assert isinstance(latency, np.ndarray)
    later = at_once(replace(log, values={**log.values, "latency": latency + 1.0}))
    with pytest.raises(AssertionError):
        law_of_units(log, later, 1.0, 2)


FIELDS = "id: $.id, ts: $.ts, model: $.model, response: $.response, status: $.status, session: $.session, of: $.of"


def law_of_scales(folder: Path, scale: str) -> None:
    """Milliseconds that a field map makes seconds of are seconds."""
    rows = [row for row in make_log(3) if "kind" not in row]
    log = [{**row, "latency_ms": round(1000 * row.pop("latency_seconds"))} for row in copy.deepcopy(rows)]
    results = []
    for name, messages, latency in (
        ("s", rows, "$.latency_seconds"),
        ("ms", log, f"{{path: $.latency_ms, scale: {scale}}}"),
    ):
        source = f"sources: [{{kind: files, paths: [x], format: {{{FIELDS}, latency_seconds: {latency}}}}}]"
        few = config(source, size="6m")
        results.append(replay(few, folder / f"{name}-{scale}", write(folder / f"{name}.jsonl", lines(messages))))
    assert b'"latency_seconds"' in results[0].readings
    same(results[1], results[0])


def test_milliseconds_with_a_scale_are_seconds(tmp_path: Path) -> None:
    law_of_scales(tmp_path, "0.001")


def test_the_law_of_scales_notices_another_scale(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        law_of_scales(tmp_path, "0.01")
