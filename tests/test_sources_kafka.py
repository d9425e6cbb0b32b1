"""The Kafka source: where it begins and goes on, what it says when it cannot, and what a real broker does to it."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydantic
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic
from kafka.errors import KafkaTimeoutError

from monitor.model import Position, Raw, Refused, Reject
from monitor.settings import DAY
from monitor.sources import dead_letters, kafka, kafka_client
from monitor.sources.dead_letters import DeadLetters
from monitor.sources.kafka import Kafka
from monitor.sources.kafka_client import KafkaSettings
from tests.kafka_brokers import MOCK_VERSION, Mock, free_ports, leaky, made, needs_broker, real_broker


def settings(**given: Any) -> KafkaSettings:
    return KafkaSettings.model_validate({"kind": "kafka", "topic": f"t-{uuid.uuid4().hex}", **given})


def drain(source: Kafka, *, least: int = 0, seconds: float = 20) -> list[Raw]:
    """What comes until at least so many messages have and the broker says that this is all."""
    found: list[Raw] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found += source.poll(list(source.partitions()), 1000)
        names = source.partitions()
        if sum(len(raw.payloads) for raw in found) >= least and names and set(source.drained()) == set(names):
            return found
    raise AssertionError(f"only {found} came: {source.trouble}")


def offsets(answers: list[Raw]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for raw in answers:
        found.setdefault(raw.partition.rpartition("-")[2], []).extend(raw.offsets)
    return {number: rows for number, rows in sorted(found.items()) if rows}


def ends(answers: list[Raw]) -> dict[str, Position]:
    return {raw.partition: raw.end for raw in answers}


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"brokers": []}, "must not be empty"),
        ({"brokers": ["kafka"]}, "expected host:port, not 'kafka'"),
        ({"topic": "a b"}, "pattern"),
        ({"start": "yesterday"}, "start"),
        ({"security": {"protocol": "SASL_SSL", "username": "u"}}, "needs username and password_file"),
        ({"security": {"certificate_file": "x"}}, "belong together"),
        ({"security": {"password": "x"}}, "Extra inputs"),
    ],
)
def test_a_wrong_setting_is_refused(given: Mapping[str, Any], said: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=said):
        settings(**{"brokers": ["kafka:9092"], **given})


# ---- the mock broker ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mock() -> Mock:
    return Mock()


Opened = Callable[..., Kafka]


@pytest.fixture
def opened() -> Iterator[Opened]:
    with ExitStack() as stack:

        def make(given: KafkaSettings, **options: Any) -> Kafka:
            source = Kafka(given, **{"wait": 0.1, "api_version": MOCK_VERSION, **options})
            stack.callback(source.close)
            return source

        yield make


def test_it_begins_where_it_is_told_to_and_later_partitions_at_their_start(mock: Mock, opened: Opened) -> None:
    given = settings(brokers=mock.brokers)
    mock.send(given.topic, b"1", b"2", partition=0)
    mock.send(given.topic, b"3", partition=1)
    assert offsets(drain(opened(given), least=3)) == {"0": [0, 1], "1": [0]}
    latest = opened(given.model_copy(update={"start": "latest"}))
    assert offsets(drain(latest)) == {}
    mock.send(given.topic, b"4", partition=1)
    assert offsets(drain(latest, least=1)) == {"1": [1]}
    later = opened(given.model_copy(update={"start": round(time.time() * 1000) + DAY}))
    assert offsets(drain(later)) == {}
    known = opened(given.model_copy(update={"start": "latest"}))
    known.resume({f"{given.topic}-0": Position(1), "another-7": Position(3), f"{given.topic}-x": Position(9)})
    assert offsets(drain(known, least=3)) == {"0": [1], "1": [0, 1]}, "a topic that was read before has lost nothing"


def test_tombstones_are_no_messages_and_positions_pass_them(mock: Mock, opened: Opened) -> None:
    given = settings(brokers=mock.brokers)
    mock.send(given.topic, None, None)
    source = opened(given)
    found = drain(source)
    assert offsets(found) == {}
    assert ends(found) == {f"{given.topic}-0": Position(2)}
    assert found[0].append is None


def test_a_position_that_is_gone_stops_it_or_is_told(mock: Mock, opened: Opened) -> None:
    given = settings(brokers=mock.brokers)
    mock.send(given.topic, b"1", b"2", b"3")
    name = f"{given.topic}-0"
    source = opened(given)
    source.resume({name: Position(1000)})
    assert source.poll([name], 10) == []
    assert source.trouble.startswith(
        f"{name}: the stored position 1000 is gone: there are offsets 0 to 3; nothing more"
    )
    assert (source.drained(), source.notices()) == ((), [])
    for lost, then, count in (("earliest", 0, 3), ("latest", 3, 0)):
        source = opened(given.model_copy(update={"lost": lost}))
        source.resume({name: Position(1000)})
        assert sum(len(raw.payloads) for raw in drain(source)) == count
        (notice,) = source.notices()
        assert notice.endswith(f"goes on at offset {then}, as `lost: {lost}` says")
        assert source.notices() == []


def test_a_topic_that_is_not_there_is_waited_for_and_not_made(mock: Mock, opened: Opened) -> None:
    given, pauses = settings(brokers=mock.brokers), kafka.PAUSES
    source = opened(given)
    assert (source.poll([], 10), source.partitions(), source.drained()) == ([], {}, ())
    assert "there is no such topic" in source.trouble
    assert given.topic not in mock.producer.list_topics(timeout=10).topics
    mock.send(given.topic, b"1")
    assert offsets(drain(source, least=1, seconds=3 * pauses[0] + 10)) == {"0": [0]}
    assert source.trouble == ""


@leaky
def test_brokers_that_are_not_there_are_named_and_tried_again_ever_later(
    monkeypatch: pytest.MonkeyPatch, opened: Opened
) -> None:
    monkeypatch.setattr(kafka_client, "BOOTSTRAP_SECONDS", 0.2)
    monkeypatch.setattr(kafka, "PAUSES", (0.2, 0.5))
    source = opened(settings(brokers=["127.0.0.1:1"]), wait=0.01)
    source.poll([], 10)
    assert "at 127.0.0.1:1" in source.trouble
    assert "bootstrap" in source.trouble
    begin = time.monotonic()
    tries = 0
    again = source._again
    while time.monotonic() < begin + 3:
        source.poll([], 10)
        tries, again = tries + (source._again != again), source._again
    assert 2 <= tries <= 7
    assert not [one for one in threading.enumerate() if one.name.startswith("kafka-io")], "a thread each try"


@leaky
@pytest.mark.parametrize("kind", ["KafkaAdminClient", "KafkaConsumer", "KafkaProducer"])
def test_a_client_that_cannot_be_made_says_why_and_leaves_no_thread(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import kafka as library
    from kafka.errors import KafkaTimeoutError

    monkeypatch.setattr(kafka_client, "BOOTSTRAP_SECONDS", 0.2)
    options = kafka_client.client_options(settings(brokers=["127.0.0.1:1"]))
    with pytest.raises(KafkaTimeoutError, match=r"Unable to bootstrap.*ECONNREFUSED"):
        kafka_client.connected(getattr(library, kind), **options)
    assert not [one for one in threading.enumerate() if one.name.startswith("kafka-io")]


def test_positions_are_copied_to_the_group(mock: Mock, opened: Opened) -> None:
    given = settings(brokers=mock.brokers, group="watchers")
    mock.send(given.topic, b"1", b"2")
    source = opened(given)
    source.committed({})
    found = ends(drain(source, least=2))
    source.committed(found)
    source.committed(found)
    alone = opened(given.model_copy(update={"group": None}))
    alone.committed(ends(drain(alone, least=2)))

    from kafka import KafkaConsumer, TopicPartition

    tool = KafkaConsumer(bootstrap_servers=mock.brokers, group_id="watchers", api_version=MOCK_VERSION)
    until = time.monotonic() + 10
    while tool.committed(TopicPartition(given.topic, 0)) != 2:
        assert time.monotonic() < until
    tool.close()


def test_only_partitions_that_are_wanted_are_given(mock: Mock, opened: Opened) -> None:
    given = settings(brokers=mock.brokers)
    mock.send(given.topic, *[b"%d" % i for i in range(5)], partition=0)
    mock.send(given.topic, *[b"%d" % i for i in range(5)], partition=1)
    source = opened(given)
    one, other = f"{given.topic}-0", f"{given.topic}-1"
    until = time.monotonic() + 10
    found: list[Raw] = []
    while sum(len(raw.payloads) for raw in found) < 5 and time.monotonic() < until:
        source.partitions()
        found += source.poll([one], 3)
    assert offsets(found) == {"0": [0, 1, 2, 3, 4]}
    assert one in source.drained()
    assert other not in source.drained(), "it has not been read to its end"
    assert offsets(drain(source, least=5)) == {"1": [0, 1, 2, 3, 4]}


def test_partitions_that_were_peeked_at_are_read_to_their_ends(mock: Mock, opened: Opened) -> None:
    """kafka-python 3.0 keeps the rest of a paused partition back for good while no other one brings anything new."""
    given = settings(brokers=mock.brokers)
    for number in range(3):
        mock.send(given.topic, *[b"%d" % i for i in range(1500)], partition=number)
    source = opened(given)
    assert [len(source.peek(name, 21).payloads) for name in source.partitions()] == [21, 21, 21, 0]
    assert {len(found) for found in offsets(drain(source, least=4500)).values()} == {1500}


def test_a_peek_that_cannot_ask_says_so_and_does_not_raise(
    mock: Mock, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kafka.errors import KafkaTimeoutError

    given = settings(brokers=mock.brokers)
    mock.send(given.topic, b"1")
    source = opened(given)
    (name, *_) = source.partitions()

    def no_answer(_: object) -> None:
        raise KafkaTimeoutError("no answer")

    monkeypatch.setattr(source._consumer, "end_offsets", no_answer)
    source.peek(name, 10)
    assert source.trouble.endswith("no answer")


# ---- dead letters ----------------------------------------------------------------------------------------------------

FRAME = b"\0\0\0\0\7"


def refused_of(source: Kafka, answers: list[Raw], *, decoded: int = 0) -> list[Refused]:
    """What the source refused itself, and as many of its messages as if they could not be decoded."""
    own = [Refused(reject, raw.aside[reject.position]) for raw in answers for reject in raw.rejects]
    places = [(raw, place) for raw in answers for place in range(len(raw.payloads))][:decoded]
    others = [
        Refused(Reject("unparseable", raw.partition, raw.offsets[at], 1, "", None, "why"), raw.payloads[at])
        for raw, at in places
    ]
    assert source.trouble == ""
    return [*own, *others]


def letters(brokers: str, topic: str, count: int) -> dict[str, tuple[bytes, dict[str, bytes]]]:
    """Key -> message and headers of so many letters in a topic."""
    reader = Consumer({"bootstrap.servers": brokers, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    reader.subscribe([topic])
    found: dict[str, tuple[bytes, dict[str, bytes]]] = {}
    until = time.monotonic() + 20
    while len(found) < count and time.monotonic() < until:
        row: Any = reader.poll(0.2)
        if row is not None and row.error() is None and row.key() is not None:
            found[row.key().decode()] = row.value(), dict(row.headers())
    reader.close()
    return found


def test_dead_letters_are_whole_and_say_what_they_were(mock: Mock, opened: Opened) -> None:
    given = settings(brokers=mock.brokers, max_record_bytes=50, dead_letter=f"dead-{uuid.uuid4().hex}")
    mock.send(given.dead_letter or "", None)
    mock.send(given.topic, b"x" * 60, FRAME + b"\2Avro", FRAME + b'{"broken', b"junk")
    source = opened(given)
    answers = drain(source, least=2)
    refused = refused_of(source, answers, decoded=2)
    assert source.set_aside(refused) == []
    name = f"{given.topic}-0"
    found = letters(mock.brokers[0], given.dead_letter or "", 4)
    whole = [b"x" * 60, FRAME + b"\2Avro", FRAME + b'{"broken', b"junk"]
    assert {key: message for key, (message, _) in found.items()} == {f"{name}-{i}": whole[i] for i in range(4)}
    told = {"reason": b"unparseable", "detail": b"why", "topic": given.topic.encode(), "partition": b"0"}
    assert found[f"{name}-3"][1] == {**told, "offset": b"3"}
    source.committed(ends(answers))
    assert source._partitions[name].headers == {}


def test_dead_letters_that_are_there_are_not_put_again_with_those_that_are_not(
    mock: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, sent = settings(brokers=mock.brokers, dead_letter=f"dead-{uuid.uuid4().hex}"), list[int]()
    mock.send(given.dead_letter or "", None)
    monkeypatch.setattr(dead_letters, "AT_ONCE", 2)
    send = DeadLetters._send

    def failing(self: DeadLetters, refused: Sequence[Refused]) -> None:
        if len(sent) == 2:
            sent.append(0)
            raise KafkaTimeoutError
        sent.append(len(refused))
        send(self, refused)

    monkeypatch.setattr(DeadLetters, "_send", failing)
    letters = DeadLetters(given, given.dead_letter or "", lambda _: True, MOCK_VERSION)
    refused = [Refused(Reject("unparseable", "t-0", at, 1, "", None, "why"), b"x") for at in range(6)]
    with pytest.raises(KafkaTimeoutError):
        letters.put(refused)
    assert letters.put(refused) == []
    letters.close()
    assert sent == [2, 2, 0, 0, 0, 2]


def test_a_dead_letter_topic_that_is_not_there_is_told_once_and_not_made(mock: Mock, opened: Opened) -> None:
    given = settings(brokers=mock.brokers, dead_letter=f"dead-{uuid.uuid4().hex}")
    mock.send(given.topic, b"1", b"2")
    source = opened(given)
    refused = refused_of(source, drain(source, least=2), decoded=2)
    for _ in range(2):
        assert source.set_aside(refused) == [reject for reject, _ in refused]
    (notice,) = source.notices()
    assert notice.startswith(f"2 messages could not be put into {given.dead_letter}")
    assert given.dead_letter not in mock.producer.list_topics(timeout=10).topics


def test_without_a_dead_letter_topic_all_is_for_the_store(mock: Mock, opened: Opened) -> None:
    given = settings(brokers=mock.brokers)
    mock.send(given.topic, b"1")
    source = opened(given)
    refused = refused_of(source, drain(source, least=1), decoded=1)
    assert source.set_aside(refused) == [refused[0].reject]
    assert source.notices() == []


# ---- a real broker --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_ports()
    with real_broker(tmp_path_factory.mktemp("broker"), port):
        yield f"127.0.0.1:{port}"


def send(broker: str, topic: str, *values: bytes | None, partition: int = 0, **config: str) -> None:
    producer = Producer(
        {"bootstrap.servers": broker, **{key.replace("_", "."): value for key, value in config.items()}}
    )
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(20) == 0


@pytest.mark.shared
@needs_broker
class TestRealBroker:
    def test_a_topic_made_anew_is_noticed(self, real: str) -> None:
        given = settings(brokers=[real], lost="earliest")
        admin, name = made(real, given.topic), f"{given.topic}-0"
        send(real, given.topic, b"1", b"2", b"3")
        source = Kafka(given, wait=0.1, refresh=0.2)
        before = ends(drain(source, least=3))
        assert before[name].offset == 3
        assert len(before[name].identity) == 36
        for done in admin.delete_topics([given.topic]).values():
            done.result(20)
        until = time.monotonic() + 20
        while "no such topic" not in source.trouble:
            source.poll([name], 10)
            assert time.monotonic() < until, source.trouble
        made(real, given.topic)
        send(real, given.topic, b"4", b"5")
        found = drain(source, least=2)
        assert offsets(found) == {"0": [0, 1]}
        (notice,) = source.notices()
        assert notice.startswith(
            f"{name}: the stored position 3 is of another topic of this name ({before[name].identity})"
        )
        source.close()
        halted = Kafka(given.model_copy(update={"lost": "stop"}), wait=0.1)
        halted.resume(before)
        halted.poll([name], 10)
        assert "nothing more is read until `lost: earliest`" in halted.trouble
        halted.close()

    def test_records_that_were_deleted_unread_are_told(self, real: str) -> None:
        given = settings(brokers=[real], lost="earliest")
        admin, name = made(real, given.topic), f"{given.topic}-0"
        send(real, given.topic, *[b"%d" % i for i in range(10)])
        source = Kafka(given, wait=0.1)
        source.resume({name: Position(2)})
        assert source.peek(name, 1).offsets == [2]
        source.close()
        from confluent_kafka import TopicPartition

        for done in admin.delete_records([TopicPartition(given.topic, 0, 6)]).values():
            done.result(20)
        again = Kafka(given, wait=0.1)
        again.resume({name: Position(2)})
        assert offsets(drain(again, least=4)) == {"0": [6, 7, 8, 9]}
        (notice,) = again.notices()
        assert notice.startswith(f"{name}: the stored position 2 is gone: there are offsets 6 to 10; reading goes on")
        again.close()

    def test_only_committed_records_count_and_markers_are_none(self, real: str) -> None:
        given = settings(brokers=[real])
        made(real, given.topic)
        producer = Producer({"bootstrap.servers": real, "transactional.id": given.topic})
        producer.init_transactions(20)
        for values, ends_well in (((b"1", b"2"), True), ((b"x", b"y"), False), ((b"3",), True), ((b"z",), False)):
            producer.begin_transaction()
            for value in values:
                producer.produce(given.topic, value, partition=0)
            producer.flush(20)
            (producer.commit_transaction if ends_well else producer.abort_transaction)(20)
        source = Kafka(given, wait=0.1)
        found = drain(source, least=3)
        assert [payload for raw in found for payload in raw.payloads] == [b"1", b"2", b"3"]
        assert ends(found)[f"{given.topic}-0"].offset == 10
        source.close()

    @pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
    def test_compressed_topics_are_read(self, real: str, codec: str) -> None:
        given = settings(brokers=[real])
        made(real, given.topic)
        values = [b"%d " % i * 50 for i in range(200)]
        send(real, given.topic, *values, compression_type=codec, linger_ms="50")
        source = Kafka(given, wait=0.1)
        assert [payload for raw in drain(source, least=200) for payload in raw.payloads] == values
        source.close()

    def test_partitions_that_come_later_are_read_from_their_start(self, real: str) -> None:
        given = settings(brokers=[real], start="latest")
        admin = made(real, given.topic, 2)
        send(real, given.topic, b"before")
        source = Kafka(given, wait=0.1, refresh=0.3)
        assert offsets(drain(source)) == {}
        for done in admin.create_partitions([NewPartitions(given.topic, 4)]).values():
            done.result(20)
        for partition in range(4):
            send(real, given.topic, b"after", partition=partition)
        assert offsets(drain(source, least=4)) == {"0": [1], "1": [0], "2": [0], "3": [0]}
        source.close()

    def test_append_times_of_the_broker_are_told_from_the_producers(self, real: str) -> None:
        given = settings(brokers=[real])
        made(real, given.topic, config={"message.timestamp.type": "LogAppendTime"})
        begin = time.time() * 1000
        send(real, given.topic, b"1", b"2")
        source = Kafka(given, wait=0.1)
        (raw,) = [raw for raw in drain(source, least=2) if raw.payloads]
        assert raw.append is not None
        assert ((begin - 5_000 <= raw.append) & (raw.append <= time.time() * 1000 + 5_000)).all()
        source.close()

    def test_a_letter_that_is_too_long_for_its_topic_is_for_the_store(self, real: str) -> None:
        given = settings(brokers=[real], max_record_bytes=10, dead_letter=f"dead-{uuid.uuid4().hex}")
        made(real, given.topic)
        made(real, given.dead_letter or "", config={"max.message.bytes": "2000"})
        send(real, given.topic, b"x" * 100, b"y" * 5000, b"z" * 100)
        source = Kafka(given, wait=0.1)
        refused = refused_of(source, drain(source))
        assert [each.position for each in source.set_aside(refused) or ()] == [1]
        assert {value[:1] for value, _ in letters(real, given.dead_letter or "", 2).values()} == {b"x", b"z"}
        source.close()

    def test_no_topic_is_made_by_asking_for_it(self, real: str) -> None:
        given = settings(brokers=[real])
        source = Kafka(given, wait=0.1)
        for _ in range(3):
            source._again = 0.0
            source.poll([], 10)
        assert "there is no such topic" in source.trouble
        source.close()
        assert given.topic not in AdminClient({"bootstrap.servers": real}).list_topics(timeout=20).topics


@pytest.mark.shared
@needs_broker
@leaky
def test_an_outage_is_no_idleness_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(kafka_client, "BOOTSTRAP_SECONDS", 1.0)
    port = free_ports()
    broker = f"127.0.0.1:{port}"
    given = settings(brokers=[broker], dead_letter="dead")
    with real_broker(tmp_path / "b", port):
        made(broker, given.topic)
        made(broker, given.dead_letter or "")
        send(broker, given.topic, b"1", b"2")
        source = Kafka(given, wait=0.1, refresh=0.5)
        name = f"{given.topic}-0"
        answers = drain(source, least=2)
        assert offsets(answers) == {"0": [0, 1]}
        refused = refused_of(source, answers, decoded=2)
        assert source.set_aside(refused[:1]) == []
    until = time.monotonic() + 30
    while not source.trouble:
        assert source.poll([name], 10) == []
        assert time.monotonic() < until
        source._ask = 0.0
        source.drained()
    assert set(source.drained()) == set()
    assert source.set_aside(refused[1:]) is None
    with real_broker(tmp_path / "b", port):
        send(broker, given.topic, b"3")
        assert offsets(drain(source, least=1, seconds=60)) == {"0": [2]}
        assert source.trouble == ""
        assert source.set_aside(refused[1:]) == []
        assert {value for value, _ in letters(broker, given.dead_letter or "", 2).values()} == {b"1", b"2"}
    source.close()


@pytest.mark.shared
@needs_broker
def test_a_broker_that_asks_for_a_password_over_tls(tmp_path: Path) -> None:
    port = free_ports()
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    (tmp_path / "server.pem").write_text(key.read_text() + cert.read_text())
    login = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="broker" password="b" user_broker="b" user_driftd="secret";'
    )
    extra = f"""
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port + 1}
advertised.listeners=CLIENTS://127.0.0.1:{port}
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={tmp_path}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={cert}
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.clients.plain.sasl.jaas.config={login}
"""
    password = tmp_path / "password"
    password.write_text("secret\n")
    security = {"protocol": "SASL_SSL", "username": "driftd", "password_file": password, "ca_file": cert}
    given = settings(brokers=[f"127.0.0.1:{port}"], security=security)
    client: dict[str, str | int | float | bool] = {
        "bootstrap.servers": f"127.0.0.1:{port}",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(cert),
    }
    client |= {"sasl.mechanism": "PLAIN", "sasl.username": "driftd", "sasl.password": "secret"}
    with real_broker(tmp_path / "b", port, extra):
        admin, producer = AdminClient(client), Producer(client)
        for done in admin.create_topics([NewTopic(given.topic, 1, 1)]).values():
            done.result(30)
        producer.produce(given.topic, b"1", partition=0)
        assert producer.flush(20) == 0
        source = Kafka(given, wait=0.1)
        assert offsets(drain(source, least=1)) == {"0": [0]}
        source.close()
        password.write_text("wrong\n")
        refused = Kafka(given, wait=0.1)
        refused.poll([], 10)
        told = ("Authentication failed: Invalid username or password", "does not accept the username and password")
        assert any(said in refused.trouble for said in told), refused.trouble
        assert "wrong" not in refused.trouble
        refused.close()
