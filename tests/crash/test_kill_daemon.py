"""SIGKILL at any point of a daemon that follows a topic, and another start: the same as if nothing had happened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer

from monitor.store import Store
from tests.crash.conftest import Ends, messages_of_a_log
from tests.kafka_brokers import MOCK_VERSION, Mock, free_ports, made, needs_broker, real_broker
from tests.replay.logs import config, replay, write

NEVER = ("never", 0, 0)


@dataclass(frozen=True)
class Topic:
    """Where messages are."""

    brokers: str
    topic: str
    version: tuple[int, ...]
    messages: Sequence[bytes]

    def job(self, store: Path, kill: Sequence[object]) -> Mapping[str, Any]:
        where = {"brokers": [self.brokers], "topic": self.topic, "version": self.version}
        return {"store": str(store), **where, "messages": len(self.messages), "batch": 256, "kill": kill}


def produced(producer: Producer, topic: str, messages: Sequence[bytes], partitions: int) -> None:
    drawn = np.random.default_rng(3).integers(0, partitions, len(messages)).tolist()
    for partition, message in zip(drawn, messages, strict=True):
        producer.produce(topic, message, partition=partition)
    producer.flush()


@pytest.fixture(scope="module")
def mocked() -> Iterator[Topic]:
    mock, messages = Mock(), messages_of_a_log()
    produced(mock.producer, "mocked", messages, 4)
    yield Topic(mock.brokers[0], "mocked", MOCK_VERSION, messages)
    del mock  # and with it the broker


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topic]:
    port, messages = free_ports(), messages_of_a_log()
    brokers = f"127.0.0.1:{port}"
    with real_broker(tmp_path_factory.mktemp("broker") / "b", port):
        made(brokers, "real", 3)
        produced(Producer({"bootstrap.servers": brokers}), "real", messages, 3)
        yield Topic(brokers, "real", (), messages)


def outcome(path: Path, upto: int | None = None) -> dict[str, object]:
    """All that was found up to a time, and what became of the records."""
    with closing(Store(path)) as store:
        readings = [repr(reading) for reading in store.readings() if upto is None or reading.at <= upto]
        changes = [repr(change) for change in store.changes() if upto is None or change.at <= upto]
        rejects = sorted((reject.reason, reject.sha256) for reject in store.rejects())
        return {"records": store.counts(), "readings": readings, "changes": changes, "rejects": rejects}


def closed_upto(path: Path) -> int:
    with closing(Store(path)) as store:
        return max(reading.at for reading in store.readings())


def undisturbed(path: Path, ends: Ends, topic: Topic) -> dict[str, object]:
    """What a daemon finds that nobody kills."""
    assert ends(topic.job(path, NEVER)) == "exit 0"
    found = outcome(path)
    assert found["changes"]
    assert len(found["rejects"]) > 5  # type: ignore[arg-type]
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, ends: Ends, mocked: Topic) -> dict[str, object]:
    return undisturbed(tmp_path_factory.mktemp("undisturbed") / "driftd.db", ends, mocked)


def test_a_topic_gives_the_same_as_a_replay_of_its_messages(
    tmp_path: Path, ends: Ends, mocked: Topic, expected: dict[str, object]
) -> None:
    path = tmp_path / "driftd.db"
    assert ends(mocked.job(path, NEVER)) == "exit 0"
    log = write(tmp_path / "log.jsonl", mocked.messages)
    replay(config(lateness="10s"), tmp_path / "out", log)
    upto = closed_upto(path)
    replayed = outcome(tmp_path / "out" / "driftd.db", upto)
    assert [replayed[what] for what in ("readings", "changes")] == [expected["readings"], expected["changes"]]


def law_of_kills(
    ends: Ends, jobs: Sequence[Mapping[str, Any]], expected: Mapping[str, object], *, plant: str = ""
) -> int:
    """Killed as often as told, then left to read all: equal to the undisturbed one. Returns how often it died."""
    ended = [ends({**job, "plant": plant}) for job in jobs]
    assert ends({**jobs[0], "kill": NEVER}) == "exit 0"
    found = outcome(Path(jobs[0]["store"]))
    for what, value in expected.items():
        assert found[what] == value, what
    return ended.count("killed")


KILLS = [
    [("poll", 2, 0), ("commit", 1, 0), ("after", 1, 0)],
    [("step", 2, step) for step in (0, 1, 3, 5)],
    [("step", 3, step) for step in (7, 9, 11, 13)],
    [("after", 3, 0), ("poll", 3, 0), ("step", 2, 2), ("after", 2, 0)],
    [("step", 1, 2), ("commit", 4, 0), ("poll", 5, 0)],
    [("after", 5, 0), ("after", 2, 0)],
]


@pytest.mark.parametrize("kills", KILLS, ids=lambda kills: " ".join(f"{w}-{n}-{s}" for w, n, s in kills))
def test_a_daemon_that_was_killed_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, ends: Ends, mocked: Topic, expected: dict[str, object], kills: list[tuple[str, int, int]]
) -> None:
    jobs = [mocked.job(tmp_path / "driftd.db", kill) for kill in kills]
    assert law_of_kills(ends, jobs, expected) == len(kills)


def test_a_daemon_that_was_killed_when_all_was_read_closes_what_was_left(
    tmp_path: Path, ends: Ends, mocked: Topic, expected: dict[str, object]
) -> None:
    jobs = [{**mocked.job(tmp_path / "driftd.db", ("after", commit, 0)), "batch": 9_999} for commit in (60, 20)]
    assert law_of_kills(ends, jobs, expected) == 2


def test_the_law_of_kills_notices_positions_that_are_committed_without_the_state(
    tmp_path: Path, ends: Ends, mocked: Topic, expected: dict[str, object]
) -> None:
    jobs = [mocked.job(tmp_path / "driftd.db", ("after", 4, 0))]
    with pytest.raises(AssertionError, match="records"):
        law_of_kills(ends, jobs, expected, plant="positions without state")


@pytest.mark.shared
@needs_broker
def test_kills_at_any_moment_beside_a_real_broker(tmp_path: Path, ends: Ends, real: Topic) -> None:
    """20 moments drawn by chance; 200 where DRIFTD_ALL_KILLS is set."""
    expected = undisturbed(tmp_path / "undisturbed.db", ends, real)
    many = 200 if os.environ.get("DRIFTD_ALL_KILLS") else 20
    rng, died, number = np.random.default_rng(1), 0, 0
    while died < many:
        moments = rng.integers(100, 4_000, 4).tolist()
        died += law_of_kills(ends, [real.job(tmp_path / f"{number}.db", ("moment", ms, 0)) for ms in moments], expected)
        number += 1
