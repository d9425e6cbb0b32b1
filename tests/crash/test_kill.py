"""SIGKILL at any point of a replay, then --resume: the same as if nothing had happened."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.crash.conftest import Ends, messages_of_a_log
from tests.replay.logs import Result, config, replay, same, spread

BATCH = 256


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four files out of order within the lateness; one ends in a leap, one holds lines that are no records."""
    return spread(tmp_path_factory.mktemp("logs"), messages_of_a_log(), 4, 3)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, logs: list[Path]) -> tuple[Result, bytes]:
    """The uninterrupted run's result and rejects."""
    out = tmp_path_factory.mktemp("whole") / "out"
    result = replay(config(lateness="10s"), out, *logs)
    assert json.loads(result.alerts.splitlines()[0])["state"] == "firing"
    assert result.records["no_ts"] > 5
    return result, (out / "rejects.jsonl").read_bytes()


@pytest.fixture(scope="module")
def expected_of_samples(tmp_path_factory: pytest.TempPathFactory, logs: list[Path]) -> tuple[Result, bytes]:
    """The same with signals of samples."""
    out = tmp_path_factory.mktemp("sampled") / "out"
    result = replay(config(lateness="10s"), out, *logs, sampled=True)
    assert b'"rff_mmd"' in result.readings
    return result, (out / "rejects.jsonl").read_bytes()


def law_of_kills(
    ends: Ends,
    out: Path,
    logs: Sequence[Path],
    expected: tuple[Result, bytes],
    kills: Sequence[tuple[str, int, int]],
    *,
    plant: str = "",
    sampled: bool = False,
) -> None:
    """Killed, resumed (and perhaps killed again), resumed to the end and closed: equal to the uninterrupted run."""
    for number, kill in enumerate(kills):
        job = {"out": str(out), "logs": [str(log) for log in logs], "resume": number > 0, "batch": BATCH, "kill": kill}
        assert ends({**job, "plant": plant, "sampled": sampled}) == "killed"
    replay(config(lateness="10s"), out, *logs, resume=True, sampled=sampled)
    same(replay(config(lateness="10s"), out, resume=True, sampled=sampled), expected[0])
    assert (out / "rejects.jsonl").read_bytes() == expected[1]


KILLS = [
    [("poll", 1, 0)],
    [("poll", 6, 0)],
    [("commit", 1, 0)],
    [("after", 1, 0)],
    [("after", 8, 0)],
    *([("step", 5, step)] for step in (0, 2, 5, 9, 13)),
    [("step", 1, 3)],
    [("commit", 4, 0), ("step", 3, 6)],
    [("after", 3, 0), ("poll", 2, 0), ("after", 2, 0)],
    [("file", 1, 0)],
    [("file", 3, 0)],
]
if os.environ.get("DRIFTD_ALL_KILLS"):
    KILLS = [
        *([(what, number, 0)] for what in ("poll", "commit", "after") for number in range(1, 12)),
        *([("step", number, step)] for number in range(1, 12) for step in range(16)),
    ]


@pytest.mark.parametrize("kills", KILLS, ids=lambda kills: " ".join(f"{w}-{n}-{s}" for w, n, s in kills))
def test_a_replay_that_was_killed_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, ends: Ends, logs: list[Path], expected: tuple[Result, bytes], kills: list[tuple[str, int, int]]
) -> None:
    law_of_kills(ends, tmp_path / "out", logs, expected, kills)


@pytest.mark.parametrize(
    "kills", [*KILLS[2:8:2], [("poll", 3, 0), ("poll", 4, 0)]], ids=lambda kills: " ".join(map(str, kills[0]))
)
def test_a_kill_inside_a_slice_changes_no_vector(
    tmp_path: Path, ends: Ends, logs: list[Path], expected_of_samples: tuple[Result, bytes], kills: Any
) -> None:
    law_of_kills(ends, tmp_path / "out", logs, expected_of_samples, kills, sampled=True)


def test_the_law_of_kills_notices_samples_that_are_lost(
    tmp_path: Path, ends: Ends, logs: list[Path], expected_of_samples: tuple[Result, bytes]
) -> None:
    kills = [("after", 6, 0)]
    with pytest.raises(AssertionError):
        law_of_kills(ends, tmp_path / "out", logs, expected_of_samples, kills, plant="no samples", sampled=True)


def test_the_law_of_kills_notices_positions_that_are_committed_without_the_state(
    tmp_path: Path, ends: Ends, logs: list[Path], expected: tuple[Result, bytes]
) -> None:
    with pytest.raises(AssertionError, match=r"records: "):
        law_of_kills(ends, tmp_path / "out", logs, expected, [("after", 6, 0)], plant="positions without state")
