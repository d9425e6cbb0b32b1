"""What windows are held against: a file, a new normal that was accepted, a reference that rolls; the laws of each.

Whatever the reference is, a log comes to the same in any batches and with any stops.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from monitor import app, building, reference_commands
from monitor.acceptance import NotAcceptedError
from monitor.baselines import Baselines
from monitor.config import Config, parse
from monitor.pipeline import Pipeline
from monitor.reference_file import unpack
from monitor.rolling import Rolling
from monitor.store import Store
from tests.replay.logs import START, Result, Row, few_signals, lines, make_log, replay, same, write

LEARNED = START + 360_000


def settings(reference: str, *, windows: str = "1m", more: str = "") -> Config:
    return parse(f"windows: [{windows}]\nreference: {{{reference}}}\nlateness: 0s\n{more}", "test")


def built(config: Config, out: Path, *logs: Path, batch: int = 4096, sampled: bool = False) -> Path:
    with few_signals(sampled=sampled), patch.object(building, "Pipeline", partial(Pipeline, batch=batch)):
        out.write_bytes(building.build(config, [str(log) for log in logs]).data)
    return out


def readings(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.readings.splitlines()]


def alerts(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.alerts.splitlines()]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """One stream of two segments; latency doubles and refusals rise at 480 s. Feedback would need the exchanges."""
    return [row for row in make_log(1, 2_900, per_second=4.5, streams=1, segments=2) if "kind" not in row]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> tuple[Path, Path]:
    """What comes in the first six minutes, and what comes later."""
    folder = tmp_path_factory.mktemp("parts")
    first, rest = ([row for row in rows if (row["ts"] < LEARNED) is early] for early in (True, False))
    return write(folder / "first.jsonl", lines(first)), write(folder / "rest.jsonl", lines(rest))


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, parts: tuple[Path, Path]) -> Path:
    return built(settings("size: 6m"), tmp_path_factory.mktemp("good") / "good.reference", parts[0], sampled=True)


def law_of_files_as_learned(folder: Path, parts: tuple[Path, Path], reference: Path) -> Result:
    """Windows held against a file give what they give where the same was learned before them."""
    learned = replay(settings("until: 2026-01-01T00:06:00Z"), folder / "learned", *parts, sampled=True)
    held = settings(f"kind: file, path: {reference}")
    found = replay(held, folder / "file", parts[1], sampled=True)
    judged = [row for row in readings(learned) if row["verdict"] != "learning"]
    assert readings(found) == judged
    assert [row["at"] for row in alerts(found)] == [row["at"] for row in alerts(learned)]
    return found


def test_a_file_is_as_good_as_having_learned(tmp_path: Path, parts: tuple[Path, Path], good: Path) -> None:
    found = readings(law_of_files_as_learned(tmp_path, parts, good))
    assert {row["at"] for row in found if row["verdict"] == "drift"}
    assert {row["test"] for row in found} >= {"rate_e", "quantile_e", "value_e", "rff_mmd", "range"}
    assert min(row["at"] for row in found) == "2026-01-01T00:07:00.000Z", "the first full window"
    said = json.loads((tmp_path / "file" / "summary.json").read_text())["reference"]
    assert said == {
        "kind": "file",
        "id": unpack(good.read_bytes(), "").id,
        "from": "2026-01-01T00:00:00.000Z",
        "to": "2026-01-01T00:06:00.000Z",
    }


def test_the_law_of_files_notices_a_file_that_learned_something_else(
    tmp_path: Path, parts: tuple[Path, Path], rows: list[Row]
) -> None:
    less = write(tmp_path / "less.jsonl", lines([row for row in rows if row["ts"] < LEARNED - 20_000]))
    other = built(settings("size: 6m"), tmp_path / "other.reference", less, sampled=True)
    with pytest.raises(AssertionError):
        law_of_files_as_learned(tmp_path, parts, other)


def test_the_same_logs_make_the_same_bytes(
    tmp_path: Path, parts: tuple[Path, Path], good: Path, rows: list[Row]
) -> None:
    in_many = built(settings("size: 6m"), tmp_path / "many", parts[0], batch=97, sampled=True)
    assert in_many.read_bytes() == good.read_bytes()
    until = built(settings("until: 2026-01-01T00:06:00Z"), tmp_path / "until", *parts, sampled=True)
    assert until.read_bytes() == good.read_bytes(), "that the logs go on behind the end changes nothing"
    one_less = write(tmp_path / "less.jsonl", lines([row for row in rows if row["ts"] < LEARNED][1:]))
    less = built(settings("size: 6m"), tmp_path / "less", one_less, sampled=True)
    assert unpack(less.read_bytes(), "").id != unpack(good.read_bytes(), "").id


def test_windows_that_overlap_the_reference_are_not_judged(tmp_path: Path, rows: list[Row]) -> None:
    """A file of what begins at four minutes: windows before it are judged; nothing is behind it."""
    log = write(tmp_path / "log.jsonl", lines(rows))
    late = write(tmp_path / "late.jsonl", lines([row for row in rows if row["ts"] >= START + 240_000]))
    middle = built(settings("size: 6m"), tmp_path / "middle", late)
    found = readings(replay(settings(f"kind: file, path: {middle}"), tmp_path / "out", log))
    spans = {(row["window_start"], row["at"]) for row in found}
    assert spans == {(f"2026-01-01T00:0{i}:00.000Z", f"2026-01-01T00:0{i + 1}:00.000Z") for i in range(4)}


def test_scopes_that_a_file_lacks_learn_for_as_long_as_it_did(tmp_path: Path, rows: list[Row]) -> None:
    named = [{**row, "model": "bot-1"} for row in rows]
    log = write(tmp_path / "log.jsonl", lines([row for row in rows if row["ts"] < LEARNED]))
    good = built(settings("size: 6m"), tmp_path / "good", log)
    other = write(tmp_path / "other.jsonl", lines([{**row, "id": f"o{row['id']}"} for row in named]))
    found = readings(replay(settings(f"kind: file, path: {good}"), tmp_path / "out", other))
    learning = {row["at"] for row in found if row["verdict"] == "learning"}
    assert (min(learning), max(learning)) == ("2026-01-01T00:01:00.000Z", "2026-01-01T00:05:00.000Z")
    assert min(row["at"] for row in found if row["verdict"] != "learning") == "2026-01-01T00:07:00.000Z"


def test_a_store_goes_on_with_its_own_reference_only(
    tmp_path: Path, parts: tuple[Path, Path], good: Path, rows: list[Row]
) -> None:
    copy = tmp_path / "copy.reference"
    copy.write_bytes(good.read_bytes())
    half = write(tmp_path / "half.jsonl", lines([row for row in rows if LEARNED <= row["ts"] < LEARNED + 200_000]))
    rest = write(tmp_path / "rest.jsonl", lines([row for row in rows if row["ts"] >= LEARNED + 200_000]))
    whole = replay(settings(f"kind: file, path: {good}"), tmp_path / "whole", parts[1], sampled=True)
    replay(settings(f"kind: file, path: {copy}"), tmp_path / "out", half, resume=True, batch=100, sampled=True)
    moved = good  # the same content at another place
    replay(settings(f"kind: file, path: {moved}"), tmp_path / "out", rest, resume=True, batch=300, sampled=True)
    same(replay(settings(f"kind: file, path: {moved}"), tmp_path / "out", resume=True, sampled=True), whole)
    built(settings("size: 6m"), copy, half, sampled=True)
    with pytest.raises(app.UsageError, match=r"was made with the reference [0-9a-f]{12}, not with [0-9a-f]{12}"):
        replay(settings(f"kind: file, path: {copy}"), tmp_path / "out", resume=True, sampled=True)


# ---- a new normal ---------------------------------------------------------------------------------------------------

LATENCY = "AnyDrift/bot-0"
RULES = """
rules:
  - {name: AnyDrift, signal: "*", on: drift}
  - {name: Slow, signal: latency_seconds, window: 1m, on: {value: mean, above: 1.5}}
