from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from monitor import pipeline as loop
from monitor.app import make_engine, make_scorers
from monitor.decoding import Native
from monitor.model import Checkpoint, Position, Raw, Reject
from monitor.pipeline import Pipeline
from monitor.store import Store
from monitor.watermark import Admission
from tests.replay.logs import START, Row, config

SETTINGS = config()
SECOND, MINUTE = 1_000, 60_000


@dataclass
class Memory:
    """A source of messages in memory; a partition among `live` never says that it has ended while it is read."""

    messages: Mapping[str, Sequence[bytes]]
    at: dict[str, int] = field(default_factory=dict)
    polled: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def partitions(self) -> Mapping[str, bool]:
        return {name: self.at.get(name, 0) == len(found) for name, found in self.messages.items()}

    def resume(self, positions: Mapping[str, Position]) -> None:
        self.at |= {name: position.offset for name, position in positions.items() if name in self.messages}

    def peek(self, partition: str, limit: int) -> Raw:
        begin = self.at.get(partition, 0)
        found = list(self.messages[partition][begin : begin + limit])
        numbers = list(range(begin, begin + len(found)))
        return Raw(partition, found, numbers, [], Position(begin + len(found)))

    def poll(self, wanted: Sequence[str], limit: int) -> list[Raw]:
        raw = self.peek(wanted[0], limit)
        self.at[raw.partition] = raw.end.offset
        self.polled.append(raw.partition)
        return [Raw(raw.partition, raw.payloads, raw.offsets, [], raw.end, self.rejects)]

    def close(self) -> None:
        pass


def rows(begin: int, count: int, step: int = SECOND, **more: object) -> list[bytes]:
    return [
        json.dumps({"id": f"{begin}-{i}", "ts": START + begin + i * step, "model": "m"} | more).encode()
        for i in range(count)
    ]


def make(
    source: Memory, store: Store, batch: int = 4096, on_commit: Callable[[Pipeline], None] = lambda _: None
) -> Pipeline:
    return Pipeline(
        source,
        Native,
        make_scorers(SETTINGS),
        make_engine(SETTINGS),
        Admission(SETTINGS.times()),
        store,
        on_commit,
        batch=batch,
    )


def run(path: Path, messages: Mapping[str, Sequence[bytes]], *, close: bool = True) -> Pipeline:
    """One run over messages from where the last one on the same store stopped."""
    with closing(Store(path)) as store:
        pipeline = make(Memory(messages), store)
        pipeline.resume()
        pipeline.run(close=close)
    return pipeline


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driftd.db"


