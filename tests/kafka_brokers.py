"""Brokers for tests: librdkafka's mock, which is in a wheel, and a real one where it is kept beside the checkout."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

SHARED = Path(__file__).parents[2] / "shared" / "kafka"
"""A real broker, where there is one."""
MOCK_VERSION = (2, 3, 0)
"""What a client must take the mock's version to be: it cannot be asked."""
needs_broker = pytest.mark.skipif(
    not SHARED.is_dir() or shutil.which("java") is None,
    reason="needs a real broker: ../shared/kafka, and Java (apt install openjdk-17-jre-headless)",
)


def leaky(test: Callable[..., None]) -> Callable[..., None]:
    """Of a test in which connections fail: kafka-python leaves their sockets to the garbage collector."""
    for mark in (
        pytest.mark.usefixtures("swept"),
        pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    ):
        test = mark(test)
    return test


class Mock:
    """A mock broker. Topics come to be with four partitions when something is produced to them."""

    def __init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
        self.brokers = [f"{one.host}:{one.port}" for one in self.producer.list_topics(timeout=10).brokers.values()]

    def send(self, topic: str, *values: bytes | None, partition: int = 0) -> None:
        for value in values:
            self.producer.produce(topic, value, partition=partition)
        self.producer.flush()


def free_ports() -> int:
    """The first of two free ports in a row."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def made(broker: str, topic: str, partitions: int = 1, config: dict[str, str] | None = None) -> AdminClient:
    admin = AdminClient({"bootstrap.servers": broker})
    for done in admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})]).values():
        done.result(20)
    return admin


@contextmanager
def real_broker(folder: Path, port: int, extra: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A real broker that keeps its log in a folder, so that one started there again goes on with it."""
    folder.mkdir(exist_ok=True)
    more = folder / "extra.properties"
    more.write_text(extra)
    with (folder / "broker.log").open("ab") as log:
        broker = subprocess.Popen([SHARED / "start-broker", folder, str(port), more], stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while not answers(port):
                assert broker.poll() is None, (folder / "broker.log").read_text()[-2000:]
                assert time.monotonic() < until, "the broker did not come up"
                time.sleep(0.1)
            yield broker
        finally:
            broker.kill()
            broker.wait()