"""


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Latency doubles for good at 480 s, and nothing else changes; cut at 600 s, of 1,100."""
    rng = np.random.default_rng(5)
    rows = [row for row in make_log(5, 5_500, per_second=5, streams=1, segments=2) if "kind" not in row]
    for row in rows:
        late = row["ts"] >= START + 480_000
        row |= {"response": "It is a lamp.", "status": "ok"}
        row["latency_seconds"] = round(float(rng.lognormal(0.7 if late else 0.0, 0.4)), 3)
    folder = tmp_path_factory.mktemp("long")
    halves = ([row for row in rows if (row["ts"] < START + 600_000) is early] for early in (True, False))
    first, rest = (write(folder / f"{name}.jsonl", lines(half)) for name, half in zip("ab", halves, strict=True))
    return first, rest


def accepted(out: Path, alert: str = LATENCY) -> Any:
    store = Store(out / app.STORE)
    try:
        return reference_commands._accepted(store, alert, "ada", "new hardware")
    finally:
        store.close()


def run_in_halves(
    out: Path, halves: Sequence[Path], *, reference: str = "size: 6m", batch: int = 4096, alert: str | None = LATENCY
) -> Result:
    """The first half, what is accepted then, and the rest."""
    config = settings(reference, more=RULES)
    replay(config, out, halves[0], resume=True, batch=batch)
    if alert is not None:
        accepted(out, alert)
    replay(config, out, halves[1], resume=True, batch=batch)
    return replay(config, out, resume=True)


