"""Arms: who is compared with whom, units that count once, and what is read of versions that run at the same time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import numpy as np
import pytest
from scipy import stats

from monitor.arm_evidence import ArmEvidence
from monitor.model import OTHER, Categories, Column, Floats, Hashes, Reading, Scope, Signal
from monitor.readings import arm_units, key_of
from monitor.readings.arm_units import NONE, Known, SessionsBefore, common_place, records_of, units_by_bin
from monitor.readings.arms import ArmTable, as_they_are
from monitor.readings.pairs import ARMS, GONE, Pair, Pairs
from monitor.slices import name_hash
from monitor.summaries import AnySummary, Counts, merged, summarise
from monitor.summaries.counts import SESSIONS
from monitor.windows import SLICES, Contents, Slice

LENGTH = 1_000
SIZE = SLICES * LENGTH
SIGNALS = {
    signal.name: signal
    for signal in (
        Signal("refusal", "rate"),
        Signal("seconds", "numeric"),
        Signal("score", "numeric", "unit"),
        Signal("reason", "category"),
        Signal("model_version", "category"),
        Signal("cost_missing", "rate"),
        Signal("vector", "vector", size=4),
    )
}
V1, V2 = "model_version=v1", "model_version=v2"
Values = Mapping[str, Column]


def summary(name: str, values: Column, session: Hashes | None = None, weight: float | None = None) -> AnySummary:
    n = len(values.codes) if isinstance(values, Categories) else len(values)
    sessions = np.zeros(n, np.uint64) if session is None else session
    steps = None if weight is None else np.array([weight])
    return summarise(SIGNALS[name], values, np.zeros(n, np.int64), 1, sessions, steps)[0]


def slice_at(number: int, segments: Mapping[str, Values], *, stream: str = "bot") -> Slice:
    """A slice of one stream: segment -> signal -> values."""
    scopes = {
        Scope(stream, segment): Contents(
            max(found.n for found in held.values()) if (held := {n: summary(n, v) for n, v in values.items()}) else 0,
            held,
        )
        for segment, values in segments.items()
    }
    return Slice(number * LENGTH, (number + 1) * LENGTH, scopes)


def of_records(number: int, records: Mapping[str, int]) -> Slice:
    return Slice(
        number * LENGTH, (number + 1) * LENGTH, {Scope("bot", segment): Contents(n) for segment, n in records.items()}
    )


# ---- who is compared with whom --------------------------------------------------------------------------------------


class Met:
    """Pairs of one stream, slice by slice."""

    def __init__(self) -> None:
        self.pairs, self.ring, self.number = Pairs(["model_version"], LENGTH), dict[int, Slice](), 0

    def step(self, *, times: int = 1, **records: int) -> list[Pair]:
        """Slices with so many records of each version."""
        ended = []
        for _ in range(times):
            held = {f"model_version={name}": n for name, n in records.items()}
            self.ring[self.number] = of_records(self.number, held)
            self.number += 1
            first = self.number - SLICES
            window = [(at - first, found) for at, found in sorted(self.ring.items()) if at >= first]
            ended += self.pairs.step([part for part in window if part[1].scopes], self.number * LENGTH)
        return ended

    @property
    def live(self) -> list[tuple[str, str]]:
        return [
            (p.arm.removeprefix("model_version="), p.baseline.removeprefix("model_version=")) for p in self.pairs.live
        ]


def test_a_canary_is_compared_with_what_it_is_to_replace() -> None:
    met = Met()
    met.step(times=5, v1=100)
    assert met.live == []
    met.step(v1=95, v2=5)
    assert met.live == [("v2", "v1")]
    assert next(iter(met.pairs.live)).begun == 5 * LENGTH
    assert met.step(times=30, v1=50, v2=50) == []
    assert met.live == [("v2", "v1")], "however much it has of the traffic"


def test_of_versions_that_come_together_that_with_most_records_is_the_baseline() -> None:
    met = Met()
    met.step(v1=40, v2=60, v3=50)
    assert sorted(met.live) == [("v1", "v2"), ("v3", "v2")]


def test_a_baseline_that_is_left_behind_gives_way_once_and_not_by_noise() -> None:
    met = Met()
    met.step(times=12, v1=51, v2=50)
    met.step(times=12, v1=6, v2=50)
    assert met.live == [("v2", "v1")], "not yet a tenth"
    (ended,) = met.step(times=12, v1=4, v2=50)
    assert (ended.arm, ended.baseline) == (V2, V1)
    assert met.live == [("v1", "v2")]
    met.step(times=2, v2=40, v3=10)
    assert ("v3", "v2") in met.live, "what comes next is held against what runs now"


def test_what_the_caps_left_out_is_no_version() -> None:
    met = Met()
    met.step(v1=10, other=100)
    assert met.live == []
    found = Slice(0, LENGTH, {Scope(OTHER, V1): Contents(5), Scope(OTHER, V2): Contents(5)})
    met.pairs.step([(SLICES - 1, found)], LENGTH)
    assert met.live == []
    met.pairs.step([(SLICES - 1, Slice(0, LENGTH, {Scope("bot", "tenant=a"): Contents(5)}))], LENGTH)
    assert met.live == []


def test_there_are_not_more_arms_than_a_cap_and_those_that_are_stay() -> None:
    met, names = Met(), {f"a{i}": 5 for i in range(20)}
    met.step(v1=100)
    met.step(v1=100, **names)
    least = sorted(names, key=lambda name: name_hash(f"model_version={name}"))[:ARMS]
    assert sorted(arm for arm, _ in met.live) == sorted(least)
    met.step(times=3, v1=100, **names, b=7)
    assert sorted(arm for arm, _ in met.live) == sorted(least)


def test_a_pair_that_is_not_seen_for_long_is_let_go() -> None:
    met = Met()
    met.step(v1=11, v2=10)
    assert met.step(times=GONE, v1=10) == []
    assert [pair.arm for pair in met.step(v1=10)] == [V2]
    met.step(v1=10, v2=10)
    assert [pair.begun for pair in met.pairs.live] == [(GONE + 2) * LENGTH]


def test_pairs_come_back_as_they_were() -> None:
    met = Met()
    met.step(times=3, v1=10, v2=9, v3=8)
    again = Pairs(["model_version"], LENGTH)
    again.restore(met.pairs.dump())
    assert (again.baselines, again.live) == (met.pairs.baselines, met.pairs.live)
    assert list(again.live) == list(met.pairs.live)


# ---- units ----------------------------------------------------------------------------------------------------------


def cells(values: Sequence[float], session: Sequence[int]) -> Counts:
    return summary("refusal", np.array(values, np.float64), np.array(session, np.uint64)).cells


def same(keys: np.ndarray) -> np.ndarray:
    return keys


def test_a_session_counts_in_the_first_slice_that_holds_it() -> None:
    found = cells([1, 1, 0, 1, 0], [5, 5, 5, 9, 0])
    new = units_by_bin([found, found], same, 2, NONE)[0]
    assert new == pytest.approx([1 / 3 + 1, 2 / 3 + 1])
    later = units_by_bin([found, found], same, 2, Known(np.array([5, 7], np.uint64), NONE.upto))[0]
    assert later == pytest.approx([1, 1])


def test_a_session_that_moves_to_the_other_arm_does_not_count_there() -> None:
    def of_session(number: int, segment: str, name: int) -> Slice:
        held = {"refusal": summary("refusal", np.ones(1), np.array([name], np.uint64))}
        return Slice(number * LENGTH, (number + 1) * LENGTH, {Scope("bot", segment): Contents(1, held)})

    slices = [of_session(0, V1, 5), of_session(1, V2, 8)]
    before = SessionsBefore()
    scopes = Scope("bot", V1), Scope("bot", V2)
    assert before.of(slices, scopes).sessions.tolist() == [5, 8]
    assert before.of(slices, scopes[:1]).sessions.tolist() == [5]
    before.forget(LENGTH)
    assert before.of(slices[1:], scopes).sessions.tolist() == [8]


def test_where_sessions_are_too_many_both_arms_keep_the_same_part_of_each_kind() -> None:
    """A capped arm and a small one, in both of which loose records say yes and sessions no: their shares agree."""
    rng = np.random.default_rng(2)

    def arm(sessions: int, loose: int) -> Counts:
        names = rng.integers(1, 2**63, sessions).astype(np.uint64) * np.uint64(2)
        return summary(
            "refusal",
            np.concatenate([np.zeros(sessions), np.ones(loose)]),
            np.concatenate([names, np.zeros(loose, np.uint64)]),
        ).cells

    large, small = arm(4 * SESSIONS, 2 * SESSIONS), arm(SESSIONS // 2, SESSIONS // 4)
    units = units_by_bin([large, small], same, 2, NONE)
    shares = [float(one[1] / one.sum()) for one in units]
    assert shares[0] == pytest.approx(1 / 3, abs=0.02)
    assert shares[1] == pytest.approx(1 / 3, abs=0.05)
    assert units[0].sum() == pytest.approx(1.5 * SESSIONS, rel=0.03)


def test_a_value_that_the_cap_of_one_arm_left_out_is_left_out_of_both() -> None:
    """Names beyond the greatest that the capped arm holds are not known in the other one either."""
    names = [f"r{i}" for i in range(200)]
    many = summary("reason", Categories(names, np.arange(200, dtype=np.int32)))
    few = summary("reason", Categories(names, np.arange(40, dtype=np.int32)))
    last = int(many.cells.keys[-1])
    beyond = few.cells.keys > last
    assert 0 < beyond.sum() < 40
    place = common_place([many, few], same)
    assert place(few.cells.keys).tolist() == np.where(beyond, -1, few.cells.keys).tolist()
    assert place(many.cells.keys).tolist() == many.cells.keys.tolist()
    assert common_place([few, few], same)(few.cells.keys).tolist() == few.cells.keys.tolist()


@pytest.mark.parametrize("name", ["refusal", "seconds", "score", "reason"])
def test_records_of_several_slices_are_their_sum_without_sessions(name: str) -> None:
    rng = np.random.default_rng(4)
    parts = [summary(name, draws(rng, 50)[name], rng.integers(1, 20, 50).astype(np.uint64)) for _ in range(3)]
    found, whole = records_of(SIGNALS[name], parts), merged(parts)
    assert found.cells.keys.tolist() == whole.cells.keys.tolist()
    assert found.cells.counts.tolist() == whole.cells.counts.tolist()
    assert len(found.cells.session) == 0
    assert records_of(SIGNALS[name], []).n == 0


def test_records_of_samples_weigh_what_they_stand_for() -> None:
    parts = [summary("refusal", np.array([1.0, 0.0]), None, 10.0), summary("refusal", np.zeros(2), None, 1.0)]
    found = records_of(SIGNALS["refusal"], parts)
    assert found.cells.mass.tolist() == pytest.approx([4 * 12 / 22, 4 * 10 / 22])


# ---- readings -------------------------------------------------------------------------------------------------------


def draws(rng: np.random.Generator, n: int) -> dict[str, Column]:
    return {
        "refusal": (rng.random(n) < 0.05).astype(np.float64),
        "seconds": rng.lognormal(0, 0.5, n),
        "score": rng.beta(2, 5, n),
        "reason": Categories(["stop", "length", "tool"], rng.choice(3, n, p=[0.8, 0.15, 0.05]).astype(np.int32)),
        "cost_missing": np.ones(n),
    }


Change = Callable[[dict[str, Column]], dict[str, Column]]


class Watched:
    """One stream with a baseline and, from some slice on, another version."""

    def __init__(
        self, *, sizes: tuple[int, int] = (80, 40), own: Mapping[str, float] | None = None, seed: int = 3
    ) -> None:
        self.rng, self.sizes, self.number = np.random.default_rng(seed), sizes, 0
        self.own = {} if own is None else own
        self.table = self.new()
        self.ring: dict[int, Slice] = {}
        self.weight = 0.0

    def new(self) -> ArmTable:
        return ArmTable(SIZE, ["model_version"], SIGNALS, self.own)

    @property
    def window(self) -> list[tuple[int, Slice]]:
        first = self.number - SLICES
        return [(at - first, found) for at, found in sorted(self.ring.items()) if at >= first and found.scopes]

    def step(self, change: Change | None = None, *, alone: bool = False, reads: bool = True) -> list[Reading]:
        """The next slice; `change` changes what the new version says."""
        values = {V1: draws(self.rng, self.sizes[0])}
        new = draws(self.rng, self.sizes[1])
        if not alone:
            values[V2] = new if change is None else change(new)
        for version, held in values.items():
            n = len(np.asarray(held["refusal"]))
            held["model_version"] = Categories([version], np.zeros(n, np.int32))
        self.ring[self.number] = slice_at(self.number, values)
        self.number += 1
        self.weight += self.table.push(self.window, self.number * LENGTH).weight
        return self.table.read(self.number * LENGTH, self.window, 1e-6) if reads else []


def steps(watched: Watched, count: int, change: Change | None = None, *, alone: bool = False) -> list[list[Reading]]:
    return [watched.step(change, alone=alone) for _ in range(count)]


def of(readings: Sequence[Reading], signal: str) -> Reading:
    (found,) = [reading for reading in readings if reading.signal == signal]
    return found


def refuses(share: float) -> Change:
    def change(values: dict[str, Column]) -> dict[str, Column]:
        n = len(np.asarray(values["refusal"]))
        return values | {"refusal": (np.arange(n) < share * n).astype(np.float64)}

    return change


def test_versions_that_are_alike_are_ok_where_there_is_enough_to_see() -> None:
    watched = Watched(sizes=(2_000, 1_000), own={"refusal": 0.025})
    steps(watched, 3, alone=True)
    last = steps(watched, 40)[-1]
    assert [reading.signal for reading in last] == ["reason", "refusal", "score", "seconds"]
    for reading in last:
        assert reading.verdict == "ok", reading
        assert (reading.segment, reading.against, reading.test, reading.tail) == (V2, V1, "arm_e", "anytime")
        assert reading.baseline == V1
        assert reading.detectable is not None
        assert (reading.n, reading.units, reading.reference_n, reading.reference_slices) == (12_000, 12_000, 24_000, 12)
        assert reading.p_value is not None
        assert reading.p_value > 1e-3
        assert reading.changed_at is None
    assert of(last, "refusal").value == pytest.approx(0.05, abs=0.01)
    assert of(last, "seconds").effect_unit.startswith("relative change of the 0.")


CHANGES: dict[str, tuple[str, Change, float]] = {
    "rate": ("refusal", refuses(0.2), 0.15),
    "amount": ("seconds", lambda v: v | {"seconds": np.asarray(v["seconds"]) * 1.5}, 0.5),
    "score": ("score", lambda v: v | {"score": np.asarray(v["score"]) * 0.6}, -0.114),
    "category": (
        "reason",
        lambda v: v | {"reason": Categories(["stop", "length"], (np.arange(40) % 2).astype(np.int32))},
        0.35,
    ),
    "new value": (
        "reason",
        lambda v: v | {"reason": Categories(["stop", "never"], (np.arange(40) % 4 == 0).astype(np.int32))},
        0.25,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_version_that_differs_from_its_first_record_on_is_found_without_a_reference(name: str) -> None:
    signal, change, effect = CHANGES[name]
    watched = Watched()
    steps(watched, 2, alone=True)
    begun = watched.number * LENGTH
    read = [of(readings, signal) for readings in steps(watched, 40, change)]
    verdicts = [reading.verdict for reading in read]
    assert "drift" in verdicts[:30]
    first = read[verdicts.index("drift")]
    assert first.p_value is not None
    assert first.threshold == 1e-6
    assert first.p_value <= 1e-6
    assert first.effect == pytest.approx(effect, abs=0.5 * abs(effect))
    assert first.changed_at is not None
    assert abs(first.changed_at - begun) <= 4 * LENGTH
    assert verdicts[verdicts.index("drift") :].count("drift") == len(verdicts) - verdicts.index("drift")
    others = [r for readings in steps(watched, 5, change) for r in readings if r.signal != signal]
    assert not any(reading.verdict == "drift" for reading in others)


def test_a_difference_that_does_not_matter_is_not_told() -> None:
    watched = Watched(own={"refusal": 0.5})
    read = [of(r, "refusal") for r in steps(watched, 60, refuses(0.2))[1:]]
    assert min(reading.p_value or 1.0 for reading in read) < 1e-6
    assert {reading.verdict for reading in read} <= {"ok", "insufficient"}


def test_a_change_that_both_share_is_none() -> None:
    watched = Watched()
    found = []
    for number in range(60):
        watched.sizes = (80, 40)
        rate = 0.05 + 0.3 * (number > 20)
        values = {
            version: draws(watched.rng, n) | {"refusal": (watched.rng.random(n) < rate).astype(np.float64)}
            for version, n in ((V1, 80), (V2, 40))
        }
        watched.ring[number] = slice_at(number, values)
        watched.number += 1
        watched.table.push(watched.window, watched.number * LENGTH)
        found += watched.table.read(watched.number * LENGTH, watched.window, 1e-6)
    assert {r.verdict for r in found if r.signal == "refusal"} <= {"ok", "insufficient"}
    assert max(r.value or 0.0 for r in found if r.signal == "refusal") > 0.3


def test_a_version_that_recovers_is_calm_after_a_window_and_watched_anew() -> None:
    watched = Watched(sizes=(200, 100))
    steps(watched, 20, refuses(0.2))
    after = [of(r, "refusal").verdict for r in steps(watched, 40)]
    assert after[0] == "drift"
    assert after[-1] != "drift"
    again = [of(r, "refusal").verdict for r in steps(watched, 30, refuses(0.2))]
    assert again[-1] == "drift"


def test_a_version_that_is_gone_has_too_little_to_say() -> None:
    watched = Watched()
    steps(watched, 30, refuses(0.3))
    last = of(steps(watched, 20, alone=True)[-1], "refusal")
    assert (last.verdict, last.n, last.units, last.value, last.p_value) == ("insufficient", 0, 0, None, None)
    assert last.lacks == "40 units in the window: it has 0"
    ended = [watched.table.push([], (watched.number + at) * LENGTH).changed for at in (GONE - 20, GONE + 1)]
    assert ended == [False, True]
    assert watched.table.series == []
    assert len(watched.table.evidence) == 0


def test_what_follows_from_being_a_version_is_not_compared_nor_what_is_never_logged() -> None:
    watched = Watched()
    read = steps(watched, 5)[-1]
    assert {r.signal for r in read}.isdisjoint({"model_version", "cost_missing", "vector"})
    assert {name for names in watched.table.left_out.values() for name in names} == {"cost_missing"}


def test_windows_with_few_units_say_nothing_and_what_they_lack() -> None:
    watched = Watched(sizes=(30, 2))
    read = of(steps(watched, 20, refuses(1.0))[-1], "refusal")
    assert (read.verdict, read.units) == ("insufficient", 24)
    assert read.lacks.startswith("40 units in the window: it has 24, about ")


def test_the_first_slice_of_all_is_what_others_are_counted_by() -> None:
    watched = Watched()
    assert watched.step() == []
    assert {r.signal for r in watched.step()} == {"reason", "refusal", "score", "seconds"}
    assert watched.weight == 4 * 36.5
    few = Watched(sizes=(3, 1))
    assert [bool(read) for read in steps(few, 14)] == [False] * 10 + [True] * 4, "of 40 records of both"


def moved_by(watched: Watched, name: str, by: float) -> Change:
    """The new version's values of one signal, changed by so much in the units of its effect."""

    def change(values: dict[str, Column]) -> dict[str, Column]:
        n, rng = watched.sizes[1], watched.rng
        if name == "refusal":
            return values | {name: (rng.random(n) < 0.05 + by).astype(np.float64)}
        if name == "seconds":
            return values | {name: np.asarray(values[name]) * (1 + by)}
        codes = rng.choice(3, n, p=[0.8 - by, 0.15 + by, 0.05]).astype(np.int32)
        return values | {name: Categories(["stop", "length", "tool"], codes)}

    return change


