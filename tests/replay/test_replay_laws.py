"""The laws of a replay: what a log comes to depends on its records alone.

Each law is a function of a way to replay; beside it stands a planted fault that it must notice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace as changed
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor import slices, watermark
from monitor.engine import Step
from monitor.model import OTHER
from monitor.pipeline import Pipeline
from monitor.sampling import Sample
from tests.replay.logs import (
    CENTURY,
    START,
    Result,
    Row,
    config,
    lines,
    make_log,
    replay,
    replay_in_parts,
    same,
    shuffled,
    spread,
    write,
)
from tests.test_sampling import first_come

HOUR = 3_600_000


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Path, Result]:
    """A log in order of time, in one file, and what it comes to."""
    folder = tmp_path_factory.mktemp("ordered")
    rows = make_log(1)
    log = write(folder / "log.jsonl", lines(rows))
    return rows, log, replay(config(), folder / "out", log)


def test_the_log_of_these_tests_has_something_to_find(ordered: tuple[list[Row], Path, Result]) -> None:
    rows, _, result = ordered
    assert result.records == {"counted": len(rows)}
    verdicts = {(row["signal"], row["verdict"]) for row in map(json.loads, result.readings.splitlines())}
    assert {("response_refusal", "drift"), ("latency_seconds", "drift"), ("volume", "ok")} <= verdicts
    assert {signal for signal, verdict in verdicts if verdict == "insufficient"} >= {"feedback", "status"}
    alerts = list(map(json.loads, result.alerts.splitlines()))
    assert {row["stream"] for row in alerts if row["rule"] == "AnyDrift"} == {"bot-0", "bot-1"}
    assert any(row["segment"] for row in alerts)


# ---- batches --------------------------------------------------------------------------------------------------------


def disorderly(seed: int) -> list[bytes]:
    """Out of order within the lateness and beyond, with copies, feedback about nothing, and lines that are none."""
    rng = np.random.default_rng(seed)
    rows = shuffled(make_log(seed, 1_200, per_second=1.8), seed, 12_000)
    rows += [
        {"kind": "feedback", "id": f"astray-{i}", "ts": row["ts"], "of": "nobody", "feedback": 1}
        for i, row in enumerate(rows[5:1000:60])
    ]
    rows = shuffled(rows, seed + 1, 2_000)
    for at in range(300, len(rows), 100):
        rows.insert(at, {**rows[at], "id": f"late-{at}", "ts": rows[at]["ts"] - 60_000})
        rows.insert(at - 50, {**rows[at], "id": f"leap-{at}", "ts": rows[at]["ts"] + 2 * HOUR})
    rows.insert(700, {**rows[700], "id": "leap", "ts": START + CENTURY})
    messages = lines(rows)
    for at in rng.integers(0, len(messages), 60).tolist():
        copy = messages[at] if at % 3 else messages[at].replace(b"lamp", b"camp")
        messages.insert(min(at + int(rng.integers(1, 9)), len(messages)), copy)
    for at in rng.integers(0, len(messages), 10).tolist():
        messages.insert(at, (b"{", b'{"id": "no time"}', b'{"ts": "never"}')[at % 3])
    return messages


def law_of_batches(folder: Path, sizes: Sequence[int], *, sampled: bool = False) -> Result:
    """Any number of messages at a time gives the same."""
    messages = disorderly(2)
    log = write(folder / "log.jsonl", messages)
    more = "signals: {sample: 8}" if sampled else ""
    few = config(more, windows="1m, 2m", size="12m", lateness="10s") if len(sizes) > 2 else config(more, lateness="10s")
    results = [replay(few, folder / f"out-{size}", log, batch=size, sampled=sampled) for size in sizes]
    for result in results:
        assert result.total == len(messages)
        same(result, results[0])
    return results[0]


def test_any_batch_size_gives_the_same(tmp_path: Path) -> None:
    result = law_of_batches(tmp_path, (4096, 7, 100, 100_000))
    expected = {"late", "early", "duplicate", "conflicting", "unjoined", "unparseable", "no_ts", "bad_ts", "counted"}
    assert set(result.records) == expected


def test_any_batch_size_gives_the_same_of_samples(tmp_path: Path) -> None:
    result = law_of_batches(tmp_path, (4096, 7), sampled=True)
    assert b'"rff_mmd"' in result.readings


def test_the_law_of_batches_notices_samples_of_those_who_came_first(tmp_path: Path) -> None:
    with patch.object(Sample, "joined", first_come), pytest.raises(AssertionError):
        law_of_batches(tmp_path, (4096, 7), sampled=True)


def test_the_law_of_batches_notices_leaps_that_are_judged_at_the_end_of_a_batch(tmp_path: Path) -> None:
    judge = watermark.judge

    def hasty(*args: object, **more: object) -> object:
        return judge(*args, **{**more, "ended": True})  # type: ignore[arg-type]

    with patch.object(watermark, "judge", hasty), pytest.raises(AssertionError):
        law_of_batches(tmp_path, (4096, 7))


# ---- files ----------------------------------------------------------------------------------------------------------


def law_of_files(folder: Path, rows: Sequence[Row], whole: Result, files: int, *, sampled: bool = False) -> None:
    """The records over any number of files give the same."""
    folder.mkdir(exist_ok=True)
    logs = spread(folder / f"{files}", lines(rows), files, files)
    same(replay(config(), folder / f"out-{files}", *logs, sampled=sampled), whole)


@pytest.mark.parametrize("files", [3, 40])
def test_any_number_of_files_gives_the_same(
    tmp_path: Path, ordered: tuple[list[Row], Path, Result], files: int
) -> None:
    rows, _, whole = ordered
    law_of_files(tmp_path, rows, whole, files)


def test_any_number_of_files_gives_the_same_of_samples(tmp_path: Path, ordered: tuple[list[Row], Path, Result]) -> None:
    rows, log, _ = ordered
    law_of_files(tmp_path, rows, replay(config(), tmp_path / "whole", log, sampled=True), 3, sampled=True)


def test_the_law_of_files_notices_a_merge_by_name(tmp_path: Path, ordered: tuple[list[Row], Path, Result]) -> None:
    rows, _, whole = ordered
    with (
        patch.object(watermark.Admission, "order", lambda self, names, _: [n for n in names if n in self.partitions]),
        patch.object(
            watermark.Admission, "advance", lambda self: max(t.reached for t in self.partitions.values() if t.reached)
        ),
        pytest.raises(AssertionError),
    ):
        law_of_files(tmp_path, rows, whole, 3)


# ---- stops ----------------------------------------------------------------------------------------------------------


def in_order_of_time(folder: Path, messages: Sequence[bytes], cuts: Sequence[int]) -> list[Path]:
    bounds = [0, *cuts, len(messages)]
    return [write(folder / f"{i:02}.jsonl", messages[begin:end]) for i, (begin, end) in enumerate(pairwise(bounds))]


CUTS = (8, 700, 712, 2200)
"""Among them a file of 8 records and one of 12: too few to decide on a first record."""


@pytest.mark.parametrize("listed", ["all so far", "the new one"])
def test_files_that_come_one_by_one_give_the_same(
    tmp_path: Path, ordered: tuple[list[Row], Path, Result], listed: str
) -> None:
    rows, _, whole = ordered
    files = in_order_of_time(tmp_path / "logs", lines(rows), CUTS)
    parts = [files[: i + 1] if listed == "all so far" else [files[i]] for i in range(len(files))]
    same(replay_in_parts(config(), tmp_path / "out", parts), whole)


def law_of_growing(folder: Path, seed: int) -> None:
    """A file that is read again and again while it grows, cut anywhere, gives what it gives when it is read once."""
    data = b"".join(message + b"\n" for message in disorderly(seed))
    few = config(lateness="10s")
    whole = folder / "whole.jsonl"
    whole.write_bytes(data)
    expected = replay(few, folder / "out", whole)
    at_the_leap = data.index(b'"leap"')
    cuts = sorted([*np.random.default_rng(seed).integers(0, len(data), 2).tolist(), at_the_leap + 900])
    growing = folder / "growing.jsonl"
    for cut in [*cuts, len(data)]:
        growing.write_bytes(data[:cut])
        replay(few, folder / "grown", growing, resume=True, batch=300)
    same(replay(few, folder / "grown", resume=True), expected)


def test_a_growing_file_cut_anywhere_gives_the_same(tmp_path: Path) -> None:
    law_of_growing(tmp_path, 3)


def test_the_law_of_growing_notices_held_records_that_are_dropped(tmp_path: Path) -> None:
    resume = Pipeline.resume

    def forgetful(self: Pipeline) -> None:
        resume(self)
        for name, time in self.admission.partitions.items():
            self.admission.partitions[name] = changed(time, held=None)

    with patch.object(Pipeline, "resume", forgetful), pytest.raises(AssertionError):
        law_of_growing(tmp_path, 3)


# ---- copies ---------------------------------------------------------------------------------------------------------


def test_copies_change_nothing_but_their_count(tmp_path: Path, ordered: tuple[list[Row], Path, Result]) -> None:
    rows, _, whole = ordered
    messages = lines(rows)
    every_third = {at: messages[at] for at in range(0, len(messages), 3)}
    twice = [copy for at, message in enumerate(messages) for copy in (message, every_third.get(at)) if copy]
    found = replay(config(), tmp_path / "out", write(tmp_path / "log.jsonl", twice), batch=200)
    assert found.records == {"counted": len(rows), "duplicate": len(every_third)}
    same(changed(found, records=whole.records), whole)


def test_a_log_given_twice_under_two_names_counts_once(tmp_path: Path, ordered: tuple[list[Row], Path, Result]) -> None:
    rows, log, whole = ordered
    found = replay(config(), tmp_path / "out", log, write(tmp_path / "copy.jsonl.gz", lines(rows)))
    assert found.records == {"counted": len(rows), "duplicate": len(rows)}
    same(changed(found, records=whole.records), whole)


def test_copies_that_say_something_else_are_counted_conflicting(
    tmp_path: Path, ordered: tuple[list[Row], Path, Result]
) -> None:
    rows, _, whole = ordered
    both = [
        copy for i, row in enumerate(rows) for copy in ((row, {**row, "prompt": "what?"}) if i % 10 == 0 else (row,))
    ]
    found = replay(config(), tmp_path / "out", write(tmp_path / "log.jsonl", lines(both)), batch=200)
    assert found.records == {"counted": len(rows), "conflicting": -(-len(rows) // 10)}
    same(changed(found, records=whole.records), whole)


# ---- gaps and absurd times ------------------------------------------------------------------------------------------


def with_gaps(rows: Sequence[Row]) -> list[Row]:
    """Nothing for five hours in the middle of what is learned, and for nine near the end."""
    times = sorted(row["ts"] for row in rows)
    first, second = times[len(times) // 4], times[-12]
    return [{**row, "ts": row["ts"] + 5 * HOUR * (row["ts"] > first) + 9 * HOUR * (row["ts"] > second)} for row in rows]


def test_gaps_of_hours_lose_nothing_in_one_file_or_many(tmp_path: Path) -> None:
    rows = with_gaps(make_log(5, 900, per_second=1.8))
    results = []
    for files in (1, 30):
        steps: list[Step] = []
        logs = spread(tmp_path / f"{files}", lines(rows), files, 1)
        results.append(replay(config(), tmp_path / f"out-{files}", *logs, on_step=steps.append))
        assert results[-1].records == {"counted": len(rows)}
        assert len(steps) < 900  # 14 hours are 10,080 slices
    same(*results)


ABSURD = {"a century ahead": (START + CENTURY, "early"), "1970": (1, "stale")}


def law_of_absurd_times(folder: Path, rows: Sequence[Row], whole: tuple[Result, int], what: str, where: str) -> None:
    """One absurd time loses that record only, and no time is spent on the years between."""
    ts, fate = ABSURD[what]
    at = {"first": 0, "middle": len(rows) // 2, "last": len(rows), "third last": len(rows) - 2}[where]
    odd = {**rows[0], "id": "odd", "ts": ts}
    steps: list[Step] = []
    log = write(folder / "log.jsonl", lines([*rows[:at], odd, *rows[at:]]))
    found = replay(config(), folder / "out", log, batch=500, on_step=steps.append)
    lost = fate if ts > START or at == 0 else "late"
    assert found.records == {"counted": len(rows), lost: 1}
    same(changed(found, records=whole[0].records), whole[0])
    assert len(steps) == whole[1]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Result, int]:
    """A short log, what it comes to, and in how many steps."""
    folder = tmp_path_factory.mktemp("short")
    rows, steps = make_log(6, 400, per_second=2), list[Step]()
    log = write(folder / "log.jsonl", lines(rows))
    return rows, replay(config(), folder / "out", log, on_step=steps.append), len(steps)


@pytest.mark.parametrize("where", ["first", "middle", "third last", "last"])
@pytest.mark.parametrize("what", ABSURD)
def test_one_absurd_time_loses_that_record_only(
    tmp_path: Path, short: tuple[list[Row], Result, int], what: str, where: str
) -> None:
    rows, whole, steps = short
    law_of_absurd_times(tmp_path, rows, (whole, steps), what, where)


def test_the_law_of_absurd_times_notices_a_leap_that_is_believed(
    tmp_path: Path, short: tuple[list[Row], Result, int]
) -> None:
    rows, whole, steps = short
    with patch.object(watermark, "_believed", lambda *_, **__: True), pytest.raises(AssertionError):
        law_of_absurd_times(tmp_path, rows, (whole, steps), "a century ahead", "last")


def law_of_absurd_times_in_files(
    folder: Path, short: tuple[list[Row], Result, int], what: str, files: int, seed: int
) -> None:
    """With 380 files most hold one or two records; the absurd one is put before, between and behind its neighbours."""
    rows, whole, expected_steps = short
    ts, fate = ABSURD[what]
    odd = json.dumps({**rows[0], "id": "odd", "ts": ts}).encode()
    at = (0, len(rows), len(rows) // 2)[seed]
    messages = lines(rows)
    logs = spread(folder / "logs", [*messages[:at], odd, *messages[at:]], files, seed)
    steps: list[Step] = []
    found = replay(config(), folder / "out", *logs, on_step=steps.append)
    lost = {"early": ("early",), "stale": ("stale", "late")}[fate]
    assert found.records in [{"counted": len(rows), name: 1} for name in lost]
    same(changed(found, records=whole.records), whole)
    assert len(steps) == expected_steps


@pytest.mark.parametrize(("files", "seed"), [(3, 0), (40, 1), (380, 0), (380, 1), (380, 2)])
@pytest.mark.parametrize("what", ABSURD)
def test_one_absurd_time_among_many_files_loses_that_record_only(
    tmp_path: Path, short: tuple[list[Row], Result, int], what: str, files: int, seed: int
) -> None:
    law_of_absurd_times_in_files(tmp_path, short, what, files, seed)


def test_the_law_of_absurd_times_in_files_notices_files_that_are_judged_by_themselves(
    tmp_path: Path, short: tuple[list[Row], Result, int]
) -> None:
    nowhere = np.empty((0, 2), np.int64)
    with patch.object(watermark.Admission, "_elsewhere", lambda *_: nowhere), pytest.raises(AssertionError):
        law_of_absurd_times_in_files(tmp_path, short, "a century ahead", 380, 1)


def test_an_absurd_time_in_a_file_of_its_own_loses_that_record_only(
    tmp_path: Path, short: tuple[list[Row], Result, int]
) -> None:
    rows, whole, expected_steps = short
    good = write(tmp_path / "logs" / "good.jsonl", lines(rows))
    for what, (ts, fate) in ABSURD.items():
        odd = write(tmp_path / "logs" / f"{what}.jsonl", lines([{**rows[0], "id": "odd", "ts": ts}]))
        steps: list[Step] = []
        found = replay(config(), tmp_path / what, odd, good, on_step=steps.append)
        assert found.records == {"counted": len(rows), fate: 1}
        same(changed(found, records=whole.records), whole)
        assert len(steps) == expected_steps


# ---- sums -----------------------------------------------------------------------------------------------------------

KINDS = ("good", "copy", "conflict", "late", "leap", "astray", "broken", "no time", "past", "blank")


def mixed(drawn: Sequence[tuple[str, int]]) -> list[bytes]:
    """A message of each drawn kind, so many milliseconds after the one before."""
    messages, now, good = [], START, [{"id": "a", "ts": START, "model": "m"}]
    for number, (kind, gap) in enumerate(drawn):
        now += gap
        own = {"id": f"{number}", "model": "m"}
        row: Row = {**own, "ts": now}
        known = good[number % len(good)]
        made: dict[str, Row] = {
            "good": row,
            "copy": known,
            "conflict": {**known, "prompt": f"{number}"},
            "late": {**own, "ts": now - 120_000},
            "leap": {**own, "ts": now + CENTURY},
            "past": {**own, "ts": gap},
            "astray": {"kind": "feedback", "id": f"{number}", "ts": now, "of": known["id"], "feedback": 1},
            "no time": own,
        }
        if kind == "good":
            good.append(row)
        messages.append({"broken": b"{", "blank": b"  "}.get(kind) or json.dumps(made[kind]).encode())
    return messages


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    drawn=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3_000)), min_size=1, max_size=120),
    files=st.integers(1, 4),
    batch=st.sampled_from([3, 50, 4096]),
    stop=st.booleans(),
)
def test_counts_by_fate_add_up_to_the_records(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[str, int]],
    files: int,
    batch: int,
    stop: bool,  # noqa: FBT001
) -> None:
    folder = tmp_path_factory.mktemp("sums")
    messages = mixed(drawn)
    logs = spread(folder / "logs", messages, files, len(drawn))
    total = sum(kind != "blank" for kind, _ in drawn)
    if stop:
        left_open = replay(config(), folder / "out", *logs, batch=batch, resume=True)
        assert left_open.total == total
        result = replay(config(), folder / "out", resume=True)
    else:
        result = replay(config(), folder / "out", *logs, batch=batch)
    assert result.total == total
    assert not {"held", "waiting"} & set(result.records)


# ---- caps -----------------------------------------------------------------------------------------------------------


def crowd(seed: int, *, staggered: bool = False) -> list[Row]:
    """Five streams of six segments, in any order within a slice; `staggered`: new ones come with time."""
    rows = [row for row in make_log(7, 700, per_second=4, streams=1, segments=1) if "kind" not in row]
    for number, row in enumerate(rows):
        row["ts"] = row["ts"] // 5_000 * 5_000
        names = 2 + min(3, (row["ts"] - START) // 20_000) if staggered else 5
        row["model"] = f"bot-{number * 7919 % names}"
        row["labels"] = {"segment": f"tenant-{number * 104729 % 1_009 % (names + 1)}"}
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    return sorted((rows[at] for at in order), key=lambda row: row["ts"])


def law_of_caps(folder: Path, *, staggered: bool = False) -> None:
    """Whatever the order of names, the same are kept apart; the rest is in `other`, and no record is lost."""
    capped = config("streams: {at_most: 2}")
    results = []
    for seed, batch in ((0, 4096), (1, 4096), (2, 13), (0, 40)):
        rows = crowd(seed, staggered=staggered)
        log = write(folder / f"log-{seed}-{batch}.jsonl", lines(rows))
        results.append(replay(capped, folder / f"out-{seed}-{batch}", log, batch=batch))
        assert results[-1].records == {"counted": len(rows)}
    for result in results:
        same(result, results[0])
    readings = list(map(json.loads, results[0].readings.splitlines()))
    scopes = {(row["stream"], row["segment"]) for row in readings}
    streams = {stream for stream, _ in scopes}
    assert len(streams) == 3
    assert "other" in streams
    for stream in streams:
        segments = {segment for name, segment in scopes if name == stream} - {None}
        assert len(segments) == 3
        assert "segment=other" in segments
    counted = [row for row in readings if (row["signal"], row["at"]) == ("latency_seconds", readings[0]["at"])]
    whole = sum(row["n"] for row in counted if row["segment"] is None)
    assert whole == sum(row["n"] for row in counted if row["segment"]) > 0


def test_caps_admit_the_same_names_in_any_order(tmp_path: Path) -> None:
    law_of_caps(tmp_path)


def test_caps_admit_the_same_names_when_new_ones_come_later(tmp_path: Path) -> None:
    law_of_caps(tmp_path, staggered=True)


def test_the_law_of_caps_notices_names_admitted_as_they_come(tmp_path: Path) -> None:
    def at_once(_: object, __: int, names: slices.Names, name: str, ___: object) -> str:
        if len(names.admitted) < names.at_most and name != OTHER:
            names.admitted.append(name)
            return name
        return OTHER

    with patch.object(slices.OpenSlices, "_bounded", at_once), pytest.raises(AssertionError):
        law_of_caps(tmp_path)