def test_an_accepted_change_is_learned_and_all_else_goes_on(tmp_path: Path, long: tuple[Path, Path]) -> None:
    before, after = (readings(run_in_halves(tmp_path / str(alert), long, alert=alert)) for alert in (None, LATENCY))
    others = [[row for row in found if row["signal"] != "latency_seconds"] for found in (before, after)]
    for old, new in zip(*others, strict=True):
        differing = {key for key in old if old[key] != new[key]}
        assert differing <= {"p_value"}, "to the order of a sum"
        assert old["p_value"] == new["p_value"] or old["p_value"] == pytest.approx(new["p_value"], rel=1e-9)
    latency = [row for row in after if row["signal"] == "latency_seconds" and row["at"] > "2026-01-01T00:10:00"]
    learning = {row["at"] for row in latency if row["verdict"] == "learning"}
    assert (min(learning), max(learning)) == ("2026-01-01T00:10:00.000Z", "2026-01-01T00:15:00.000Z")
    judged = [row for row in latency if row["verdict"] != "learning"]
    assert min(row["at"] for row in judged) == "2026-01-01T00:16:55.000Z", "the first window behind what was learned"
    assert {row["verdict"] for row in judged} <= {"ok", "insufficient"}
    assert all(row["reference_value"] > 1.6 for row in judged)
    untouched = [row for row in before if row["signal"] == "latency_seconds" and row["at"] > "2026-01-01T00:10:00"]
    assert {row["verdict"] for row in untouched if row["segment"] is None} == {"drift"}


def test_the_alert_resolves_with_those_of_its_segments_and_no_fixed_level(
    tmp_path: Path, long: tuple[Path, Path]
) -> None:
    said = alerts(run_in_halves(tmp_path, long))
    over = [row for row in said if row["reason"] == "rebaselined"]
    assert {(row["rule"], row["stream"], row["segment"]) for row in over} == {
        ("AnyDrift", "bot-0", None),
        ("AnyDrift", "bot-0", "segment=tenant-0"),
        ("AnyDrift", "bot-0", "segment=tenant-1"),
    }
    assert {(row["at"], row["state"]) for row in over} == {("2026-01-01T00:09:55.000Z", "resolved")}
    assert all("accepted as the new normal at 2026-01-01T00:09:55.000Z by ada" in row["summary"] for row in over)
    later = [row for row in said if row["at"] > "2026-01-01T00:10:00"]
    assert not [row for row in later if row["rule"] == "AnyDrift"]


def test_a_segments_alert_is_accepted_for_the_segment_alone(tmp_path: Path, long: tuple[Path, Path]) -> None:
    found = run_in_halves(tmp_path, long, alert=f"{LATENCY}/segment=tenant-1")
    (row,) = (row for row in alerts(found) if row["reason"] == "rebaselined")
    assert row["segment"] == "segment=tenant-1"
    late = [r for r in readings(found) if r["signal"] == "latency_seconds" and r["at"] == "2026-01-01T00:12:00.000Z"]
    assert {r["segment"]: r["verdict"] for r in late} == {
        None: "drift",
        "segment=tenant-0": "drift",
        "segment=tenant-1": "learning",
    }


def law_of_acceptance(folder: Path, halves: tuple[Path, Path], batches: Sequence[int]) -> None:
    """In any batches, and stopped anywhere behind it, an accepted alert gives the same."""
    whole = run_in_halves(folder / "whole", halves)
    for batch in batches:
        out = folder / f"{batch}"
        config = settings("size: 6m", more=RULES)
        replay(config, out, halves[0], resume=True, batch=batch)
        accepted(out)
        lines_ = halves[1].read_bytes().splitlines()
        cuts = [0, 50, 1_100, 1_101, len(lines_)]
        for begin, end in pairwise(cuts):
            part = write(folder / f"{batch}-{begin}.jsonl", lines_[begin:end])
            replay(config, out, part, resume=True, batch=batch)
        same(replay(config, out, resume=True), whole)


