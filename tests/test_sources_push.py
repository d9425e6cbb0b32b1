"""The push source: what was accepted is there, whatever dies, and is read once; what was not is not."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from monitor.model import Position, Raw
from monitor.sources import spool
from monitor.sources.push import Push, PushSettings
from monitor.sources.spool import OVERHEAD, SpoolFullError

Open = Callable[..., Push]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def reopen(folder: Path) -> Iterator[Open]:
    """Opens the source over the same folder as a restart does: the one before is closed."""
    opened: list[Push] = []

    def make(**more: object) -> Push:
        while opened:
            opened.pop().close()
        opened.append(Push(PushSettings.model_validate({"kind": "push", "spool": folder, **more}), wait=0.0))
        return opened[-1]

    yield make
    while opened:
        opened.pop().close()


def read(source: Push, limit: int = 1_000) -> list[Raw]:
    found: list[Raw] = []
    while answers := source.poll(["push"], limit):
        found += answers
    return found


def payloads(source: Push, limit: int = 1_000) -> list[bytes]:
    return [payload for raw in read(source, limit) for payload in raw.payloads]


def segments(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.spool"))


def numbered(begin: int, end: int) -> list[bytes]:
    return [b'{"id":"%d"}' % number for number in range(begin, end)]


# ---- what is accepted -----------------------------------------------------------------------------------------------


def test_what_was_accepted_is_read_as_it_came_with_the_time_it_came(reopen: Open) -> None:
    source, before = reopen(), time.time_ns() // 1_000_000
    given = [b'{\n "id": "1"\r\n}', b"", b"no json\n\n", b"\0\xff\n", b'{"id":"2"}']
    source.accept(given[:3])
    source.accept(given[3:])
    (raw,) = read(source)
    assert raw.payloads == given
    assert raw.append is not None
    assert before <= raw.append.min() <= raw.append.max() <= time.time_ns() // 1_000_000
    assert raw.offsets == [sum(map(len, given[:i])) + i * OVERHEAD for i in range(5)]
    assert payloads(reopen()) == given, "nothing of it was committed"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "there are no messages"),
        ([b"x", b"y" * 101], r"message 2 has 101 bytes, more than max_record_bytes \(100\)"),
        ([b"x" * 100] * 11_000, r"the messages have 1,331,000 bytes, more than the spool holds \(1,048,576\)"),
    ],
)
def test_what_can_never_be_accepted_is_refused_as_a_whole(reopen: Open, given: list[bytes], said: str) -> None:
    source = reopen(megabytes=1, max_record_bytes=100)
    with pytest.raises(ValueError, match=said):
        source.accept(given)
    assert read(source) == []


def test_a_message_longer_than_what_may_be_accepted_now_is_refused_when_it_is_read(reopen: Open) -> None:
    reopen().accept([b"x" * 101, b"1"])
    (raw,) = read(reopen(max_record_bytes=100))
    assert (raw.payloads, [reject.reason for reject in raw.rejects]) == ([b"1"], ["oversized"])


def test_a_full_spool_takes_nothing_until_some_of_it_was_committed(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT", 1 << 18)
    source, message = reopen(megabytes=1), b"x" * 99_979
    for _ in range(10):
        source.accept([message])
    with pytest.raises(SpoolFullError, match=r"no room for 100,000 bytes: 1,000,000 of its 1,048,576 bytes wait"):
        source.accept([message])
    source.accept([b"small"])
    (raw,) = source.poll(["push"], 3)
    source.committed({"push": raw.end})
    source.accept([message])
    assert len(payloads(source)) == 9


def test_what_the_disk_does_not_take_leaves_nothing_behind(reopen: Open, folder: Path) -> None:
    source = reopen()
    source.accept(numbered(0, 10))
    size = (folder / segments(folder)[0]).stat().st_size
    with limited_to(size + 150), pytest.raises(OSError, match="too large"):
        source.accept(numbered(10, 40))
    assert (folder / segments(folder)[0]).stat().st_size == size
    source.accept(numbered(40, 41))
    assert payloads(source) == numbered(0, 10) + numbered(40, 41) == payloads(reopen())


@contextmanager
def limited_to(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: what fits is written, then the disk refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_threads_push_while_it_is_read(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT", 2_000)
    source = reopen()

    def bring(thread: int) -> None:
        for number in range(60):
            source.accept([b"%d %d" % (thread, number), b"%d %d more" % (thread, number)])

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    found: list[bytes] = []
    while any(thread.is_alive() for thread in threads):
        for raw in source.poll(["push"], 7):
            found += raw.payloads
            source.committed({"push": raw.end})
    found += payloads(source)
    for number in range(4):
        mine = [message for message in found if message.startswith(b"%d " % number)]
        assert mine == [b"%d %d%s" % (number, i, more) for i in range(60) for more in (b"", b" more")]
    assert source.lag() == {"push": 0}


# ---- restarts -------------------------------------------------------------------------------------------------------


def test_it_goes_on_at_its_positions_for_good(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where every segment has been deleted in between; no position means two messages."""
    monkeypatch.setattr(spool, "SEGMENT", 300)
    rng, found, position, brought = np.random.default_rng(1), list[tuple[int, bytes]](), Position(0), 0
    for _ in range(60):
        source = reopen()
        if position.offset:
            source.resume({"push": position})
        assert source.notices() == []
        if rng.random() < 0.8:
            more = int(rng.choice([1, 5, 30]))
            source.accept(numbered(brought, brought + more))
            brought += more
        for raw in source.poll(["push"], int(rng.choice([1, 7, 100]))):
            found += zip(raw.offsets, raw.payloads, strict=True)
            position = raw.end
        if rng.random() < 0.7:
            source.committed({"push": position})
    source = reopen()
    source.resume({"push": position})
    found += [row for raw in read(source) for row in zip(raw.offsets, raw.payloads, strict=True)]
    assert [payload for _, payload in found] == numbered(0, brought)
    assert [offset for offset, _ in found] == sorted({offset for offset, _ in found})


