"""Laws of every source (monitor.contracts.Source), run over every row of SOURCES."""

from __future__ import annotations

import gzip
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import zstandard

import monitor.sources.kafka
import monitor.sources.spool
from monitor.contracts import Source
from monitor.model import Position, Raw
from monitor.sources import SOURCES
from monitor.sources.push import Push
from tests.kafka_brokers import MOCK_VERSION, Mock

Open = Callable[[], Source]
"""Opens a source over the same messages again, as a restart does."""


def files(folder: Path) -> Open:
    """Partitions with blank lines, both line ends, no last newline, a line too long, and data that is cut short."""
    record = b'{"id":"%d","text":"%s"}'
    lines = [record % (i, b"x" * (i * 7 % 50)) for i in range(40)]
    lines[3:3] = [b"", b"  \t"]
    lines[20] = b"y" * 300
    (folder / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines[:25]) + b"\n") + gzip.compress(lines[30])[:-9])
    frames = [zstandard.compress(data) for data in (b"\n".join(lines[:9]) + b"\n", lines[9])]
    (folder / "c.jsonl.zst").write_bytes(b"".join(frames))
    (folder / "d.jsonl").touch()
    settings = SOURCES["files"].settings.model_validate(
        {"kind": "files", "paths": [str(folder)], "max_record_bytes": 200}
    )
    return lambda: SOURCES["files"].make(settings)


def kafka(_: Path) -> Open:
    """Partitions with tombstones, registry frames with and without JSON, a message too long, and one without any."""
    topic = f"contract-{uuid.uuid4().hex}"
    values: list[bytes | None] = [b'{"id":"%d"}' % i for i in range(12)]
    values[2:2] = [None, b'\0\0\0\0\7{"id":"framed"}', b"\0\0\0\0\7\2H", None]
    _mock().send(topic, *values, b"y" * 300, partition=0)
    _mock().send(topic, *values[:9], None, partition=2)
    settings = SOURCES["kafka"].settings.model_validate(
        {"kind": "kafka", "brokers": _mock().brokers, "topic": topic, "max_record_bytes": 200}
    )
    return lambda: SOURCES["kafka"].make(settings, wait=0.2, api_version=MOCK_VERSION)


@cache
def _mock() -> Mock:
    return Mock()


def push(folder: Path) -> Open:
    """A partition of several segments, with messages that are no JSON and one too long for what is allowed now."""
    settings = {"kind": "push", "spool": folder / "spool"}
    accepting = SOURCES["push"].make(SOURCES["push"].settings.model_validate(settings))
    assert isinstance(accepting, Push)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor.sources.spool, "SEGMENT", 500)
        for i in range(10):
            accepting.accept([b'{"id":"%d"}' % i, b"", b"\n\xff\0", b"y" * (300 if i == 7 else 20)])
    accepting.close()
    before: list[Source] = []

    def opened() -> Source:
        for source in before:
            source.close()  # a spool has one reader
        smaller = SOURCES["push"].settings.model_validate({**settings, "max_record_bytes": 200})
        before[:] = [SOURCES["push"].make(smaller, wait=0.0)]
        return before[0]

    return opened


def followed(folder: Path) -> Open:
    """The same files as they are followed, with a log that was rotated twice, and not between two lines."""
    files(folder)
    record = [b'{"id":"%d","text":"%s"}\n' % (i, b"z" * (i * 11 % 60)) for i in range(60)]
    chain = b"".join(record)
    for name, begin, end in (("e.jsonl.2", 0, 1000), ("e.jsonl.1", 1000, 1700), ("e.jsonl", 1700, len(chain))):
        (folder / name).write_bytes(chain[begin:end])
        os.utime(folder / name, (begin, begin))
    settings = SOURCES["files"].settings.model_validate(
        {"kind": "files", "paths": [str(folder), str(folder / "e.*")], "max_record_bytes": 200}
    )
    return lambda: SOURCES["files"].follow(settings, wait=0.0)


MAKERS: dict[str, Callable[[Path], Open]] = {"files": files, "files followed": followed, "kafka": kafka, "push": push}


class Message(NamedTuple):
    """A payload or a reject, so that both can be told apart and compared in one list."""

    partition: str
    offset: int
    line: int | None
    content: object


def messages(raw: Raw) -> list[Message]:
    lines: list[int | None] = [*raw.lines] or [None] * len(raw.offsets)
    rows = [Message(raw.partition, *row) for row in zip(raw.offsets, lines, raw.payloads, strict=True)]
    rows += [Message(raw.partition, reject.position, reject.line, reject) for reject in raw.rejects]
    return sorted(rows, key=lambda row: row.offset)


def polled(source: Source, wanted: Sequence[str], limit: int) -> list[Raw]:
    """What a poll gives; of a source that goes on that may be nothing for a while, until it says that this is all."""
    while True:
        answers = source.poll(wanted, limit)
        drained = getattr(source, "drained", None)
        if answers or drained is None or set(wanted) <= set(drained()):
            return answers