def test_an_accepted_alert_gives_the_same_in_any_batches_and_with_stops(
    tmp_path: Path, long: tuple[Path, Path]
) -> None:
    law_of_acceptance(tmp_path, long, (150,))


def test_the_law_of_acceptance_notices_signals_that_are_not_taken_over_after_a_stop(
    tmp_path: Path, long: tuple[Path, Path]
) -> None:
    restore = Baselines.restore

    def forgetful(self: Baselines, *state: Any) -> None:
        restore(self, *state)
        if any(part.number and found.total.records for part, found in self.learning.items()):
            self.taken = {}

    with patch.object(Baselines, "restore", forgetful), pytest.raises(app.UsageError, match="evidence of other series"):
        law_of_acceptance(tmp_path, long, (150,))


def test_what_cannot_be_accepted_is_refused_and_changes_nothing(tmp_path: Path, long: tuple[Path, Path]) -> None:
    replay(settings("size: 6m", more=RULES), tmp_path, long[0], resume=True)

    def state() -> list[Any]:
        store = Store(tmp_path / app.STORE)
        held = [store.blobs(), store.alerts(), list(store.changes())]
        store.close()
        return held

    before = state()
    with pytest.raises(NotAcceptedError, match=r"no live alert 'AnyDrift/bot'; there are: AnyDrift/bot-0, "):
        accepted(tmp_path, "AnyDrift/bot")
    with pytest.raises(NotAcceptedError, match="Slow/bot-0 watches a fixed level"):
        accepted(tmp_path, "Slow/bot-0")
    with patch.object(Store, "_append", side_effect=OSError("disk full")), pytest.raises(OSError, match="disk full"):
        accepted(tmp_path)
    assert state() == before, "all in one transaction"
    assert len(accepted(tmp_path).changes) == 3
    with pytest.raises(NotAcceptedError, match="no live alert 'AnyDrift/bot-0'; there are: Slow/"):
        accepted(tmp_path)


# ---- rolling --------------------------------------------------------------------------------------------------------

ROLLING = "kind: rolling, size: 8m, gap: 1m"


def course(seconds: int, level: Any, seed: int = 3) -> list[Row]:
    """Four records a second of one stream whose latency has the median `level(second)`."""
    rng = np.random.default_rng(seed)
    times = START + np.sort(rng.integers(0, seconds * 1000, 4 * seconds)).astype(np.int64)
    values = np.exp(rng.normal(0, 0.4, len(times))) * level((times - START) / 1000)
    return [
        {"id": f"{i}", "ts": ts, "model": "bot", "latency_seconds": round(value, 4)}
        for i, (ts, value) in enumerate(zip(times.tolist(), values.tolist(), strict=True))
    ]


def verdicts(result: Result) -> dict[str, set[tuple[str, str]]]:
    """Reference -> (verdict, time) of every row on latency."""
    found: dict[str, set[tuple[str, str]]] = {"anchor": set(), "rolling": set(), "": set()}
    for row in readings(result):
        if row["signal"] == "latency_seconds":
            found[row["against"]].add((row["verdict"], row["at"]))
    return found


