"""Two versions in one log: the one that is worse is named, without a reference and however the log is read."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.replay.logs import REFUSAL, START, Result, Row, config, lines, replay, replay_in_parts, same, spread, write

CANARY = START + 120_000
"""When the second version begins; nothing has learned by then, nor will it have at the end."""


def two_versions(*, refuses: float, n: int = 2_400, per_second: float = 8.0) -> list[Row]:
    """Both refuse more in the second half; of the second version, a fifth of the traffic, `refuses` is on top."""
    rng = np.random.default_rng(7)
    times = START + np.cumsum(rng.exponential(1000 / per_second, n)).astype(np.int64)
    rows = []
    for i, ts in enumerate(times.tolist()):
        version = "v2" if ts >= CANARY and i % 40 < 8 else "v1"
        share = (0.04 if i < n / 2 else 0.12) + (refuses if version == "v2" else 0.0)
        row: Row = {
            "id": f"{i}",
            "ts": ts,
            "model": "bot",
            "model_version": version,
            "response": REFUSAL if rng.random() < share else f"It is lamp {i * 7919 % 97}.",
            "latency_seconds": round(float(rng.lognormal(0.0, 0.4)), 3),
            "status": str(rng.choice(["ok", "timeout"], p=[0.96, 0.04])),
        }
        if i % 3 == 0:
            row["session"] = f"{version}-{i // 60}-{rng.integers(4)}"
        rows.append(row)
    return rows


def rows_of(found: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found.splitlines()]


def beside(result: Result) -> list[dict[str, Any]]:
    return [row for row in rows_of(result.readings) if row["test"] == "arm_e"]


SETTINGS = config(size="1h")


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[bytes], Result]:
    folder = tmp_path_factory.mktemp("worse")
    messages = lines(two_versions(refuses=0.3))
    log = write(folder / "log.jsonl", messages)
    return messages, replay(SETTINGS, folder / "out", log, sampled=True)


def test_a_new_version_that_refuses_more_is_named_although_it_has_no_reference(
    worse: tuple[list[bytes], Result],
) -> None:
    _, result = worse
    assert {row["verdict"] for row in rows_of(result.readings) if row["test"] is None} == {"learning"}
    (alert,) = [row for row in rows_of(result.alerts) if row["state"] == "firing"]
    assert (alert["rule"], alert["stream"], alert["segment"]) == ("AnyDrift", "bot", "model_version=v2")
    assert alert["signals"] == ["response_refusal"]
    (said,) = [r for r in beside(result) if (r["at"], r["verdict"]) == (alert["at"], "drift")]
    shares = f"response_refusal {said['value']:.1%} against {said['reference_value']:.1%}"
    assert alert["summary"].startswith(f"bot, model_version=v2 against model_version=v1: {shares} (+")
    assert f"{said['value']:.1%} against {said['reference_value']:.1%} in model_version=v1" in alert["explanation"]
    assert said["p_value"] <= said["threshold"]
    begun = f"2026-01-01T00:0{(CANARY - START) // 60_000}"
    assert alert["changed_at"].startswith(begun), "in the minute in which it begins"


def test_readings_of_arms_say_with_what_they_are_compared(worse: tuple[list[bytes], Result]) -> None:
    found = beside(worse[1])
    assert {(row["segment"], row["against"]) for row in found} == {("model_version=v2", "model_version=v1")}
    assert {row["signal"] for row in found} >= {"response_refusal", "latency_seconds", "status", "relevance"}
    assert {row["verdict"] for row in found if row["signal"] != "response_refusal"} <= {"ok", "insufficient"}
    told = [row for row in found if row["effect"] is not None]
    assert all(row["effect_low"] <= row["effect"] for row in told)
    assert all(row["effect_high"] is None or row["effect"] <= row["effect_high"] for row in told)
    assert all(row["distances"] == {} and row["tail"] == "anytime" for row in found)
    learned = [row for row in rows_of(worse[1].readings) if row["segment"] == "model_version=v2" and not row["against"]]
    assert {row["signal"] for row in learned} >= {"response_refusal", "volume"} - {"volume"}


def test_versions_that_are_alike_fire_nothing_though_both_change(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", lines(two_versions(refuses=0.0)))
    result = replay(SETTINGS, tmp_path / "out", log)
    assert result.alerts == b""
    assert beside(result)


def test_it_does_not_depend_on_files_batches_or_restarts(tmp_path: Path, worse: tuple[list[bytes], Result]) -> None:
    messages, expected = worse
    parts = spread(tmp_path / "logs", messages, 3, 1)
    same(replay(SETTINGS, tmp_path / "one", *parts, batch=97, sampled=True), expected)
    cuts = [0, 700, 1_230, 1_900, len(messages)]
    pieces = [[write(tmp_path / f"{a}.jsonl", messages[a:b])] for a, b in pairwise(cuts)]
    same(replay_in_parts(SETTINGS, tmp_path / "two", pieces, sampled=True), expected)


def test_it_can_be_switched_off(tmp_path: Path, worse: tuple[list[bytes], Result]) -> None:
    log = write(tmp_path / "log.jsonl", worse[0])
    result = replay(config("streams: {arms: []}", size="1h"), tmp_path / "out", log)
    assert beside(result) == []
    assert result.alerts == b""


def test_any_label_may_name_the_arms(tmp_path: Path) -> None:
    rows = [row | {"labels": {"pool": row.pop("model_version")}} for row in two_versions(refuses=0.3)]
    log = write(tmp_path / "log.jsonl", lines(rows))
    result = replay(config("streams: {segments: [pool], arms: [pool]}", size="1h"), tmp_path / "out", log)
    assert {row["against"] for row in beside(result)} == {"pool=v1"}
    assert [row["segment"] for row in rows_of(result.alerts) if row["state"] == "firing"] == ["pool=v2"]