def test_whole_segments_behind_what_is_stored_are_deleted(
    reopen: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT", 100)
    source = reopen()
    for number in range(12):
        source.accept(numbered(number, number + 1))
    kept = segments(folder)
    assert len(kept) > 2
    (raw,) = source.poll(["push"], 4)
    assert segments(folder) == kept, "they may be asked for again"
    source.committed({"push": raw.end})
    assert segments(folder) == kept[1:]
    (raw,) = source.poll(["push"], 100)
    source.committed({"push": raw.end})
    assert segments(folder) == [f"{raw.end.offset:020}.spool"]
    assert (folder / segments(folder)[0]).stat().st_size == 0, "nothing of it is kept"
    source.committed({"push": Position(10**9, identity="of another spool")})


def test_drained_and_lag_tell_what_waits(reopen: Open) -> None:
    source = reopen()
    assert source.partitions() == {"push": False}
    assert set(source.drained()) == {"push"}
    source.accept(numbered(0, 10))
    assert (set(source.drained()), source.lag()) == (set(), {})
    source.poll(["push"], 4)
    assert (set(source.drained()), source.lag()) == (set(), {})
    source.poll(["push"], 10)
    source.accept(numbered(0, 3))
    assert (set(source.drained()), source.lag()) == (set(), {"push": 3})
    source.poll(["push"], 2)
    assert source.lag() == {"push": 1}
    source.poll(["push"], 2)
    assert (set(source.drained()), source.lag()) == ({"push"}, {"push": 0})


def test_a_poll_waits_for_what_comes(folder: Path) -> None:
    source = Push(PushSettings(kind="push", spool=folder), wait=20.0)
    later = threading.Timer(0.05, source.accept, [[b"1"]])
    later.start()
    assert [raw.payloads for raw in source.poll(["push"], 10)] == [[b"1"]]
    later.join()
    source.close()


# ---- what dies ------------------------------------------------------------------------------------------------------


def test_wherever_a_write_breaks_off_it_is_as_if_it_had_not_begun(reopen: Open, folder: Path) -> None:
    source = reopen()
    source.accept(numbered(0, 3))
    file = folder / segments(folder)[0]
    before = file.stat().st_size
    source.accept(numbered(3, 6))
    whole = file.read_bytes()
    for size in range(before, len(whole)):
        reopen().close()
        file.write_bytes(whole[:size])
        source = reopen()
        told = source.notices()
        assert (file.stat().st_size, len(told)) == (before, size > before)
        assert not told or told[0].startswith(f"push: {size - before} bytes of messages that had not been accepted")
        source.accept([b"next"])
        assert payloads(source) == [*numbered(0, 3), b"next"]


BRINGING = """
import sys
from pathlib import Path
from monitor.sources import spool
from monitor.sources.push import Push, PushSettings
spool.SEGMENT = 20_000
source = Push(PushSettings(kind="push", spool=Path(sys.argv[1])))
number = int(sys.argv[2])
while True:
    source.accept([b"%d %d " % (number, part) + b"x" * 700 for part in range(5)])
    print(number, flush=True)
    number += 1
"""


def test_killed_at_any_moment_it_has_all_that_it_accepted_and_no_part_of_anything_else(
    reopen: Open, folder: Path
) -> None:
    rng, accepted = np.random.default_rng(2), -1
    for _ in range(8):
        command = [sys.executable, "-c", BRINGING, str(folder), str(accepted + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            accepted = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            accepted = int([str(accepted), *process.stdout.read().split("\n")[:-1]][-1])
        found = [tuple(map(int, payload.split()[:2])) for payload in payloads(reopen())]
        newest = found[-1][0]
        assert newest in {accepted, accepted + 1}, "what was written may have died before it was said"
        assert found == [(number, part) for number in range(newest + 1) for part in range(5)]
        accepted = newest
        reopen().close()


def test_a_damaged_disk_is_told_and_the_next_segment_is_read(
    reopen: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT", 100)
    source = reopen()
    for number in range(9):
        source.accept(numbered(number, number + 1))
    first, second, *_ = segments(folder)
    data = bytearray((folder / first).read_bytes())
    data[-5] ^= 1
    (folder / first).write_bytes(data)
    source = reopen()
    found = read(source, 2)
    (reject,) = [reject for raw in found for reject in raw.rejects]
    assert (reject.reason, reject.position + reject.size) == ("unreadable", int(second.partition(".")[0]))
    assert reject.detail.startswith("the spool is damaged; nothing up to position")
    assert [payload for raw in found for payload in raw.payloads] == numbered(0, 3) + numbered(4, 9)


# ---- whose spool it is ----------------------------------------------------------------------------------------------


def test_nobody_else_may_read_it(reopen: Open, folder: Path) -> None:
    folder.mkdir(mode=0o777)
    before = os.umask(0)
    try:
        reopen().accept([b"secret"])
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_second_one_on_the_same_spool_is_refused(reopen: Open, folder: Path) -> None:
    source = reopen()
    with pytest.raises(ValueError, match=r"spool is in use by another driftd process"):
        Push(PushSettings(kind="push", spool=folder))
    source.accept([b"1"])
    assert payloads(source) == [b"1"]


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/spool cannot hold a spool: Not a directory"):
        Push(PushSettings(kind="push", spool=tmp_path / "file" / "spool"))


def test_a_position_of_another_spool_is_told_and_no_position_means_two_messages(reopen: Open, folder: Path) -> None:
    source = reopen()
    source.accept(numbered(0, 10))
    (raw,) = read(source)
    source.close()
    for path in folder.iterdir():
        path.unlink()
    source = reopen()
    source.accept(numbered(10, 13))
    source.resume({"push": raw.end, "t-0": Position(3)})
    (told,) = source.notices()
    assert told == f"push: the stored position {raw.end.offset} is of another spool; all that this one holds is read"
    assert source.notices() == []
    (again,) = read(source)
    assert again.payloads == numbered(10, 13)
    assert again.offsets[0] == raw.end.offset
    source = reopen()
    source.resume({"push": again.end})
    source.accept(numbered(13, 14))
    assert (payloads(source), source.notices()) == (numbered(13, 14), [])


def test_a_spool_older_or_younger_than_the_position_is_told(reopen: Open) -> None:
    source = reopen()
    source.accept(numbered(0, 10))
    (raw,) = source.poll(["push"], 4)
    (end,) = source.poll(["push"], 10)
    source = reopen()
    source.resume({"push": Position(end.end.offset + 500, identity=end.end.identity)})
    assert f"position {end.end.offset + 500} is behind the end of its spool" in source.notices()[0]
    source.accept([b"new"])
    (new,) = read(source)
    assert (new.payloads, new.offsets) == ([b"new"], [end.end.offset + 500])
    source = reopen()
    source.resume({"push": raw.end})
    assert f"position {raw.end.offset} is before what its spool still holds" in source.notices()[0]
    assert payloads(source) == [b"new"]