@pytest.fixture(scope="module")
def jump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latency rises by 60 % for good at 15 minutes, of 34."""
    rows = course(2_040, lambda t: np.where(t < 900, 1.0, 1.6))
    return write(tmp_path_factory.mktemp("jump") / "log.jsonl", lines(rows))


@pytest.fixture(scope="module")
def jumped(tmp_path_factory: pytest.TempPathFactory, jump: Path) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("jumped") / "out"
    return out, replay(settings(ROLLING), out, jump)


def test_a_jump_is_followed_by_the_rolling_reference_and_remembered_by_the_anchor(
    jumped: tuple[Path, Result],
) -> None:
    found = [row for row in readings(jumped[1]) if row["signal"] == "latency_seconds"]
    names = list(found[0])
    assert names[names.index("distances") + 1 :][:4] == ["against", "lacks", "moved", "changed_at"]
    assert names[-4:] == ["trend", "trend_low", "trend_high", "trend_unit"]
    by_time = {row["at"][11:16]: (row["verdict"], row["against"]) for row in found if row["at"].endswith("00.000Z")}
    assert by_time["00:07"][0] == "learning"
    assert by_time["00:09"][1] == "anchor", "there is no rolling reference yet"
    assert by_time["00:12"] in {("ok", "rolling"), ("insufficient", "rolling")}
    assert by_time["00:17"] == ("drift", "rolling"), "where both say so it is the rolling one's"
    assert by_time["00:33"] == ("drift", "anchor"), "eight minutes and the gap behind the jump"
    (fired,) = (row for row in alerts(jumped[1]) if row["state"] == "firing" and row["reason"] != "joined")
    assert fired["signals"] == ["latency_seconds"]


def test_a_slow_ramp_is_found_by_the_anchor_and_not_by_the_rolling_reference_alone(tmp_path: Path) -> None:
    """One per cent a minute: six against the rolling reference, which is less than matters, and forty at the end."""
    log = write(tmp_path / "log.jsonl", lines(course(2_640, lambda t: np.exp(0.01 * t / 60))))
    found = verdicts(replay(settings(ROLLING), tmp_path / "out", log))
    assert {verdict for verdict, _ in found["anchor"]} >= {"drift"}
    assert {verdict for verdict, _ in found["rolling"]} <= {"ok", "insufficient"}
    assert min(at for verdict, at in found["anchor"] if verdict == "drift") < "2026-01-01T00:35"


def test_a_cycle_as_long_as_the_reference_is_no_drift(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", lines(course(2_400, lambda t: np.exp(0.15 * np.sin(2 * np.pi * t / 480)))))
    found = verdicts(replay(settings(ROLLING), tmp_path / "out", log))
    assert {verdict for verdict, _ in found["anchor"] | found["rolling"]} <= {"ok", "insufficient"}
    assert len(found["rolling"]) > 20


def test_the_budget_counts_both_tests(tmp_path: Path, jumped: tuple[Path, Result], jump: Path) -> None:
    replay(settings("size: 8m"), tmp_path, jump)
    learned, rolling = (
        json.loads((out / "summary.json").read_text())["thresholds"]["numeric"]["1m"]["stream"]
        for out in (tmp_path, jumped[0])
    )
    assert rolling == learned / 2


def law_of_rolling(folder: Path, log: Path, whole: Result) -> None:
    """In any batches, and stopped anywhere, a rolling reference gives the same."""
    messages = log.read_bytes().splitlines()
    for cuts, batch in (([0, 2_500, 2_501, 4_400, len(messages)], 400), ([0, len(messages)], 33)):
        for begin, end in pairwise(cuts):
            part = write(folder / f"{batch}-{begin}.jsonl", messages[begin:end])
            replay(settings(ROLLING), folder / f"{batch}", part, resume=True, batch=batch)
        same(replay(settings(ROLLING), folder / f"{batch}", resume=True), whole)


def test_a_rolling_reference_is_the_same_in_any_batches_and_with_stops(
    tmp_path: Path, jump: Path, jumped: tuple[Path, Result]
) -> None:
    law_of_rolling(tmp_path, jump, jumped[1])


def test_the_law_of_rolling_notices_blocks_that_lose_the_slices_they_keep(
    tmp_path: Path, jump: Path, jumped: tuple[Path, Result]
) -> None:
    def few(self: Rolling, held: Any, data: bytes) -> None:
        restore(self, {key: piece for key, piece in held.items() if key[0] != "block_kept"}, data)

    restore = Rolling.restore
    with patch.object(Rolling, "restore", few), pytest.raises(AssertionError):
        law_of_rolling(tmp_path, jump, jumped[1])


def test_what_is_accepted_leaves_the_rolling_reference_until_it_holds_nothing_older(tmp_path: Path, jump: Path) -> None:
    messages = jump.read_bytes().splitlines()
    first, rest = (write(tmp_path / f"{n}", part) for n, part in enumerate((messages[:4_200], messages[4_200:])))
    replay(settings(ROLLING), tmp_path / "out", first, resume=True)
    accepted(tmp_path / "out", "AnyDrift/bot")
    replay(settings(ROLLING), tmp_path / "out", rest, resume=True)
    found = readings(replay(settings(ROLLING), tmp_path / "out", resume=True))
    late = [row for row in found if row["signal"] == "latency_seconds" and row["at"] > "2026-01-01T00:18"]
    assert {row["verdict"] for row in late} <= {"learning", "ok", "insufficient"}
    assert {row["against"] for row in late if row["verdict"] == "learning"} == {""}
    first_rolled = min(row["at"] for row in late if row["against"] == "rolling")
    assert first_rolled >= "2026-01-01T00:28", "nine blocks and the gap behind the 17 minutes and a half"