def drain(source: Source, limit: int) -> Iterator[Raw]:
    """All answers until every partition has ended or nothing comes any more."""
    while unfinished := [name for name, ended in source.partitions().items() if not ended]:
        before = dict(source.partitions())
        answers = polled(source, unfinished, limit)
        yield from answers
        if not answers and source.partitions() == before:
            return


def read(source: Source, limit: int) -> dict[str, list[Message]]:
    """Messages by partition, in the order in which they came."""
    found: dict[str, list[Message]] = {name: [] for name in source.partitions()}
    for raw in drain(source, limit):
        assert len(messages(raw)) <= limit
        found[raw.partition] += messages(raw)
    return found


@pytest.fixture(params=sorted(MAKERS))
def reopen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setattr(monitor.sources.kafka, "ASK_SECONDS", 0.0)
    make = MAKERS[request.param](tmp_path)
    with ExitStack() as stack:

        def opened() -> Source:
            source = make()
            stack.callback(source.close)
            return source

        yield opened


def test_every_source_has_a_maker_here() -> None:
    followed = {f"{kind} followed" for kind, row in SOURCES.items() if row.follow is not row.make}
    assert set(MAKERS) == set(SOURCES) | followed


@pytest.mark.parametrize("limit", [2, 7, 1_000_000])
def test_the_size_of_polls_changes_nothing(reopen: Open, limit: int) -> None:
    one_by_one = read(reopen(), 1)
    assert sum(map(len, one_by_one.values())) > 20
    assert read(reopen(), limit) == one_by_one


def test_reading_again_from_any_position_gives_the_same_tail(reopen: Open) -> None:
    whole = read(reopen(), 1_000_000)
    seen = dict.fromkeys(whole, 0)
    for raw in list(drain(reopen(), 1)):
        name = raw.partition
        seen[name] += len(messages(raw))
        again = reopen()
        again.resume({name: raw.end})
        rest = read(again, 3)
        assert rest[name] == whole[name][seen[name] :]
        assert {other: rest[other] for other in rest if other != name} == {
            other: whole[other] for other in whole if other != name
        }
    assert seen == {name: len(rows) for name, rows in whole.items()}


def test_all_positions_at_once_resume_where_they_are(reopen: Open) -> None:
    first, ends = reopen(), dict[str, Position]()
    before = {name: list[Message]() for name in first.partitions()}
    for name in first.partitions():
        for raw in polled(first, [name], 5):
            before[name] += messages(raw)
            ends[name] = raw.end
    second = reopen()
    second.resume(ends)
    after = read(second, 4)
    whole = read(reopen(), 1_000_000)
    assert {name: before[name] + after[name] for name in whole} == whole


def test_a_position_at_the_end_gives_nothing_more(reopen: Open) -> None:
    ends = {raw.partition: raw.end for raw in drain(reopen(), 10)}
    again = reopen()
    again.resume(ends)
    assert not any(read(again, 10).values())


def test_peeking_moves_nothing_and_sees_what_comes(reopen: Open) -> None:
    whole = read(reopen(), 1_000_000)
    source = reopen()
    for name in source.partitions():
        for limit in (1, 21, 3):
            assert messages(source.peek(name, limit)) == whole[name][:limit]
    assert read(source, 5) == whole


def test_peeking_between_polls_moves_nothing(reopen: Open) -> None:
    whole, source = read(reopen(), 1_000_000), reopen()
    for name in source.partitions():
        got: list[Message] = []
        while answers := polled(source, [name], 2):
            got += messages(answers[0])
            peeked = source.peek(name, 4)
            assert messages(peeked) == whole[name][len(got) : len(got) + 4]
        assert got == whole[name]


def test_a_poll_goes_to_the_partition_that_is_furthest_behind(reopen: Open) -> None:
    whole, source = read(reopen(), 1_000_000), reopen()
    names = [name for name, rows in whole.items() if len(rows) > 1]
    for name in dict.fromkeys((names[-1], names[0])):
        wanted = [name, *(other for other in names if other != name)]
        (raw,) = polled(source, wanted, 1)
        assert messages(raw) == whole[name][:1]
    assert polled(source, [], 10) == []


def test_offsets_rise_and_the_end_is_behind_the_payloads(reopen: Open) -> None:
    last: dict[str, int] = {}
    for raw in drain(reopen(), 3):
        offsets = [last.get(raw.partition, -1), *raw.offsets]
        assert all(before < after for before, after in pairwise(offsets))
        assert len(raw.offsets) == len(raw.payloads)
        assert raw.end.offset > offsets[-1]
        last[raw.partition] = offsets[-1]


def test_partitions_keep_their_names_and_stay_listed(reopen: Open) -> None:
    source = reopen()
    names = list(source.partitions())
    ended: set[str] = set()
    for _ in drain(source, 4):
        now = source.partitions()
        assert list(now) == names
        assert ended <= {name for name in now if now[name]}
        ended = {name for name in now if now[name]}
    assert list(reopen().partitions()) == names


def test_closing_twice_is_closing_once(reopen: Open) -> None:
    source = reopen()
    polled(source, list(source.partitions()), 1)
    source.close()
    source.close()
    reopen().close()
