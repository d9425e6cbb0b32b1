"""Another configuration over the same store: what goes on to the last bit, what learns anew, what is refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings

from monitor import app
from monitor.app import UsageError
from monitor.calibration import Spending
from monitor.clusters import derived
from monitor.config import Config, parse
from monitor.continuity import Changes, Made, RefusedError, compare
from monitor.model import AlertChange, Blob, Checkpoint, Reading, Signal, concatenate
from monitor.settings import MINUTE
from monitor.store import Store
from tests.mortal import Mortal
from tests.replay import logs
from tests.replay.logs import (
    CENTURY,
    CHANGE,
    SIGNALS,
    Row,
    Sketch,
    config,
    few_signals,
    lines,
    make_log,
    shuffled,
    write,
)
from tests.test_invariance import records

FEW = tuple(name for name in SIGNALS if name != "latency_seconds")
TIMES = "windows: [1m]\nreference: {size: 6m}\n"
Key = tuple[int, int, str, str | None, str, str]


@dataclass(frozen=True)
class Stage:
    """A part of a log, and with what it is read."""

    rows: Sequence[Row]
    config: Config
    names: Collection[str]
    sampled: Sequence[Sketch] = ()


@dataclass(frozen=True)
class Went:
    """What became of some stages over one store."""

    readings: Sequence[Reading]
    alerts: Sequence[AlertChange]
    notices: Sequence[str]
    changes: Sequence[Changes | None]

    def decisive(self, names: Collection[str], since: int = 0, *, arms: bool = True) -> dict[Key, tuple[object, ...]]:
        """What windows showed at their ends, less thresholds and what follows from them."""
        return {
            (r.at, r.window, r.stream, r.segment, r.signal, r.baseline): (
                r.verdict == "learning",
                r.p_value,
                r.value,
                r.reference_value,
                r.effect,
                r.n,
                r.units,
                r.reference_n,
                r.reference_slices,
            )
            for r in self.readings
            if r.signal in names and r.at % r.window == 0 and r.window_start >= since and arms >= bool(r.baseline)
        }


def go(folder: Path, *stages: Stage) -> Went:
    """One store through all stages, each begun as `driftd run` begins."""
    changes = []
    for number, stage in enumerate(stages):
        log = write(folder / f"{number}.jsonl", lines(stage.rows))
        with few_signals(sampled=stage.sampled, names=stage.names):
            changes.append(begin(folder, stage.config))
            app.replay(stage.config, folder / "out", [str(log)], resume=True)
    with few_signals(sampled=stages[-1].sampled, names=stages[-1].names):
        app.replay(stages[-1].config, folder / "out", [], resume=True)
    with closing(Store(folder / "out" / app.STORE)) as store:
        return Went(list(store.readings()), list(store.changes()), store.notices(), changes)


def begin(folder: Path, wanted: Config) -> Changes | None:
    (folder / "out").mkdir(exist_ok=True)
    store, changes = app.continue_store(folder / "out" / app.STORE, wanted, app.make_engine(wanted))
    store.close()
    return changes


def quiet(seed: int, n: int) -> list[Row]:
    """A log in which nothing changes, of two versions, as it might arrive."""
    with patch.object(logs, "CHANGE", CENTURY):
        made = make_log(seed, n, streams=1, segments=2)
    versions = [{} if "kind" in row else {"prompt_version": f"v{number % 2}"} for number, row in enumerate(made)]
    return shuffled([row | version for row, version in zip(made, versions, strict=True)], seed, 20_000)


def parted(rows: Sequence[Row], at: float) -> tuple[list[Row], list[Row]]:
    cut = round(len(rows) * at)
    return list(rows[:cut]), list(rows[cut:])


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return quiet(3, 5_000)


A = config(lateness="25s")
RULED = config("rules: [{name: Other, signal: response_refusal, on: drift}]\nfalse_alarms: {per: 7d}", lateness="25s")


@pytest.fixture(scope="module")
def undisturbed(rows: Sequence[Row], tmp_path_factory: pytest.TempPathFactory) -> Went:
    """All in one run with A, of all signals."""
    return go(tmp_path_factory.mktemp("undisturbed"), Stage(rows, A, SIGNALS))


@pytest.mark.parametrize("at", [0.2, 0.45])  # while the first reference is learned, and behind it
def test_a_new_signal_learns_and_the_others_go_on_to_the_last_bit(
    at: float, rows: list[Row], undisturbed: Went, tmp_path: Path
) -> None:
    before, after = parted(rows, at)
    went = go(tmp_path, Stage(before, A, FEW), Stage(after, RULED, SIGNALS))
    assert went.decisive(FEW) == undisturbed.decisive(FEW)
    changes = went.changes[1]
    assert changes is not None
    assert (changes.kept, changes.new, changes.changed, changes.gone) == (sorted(FEW), ["latency_seconds"], [], [])
    told = "configuration changed: false_alarms.per, rules; kept: 3 signals; learning anew: latency_seconds"
    assert told in went.notices
    verdicts = {r.verdict for r in went.readings if r.signal == "latency_seconds"}
    assert verdicts > {"learning"}


def test_a_new_signal_is_read_as_by_a_run_that_began_then(rows: list[Row], tmp_path: Path) -> None:
    before, after = parted(rows, 0.2)
    went = go(tmp_path / "went", Stage(before, A, FEW), Stage(after, A, SIGNALS))
    begins = begin_of(went)
    fresh = go(tmp_path / "fresh", Stage([row for row in rows if row["ts"] >= begins], A, SIGNALS))
    found = went.decisive(["latency_seconds"], begins, arms=False)
    expected = fresh.decisive(["latency_seconds"], begins, arms=False)
    assert any(not learning for learning, *_ in found.values())
    assert found == expected


def begin_of(went: Went) -> int:
    """From when on the signal that was new is judged, less how long it learned."""
    judged = min(r.window_start for r in went.readings if new_and_judged(r))
    return judged - 6 * MINUTE


def new_and_judged(reading: Reading) -> bool:
    return reading.signal == "latency_seconds" and reading.verdict != "learning" and not reading.baseline


# ---- one after another ----------------------------------------------------------------------------------------------


def test_a_signal_that_is_measured_otherwise_learns_anew_and_one_that_is_gone_is_forgotten(
    rows: list[Row], undisturbed: Went, tmp_path: Path
) -> None:
    one, rest = parted(rows, 0.4)
    two, three = parted(rest, 0.3)
    custom = "signals: {custom: {wait: {field: $.latency_seconds, kind: numeric}}}"
    other = "signals: {custom: {wait: {field: labels.segment, kind: category}}}"
    names = [*SIGNALS, "wait", "wait_missing"]
    went = go(
        tmp_path,
        Stage(one, config(custom, lateness="25s"), names),
        Stage(two, config(other, lateness="25s"), names),
        Stage(three, config(lateness="25s"), SIGNALS),
    )
    assert went.decisive(SIGNALS) == undisturbed.decisive(SIGNALS)
    first, second = went.changes[1:]
    assert first is not None
    assert second is not None
    assert (first.changed, first.gone) == (["wait", "wait_missing"], [])
    assert second.gone == ["wait", "wait_missing"]
    kinds = {reading.kind for reading in went.readings if reading.signal == "wait"}
    assert kinds == {"numeric", "category"}
    with closing(Store(tmp_path / "out" / app.STORE)) as store:
        assert not [key for _, key, data in store.blobs() if b"wait" in data or "wait" in key]


@pytest.mark.parametrize(
    "reference",
    ["{size: 6m}", "{kind: rolling, size: 6m}", "{kind: seasonal, size: 6m, period: 3m}"],
)
def test_samples_begin_change_and_end_whatever_the_reference(reference: str, tmp_path: Path) -> None:
    rows = varied(quiet(4, 3_800))
    plain = parse(f"windows: [1m]\nreference: {reference}\nlateness: 25s", "test")
    fewer = parse(f"windows: [1m]\nreference: {reference}\nlateness: 25s\nsignals: {{sample: 16}}", "test")
    parts = [rows[:200], rows[200:2_400], rows[2_400:2_900], rows[2_900:3_400], rows[3_400:]]
    sketch = Sketch("prompt")
    expected = go(tmp_path / "expected", Stage(rows, plain, FEW))
    went = go(
        tmp_path / "went",
        Stage(parts[0], plain, FEW),
        Stage(parts[1], plain, SIGNALS, [sketch]),
        Stage(parts[2], plain, SIGNALS, [replace(sketch, fingerprint="another")]),
        Stage(parts[3], fewer, FEW, [replace(sketch, fingerprint="another")]),
        Stage(parts[4], plain, FEW),
    )
    assert went.decisive(FEW) == expected.decisive(FEW)
    sampled = {signal.name for signal in [*sketch.signals, *derived(sketch.signals)]}
    of_vectors = {"prompt_embedding", "prompt_cluster", "prompt_novelty"}
    _, begun, of_another, of_fewer, ended = went.changes
    assert begun is not None
    assert of_another is not None
    assert of_fewer is not None
    assert ended is not None
    assert {*begun.new} == sampled | {"latency_seconds"}
    assert {*of_another.changed} == of_vectors
    assert ({*of_fewer.changed}, of_fewer.gone) == (sampled, ["latency_seconds"])
    assert {*ended.gone} == sampled
    assert {r.signal for r in went.readings if r.verdict != "learning"} > sampled - of_vectors
    with closing(Store(tmp_path / "went" / "out" / app.STORE)) as store:
        left = [(table, key) for table, key, data in store.blobs() if b"embedding" in data or "embedding" in key]
        assert not [*left, *(table for table, _, data in store.blobs() if b"relevance" in data)]


def varied(rows: Sequence[Row]) -> list[Row]:
    """The rows with prompts of which no two are alike."""
    return [row | {"prompt": f"what is lamp {number}?"} for number, row in enumerate(rows)]


def test_an_alert_goes_on_without_the_signals_that_are_gone_and_ends_with_the_last(tmp_path: Path) -> None:
    rows = make_log(5, 4_000, streams=1, segments=1)
    one, two, three = rows[:2_900], rows[2_900:3_100], rows[3_100:]
    loose = config("false_alarms: {at_most: 10}")
    went = go(tmp_path, Stage(one, loose, SIGNALS), Stage(two, loose, FEW), Stage(three, loose, ["feedback"]))
    of_stream = [change for change in went.alerts if change.segment is None and change.rule == "AnyDrift"]
    fired = [change for change in of_stream if change.state == "firing"]
    assert "latency_seconds" in {signal for change in fired for signal in change.signals}
    (over,) = [change for change in of_stream if change.state == "resolved"]
    assert over.reason == "signal_removed"
    assert "latency_seconds" not in over.signals
    assert "response_refusal" in over.signals
    with closing(Store(tmp_path / "out" / app.STORE)) as store:
        assert not store.alerts()


def test_an_alert_of_another_rule_ends_and_the_new_rule_begins(tmp_path: Path) -> None:
    rows = make_log(5, 4_000, streams=1, segments=1)
    one, two, three = rows[:2_900], rows[2_900:3_100], rows[3_100:]
    by_name = "false_alarms: {{at_most: 10}}\nrules: [{{name: {}, signal: {}, on: drift, segment: '', severity: {}}}]"
    went = go(
        tmp_path,
        Stage(one, config(by_name.format("Own", "response_refusal", "info")), SIGNALS),
        Stage(two, config(by_name.format("Own", "response_refusal", "critical")), SIGNALS),
        Stage(three, config(by_name.format("Own", "status", "info")), SIGNALS),
    )
    told = [(change.state, change.reason, change.signals) for change in went.alerts if change.rule == "Own"]
    assert told == [
        ("firing", "drift", ["response_refusal"]),
        ("resolved", "rule_removed", ["response_refusal"]),
        ("firing", "drift", ["status"]),
    ]


ADDRESS = "jane.doe@example.com"


def test_a_store_that_is_to_keep_less_forgets_what_it_kept(tmp_path: Path) -> None:
    rows = make_log(6, 4_000, streams=1, segments=1)
    rows = [
        row if "kind" in row else row | {"response": f"{row['response']} Ask {ADDRESS}.", "who": ADDRESS}
        for row in rows
    ]
    custom = "signals: {custom: {who: {field: $.who, kind: category}}}"
    one, two, three = rows[:2_900], rows[2_900:3_300], rows[3_300:]
    full, less, none = (config(f"content: {much}\n{custom}") for much in ("full", "redacted", "none"))
    names = [*SIGNALS, "who", "who_missing"]
    log, path = tmp_path / "0.jsonl", tmp_path / "out" / app.STORE
    write(log, [*lines(one), f"no record of {ADDRESS}".encode()])
    with few_signals(sampled=[Sketch()], names=names):
        begin(tmp_path, full)
        app.replay(full, tmp_path / "out", [str(log)], resume=True)
        assert ADDRESS.encode() in path.read_bytes()
        changes = begin(tmp_path, less)
        assert changes is not None
        assert {"who", "relevance"} < {*changes.changed}
        assert {"response_refusal", "who_missing"} <= {*changes.kept}
        assert ADDRESS.encode() not in path.read_bytes()
        assert b"I cannot help with that" in path.read_bytes()
        write(tmp_path / "1.jsonl", lines(two))
        app.replay(less, tmp_path / "out", [str(tmp_path / "1.jsonl")], resume=True)
        begin(tmp_path, none)
        write(tmp_path / "2.jsonl", lines(three))
        app.replay(none, tmp_path / "out", [str(tmp_path / "2.jsonl")], resume=True)
        app.replay(none, tmp_path / "out", [], resume=True)
    for kept in (b"jane", b"Ask", b"no record"):
        assert kept not in path.read_bytes()


def test_a_drift_is_told_of_across_a_change(tmp_path: Path) -> None:
    """Windows hold slices from before the change and behind it, whose samples are not of the same signals."""
    rows = varied(make_log(7, 3_000, streams=1, segments=2))
    cuts = [next(at for at, row in enumerate(rows) if row["ts"] > CHANGE + seconds * 1000) for seconds in (-30, 15, 60)]
    one, two, three, four = (rows[a:b] for a, b in pairwise([0, *cuts, len(rows)]))
    loose, sketch = config("false_alarms: {at_most: 20}"), Sketch("prompt")
    went = go(
        tmp_path / "went",
        Stage(one, loose, FEW, [sketch]),
        Stage(two, loose, FEW, [replace(sketch, fingerprint="another")]),
        Stage(three, loose, FEW),
        Stage(four, loose, SIGNALS, [sketch]),
    )
    drifts = [reading for reading in went.readings if reading.verdict == "drift"]
    assert {"response_refusal", "status"} <= {reading.signal for reading in drifts}
    assert went.decisive(FEW).keys() == go(tmp_path / "plain", Stage(rows, loose, FEW)).decisive(FEW).keys()


def test_records_that_are_held_count_with_what_is_known_of_them(rows: list[Row], tmp_path: Path) -> None:
    """They wait for a verdict on a leap in time, packed as they were measured."""
    ahead = [row | {"id": f"ahead-{number}", "ts": row["ts"] + 900_000} for number, row in enumerate(rows[300:312])]
    behind = [row | {"id": f"behind-{number}", "ts": row["ts"] + 900_000} for number, row in enumerate(rows[312:612])]
    before, after, path = config("content: full", lateness="25s"), A, tmp_path / "out" / app.STORE
    with few_signals(names=FEW, sampled=[Sketch()]):
        begin(tmp_path, before)
        log = write(tmp_path / "0.jsonl", lines([*rows[:300], *ahead]))
        app.replay(before, tmp_path / "out", [str(log)], resume=True)
    with closing(Store(path)) as store:
        assert store.counts()["held"] == 12
    with few_signals(sampled=[Sketch("prompt")]):
        begin(tmp_path, after)
        log = write(tmp_path / "1.jsonl", lines(behind))
        app.replay(after, tmp_path / "out", [str(log)], resume=True)
        app.replay(after, tmp_path / "out", [], resume=True)
    with closing(Store(path)) as store:
        counts = store.counts()
    assert counts["counted"] > 300 + 300
    assert "held" not in counts


@settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate])  # each takes seconds
@given(
    cuts=st.lists(st.integers(1, 1_999), min_size=1, max_size=3, unique=True),
    data=st.data(),
)
def test_whatever_else_comes_and_goes_a_signal_goes_on_to_the_last_bit(cuts: list[int], data: st.DataObject) -> None:
    rows = varied(quiet(8, 2_000))
    always, others = ["response_refusal"], ["latency_seconds", "status", "feedback"]
    stages = []
    for begins, ends in pairwise([0, *sorted(cuts), len(rows)]):
        names = always + data.draw(st.lists(st.sampled_from(others), unique=True))
        sketches = data.draw(st.lists(st.sampled_from([Sketch("prompt"), Sketch(fingerprint="other")]), max_size=1))
        more = data.draw(st.sampled_from(["", "content: none", "content: full", "signals: {sample: 16}", "skew: 1m"]))
        stages.append(Stage(rows[begins:ends], config(more, lateness="25s"), names, sketches))
    with TemporaryDirectory() as folder:
        expected = go(Path(folder) / "expected", Stage(rows, A, always))
        went = go(Path(folder) / "went", *stages)
    assert went.decisive(always) == expected.decisive(always)


# ---- killed, and refused --------------------------------------------------------------------------------------------


class _KilledError(Exception):
    pass


def _die() -> None:
    raise _KilledError


def test_killed_anywhere_it_is_the_old_store_or_the_new_one(rows: list[Row], tmp_path: Path) -> None:
    path, before = tmp_path / "out" / app.STORE, config("content: full")
    after = config("rules: [{name: Other, signal: response_refusal, on: drift}]")
    with few_signals(names=FEW):
        begin(tmp_path, before)
        app.replay(before, tmp_path / "out", [str(write(tmp_path / "0.jsonl", lines(rows[:1_800])))], resume=True)
    kept, old = path.read_bytes(), held(path)
    with few_signals(names=SIGNALS):
        begin(tmp_path, after)
        new, steps = held(path), 0
        while True:
            path.write_bytes(kept)
            ended = not died(path, after, steps)
            assert held(path) in ((new,) if ended else (old, new))
            begin(tmp_path, after)
            assert held(path) == new
            if ended:
                break
            steps += 1
    assert steps > 10


def died(path: Path, wanted: Config, steps: int) -> bool:
    """Whether a begin that is killed before its so manieth statement came so far."""

    class Mortals(Store):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self._db = Mortal(self._db, steps, _die)  # type: ignore[assignment]

    with patch.object(app, "Store", Mortals):
        try:
            begin(path.parent.parent, wanted)
        except _KilledError:
            return True
    return False


def held(path: Path) -> tuple[dict[str, str], list[tuple[str, str, bytes]], list[str]]:
    with closing(Store(path)) as store:
        return store.meta(), store.blobs(), store.notices()


MADE = Made(app.settings_text(parse(TIMES, "test")), {"cost": "numeric log", "error": "rate"})


def made(more: str = "", *, windows: str = "1m", size: str = "6m", reference: str = "") -> Made:
    """The same signals with another configuration."""
    return Made(app.settings_text(config(more, windows=windows, size=size)), MADE.signals, reference)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (made("streams: {by: tenant}"), 'streams.by: x.db was made with "model", and it is "tenant" now; '),
        (made("streams: {segments: [segment]}"), "streams.segments: x.db was made with "),
        (made("streams: {arms: [model_version]}"), "streams.arms: x.db was made with "),
        (made(windows="30s"), 'windows: x.db was made with ["1m"], and it is ["30s"] now; '),
        (made(size="7m"), 'reference: x.db was made with {"kind": "learned", '),
        (made(reference="abc"), "reference.path: x.db was made with the reference , and it is abc now"),
    ],
)
def test_what_a_store_cannot_go_on_with_is_refused_with_the_key_and_what_to_do(after: Made, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        compare(MADE, after, "x.db")
    (line,) = str(refused.value).splitlines()
    assert line.startswith(said)
    assert line.endswith(": put back what was there, or give another store.path, where everything is learned anew")


def test_all_that_is_refused_is_said_at_once() -> None:
    with pytest.raises(RefusedError) as refused:
        compare(MADE, made("streams: {by: tenant}", windows="30s"), "x.db")
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["streams.by", "windows"]


def test_signals_that_a_file_was_learned_with_cannot_change() -> None:
    of_file = replace(MADE, reference="abc")
    with pytest.raises(RefusedError, match=r"^signals: cost: not measured as in the reference abc: put back"):
        compare(of_file, replace(of_file, signals={"error": "rate"}), "x.db")


def test_a_refused_configuration_leaves_the_store_as_it_was(rows: list[Row], tmp_path: Path) -> None:
    go(tmp_path, Stage(rows[:100], A, FEW))
    before = held(tmp_path / "out" / app.STORE)
    with few_signals(names=FEW), pytest.raises(UsageError, match=r"^streams.by: "):
        begin(tmp_path, config("streams: {by: tenant}", lateness="25s"))
    assert held(tmp_path / "out" / app.STORE) == before


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ("lateness: 1m", ["lateness"]),
        ("skew: 1m", ["skew"]),
        ("signals: {matters: {error: 0.2}}", ["signals.matters.error"]),
        ("streams: {at_most: 7}", ["streams.at_most"]),
        ("sources: [{kind: files, paths: [a]}]", ["sources"]),
        ("built_in_rules: []", ["built_in_rules"]),
        ("content: none", ["content"]),
        ("false_alarms: {at_most: 2}", ["false_alarms.at_most"]),
        ("store: {path: elsewhere}\nlog: {format: json}\nidle_after: 5m", []),
    ],
)
def test_what_needs_nothing_keeps_all_signals(more: str, keys: list[str]) -> None:
    changes = compare(MADE, Made(app.settings_text(parse(TIMES + more, "test")), MADE.signals), "x.db")
    assert (changes.keys, changes.kept) == (keys, ["cost", "error"])
    assert not changes.lost | changes.learning


def test_another_cap_on_streams_holds_from_then_on(tmp_path: Path) -> None:
    rows = make_log(1, 600, streams=4, segments=1)
    late = [row | {"model": f"new-{number % 3}", "ts": row["ts"] + 140_000} for number, row in enumerate(rows)]
    late = [row | {"id": f"late-{row['id']}"} for row in late if "kind" not in row]
    went = go(
        tmp_path,
        Stage(rows + late[:30], config("streams: {at_most: 5}", lateness="25s"), FEW),
        Stage(late[30:], config("streams: {at_most: 2}", lateness="25s"), FEW),
    )
    assert {reading.stream for reading in went.readings} == {"bot-0", "bot-1", "bot-2", "bot-3", "other"}


@pytest.mark.parametrize("more", ["lateness: 1s", "lateness: 2m", "signals: {matters: {latency_seconds: 0.001}}"])
def test_what_was_learned_goes_on_where_times_or_matters_change(more: str, rows: list[Row], tmp_path: Path) -> None:
    before, after = parted(sorted(rows, key=lambda row: row["ts"]), 0.45)
    plain = parse(f"{TIMES}{'' if 'lateness' in more else 'lateness: 0s'}", "test")
    other = parse(f"{TIMES}{more}{'' if 'lateness' in more else chr(10) + 'lateness: 0s'}", "test")
    expected = go(tmp_path / "expected", Stage(before + after, plain, SIGNALS))
    went = go(tmp_path / "went", Stage(before, plain, SIGNALS), Stage(after, other, SIGNALS))
    assert went.decisive(SIGNALS) == expected.decisive(SIGNALS)


def test_rules_alone_touch_neither_what_was_learned_nor_windows(rows: list[Row], tmp_path: Path) -> None:
    go(tmp_path, Stage(rows[:2_500], A, SIGNALS))
    _, before, _ = held(tmp_path / "out" / app.STORE)
    with few_signals():
        begin(tmp_path, RULED)
    _, after, _ = held(tmp_path / "out" / app.STORE)
    differing = {key for table, key, data in set(after) ^ set(before) if table == "engine"}
    assert {table for table, _, _ in set(after) ^ set(before)} <= {"engine"}
    assert differing == {"spending"}
    assert ("engine", "spending", msgspec.msgpack.encode(Spending())) in after  # of another budget


def test_nothing_is_written_of_what_could_not_be_read_again(rows: list[Row], tmp_path: Path) -> None:
    go(tmp_path, Stage(rows[:2_500], A, FEW))
    path = tmp_path / "out" / app.STORE
    with closing(Store(path)) as store:
        ((_, key, evidence),) = [blob for blob in store.blobs() if blob[0] == "evidence"]
        shares, vectors = msgspec.msgpack.decode(evidence)
        names, counts, columns = msgspec.msgpack.decode(shares)
        other = msgspec.msgpack.encode((msgspec.msgpack.encode((names[::-1], counts, columns)), vectors))
        store.commit(checkpoint(store, [Blob("evidence", key, other)]))
    before = held(path)
    with few_signals(), pytest.raises(UsageError, match=r"cannot go on with this configuration: evidence of other"):
        begin(tmp_path, A)
    assert held(path) == before


def checkpoint(store: Store, blobs: Sequence[Blob]) -> Checkpoint:
    return Checkpoint({}, blobs, store.counts(), (), (), (), (), (), {})


def test_records_go_along_with_what_was_said_where_samples_need_it_and_only_there() -> None:
    none, n = records(each=1), len(records(each=1))
    signals = {"score": Signal("score", "numeric", "unit"), "of": Signal("of", "category")}
    found = none.fitted(signals, ["score"], said=True)
    assert found.transcripts is not None
    assert found.transcripts.prompt.tolist() == [None] * n
    assert np.isnan(np.asarray(found.values["score"])).all()
    assert found.values.keys() == signals.keys()
    assert found.fitted(signals, [], said=False).transcripts is None
    assert concatenate([found, found]).take(np.arange(2 * n)).transcripts is not None
