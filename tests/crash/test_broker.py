"""A daemon beside a real broker that dies and comes back, a topic that grows, and one that is made anew."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from monitor import daemon
from monitor.config import Config, parse
from monitor.sources import kafka, kafka_client
from monitor.store import Store, StoreError, read_only
from tests.kafka_brokers import free_ports, leaky, made, needs_broker, real_broker
from tests.replay.logs import few_signals

DEATHS = 20 if os.environ.get("DRIFTD_ALL_KILLS") else 3
MALFORMED = 100_000 if os.environ.get("DRIFTD_ALL_KILLS") else 5_000


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "BOOTSTRAP_SECONDS", 1.0)
    monkeypatch.setattr(kafka_client, "REQUEST_SECONDS", 2.0)
    monkeypatch.setattr(kafka, "PAUSES", (0.2, 1.0))


def settings(broker: str, topic: str, store: Path, more: str = "", of_topic: str = "") -> Config:
    source = f"{{kind: kafka, brokers: ['{broker}'], topic: {topic}{of_topic}}}"
    text = f"sources: [{source}]\nwindows: [1m]\nreference: {{size: 6m}}\nstore: {{path: {store}}}\nweb: false\n{more}"
    return parse(text, "x")


def message(number: int) -> bytes:
    return json.dumps({"id": f"r{number}", "ts": round(time.time() * 1000), "model": "m"}).encode()


@contextmanager
def daemon_of(config: Config) -> Iterator[None]:
    """A daemon in a thread."""
    stop, failed = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            with few_signals():
                daemon.run(config, stop.is_set)
        except BaseException as error:  # noqa: BLE001  it is raised below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def counts(path: Path) -> dict[str, int]:
    try:
        with closing(read_only(path)) as store:
            return store.counts()
    except StoreError:
        return {}


def wait_for(what: Callable[[], bool], path: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, counts(path)
        time.sleep(0.1)


def read(path: Path, count: int) -> Callable[[], bool]:
    return lambda: sum(counts(path).values()) >= count


def produce(producer: Producer, topic: str, numbers: Sequence[int], partitions: int) -> None:
    for number in numbers:
        producer.produce(topic, message(number), partition=number % partitions)
        producer.poll(0)


@pytest.mark.shared
@needs_broker
@leaky
def test_a_broker_that_dies_and_comes_back_and_a_topic_that_grows_lose_nothing(tmp_path: Path) -> None:
    port, topic = free_ports(), f"t-{uuid.uuid4().hex}"
    broker, path, done = f"127.0.0.1:{port}", tmp_path / "driftd.db", 0
    producer = Producer({"bootstrap.servers": broker, "enable.idempotence": True, "log_level": 0})
    with daemon_of(settings(broker, topic, path, "idle_after: 1h\nlateness: 1m")):
        for death in range(DEATHS + 1):
            with real_broker(tmp_path / "b", port):
                if not death:
                    made(broker, topic, 3)
                produce(producer, topic, range(done, done + 300), 3 if death < 2 else 6)
                done += 300
                if death == 1:
                    admin = AdminClient({"bootstrap.servers": broker})
                    for grown in admin.create_partitions([NewPartitions(topic, 6)]).values():
                        grown.result(20)
                if death == DEATHS or death % 2:
                    producer.flush(60)
                    wait_for(read(path, done), path)
                else:
                    producer.flush(2)  # some are with the broker, some are not
        assert counts(path) == {"counted": done}
    with closing(Store(path)) as store:
        found = {name: position.offset for name, position in store.positions().items()}
    assert sum(found.values()) == done
    assert len(found) == 6


def memory() -> float:
    """MiB that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.shared
@needs_broker
@leaky
def test_a_flood_of_what_is_no_record_is_in_the_dead_letter_topic_whole(tmp_path: Path) -> None:
    port, path = free_ports(), tmp_path / "driftd.db"
    broker = f"127.0.0.1:{port}"
    producer = Producer({"bootstrap.servers": broker, "log_level": 0, "queue.buffering.max.messages": 200_000})
    with real_broker(tmp_path / "b", port):
        made(broker, "flood", 3)
        made(broker, "dead")
        for number in range(MALFORMED):
            producer.produce("flood", b"no record %d" % number, partition=number % 3)
        produce(producer, "flood", range(300), 3)
        producer.flush(60)
        held: list[float] = []
        with daemon_of(settings(broker, "flood", path, of_topic=", dead_letter: dead")):
            for tenth in range(1, 11):
                wait_for(read(path, MALFORMED * tenth // 10), path, 120)
                held.append(memory())
            wait_for(read(path, MALFORMED + 300), path)
        assert counts(path) == {"counted": 300, "unparseable": MALFORMED}
        letters = Consumer({"bootstrap.servers": broker, "group.id": "g", "auto.offset.reset": "earliest"})
        letters.subscribe(["dead"])
        found: dict[bytes, int] = {}
        while len(found) < MALFORMED and (batch := letters.consume(10_000, 30)):
            for letter in batch:
                found[letter.value() or b""] = found.get(letter.value() or b"", 0) + 1
        letters.close()
    assert found == {b"no record %d" % number: 1 for number in range(MALFORMED)}, "each once, none lost"
    assert held[-1] - held[4] < 50, held
    with closing(Store(path)) as store:
        assert not list(store.rejects())
