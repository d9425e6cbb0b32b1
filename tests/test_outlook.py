"""What is said of a log or a store: its present traffic, its thresholds, what volume and silence need."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import pytest

from monitor import app
from monitor import outlook as outlook_module
from monitor.app import UsageError
from monitor.config import Config, parse
from monitor.model import Scope
from monitor.outlook import Outlook, foresee
from monitor.readings.foresight import Sight, Traffic, sight_of_shares
from monitor.readings.watched import Watched
from monitor.settings import DAY, MINUTE
from monitor.store import read_only

BOT = Scope("bot")
SIZE = 12 * MINUTE
CONFIG = """
windows: [12m, 24m]
reference: {size: 144m}
streams: {segments: [tenant]}
signals: {embedding: false, toxicity: false, language: false, duplicates: false, text: false}
"""


def lines(pace: Iterable[float]) -> bytes:
    """An exchange every `1 / pace` seconds, minute by minute."""
    found = []
    for minute, each in enumerate(pace):
        for number in range(round(60 * each)):
            seconds = 60 * minute + number / each
            tenant, failed = "big" if number % 5 else "small", number % 9 == minute % 9
            fields = {"ts": 1_790_000_000 + 160 + seconds, "model": "bot", "labels": {"tenant": tenant}}
            fields |= {
                "id": f"{minute}-{number}",
                "status": "bad" if failed else "ok",
                "latency_seconds": 1 + number % 7,
            }
            found.append(json.dumps(fields).encode())
    return b"\n".join(found) + b"\n"


def config(more: str = "") -> Config:
    return parse(CONFIG + more, "driftd.yaml")


@pytest.fixture(scope="module")
def swollen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log whose traffic doubles once it was learned, and the folder of its replay."""
    folder = tmp_path_factory.mktemp("swollen")
    path, out = folder / "log.jsonl", folder / "out"
    path.write_bytes(lines([0.5] * 145 + [1.0] * 150))
    app.replay(config(), out, [str(path)], resume=False)
    return path, out


@pytest.fixture(scope="module")
def outlook(swollen: tuple[Path, Path]) -> Outlook:
    return foresee(config(), [str(swollen[1])])


def test_present_traffic_is_that_of_what_was_judged(outlook: Outlook, tmp_path: Path) -> None:
    assert outlook.paces[BOT] == pytest.approx(1.0, rel=0.1)
    sight = outlook.sights[BOT, "latency_seconds"][SIZE]
    assert sight.traffic.records == pytest.approx(60, rel=0.1)
    only = tmp_path / "log.jsonl"
    only.write_bytes(
        lines([0.5] * 150)
    )  # nothing is judged yet, so that the reference's own traffic is the present one
    found = foresee(config(), [str(only)])
    assert found.paces[BOT] == pytest.approx(0.5, rel=0.1)
    assert found.sights[BOT, "latency_seconds"][SIZE].traffic.records == pytest.approx(30, rel=0.1)
    assert (found.sights[BOT, "error"][SIZE].half or 512) >= (outlook.sights[BOT, "error"][SIZE].half or 512)


def test_volume_fires_where_its_readings_say(swollen: tuple[Path, Path], outlook: Outlook) -> None:
    store = read_only(swollen[1] / app.STORE)
    readings = [r for r in store.readings_of("volume", 0) if r.scope == BOT and r.verdict != "learning"]
    store.close()
    assert readings
    for volume in outlook.volumes[BOT]:
        (reading,) = [r for r in readings if r.window == volume.size][-1:]
        assert reading.detectable is not None
        assert reading.reference_value is not None
        assert volume.high == pytest.approx(math.exp(reading.detectable) * reading.reference_value * 12)
        assert volume.usual == pytest.approx(2 * reading.reference_value * 12, rel=0.1)
        assert 0 < volume.low < volume.usual / 3
        assert volume.silent


def test_segments_are_told_too_with_their_part_of_the_budget(outlook: Outlook) -> None:
    big, small = (Scope("bot", f"tenant={name}") for name in ("big", "small"))
    assert outlook.paces[big] > 3 * outlook.paces[small]
    found = [outlook.sights[scope, "status"][SIZE].detectable for scope in (BOT, big, small)]
    assert found == sorted(found, key=lambda detectable: detectable or math.inf)
    assert len({key[0] for key in outlook.sights}) == 3


def test_each_is_held_against_the_threshold_of_its_readings(
    swollen: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[tuple[Scope, str, int], float] = {}

    def spy(watched: Watched, traffic: Traffic, threshold: float) -> Sight:
        asked[watched.reference.scope, watched.reference.signal.name, watched.size] = threshold
        return sight_of_shares(watched, traffic, threshold)

    monkeypatch.setattr(outlook_module, "sight_of_shares", spy)
    foresee(config(), [str(swollen[1])])
    store = read_only(swollen[1] / app.STORE)
    told = {(r.scope, r.signal, r.window): r.threshold for r in store.readings() if r.tail is not None}
    store.close()
    assert asked == told
    assert len(set(told.values())) == 3  # a segment has half of a stream, a window half of one that is twice as long


def test_a_looser_budget_finds_sooner(swollen: tuple[Path, Path], outlook: Outlook) -> None:
    loose = foresee(config("false_alarms: {at_most: 1000, per: 1d}\n"), [str(swollen[1])])
    for key, by_size in outlook.sights.items():
        for size, sight in by_size.items():
            assert (loose.sights[key][size].half or math.inf) <= (sight.half or math.inf)
    assert (loose.sights[BOT, "error"][SIZE].half or 512) < (outlook.sights[BOT, "error"][SIZE].half or 512)


def test_a_rolling_reference_is_told_by_its_anchor(swollen: tuple[Path, Path], outlook: Outlook) -> None:
    rolling = config().model_copy(
        update={
            "reference": parse(CONFIG.replace("{size: 144m}", "{kind: rolling, size: 144m, gap: 24m}"), "").reference
        }
    )
    found = foresee(rolling, [str(swollen[0])])
    assert set(found.sights) == set(outlook.sights)


def test_a_store_without_a_run_and_one_of_another_reference_are_refused(
    swollen: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="reference changed"):
        foresee(parse(CONFIG.replace("144m", "180m"), ""), [str(swollen[1])])
    app.replay(config(), tmp_path / "empty", [str(_empty(tmp_path))], resume=False)
    with pytest.raises(UsageError, match="the log is empty"):
        foresee(config(), [str(tmp_path / "empty")])


def _empty(folder: Path) -> Path:
    path = folder / "nothing.jsonl"
    path.touch()
    return path


def test_readings_of_one_signal_since_a_time(swollen: tuple[Path, Path]) -> None:
    store = read_only(swollen[1] / app.STORE)
    every = [reading for reading in store.readings() if reading.signal == "volume"]
    middle = every[len(every) // 2].at
    assert list(store.readings_of("volume", middle)) == [reading for reading in every if reading.at > middle]
    assert not list(store.readings_of("volume", every[-1].at + DAY))
    store.close()
