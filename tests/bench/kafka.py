"""From a real broker to committed readings: `python tests/bench/kafka.py [--records 1000000] [--only NAME]`.

`driftd run` in a process of its own follows a topic of three partitions that holds made-up records of about 1 kB, each
100,000th the same text, 10,000 to a second of their time; windows of 12 s, a reference of 72 s, one stream with four
segments. It is asked for its own metrics: CPU time of all threads from when it was ready to when the last record was
committed, and memory on the way. Broker and producer run beside it; give a broker with --brokers, or have
../shared/kafka. Then records come at a steady pace, and the lag that a scrape would see is looked at each second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.throughput import write_log
from tests.kafka_brokers import free_ports, made, real_broker

PER_SECOND = 10_000
START = 1_795_132_800_000
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "all signals": {},
    "without those of a sample": {"duplicates": False, "language": False, "embedding": False},
    "without these and toxicity": {"duplicates": False, "language": False, "embedding": False, "toxicity": False},
}
DISTINCT = 100_000
"""Records that are made; they come again with other ids and times."""
PACED_SECONDS = 30


class Look(NamedTuple):
    """What a daemon says of itself."""

    records: float
    cpu: float
    memory: float
    lag: float
    judged: int
    """Series that a verdict is on."""


def look(port: int) -> Look:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    found: dict[str, float] = {}
    judged = 0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
            judged += sample.name == "driftd_drift_pvalue"
    records, lag = found.get("driftd_records_total", 0), found.get("driftd_consumer_lag_records", 0)
    return Look(
        records, found["process_cpu_seconds_total"], found["process_resident_memory_bytes"] / 2**20, lag, judged
    )


def messages(distinct: list[bytes], begin: int, count: int) -> Iterator[bytes]:
    """Records with ids and times of their own: those of a log, again and again."""
    for number, line in enumerate(islice(cycle(distinct), count), begin):
        row = msgspec.json.decode(line)
        row["id"], row["ts"] = f"r{number:09d}", START + number * 1000 // PER_SECOND
        yield msgspec.json.encode(row)


@dataclass(frozen=True)
class Topic:
    """Where records go."""

    producer: Producer
    name: str
    distinct: list[bytes]

    def send(self, begin: int, count: int) -> None:
        for number, message in enumerate(messages(self.distinct, begin, count), begin):
            while True:
                try:
                    self.producer.produce(self.name, message, partition=number % 3)
                    break
                except BufferError:
                    self.producer.poll(0.1)
            self.producer.poll(0)
        self.producer.flush()


@contextmanager
def daemon(folder: Path, brokers: str, topic: str, signals: Mapping[str, object]) -> Iterator[int]:
    """`driftd run`, as long as the context; gives the port of its metrics."""
    port, file = free_ports(), folder / "driftd.yaml"
    settings = {
        "sources": [{"kind": "kafka", "brokers": [brokers], "topic": topic}],
        "windows": ["12s"],
        "reference": {"size": "72s"},
        "lateness": "1s",
        "idle_after": "1h",
        "signals": signals,
        "store": {"path": str(folder / "driftd.db")},
        "web": {"listen": f"127.0.0.1:{port}"},
    }
    file.write_text(json.dumps(settings))
    with subprocess.Popen([sys.executable, "-m", "monitor", "run", "-c", str(file)], stderr=subprocess.DEVNULL) as run:
        try:
            while not ready(port):
                assert run.poll() is None
                time.sleep(0.1)
            yield port
        finally:
            run.terminate()


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def backlog(port: int, count: int) -> tuple[Look, Look, list[float], float]:
    """The first and the last look at a daemon that reads so many records, its memory on the way, and seconds."""
    first, begun, memory = look(port), time.monotonic(), list[float]()
    while (now := look(port)).records < count:
        memory.append(now.memory)
        time.sleep(2)
    return first, now, [*memory, now.memory], time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="settings whose name holds this")
    parser.add_argument("--brokers", default="", help="host:port of a broker; without it one is started")
    parser.add_argument("--pace", type=int, default=3_000, help="records a second that come afterwards")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder / "log.jsonl", DISTINCT)
        distinct = (folder / "log.jsonl").read_bytes().splitlines()
        port = free_ports()
        brokers = chosen.brokers or f"127.0.0.1:{port}"
        with nullcontext() if chosen.brokers else real_broker(folder / "broker", port):
            print("| signals | records per CPU-second | records per second | memory at the end, most | series judged |")
            print("|---|---|---|---|---|")
            for number, (label, signals) in enumerate(SETTINGS.items()):
                if chosen.only not in label:
                    continue
                producer = Producer({"bootstrap.servers": brokers, "linger.ms": 20, "log_level": 0})
                topic, own = Topic(producer, f"bench-{time.time_ns()}", distinct), folder / str(number)
                own.mkdir()
                made(brokers, topic.name, 3)
                topic.send(0, chosen.records)
                with daemon(own, brokers, topic.name, signals) as web:
                    first, last, memory, seconds = backlog(web, chosen.records)
                    rate = (last.records - first.records) / (last.cpu - first.cpu)
                    cells = (f"{rate:,.0f}", f"{chosen.records / seconds:,.0f}")
                    held = f"{last.memory:,.0f} MiB, {max(memory):,.0f} MiB"
                    print(f"| {label} | {' | '.join(cells)} | {held} | {last.judged} |", flush=True)
                    tenths = [f"{memory[round(i * (len(memory) - 1) / 10)]:,.0f}" for i in range(11)]
                    print(f"\nmemory by tenths of the way: {', '.join(tenths)} MiB", flush=True)
                    paced(topic, chosen.records, chosen.pace, web)


def paced(topic: Topic, begin: int, pace: int, web: int) -> None:
    """The lag beside a steady stream of records."""
    lags = []
    for second in range(PACED_SECONDS):
        until = time.monotonic() + 1
        topic.send(begin + second * pace, pace)
        lags.append(look(web).lag)
        time.sleep(max(until - time.monotonic(), 0))
    while look(web).records < begin + PACED_SECONDS * pace:
        time.sleep(0.2)
    middle = sorted(lags)[len(lags) // 2]
    print(
        f"at {pace:,} records a second: lag {middle:,.0f} records in the middle, {max(lags):,.0f} at most\n", flush=True
    )


if __name__ == "__main__":
    main()