def one_by_one(changes: Sequence[Change]) -> Change:
    return lambda values: reduce(lambda changed, change: change(changed), changes, values)


def test_detectable_is_what_a_window_shows_nine_times_in_ten() -> None:
    """In most of 40 streams a window in which the version differs by that decides by itself."""
    shown: dict[str, list[bool]] = {"refusal": [], "seconds": [], "reason": []}
    for seed in range(40):
        watched = Watched(sizes=(600, 300), seed=seed)
        for _ in range(19):
            watched.step(reads=False)
        before = watched.step()
        watched.table.evidence.restart(np.arange(len(watched.table.evidence)))
        changes = []
        for name in shown:
            smallest = of(before, name).detectable
            assert smallest is not None
            changes.append(moved_by(watched, name, smallest))
        for number in range(SLICES):
            after = watched.step(one_by_one(changes), reads=number == SLICES - 1)
        for name, found in shown.items():
            found.append((of(after, name).p_value or 1.0) <= 1e-6)
    for name, found in shown.items():
        assert np.mean(found) >= 0.75, name


# ---- sessions -------------------------------------------------------------------------------------------------------


def session_null(streams: int, slices: int, seed: int) -> Floats:
    """The most evidence of each stream, whose sessions lie in about four slices and mostly say the same."""
    rng = np.random.default_rng(seed)
    table = ArmTable(SIZE, ["model_version"], SIGNALS, {})
    most = np.full(streams, -np.inf)
    ring: dict[int, Slice] = {}
    ongoing: list[list[tuple[int, float, int]]] = [[] for _ in range(2 * streams)]
    for number in range(slices):
        scopes = {}
        for place, live in enumerate(ongoing):
            live[:] = [part for part in live if part[2] > number]
            for _ in range(rng.poisson(3 if place % 2 else 8)):
                live.append(
                    (int(rng.integers(1, 2**62)), float(rng.beta(0.15, 0.35)), number + int(rng.integers(1, 8)))
                )
            if live:
                names = np.array([name for name, _, _ in live], np.uint64)
                values = (rng.random(len(live)) < [rate for _, rate, _ in live]).astype(np.float64)
                scope = Scope(f"{place // 2:03}", V2 if place % 2 else V1)
                scopes[scope] = Contents(len(live), {"refusal": summary("refusal", values, names)})
        ring[number] = Slice(number * LENGTH, (number + 1) * LENGTH, scopes)
        first = number + 1 - SLICES
        window = [(at - first, found) for at, found in sorted(ring.items()) if at >= first]
        table.push(window, (number + 1) * LENGTH)
        rows = [int(one.pair.stream) for one in table.series]
        most[rows] = np.maximum(most[rows], table.evidence.log_e())
    assert len(table.series) == streams
    return most