def test_positions_and_counts_are_committed_together(path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def look(pipeline: Pipeline) -> None:
        stored = pipeline.store.counts()
        assert stored == pipeline.fates()
        seen.append((sum(stored.values()), pipeline.store.positions()["a"].offset))

    with pytest.MonkeyPatch.context() as patch, closing(Store(path)) as store:
        patch.setattr(loop, "COMMIT_SECONDS", 0)
        make(Memory({"a": rows(0, 100)}), store, 30, look).run(close=True)
    assert list(dict.fromkeys(read for read, _ in seen)) == [30, 60, 90, 100]
    assert len(seen) > 5, "not only between batches: a batch may close many slices"
    assert all(read == offset for read, offset in seen)


def test_what_changes_with_a_step_is_written_once_a_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is most of the state where there are many series, and a commit comes every other second."""
    monkeypatch.setattr(loop, "COMMIT_SECONDS", 0)
    written: list[set[str]] = []
    steps: list[int] = []
    commit = Store.commit

    def look(store: Store, checkpoint: Checkpoint) -> None:
        written.append({blob.key for blob in checkpoint.blobs if blob.table == "engine"})
        commit(store, checkpoint)

    monkeypatch.setattr(Store, "commit", look)
    with closing(Store(path)) as store:
        pipeline = make(Memory({"a": rows(0, 60)}), store, 4)
        pipeline.on_step = lambda step: steps.append(step.at)
        pipeline.run(close=True)
    assert len(written) > 20
    assert all("slices" in keys for keys in written)
    assert 5 < sum("latest" in keys for keys in written) <= len(steps) + 2 < len(written)


def test_many_rejects_make_a_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "COMMIT_REJECTS", 20)
    monkeypatch.setattr(loop, "COMMIT_SECONDS", 1e9)
    committed: list[int] = []
    with closing(Store(path)) as store:
        broken = {"a": [b"{"] * 95}
        make(Memory(broken), store, 10, lambda _: committed.append(len(list(store.rejects())))).run(close=True)
    assert committed == [20, 40, 60, 80, 95]


def test_refusals_of_the_source_are_counted_and_kept(path: Path) -> None:
    refused = Reject("oversized", "a", 3, 100, "00")
    with closing(Store(path)) as store:
        pipeline = make(Memory({"a": rows(0, 5)}, rejects=[refused]), store)
        pipeline.run(close=True)
        assert list(store.rejects()) == [refused]
    assert pipeline.fates() == {"counted": 5, "oversized": 1}


def test_what_was_held_is_held_no_more_after_it_was_decided(path: Path) -> None:
    messages = rows(0, 30) + rows(3_600_000, 4)
    first = run(path, {"a": messages}, close=False)
    assert first.fates() == {"counted": 30, "held": 4}
    second = run(path, {"a": [*messages, *rows(3_604_000, 30)]}, close=False)
    assert second.fates() == {"counted": 64}
    last = run(path, {})
    assert last.fates() == {"counted": 64}


def test_feedback_behind_the_last_exchange_is_joined_when_the_data_is_over(path: Path) -> None:
    exchange = rows(0, 1)
    event: Row = {"kind": "feedback", "id": "f", "of": "0-0", "feedback": 1}
    events = [json.dumps({**event, "id": f"f{i}", "ts": START + 4 * MINUTE + i}).encode() for i in range(3)]
    about_nothing = [json.dumps({**event, "id": "g", "of": "?", "ts": START + 5 * MINUTE}).encode()]
    pipeline = run(path, {"a": exchange + events + about_nothing})
    assert pipeline.fates() == {"counted": 4, "unjoined": 1}
    assert {scope.stream for scope in pipeline.engine.known_scopes()} == {"m"}


def test_a_small_file_is_decided_before_time_goes_past_it(path: Path) -> None:
    """Five records are too few to decide on the first of them while more may come."""
    small, large = rows(0, 5), rows(10_000, 100)
    assert run(path, {"small": small}, close=False).fates() == {"counted": 0, "held": 5}
    assert run(path, {"small": small, "large": large}, close=False).fates() == {"counted": 105}


def test_records_of_a_file_that_comes_too_late_are_closed(path: Path) -> None:
    run(path, {"a": rows(0, 100)}, close=False)
    pipeline = run(path, {"a": rows(0, 100), "b": rows(1, 100, model="b")})
    # the slice of the watermark, which is the 99th second, is open still
    assert pipeline.fates() == {"closed": 95, "counted": 105}


def test_closing_again_changes_nothing(path: Path) -> None:
    run(path, {"a": rows(0, 700)})
    with closing(Store(path)) as store:
        before = [list(store.readings()), list(store.changes()), store.counts(), store.meta()]
    run(path, {})
    with closing(Store(path)) as store:
        assert [list(store.readings()), list(store.changes()), store.counts(), store.meta()] == before


def test_partitions_are_read_by_time_whatever_their_names(path: Path) -> None:
    messages = {name: rows(begin * MINUTE, 60) for name, begin in (("c", 0), ("a", 1), ("b", 2))}
    source = Memory(messages)
    with closing(Store(path)) as store:
        pipeline = make(source, store, 20)
        pipeline.run(close=True)
    assert source.polled == ["c"] * 3 + ["a"] * 3 + ["b"] * 3
    assert pipeline.fates() == {"counted": 180}


def test_a_partition_far_ahead_waits_for_the_others(path: Path) -> None:
    source = Memory({"ahead": rows(3_600_000, 50), "behind": rows(0, 50)})
    with closing(Store(path)) as store:
        make(source, store, 10).run(close=True)
    assert source.polled[:5] == ["behind"] * 5


def test_unknown_fields_and_missing_ids_are_said_once_over_many_runs(path: Path) -> None:
    odd = [json.dumps({"ts": START + i * SECOND, "model": "m", "promt": "?"}).encode() for i in range(60)]
    run(path, {"a": odd[:30]}, close=False)
    pipeline = run(path, {"a": odd})
    assert [notice for notice in pipeline.notices if "promt" in notice] == [
        "field 'promt' is not one of the format's: it is not read (first seen at a:offset 0)"
    ]
    with closing(Store(path)) as store:
        assert store.meta()["generated_ids"] == "60"
        assert len([notice for notice in store.notices() if "promt" in notice]) == 1
    assert pipeline.fates() == {"counted": 60}


def test_no_records_at_all_is_no_error(path: Path) -> None:
    assert run(path, {"a": []}).fates() == {"counted": 0}
    assert run(path, {}).fates() == {"counted": 0}
