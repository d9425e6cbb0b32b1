"""Where a drift comes from is told the same by every replay of a log."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import xxhash

from monitor import app
from monitor.reference import Learning
from monitor.store import read_only
from monitor.windows import Slice
from tests.replay.logs import Result, config, few_signals, lines, make_log, read_result, same, write
from tests.test_origins import TOPICS, Topics


def replayed(out: Path, *logs: Path, batch: int = 4096, resume: bool = False) -> Result:
    with few_signals(batch), patch.object(app, "make_sample_scorers", lambda _: [Topics()]):
        app.replay(config(), out, [str(log) for log in logs], resume=resume)
    return read_result(out)


def law_of_replays(folder: Path) -> None:
    """One batch or many, at once or in parts: the same readings, among them some with an origin."""
    rows = make_log(5, 2_600, streams=1, segments=2)
    topics = np.random.default_rng(5).integers(0, TOPICS, len(rows)).tolist()
    rows = [
        {**row, "prompt": f"{k} {i}"} if "prompt" in row else row
        for i, (k, row) in enumerate(zip(topics, rows, strict=True))
    ]
    log = write(folder / "log.jsonl", lines(rows))
    whole = replayed(folder / "whole", log)
    told = [json.loads(line)["from_prompts"] for line in whole.readings.splitlines()]
    assert any(share is not None for share in told)
    same(replayed(folder / "small", log, batch=13), whole)
    for first, last in ((0, 900), (900, 2_300), (2_300, len(rows))):
        part = write(folder / f"{first}.jsonl", lines(rows[first:last]))
        replayed(folder / "parts", part, resume=True)
    parts = replayed(folder / "parts", resume=True)
    assert parts.readings == whole.readings
    assert parts.alerts == whole.alerts


def test_every_replay_tells_the_same_origin(tmp_path: Path) -> None:
    law_of_replays(tmp_path)


def test_of_users_only_hashes_are_kept(tmp_path: Path) -> None:
    rows = [{**row, "prompt": "1 1", "user": f"jane-{i % 5}"} for i, row in enumerate(make_log(5, 300, streams=1))]
    log = write(tmp_path / "log.jsonl", lines(rows))
    replayed(tmp_path / "out", log, resume=True)
    store = read_only(tmp_path / "out" / "driftd.db")
    slices = [Slice.load(data) for _, _, data in store.blobs("ring")]
    store.close()
    kept = {user for found in slices for part in found.samples.values() for user in part.user_hash.tolist()}
    assert kept == {xxhash.xxh3_64_intdigest(f"jane-{i}".encode()) for i in range(5)}
    assert all(b"jane-" not in path.read_bytes() for path in (tmp_path / "out").iterdir())


def unsampled(self: Learning, added: int, data: bytes) -> None:
    """As if the exchanges of a reference did not come back."""


def test_the_law_of_replays_notices(tmp_path: Path) -> None:
    with patch.object(Learning, "put_exchanges", unsampled), pytest.raises(AssertionError):
        law_of_replays(tmp_path)
