"""Records of a Kafka topic: every partition, by positions of our own, never as a member of a group.

A partition is ``topic-number``; its positions carry the topic's id, so that a topic that was made anew under its old
name is noticed. Only committed records are read, and no topic is ever created. While the brokers or the topic cannot be
reached, a poll gives nothing, `trouble` says why, and it is tried again after a pause that grows.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from monitor.model import Position, Raw, Refused, Reject
from monitor.sources import kafka_client
from monitor.sources.dead_letters import DeadLetters
from monitor.sources.kafka_client import KafkaSettings, client_options, connected, create_no_topics
from monitor.sources.rejects import oversized

if TYPE_CHECKING:
    from kafka import ConsumerRecord, KafkaAdminClient, KafkaConsumer, TopicPartition

PAUSES = (1.0, 30.0)
"""First and longest pause between two tries, in seconds."""
ASK_SECONDS = 1.0
"""Least time between two questions for the ends of partitions."""
FETCHED = 512
"""Messages that wait of a partition before no more of it are fetched, at least."""
FETCH_BYTES = 8 << 20
"""What one answer of a broker may hold, as it is compressed; a single message may be longer."""
_FRAME = 5
"""Bytes of the header of a schema registry: 0 and the id of a schema."""
_APPENDED = 1
"""Type of a timestamp that the broker set when it appended the record."""


@dataclass(slots=True)
class _Partition:
    """One partition: what was fetched of it and not yet given out."""

    at: TopicPartition
    position: Position
    """Behind what `poll` gave."""
    queue: deque[ConsumerRecord] = field(default_factory=deque)
    fetched: int = 0
    """Behind what is in the queue, markers of transactions among it."""
    end: int | None = None
    """Its end as the brokers told it when all before had been given out."""
    tail: int | None = None
    """Its end as they told it last."""

    headers: dict[int, bytes] = field(default_factory=dict)
    """Offset -> the header of a schema registry that was cut off a message, as long as that may be refused."""

    @property
    def drained(self) -> bool:
        return not self.queue and self.end is not None and self.position.offset >= self.end


class Kafka:
    """The `kafka` source (`monitor.contracts.LiveSource`).

    Parameters
    ----------
    wait : seconds that a poll waits for messages where there are none
    refresh : seconds between two looks for new partitions
    api_version : of brokers that cannot be asked for it

    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        wait: float = 0.5,
        refresh: float = 15.0,
        api_version: tuple[int, ...] | None = None,
    ) -> None:
        self._settings, self._wait, self._refresh, self._version = settings, wait, refresh, api_version
        self._known: Mapping[str, Position] = {}
        """Stored positions."""
        self._partitions: dict[str, _Partition] = {}
        self._consumer: KafkaConsumer | None = None
        self._admin: KafkaAdminClient | None = None
        self._topic_id = ""
        self._trouble = ""
        self._halted = ""
        self._notices: list[str] = []
        self._told_undead = False
        self._pause, self._again, self._look, self._ask = PAUSES[0], 0.0, 0.0, 0.0
        self._mirrored: dict[str, int] = {}
        self._dead: DeadLetters | None = None
        if settings.dead_letter is not None:
            self._dead = DeadLetters(settings, settings.dead_letter, self._is_there, api_version)

    # ---- what a source promises -------------------------------------------------------------------------------------

    def partitions(self) -> Mapping[str, bool]:
        self._ready()
        return dict.fromkeys(self._partitions, False)

    def resume(self, positions: Mapping[str, Position]) -> None:
        """Go on from `positions`; whether they still name anything shows when the brokers are reached."""
        self.close()
        begin = f"{self._settings.topic}-"
        self._known = {
            name: position
            for name, position in positions.items()
            if name.startswith(begin) and name.removeprefix(begin).isdecimal()
        }

    def peek(self, partition: str, limit: int) -> Raw:
        if self._ready() and partition in self._partitions:
            part, until = self._partitions[partition], time.monotonic() + kafka_client.REQUEST_SECONDS
            while self._messages(part) < limit and time.monotonic() < until and not self._at_end(part):
                self._fetch([part], limit)
            return self._raw(partition, _first(part.queue, limit), part.position)
        return Raw(partition, [], [], [], self._known.get(partition, Position(0)))

    def poll(self, wanted: Sequence[str], limit: int, *, wait: bool = True) -> list[Raw]:
        if not self._ready():
            time.sleep(self._wait if wait else 0)
            return []
        parts = [self._partitions[name] for name in wanted if name in self._partitions]
        if parts and not parts[0].queue:
            self._fetch(parts, limit, wait=wait)
        found: list[Raw] = []
        for name in wanted:
            part = self._partitions.get(name)
            if part is not None and limit > 0 and (raw := self._take(name, part, limit)) is not None:
                found.append(raw)
                limit -= len(raw.payloads) + len(raw.rejects)
        return found

    def close(self) -> None:
        """Let go of the connections. Idempotent."""
        for client in (self._consumer, self._admin):
            if client is not None:
                client.close()
        if self._dead is not None:
            self._dead.close()
        self._consumer = self._admin = None
        self._partitions, self._trouble, self._again = {}, "", 0.0

    # ---- what a live source promises --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return f"kafka {self._settings.topic}"

    @property
    def trouble(self) -> str:
        """Why nothing can be read now; '' where it can."""
        return self._halted or self._trouble

    def drained(self) -> Collection[str]:
        """Partitions that end where they have been read to, by an answer asked for after that."""
        if not self._ready():
            return ()
        if time.monotonic() >= self._ask:
            self._ask = time.monotonic() + ASK_SECONDS
            self._ask_for_ends([part for part in self._partitions.values() if not part.queue])
        return {name for name, part in self._partitions.items() if part.drained} if not self._trouble else ()

    def lag(self) -> Mapping[str, int]:
        """As the brokers told it last, at least once in `refresh` seconds."""
        return {
            name: max(part.tail - part.position.offset, 0)
            for name, part in self._partitions.items()
            if part.tail is not None
        }

    def set_aside(self, refused: Sequence[Refused]) -> Sequence[Reject] | None:
        from kafka.errors import KafkaError  # noqa: PLC0415

        if self._dead is None:
            return [reject for reject, _ in refused]
        if self._admin is None or time.monotonic() < self._again:
            return None
        whole = [Refused(each.reject, self._header(each.reject) + each.message) for each in refused]
        try:
            left = self._dead.put(whole)
        except (KafkaError, OSError) as error:
            self._fail(error)
            return None
        self._fine()
        if left and not self._told_undead:
            reason = f"{len(left)} messages could not be put into {self._settings.dead_letter}"
            self._notices.append(f"{reason}; those and later ones are in the store, redacted")
        self._told_undead = bool(left)
        return left

    def _header(self, reject: Reject) -> bytes:
        part = self._partitions.get(reject.source)
        return b"" if part is None else part.headers.get(reject.position, b"")

    def _is_there(self, topic: str) -> bool:
        """Whether a topic is there and may be seen."""
        assert self._admin is not None
        (told,) = self._admin.describe_topics([topic])
        return not told["error_code"]

    def committed(self, positions: Mapping[str, Position]) -> None:
        """Copy positions that are stored now to the group; that it fails is no harm and is not told."""
        for name, part in self._partitions.items():
            if part.headers and name in positions:
                stored = positions[name].offset
                part.headers = {offset: header for offset, header in part.headers.items() if offset >= stored}
        if self._consumer is None or self._settings.group is None:
            return
        from kafka import OffsetAndMetadata  # noqa: PLC0415
        from kafka.errors import KafkaError  # noqa: PLC0415

        moved = {
            part.at: OffsetAndMetadata(positions[name].offset, "", -1)
            for name, part in self._partitions.items()
            if name in positions and self._mirrored.get(name) != positions[name].offset
        }
        if not moved:
            return
        self._mirrored |= {name: positions[name].offset for name in self._partitions if name in positions}
        try:
            self._consumer.commit_async(moved, callback=self._copied)
        except KafkaError:
            self._mirrored = {}

    def _copied(self, _: object, answer: object) -> None:
        if isinstance(answer, Exception):
            self._mirrored = {}  # the next commit copies them again

    def notices(self) -> list[str]:
        """What has happened that its owner should know, each once."""
        said, self._notices = self._notices, []
        return said

    # ---- reaching the brokers ---------------------------------------------------------------------------------------

    def _ready(self) -> bool:
        """Whether there is something to read from; tries to get there where it is time."""
        from kafka.errors import KafkaError  # noqa: PLC0415

        now = time.monotonic()
        if self._halted or now < self._again:
            return False
        try:
            if self._consumer is None or self._admin is None:
                self._connect()
            if now >= self._look or not self._partitions:
                self._look_for_partitions()
                self._look = now + self._refresh
        except (KafkaError, OSError, LookupError) as error:
            self._fail(error)
        return bool(self._partitions) and not self.trouble

    def _connect(self) -> None:
        from kafka import KafkaAdminClient, KafkaConsumer  # noqa: PLC0415

        common = client_options(self._settings, self._version)
        self._admin = self._admin or connected(KafkaAdminClient, **common)
        self._consumer = connected(
            KafkaConsumer,
            **common,
            group_id=self._settings.group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_bytes=FETCH_BYTES,
            allow_auto_create_topics=False,
            metadata_max_age_ms=max(round(1000 * self._refresh), 1000),
        )
        create_no_topics(self._consumer._cluster)  # noqa: SLF001

    def _fail(self, error: Exception) -> None:
        """Say what is wrong and wait before the next try, each time longer."""
        said = str(error).partition("\n")[0]
        self._trouble = f"kafka topic {self._settings.topic} at {', '.join(self._settings.brokers)}: {said}"
        self._look = 0.0
        self._again = time.monotonic() + self._pause * random.uniform(0.75, 1.25)  # noqa: S311  jitter
        self._pause = min(2 * self._pause, PAUSES[1])

    def _fine(self) -> None:
        self._trouble, self._pause = "", PAUSES[0]

    # ---- which partitions, and from where ---------------------------------------------------------------------------

    def _look_for_partitions(self) -> None:
        """Find partitions that are new, and whether the topic is still the one that was read."""
        assert self._admin is not None
        (told,) = self._admin.describe_topics([self._settings.topic])
        numbers = sorted(row["partition_index"] for row in told["partitions"])
        if told["error_code"] or not numbers:
            raise LookupError("there is no such topic, or it may not be read; driftd does not create it")
        topic_id = str(told.get("topic_id") or "")
        new = [number for number in numbers if self._name(number) not in self._partitions]
        if self._topic_id and topic_id != self._topic_id:
            self._begin_anew()
            new = numbers
        self._topic_id = topic_id
        if new:
            self._assign(new)
        for part, end in self._ends(list(self._partitions.values())):
            part.tail = end
        self._fine()

    def _begin_anew(self) -> None:
        """Place every partition once more by its position, which may be gone."""
        self._known = {**self._known, **{name: part.position for name, part in self._partitions.items()}}
        self._partitions, self._look = {}, 0.0

    def _name(self, number: int) -> str:
        return f"{self._settings.topic}-{number}"

    def _assign(self, numbers: Sequence[int]) -> None:
        """Read these partitions too, each from where it was left or where it begins."""
        from kafka import TopicPartition  # noqa: PLC0415

        assert self._consumer is not None
        places = [TopicPartition(self._settings.topic, number) for number in numbers]
        every = [*(part.at for part in self._partitions.values()), *places]
        self._consumer.assign(every)
        low, high = (ask(places) for ask in (self._consumer.beginning_offsets, self._consumer.end_offsets))
        fresh = not self._partitions and not self._known
        begins = self._starts(places, low, high) if fresh else low
        for at in places:
            name = self._name(at.partition)
            position = self._known.get(name)
            begin = begins[at] if position is None else self._kept(name, position, low[at], high[at])
            self._partitions[name] = _Partition(at, Position(begin, identity=self._topic_id), fetched=begin)
            self._consumer.seek(at, begin)

    def _starts(
        self, places: Sequence[TopicPartition], low: Mapping[TopicPartition, int], high: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        """Where to begin in a topic of which nothing is known."""
        start = self._settings.start
        if not isinstance(start, int):
            return low if start == "earliest" else high
        assert self._consumer is not None
        found = self._consumer.offsets_for_times(dict.fromkeys(places, start))
        return {at: high[at] if found.get(at) is None else found[at].offset for at in places}

    def _kept(self, name: str, position: Position, low: int, high: int) -> int:
        """Where to go on with a stored position, which may be gone."""
        if position.identity and self._topic_id and position.identity != self._topic_id:
            return self._lost(name, position, f"is of another topic of this name ({position.identity})", low, high)
        if not low <= position.offset <= high:
            return self._lost(name, position, f"is gone: there are offsets {low} to {high}", low, high)
        return position.offset

    def _lost(self, name: str, position: Position, why: str, low: int, high: int) -> int:
        """What the owner has chosen for a position that names nothing any more."""
        chosen = self._settings.lost
        said = f"{name}: the stored position {position.offset} {why}"
        if chosen == "stop":
            self._halted = f"{said}; nothing more is read until `lost: earliest` or `lost: latest` is chosen"
            return position.offset
        begin = low if chosen == "earliest" else high
        self._notices.append(f"{said}; reading goes on at offset {begin}, as `lost: {chosen}` says")
        return begin

    # ---- messages ---------------------------------------------------------------------------------------------------

    def _fetch(self, parts: Sequence[_Partition], limit: int, *, wait: bool = True) -> None:
        """Fetch more of some partitions, and of no other."""
        from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError  # noqa: PLC0415

        assert self._consumer is not None
        enough = max(limit // max(len(parts), 1), FETCHED)
        mine = {part.at: part for part in parts if len(part.queue) < enough}
        others = [part.at for part in self._partitions.values() if part.at not in mine]
        self._consumer.pause(*others)
        self._consumer.resume(*mine)
        try:
            longest = 0 if not wait or any(part.queue for part in parts) else round(1000 * self._wait)
            # All that has come: kafka-python 3.0 keeps back what it has cut off of a partition that is paused then.
            came = self._consumer.poll(timeout_ms=longest, max_records=sys.maxsize)
            for at, part in mine.items():
                part.queue.extend(came.get(at, ()))
                part.fetched = self._consumer.position(at)
            if came:
                self._fine()
        except (OffsetOutOfRangeError, LogTruncationError):
            self._begin_anew()
        except KafkaError as error:
            self._fail(error)

    def _at_end(self, part: _Partition) -> bool:
        """Whether nothing is left to be fetched of a partition, or nothing can be."""
        self._ask_for_ends([part])
        return bool(self.trouble) or part.end is None or part.fetched >= part.end

    def _ask_for_ends(self, parts: Sequence[_Partition]) -> None:
        from kafka.errors import KafkaError  # noqa: PLC0415

        if not parts or self.trouble:
            return
        try:
            found = self._ends(parts)
        except KafkaError as error:
            self._fail(error)
            return
        for part, end in found:
            part.end = part.tail = end

    def _ends(self, parts: Sequence[_Partition]) -> list[tuple[_Partition, int]]:
        """Where the brokers say that partitions end. Raises KafkaError."""
        assert self._consumer is not None
        ends = self._consumer.end_offsets([part.at for part in parts])
        return [(part, ends[part.at]) for part in parts]

    @staticmethod
    def _messages(part: _Partition) -> int:
        return sum(row.value is not None for row in part.queue)

    def _take(self, name: str, part: _Partition, limit: int) -> Raw | None:
        """What is queued of a partition, `limit` messages at most; None where nothing has come."""
        rows = _first(part.queue, limit)
        for _ in rows:
            part.queue.popleft()
        behind = part.queue[0].offset if part.queue else part.fetched
        behind = max(behind, rows[-1].offset + 1) if rows and not part.queue else behind
        if behind == part.position.offset:
            return None
        part.position, part.end = Position(behind, identity=self._topic_id), None
        return self._raw(name, rows, part.position)

    def _raw(self, name: str, rows: Iterable[ConsumerRecord], end: Position) -> Raw:
        """Messages as the rest of driftd takes them; tombstones are none."""
        payloads, offsets, append, rejects = [], [], [], []
        aside: dict[int, bytes] = {}
        for row in rows:
            if row.value is None:
                continue
            payload = unframed(row.value)
            if isinstance(payload, str) or len(payload) > self._settings.max_record_bytes:
                rejects.append(self._reject(name, row, payload))
                aside[row.offset] = row.value
                continue
            if len(payload) < len(row.value) and self._dead is not None:
                self._partitions[name].headers[row.offset] = row.value[: -len(payload)]
            payloads.append(payload)
            offsets.append(row.offset)
            append.append(row.timestamp if row.timestamp_type == _APPENDED else -1)
        appended = np.array(append, np.int64) if append and min(append) >= 0 else None
        return Raw(name, payloads, offsets, [], end, rejects, appended, aside)

    def _reject(self, name: str, row: ConsumerRecord, payload: bytes | str) -> Reject:
        digest = hashlib.sha256(row.value).hexdigest()
        if isinstance(payload, bytes):
            return oversized(name, row.offset, len(payload), digest, at_most=self._settings.max_record_bytes)
        return Reject("unsupported", name, row.offset, len(row.value), digest, None, payload)


def _first(rows: Iterable[ConsumerRecord], limit: int) -> list[ConsumerRecord]:
    """The first rows up to so many messages; tombstones are none."""
    found: list[ConsumerRecord] = []
    left = limit
    for row in rows:
        if not left:
            break
        found.append(row)
        left -= row.value is not None
    return found


def unframed(value: bytes) -> bytes | str:
    r"""A message without the header of a schema registry, or why what is behind that cannot be read.

    >>> unframed(b'{"id": 1}'), unframed(b'\0\0\0\0\7{"id": 1}')
    (b'{"id": 1}', b'{"id": 1}')
    >>> unframed(b"\0\0\0\0\7\2H")
    'Avro with schema 7 of a registry; driftd reads JSON'
    >>> unframed(b"\0\0\0\0\7\0\n")
    'Protobuf with schema 7 of a registry; driftd reads JSON'
    """
    if value[:1] != b"\0" or len(value) < _FRAME:
        return value
    content = value[_FRAME:]
    if content.lstrip()[:1] in (b"{", b"["):
        return content
    kind = "Protobuf" if content[:1] == b"\0" else "Avro"  # where there is one message type its index is a 0
    return f"{kind} with schema {int.from_bytes(value[1:_FRAME], 'big')} of a registry; driftd reads JSON"
