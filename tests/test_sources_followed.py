"""Logs that grow are followed: through rotation, truncation, restarts and trouble every line is read once, in order."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from monitor.model import Position, Raw
from monitor.sources import followed
from monitor.sources.files import Files, FilesSettings
from monitor.sources.followed import Followed

Open = Callable[..., Followed]


@pytest.fixture
def follow() -> Iterator[Open]:
    """Opens a source; those before go on, as no restart closes the files of a process that was killed."""
    opened: list[Followed] = []

    def make(*paths: Path | str, settled: float = 0.0, **more: int) -> Followed:
        settings = FilesSettings(kind="files", paths=[str(path) for path in paths], **more)
        opened.append(Followed(settings, wait=0.0, refresh=0.0, settled=settled))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def read(source: Followed, limit: int = 1_000) -> list[Raw]:
    """All that comes, with what is said of it."""
    found: list[Raw] = []
    while answers := source.poll(list(source.partitions()), limit):
        found += answers
    return found


def payloads(source: Followed) -> list[bytes]:
    return [payload for raw in read(source) for payload in raw.payloads]


def numbered(begin: int, end: int) -> list[bytes]:
    return [b'{"id":"%d"}' % number for number in range(begin, end)]


def add(path: Path, begin: int, end: int) -> None:
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in numbered(begin, end))


def compress(path: Path) -> None:
    """As gzip does: the time of the original is kept, and it is gone once the other is whole."""
    made, before = path.with_name(f"{path.name}.gz"), path.stat()
    made.write_bytes(gzip.compress(path.read_bytes()))
    os.utime(made, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.unlink()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.jsonl"


# ---- the law --------------------------------------------------------------------------------------------------------


@dataclass
class Writer:
    """Writes a log whose lines are numbered, and rotates it as `way` says."""

    log: Path
    way: str
    rng: np.random.Generator
    lines: list[bytes] = field(default_factory=list)
    rest: bytes = b""
    """What is missing of the last line."""
    rotations: int = 0

    def write(self) -> None:
        self.end_line()
        count = int(self.rng.choice([1, 3, 40]))
        texts = [b"x" * int(self.rng.integers(100)) for _ in range(count)]
        self.lines += [b'{"id":"%d","text":"%s"}' % row for row in enumerate(texts, len(self.lines))]
        written = b"\n".join(self.lines[-count:]) + b"\n"
        cut = int(self.rng.integers(2, 9)) if self.rng.random() < 0.3 else 0
        self.rest = written[len(written) - cut :]
        self.append(written[: len(written) - cut])

    def end_line(self) -> None:
        if self.rest:
            self.append(self.rest)
            self.rest = b""

    def append(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)

    def rotate(self) -> None:
        """Away with the present file; the new one comes with its first line."""
        self.end_line()
        if not self.log.exists():
            return
        self.rotations += 1
        if self.way == "date":
            self.log.rename(f"{self.log}-{20260100 + self.rotations}")
            return
        packs = [f"{self.log}.{{}}", f"{self.log}.{{}}.gz"]
        for number in range(self.rotations, 0, -1):
            for pack in packs:
                if Path(pack.format(number)).exists():
                    Path(pack.format(number)).rename(pack.format(number + 1))
        if self.way.startswith("copytruncate"):
            shutil.copyfile(self.log, f"{self.log}.1")
            os.truncate(self.log, 0)
        else:
            self.log.rename(f"{self.log}.1")
        if self.way.endswith(" gz"):
            compress(Path(f"{self.log}.1"))
        older = Path(f"{self.log}.2")
        if self.way.endswith("later") and older.exists():
            compress(older)


WAYS = ["number", "number gz", "number gz later", "date", "copytruncate", "copytruncate gz"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", WAYS)
def test_each_line_is_read_once_in_order_whenever_it_is_rotated_and_restarted(
    log: Path, follow: Open, way: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    writer = Writer(log, way, rng)
    writer.write()
    glob = str(log) + ("*" if seed % 2 else "")
    source, stored, told = follow(glob), list[tuple[int, Position]](), list[str]()
    found: list[tuple[int, bytes]] = []
    acts = rng.choice(["write", "rotate", "poll", "restart", "kill"], 150, p=[0.35, 0.15, 0.35, 0.1, 0.05])
    for act in ["poll", *acts, "end", "poll", "poll"]:
        if act == "write":
            writer.write()
        elif act == "rotate":
            writer.rotate()
        elif act == "end":
            writer.end_line()
        elif act == "poll":
            for raw in source.poll(list(source.partitions()), int(rng.choice([1, 10, 1_000]))):
                assert raw.partition == str(log)
                found += zip(raw.offsets, raw.payloads, strict=True)
                stored.append((len(found), raw.end))
        else:
            told += source.notices()
            source.close()
            back = int(rng.integers(1, 4)) if act == "kill" else 1  # what was read and not stored is read again
            stored = stored[: max(1, len(stored) + 1 - back)]
            source = follow(glob)
            if stored:
                found = found[: stored[-1][0]]
                source.resume({str(log): stored[-1][1], "other-0": Position(7)})
    found += [row for raw in read(source) for row in zip(raw.offsets, raw.payloads, strict=True)]
    assert writer.rotations > 5
    assert [payload for _, payload in found] == writer.lines
    assert [offset for offset, _ in found] == sorted({offset for offset, _ in found}), "an id means one line"
    told += source.notices()
    assert not [notice for notice in told if "lost" in notice or "truncated" not in notice]
    assert bool(told) <= way.startswith("copytruncate")


# ---- what comes and what goes ---------------------------------------------------------------------------------------


def test_what_comes_is_read_when_its_line_is_whole(log: Path, follow: Open) -> None:
    add(log, 0, 2)
    source = follow(log)
    assert payloads(source) == numbered(0, 2)
    assert payloads(source) == []
    with log.open("ab") as file:
        file.write(b'{"id":')
        file.flush()
        assert payloads(source) == []
        file.write(b'"2"}\r\n\n  \n')
    (raw,) = read(source)
    assert (raw.payloads, raw.lines, raw.offsets) == (numbered(2, 3), [3], [22])
    add(log, 3, 4)
    (raw,) = read(source)
    assert (raw.payloads, raw.lines) == (numbered(3, 4), [6])


def test_files_that_appear_are_partitions_and_those_that_vanish_leave_when_they_were_read(
    tmp_path: Path, follow: Open
) -> None:
    source = follow(tmp_path, tmp_path / "later" / "*.log")
    assert source.partitions() == {}
    assert f"{tmp_path} holds no file that ends in .jsonl" in source.trouble
    assert f"{tmp_path}/later/*.log matches no file" in source.trouble
    add(tmp_path / "a.jsonl", 0, 3)
    (tmp_path / "later").mkdir()
    add(tmp_path / "later" / "b.log", 3, 5)
    assert source.partitions() == {str(tmp_path / "a.jsonl"): False, str(tmp_path / "later" / "b.log"): False}
    assert source.trouble == ""
    source.poll([str(tmp_path / "a.jsonl")], 1)
    (tmp_path / "a.jsonl").unlink()
    assert len(source.partitions()) == 2, "not all of it was read"
    assert payloads(source) == numbered(1, 5)
    assert list(source.partitions()) == [str(tmp_path / "later" / "b.log")]
    assert source.trouble == "", "it was there"
    add(tmp_path / "a.jsonl", 5, 6)
    (raw,) = read(source)
    assert (raw.payloads, raw.offsets) == (numbered(5, 6), [33])


def test_an_end_is_confirmed_after_all_before_it_was_read(log: Path, follow: Open) -> None:
    add(log, 0, 3)
    source = follow(log)
    name = str(log)
    assert set(source.drained()) == set()
    source.poll(list(source.partitions()), 2)
    assert set(source.drained()) == set(), "one is left"
    source.poll([name], 2)
    assert set(source.drained()) == {name}
    add(log, 3, 4)
    assert set(source.drained()) == set()
    assert payloads(source) == numbered(3, 4)
    log.rename(f"{log}.1")
    log.touch()
    assert set(source.drained()) == {name}, "nothing is in the new one"
    add(log, 4, 5)
    assert set(source.drained()) == set()
    assert payloads(source) == numbered(4, 5)
    assert set(source.drained()) == {name}


def test_what_others_still_write_to_a_rotated_file_is_read_before_the_next_one(log: Path, follow: Open) -> None:
    add(log, 0, 2)
    source = follow(log, settled=1_000.0)
    assert payloads(source) == numbered(0, 2)
    log.rename(f"{log}.1")
    add(log, 4, 6)
    assert payloads(source) == []
    assert set(source.drained()) == set()
    add(Path(f"{log}.1"), 2, 4)
    assert payloads(source) == numbered(2, 4)
    os.utime(f"{log}.1", (1, 1))
    assert payloads(source) == numbered(4, 6)


def test_what_was_rotated_before_is_read_first_where_the_paths_mean_it_and_else_not_at_all(
    log: Path, follow: Open
) -> None:
    for number, begin in ((".2.gz", 0), (".1", 3), ("", 6)):
        path = Path(f"{log}{number.removesuffix('.gz')}")
        add(path, begin, begin + 3)
        os.utime(path, (begin, begin))
        if number.endswith(".gz"):
            compress(path)
    assert payloads(follow(f"{log}*")) == numbered(0, 9)
    assert list(follow(f"{log}*").partitions()) == [str(log)]
    assert payloads(follow(log)) == numbered(6, 9)


def test_a_rotated_file_that_was_there_first_is_read_once(log: Path, follow: Open) -> None:
    """It was taken for a log of its own; then the log came."""
    older = Path(f"{log}.1")
    add(older, 0, 4)
    source = follow(f"{log}*")
    (raw,) = source.poll(list(source.partitions()), 1)
    add(log, 4, 6)
    again = follow(f"{log}*")
    again.resume({str(older): raw.end})
    assert sorted(payloads(source)) == sorted(payloads(again)) == numbered(1, 6)
    assert list(source.partitions()) == [str(log)]
    older.rename(f"{log}.2")
    log.rename(older)
    add(log, 6, 7)
    assert payloads(source) == numbered(6, 7)


def test_compressed_logs_are_read_once_and_stay_drained(tmp_path: Path, follow: Open) -> None:
    add(tmp_path / "a.jsonl", 0, 40)
    add(tmp_path / "b.jsonl", 40, 43)
    compress(tmp_path / "a.jsonl")
    source = follow(tmp_path)
    ends = {raw.partition: raw.end for raw in read(source)}
    names = {str(tmp_path / "a.jsonl.gz"), str(tmp_path / "b.jsonl")}
    assert set(ends) == set(source.drained()) == names
    compress(tmp_path / "b.jsonl")
    assert payloads(source) == []
    again = follow(tmp_path)
    again.resume(ends)
    assert payloads(again) == []
    assert again.notices() == []


def test_data_that_breaks_off_is_refused_once(log: Path, follow: Open) -> None:
    add(log, 0, 40)
    compress(log)
    packed = Path(f"{log}.gz")
    packed.write_bytes(packed.read_bytes()[:-20])
    source = follow(packed)
    found = read(source)
    (reject,) = [reject for raw in found for reject in raw.rejects]
    assert reject.reason == "unreadable"
    again = follow(packed)
    again.resume({str(packed): found[-1].end})
    assert read(source) == read(again) == []


def test_more_files_than_may_be_open(tmp_path: Path, follow: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed, "MAX_OPEN", 2)
    for number in range(7):
        add(tmp_path / f"{number}.jsonl", number * 10, number * 10 + 10)
    source = follow(tmp_path)
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    found = [
        payload for _ in range(30) for raw in source.poll(list(source.partitions()), 3) for payload in raw.payloads
    ]
    assert sorted(found) == sorted(numbered(0, 70))
    assert read(source) == []
    assert set(source.drained()) == set(source.partitions())
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2  # noqa: PTH208
    add(tmp_path / "3.jsonl", 70, 72)
    assert payloads(source) == numbered(70, 72)


# ---- what cannot be -------------------------------------------------------------------------------------------------


def test_standard_input_is_refused(follow: Open) -> None:
    with pytest.raises(ValueError, match=r"standard input \(-\) cannot be followed"):
        follow("-")


def test_one_that_cannot_be_read_is_trouble_and_the_others_go_on(
    tmp_path: Path, follow: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path / "a.jsonl", 0, 2)
    add(tmp_path / "b.jsonl", 2, 4)
    (tmp_path / "c").mkdir()
    source = follow(tmp_path, tmp_path / "c" / "..")
    opening = os.open

    def refusing(path: str, flags: int, mode: int = 0o777) -> int:
        if str(path).endswith("a.jsonl"):
            raise PermissionError(13, "Permission denied", path)
        return opening(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)  # who runs this may be allowed everything
        assert payloads(source) == numbered(2, 4)
        assert source.trouble == f"{tmp_path / 'a.jsonl'} cannot be opened: Permission denied"
        assert set(source.drained()) == {str(tmp_path / "b.jsonl")}
    assert payloads(source) == numbered(0, 2)
    assert source.trouble == ""


def test_a_log_truncated_with_no_copy_is_told_and_read_anew(log: Path, follow: Open) -> None:
    add(log, 0, 5)
    source = follow(log)
    assert payloads(source) == numbered(0, 5)
    os.truncate(log, 0)
    add(log, 5, 6)
    (raw,) = read(source)
    assert (raw.payloads, raw.offsets, raw.lines) == (numbered(5, 6), [55], [1])
    (told,) = source.notices()
    assert told.startswith(f"{log} was truncated or written anew, and is read from its start; what was not read of it")
    log.write_bytes(b"".join(line + b"\n" for line in numbered(100, 150)))
    assert payloads(source) == numbered(100, 150), "it is longer than before, and begins otherwise"
    assert len(source.notices()) == 1


def test_a_copy_made_before_the_last_line_is_not_read_again(log: Path, follow: Open) -> None:
    add(log, 0, 5)
    source = follow(log)
    source.poll(list(source.partitions()), 3)
    shutil.copyfile(log, f"{log}.1")
    add(log, 5, 7)
    assert payloads(source) == numbered(3, 7)
    os.truncate(log, 0)
    add(log, 7, 8)
    assert payloads(source) == numbered(7, 8)


def test_a_file_of_a_position_that_is_gone_is_told_and_all_that_is_there_is_read(log: Path, follow: Open) -> None:
    add(log, 0, 5)
    (raw,) = follow(log).poll([str(log)], 3)
    log.unlink()
    add(Path(f"{log}.1"), 5, 7)
    add(log, 7, 9)
    source = follow(log)
    source.resume({str(log): raw.end})
    found = read(source)
    assert [payload for each in found for payload in each.payloads] == numbered(5, 9)
    assert found[0].offsets[0] == raw.end.offset, "an id means one line"
    (told,) = source.notices()
    assert told.startswith(f"{log}: the file of the stored position, at byte 33, cannot be found; what was not read")


def test_a_position_of_no_file_is_told(log: Path, follow: Open) -> None:
    add(log, 0, 2)
    source = follow(log)
    source.resume({str(log): Position(7)})
    assert payloads(source) == numbered(0, 2)
    assert source.notices() == [
        f"{log}: the stored position 7 is of no file; reading begins at the start of what is there"
    ]


def test_a_file_that_may_not_be_read_after_a_restart_is_waited_for(
    log: Path, follow: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(log, 0, 5)
    (raw,) = follow(log).poll([str(log)], 3)
    source = follow(log)
    source.resume({str(log): raw.end})

    def refusing(path: str, *_: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        assert source.poll([str(log)], 3) == []
        assert source.trouble
    assert payloads(source) == numbered(3, 5)
    assert source.notices() == []


def test_positions_of_a_replay_go_on(log: Path, follow: Open) -> None:
    add(log, 0, 5)
    replayed = Files(FilesSettings(kind="files", paths=[str(log)]), growing=True)
    (raw,) = replayed.poll([str(log)], 3)
    replayed.close()
    source = follow(log)
    source.resume({str(log): raw.end})
    assert payloads(source) == numbered(3, 5)
    assert source.notices() == []


def test_logs_whose_beginnings_are_alike_are_told_apart(log: Path, follow: Open) -> None:
    """As those of records that begin with the same long instructions."""
    lines = [b'{"prompt":"%s","id":"%d"}' % (b"x" * 3_000, number) for number in range(9)]
    log.write_bytes(b"\n".join(lines[:3]) + b"\n")
    (raw,) = follow(log).poll([str(log)], 2)
    for number in (2, 1, 0):
        if log.exists():
            for old in (2, 1):
                if Path(f"{log}.{old}").exists():
                    Path(f"{log}.{old}").rename(f"{log}.{old + 1}")
            log.rename(f"{log}.1")
        begin = 3 + 2 * (2 - number)
        log.write_bytes(b"\n".join(lines[begin : begin + 2]) + b"\n")
    source = follow(log)
    source.resume({str(log): raw.end})
    assert payloads(source) == lines[2:]
