"""Another configuration over the same store: what goes on to the last bit, what learns anew, what is refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from monitor import app
from monitor.config import Config
from monitor.continuity import Changes
from monitor.model import AlertChange, Reading
from monitor.settings import MINUTE
from monitor.store import Store
from monitor.windows import SLICES
from tests.replay import logs
from tests.replay.logs import CENTURY, SIGNALS, Row, config, few_signals, lines, make_log, shuffled, write

FEW = tuple(name for name in SIGNALS if name != "latency_seconds")
COARSEST = MINUTE // SLICES
Key = tuple[int, int, str, str | None, str, str]


@dataclass(frozen=True)
class Stage:
    """A part of a log, and with what it is read."""

    rows: Sequence[Row]
    config: Config
    names: Collection[str]
    sampled: bool = False


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


def begin(folder: Path, settings: Config) -> Changes | None:
    (folder / "out").mkdir(exist_ok=True)
    store, changes = app.continue_store(folder / "out" / app.STORE, settings, app.make_engine(settings))
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