def test_sessions_that_go_on_are_not_evidence_twice() -> None:
    """100 streams, 60 slices: of a hundredth that is allowed at most three decide (1 expected at most)."""
    most = session_null(100, 60, 1)
    level = 1e-2 / 60
    assert (most >= -math.log(level)).sum() <= stats.poisson.ppf(0.99, 1)


def test_sessions_that_go_on_would_be_evidence_if_they_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same null with the memory of sessions taken away: the law above can fail."""
    monkeypatch.setattr(arm_units.SessionsBefore, "of", lambda *_: NONE)
    most = session_null(100, 60, 1)
    assert (most >= -math.log(1e-2 / 60)).sum() > stats.poisson.ppf(0.99, 1)


# ---- state ----------------------------------------------------------------------------------------------------------


def test_state_comes_back_and_goes_on_as_if_it_had_not() -> None:
    one, two = Watched(), Watched()
    held: dict[tuple[str, str], bytes] = {}
    for number in range(50):
        change = refuses(0.25) if 15 <= number < 25 else None
        assert one.step(change, alone=number == 8) == two.step(change, alone=number == 8), number
        held = {key: pack() for key, pack in two.table.pieces().items()}
        again = two.new()
        again.restore(two.table.dump(), held)
        two.table = again
        assert one.table.dump() == two.table.dump()


def test_what_is_accepted_is_compared_no_more_and_all_else_is() -> None:
    watched = Watched()
    steps(watched, 30, refuses(0.3))
    data, held = watched.table.dump(), {key: pack() for key, pack in watched.table.pieces().items()}
    watched.table = watched.new()
    watched.table.restore(as_they_are(data, {(Scope("bot", V2), "refusal"), (Scope("bot"), "seconds")}), held)
    last = steps(watched, 5, refuses(0.3))[-1]
    assert [reading.signal for reading in last] == ["reason", "score", "seconds"]
    assert len(watched.table.evidence) == watched.table.first[-1]


def test_one_pair_does_not_depend_on_others() -> None:
    """A third version beside them changes nothing of what is read of the second."""
    alone, beside = Watched(), Watched()
    rng = np.random.default_rng(8)
    for _ in range(20):
        expected = alone.step()
        found = dict(alone.ring[alone.number - 1].scopes)
        third = slice_at(alone.number - 1, {"model_version=v3": draws(rng, 30)}).scopes
        beside.ring[beside.number] = Slice((alone.number - 1) * LENGTH, alone.number * LENGTH, {**found, **third})
        beside.number += 1
        beside.table.push(beside.window, beside.number * LENGTH)
        read = beside.table.read(beside.number * LENGTH, beside.window, 1e-6)
        shown = [(r.signal, r.p_value, r.verdict, r.n, r.units) for r in read if r.segment == V2]
        assert shown == [(r.signal, r.p_value, r.verdict, r.n, r.units) for r in expected]
        assert [key_of(r.scope, r.signal) for r in read] == sorted(key_of(r.scope, r.signal) for r in read)


def test_evidence_is_of_the_same_size_however_long_it_runs() -> None:
    watched = Watched(sizes=(20, 20))
    steps(watched, 15)
    before = len(watched.table.dump())
    steps(watched, 60)
    assert len(watched.table.dump()) == pytest.approx(before, abs=64)
    assert isinstance(watched.table.evidence, ArmEvidence)
