"""What becomes of a log's file when it is rotated: its new names, and a mark by which it is known again."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from monitor.sources.content import COMPRESSIONS
from monitor.sources.files import fingerprint
from monitor.sources.lines import HEAD, FilePartition

_NUMBER = r"\.\d{1,5}"
_DATE = r"[-._](?:\d{4}-?\d\d-?\d\d(?:[-._T:]?\d+)*Z?|\d{9,})"
_ROTATED = re.compile(rf"(?P<place>(?:{_NUMBER}|{_DATE})(?:{_NUMBER})?)?(?:\.gz|\.zst)?")


def is_rotated(path: str, of: str) -> bool:
    """Whether `path` is what rotation calls an older file of the log `of`.

    >>> [is_rotated(f"app.jsonl{end}", "app.jsonl") for end in (".1", ".2.gz", "-20260131", ".2026-01-31.7.zst", ".gz")]
    [True, True, True, True, True]
    >>> [is_rotated(f"app{end}", "app") for end in ("", "-1", ".jsonl", ".bak", ".1.jsonl", "2")]
    [False, False, False, False, False, False]
    """
    return len(path) > len(of) and path.startswith(of) and _ROTATED.fullmatch(path, len(of)) is not None


class Sibling(NamedTuple):
    """A file beside a log whose name begins as the log's does."""

    path: str
    status: os.stat_result
    rotated: bool
    """Whether it has a name of rotation."""
    order: tuple[int, ...]
    """Grows from older names of rotation to newer ones; the log itself is newest."""

    @property
    def key(self) -> tuple[int, int]:
        return self.status.st_dev, self.status.st_ino

    @property
    def age(self) -> tuple[int, tuple[int, ...]]:
        """Grows from older files to newer ones: when they were written last, and their names where that is one."""
        return self.status.st_mtime_ns, self.order

    def partition(self) -> FilePartition:
        return FilePartition(self.path, self.path, suffix_of(self.path))


def suffix_of(path: str) -> str:
    """Of its compression; empty where there is none."""
    return next(filter(path.endswith, COMPRESSIONS), "")


def siblings(log: str) -> list[Sibling]:
    """The log and what stands beside it, from the oldest on; what is being compressed is there once, as it was."""
    folder, name = os.path.split(log)
    found: dict[str, Sibling] = {}
    try:
        names = [each for each in os.listdir(folder) if each.startswith(name)]  # noqa: PTH208  as text
    except FileNotFoundError:
        return []
    for path in (os.path.join(folder, each) for each in names):  # noqa: PTH118  as text
        try:
            status = os.stat(path, follow_symlinks=path == log)  # noqa: PTH116  as text
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode):
            found[path] = Sibling(path, status, is_rotated(path, log), _order(path, log))
    made_of = {path: found.get(path.removesuffix(suffix_of(path))) for path in found if suffix_of(path)}
    whole = [each for path, each in found.items() if (being := made_of.get(path)) is None or not being.rotated]
    return sorted(whole, key=lambda each: (each.path == log, each.age))


def _order(path: str, log: str) -> tuple[int, ...]:
    """Of numbers the least is the newest, of dates the last.

    >>> _order("a.jsonl.2.gz", "a.jsonl") < _order("a.jsonl.1", "a.jsonl") < _order("a.jsonl", "a.jsonl")
    True
    >>> _order("a-20260131.9", "a") < _order("a-20260131.10", "a") < _order("a-20260201", "a") < _order("a", "a")
    True
    """
    match = _ROTATED.fullmatch(path, len(log))
    place = (match and match["place"]) or ""
    if re.fullmatch(_NUMBER, place):
        return (0, -int(place[1:]))
    return (0, *map(int, re.findall(r"\d+", place))) if place else (1,)


# ---- marks ----------------------------------------------------------------------------------------------------------

_MARK = re.compile(
    r"(?P<head>xxh3-(?P<length>\d{1,4})-[0-9a-f]{16})(?:-(?P<tail>[0-9a-f]{16})-at-(?P<at>\d+)-since-(?P<since>\d+))?"
    r"(?:-broken-(?P<told>\d+))?"
)


@dataclass(frozen=True, slots=True)
class Mark:
    """Which file of a log a position stands in, and where: what the identity of the position says."""

    head: str
    """Fingerprint of how the file begins, up to `at`."""
    tail: str
    """Hash of what stands before `at`, or of the size of a compressed file; '' where it is not known."""
    at: int
    """The byte of the file."""
    since: int
    """When what has been read was written last, in nanoseconds since the epoch; 0 where it is not known."""
    told: int = -1
    """The byte at which the content was found to break off, or -1."""

    def __str__(self) -> str:
        told = "" if self.told < 0 else f"-broken-{self.told}"
        return f"{self.head}-{self.tail}-at-{self.at}-since-{self.since}{told}"

    @classmethod
    def parse(cls, identity: str, offset: int) -> Mark | None:
        """What an identity says, that of a position of `files` too; None where it is of no file.

        >>> Mark.parse("xxh3-0-2d06800538d394c2", 7)
        Mark(head='xxh3-0-2d06800538d394c2', tail='', at=7, since=0, told=-1)
        >>> str(Mark.parse(str(Mark("xxh3-1-0000000000000000", "0" * 16, 1, 9)), 100))
        'xxh3-1-0000000000000000-0000000000000000-at-1-since-9'
        """
        match = _MARK.fullmatch(identity)
        if match is None:
            return None
        at, told = int(match["at"] or offset), int(match["told"] or -1)
        return cls(match["head"], match["tail"] or "", at, int(match["since"] or 0), told)

    def is_in(self, each: Sibling) -> bool:
        """Whether a file is the marked one, also after it was renamed, copied or compressed."""
        if not suffix_of(each.path) and each.status.st_size < self.at:
            return False
        length = int(self.head.split("-")[1])
        if fingerprint(each.partition().head(length)) != self.head:
            return False
        if not self.tail or self.tail == hash_of_size(each.status.st_size):
            return True
        length = min(HEAD, self.at)
        stream = each.partition().open(self.at - length)
        tail = stream.head(length)
        stream.close()
        return hash_of(tail) == self.tail


def hash_of(data: bytes) -> str:
    return xxhash.xxh3_64_hexdigest(data)


def hash_of_size(size: int) -> str:
    """Of a compressed file, whose content before a position costs too much to be read again."""
    return hash_of(b"size %d" % size)


def marked(files: Sequence[Sibling], mark: Mark) -> Sibling | None:
    """The file that a mark is of: the newest one where several are the same up to there."""
    return next((each for each in reversed(files) if mark.is_in(each)), None)


def newer(files: Sequence[Sibling], than: Sibling | None, since: int) -> list[Sibling]:
    """Rotated files that came behind the one that was read up to now, from the oldest on; it may be gone."""
    begin = (since, ()) if than is None else (since or than.status.st_mtime_ns, than.order)
    return [each for each in files if each.rotated and each is not than and each.age > begin]
