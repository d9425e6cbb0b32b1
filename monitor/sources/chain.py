"""One log that grows, and what its files are called once they were rotated away, read as one partition.

Positions count the bytes of all files of the log that were read, one behind the other, so that none means two lines,
and ids made of them are unique; lines are those of the present file. Which file that is, and where in it, says the
identity (`monitor.sources.rotation.Mark`). A file is read to its end before the next one is begun, and the next one is
begun once something is in it and the one before has not been written for a while; then what stands behind the last
newline of the one before is a line too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec

from monitor.model import Position, Raw
from monitor.sources.files import fingerprint
from monitor.sources.lines import HEAD, FilePartition, Lines
from monitor.sources.rotation import Mark, Sibling, hash_of, hash_of_size, marked, newer, siblings, suffix_of

SETTLED_SECONDS = 1.0
"""How long a file must not have been written before the next one is begun: several processes may share a log."""

_START = Position(0)


@dataclass(slots=True)
class _Open:
    """The file that is being read, held open whatever becomes of its path."""

    part: FilePartition
    descriptor: int
    base: int
    """Bytes of the files before it."""
    final: bool = False
    """Whether nothing is written to it any more."""
    lines: Lines | None = None
    """What was read of it and not yet given; None where all was that had been there."""
    seen: object = None
    """Its state when all that was there began to be read."""
    written: int = 0
    """When it had been written last then."""
    head: bytes = b""
    tail: bytes = b""
    """What stands before the position, as far as it is known."""

    @property
    def status(self) -> os.stat_result:
        return os.fstat(self.descriptor)

    @property
    def key(self) -> tuple[int, int]:
        return self.status.st_dev, self.status.st_ino

    @property
    def state(self) -> object:
        status = self.status
        return status.st_size, status.st_mtime_ns, self.final

    @property
    def at_rest(self) -> bool:
        """Whether all that is in it was given."""
        return self.lines is None and self.seen == self.state

    def before(self, at: int) -> bytes:
        length = min(HEAD, at)
        return os.pread(self.descriptor, length, at - length)

    def is_the_same(self) -> bool:
        """Whether what has been read of it still stands in it, as far as can be seen."""
        if self.part.suffix:
            return True
        at, head = self.part.position.offset, os.pread(self.descriptor, HEAD, 0)
        read = at if self.lines is None else self.lines.offset
        same = self.status.st_size >= read and head.startswith(self.head) and self.before(at).endswith(self.tail)
        self.head = head if same else self.head
        return same

    def close(self) -> None:
        if self.lines is not None:
            self.lines.stream.close()
        os.close(self.descriptor)


@dataclass(slots=True)
class Chain:
    """A log by its path. `older` are rotated files of it that are to be read first where nothing was read yet."""

    path: str
    max_record_bytes: int
    position: Position = _START
    """Behind what was given."""
    older: Collection[str] = ()
    settled: float = SETTLED_SECONDS
    retired: bool = False
    """Whether it was taken for a log, and is what rotation made of another one's file: no other file comes after it."""
    trouble: str = ""
    """Why it cannot be read now."""
    notices: list[str] = field(default_factory=list)
    _file: _Open | None = None
    _since: int = 0
    """When what was read was written last."""
    _cut_short: bytes | None = None
    """How the file had begun that was found to begin anew while it was read."""
    _passed_by: object = None
    """What stood in place of the log, empty, when nothing newer than the present file was found."""
    _over: object = None
    """State of the folder when there was no such log in it any more, and nothing of it left to be read."""
    _asleep: object = None
    """State of the log when all of it had been given and it was let go of."""

    @property
    def name(self) -> str:
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")  # the store keeps no other bytes

    # ---- what its source is asked -----------------------------------------------------------------------------------

    def peek(self, limit: int) -> Raw:
        """The next messages; what comes of the next file is read as if this one had been let go of."""
        raw = self._ahead(limit)
        if raw is None:
            return Raw(self.name, [], [], [], self.position)
        placed, missing = self._placed(raw), limit - len(raw.payloads) - len(raw.rejects)
        assert self._file is not None
        if not missing or self._successor(self._file) is None:
            return placed
        beyond = Chain(self.path, self.max_record_bytes, placed.end, settled=self.settled)
        more = beyond.peek(missing)
        beyond.close()
        return Raw(
            self.name,
            placed.payloads + more.payloads,
            placed.offsets + more.offsets,
            placed.lines + more.lines,
            more.end,
            placed.rejects + more.rejects,
        )

    def poll(self, limit: int) -> Raw | None:
        """The next messages; None where there are none now."""
        raw = self._ahead(limit)
        if raw is None:
            return None
        assert self._file is not None
        assert self._file.lines is not None
        self._file.lines.drop(len(raw.payloads) + len(raw.rejects))
        placed = self._placed(raw)
        self._move(raw)
        self.position = placed.end
        return placed

    @property
    def drained(self) -> bool:
        """Whether all that is there now was given, but for a last line that is not whole."""
        if self.trouble:
            return False
        if self._file is None:
            return self._asleep is not None and self._asleep == _state(self.path)
        return self._file.at_rest and self._successor(self._file) is None

    def is_there(self) -> bool:
        """Whether there is such a log, or something of it was not read yet; else it is let go of."""
        if _state(self.path) is not None and not self.retired:
            return True
        folder = _state(os.path.dirname(self.path))  # noqa: PTH120  as text
        if self._file is None and (folder is None or folder == self._over):
            return False
        if self._ahead(1) is not None or self.trouble or not (self._file is None or self.drained):
            return True
        self.close()
        self._over = folder if _is_old(os.path.dirname(self.path)) else None  # noqa: PTH120  as text
        return False

    @property
    def upkeep(self) -> int:
        """How dear it is to let go of it: nothing is lost, something is read twice, it could not be found again."""
        if self._file is None or self.drained:
            return 0
        return 2 if _state(self.path) is None or self._file.key != _key(self.path) else 1

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def close(self) -> None:
        """Let go of the file; what is asked next finds it again."""
        if self._file is not None:
            self._asleep = _state(self.path) if self.drained and self._file.key == _key(self.path) else None
            self._file.close()
            self._file = None

    # ---- reading ----------------------------------------------------------------------------------------------------

    def _ahead(self, limit: int) -> Raw | None:
        """The next messages as they stand in their file, which is found or left behind as need be."""
        while self._file is not None or self._find():
            assert self._file is not None
            file, raw = self._file, self._cut(self._file, limit)
            if raw is None:
                self._begin_anew(file)
            elif raw.payloads or raw.rejects:
                return raw
            elif (after := self._successor(file)) is None or not self._is_settled(file):
                return None
            elif not file.final:
                file.final = True
            elif file.at_rest and not self._turn_to(after, file.base + file.part.position.offset):
                return None
        return None

    def _cut(self, file: _Open, limit: int) -> Raw | None:
        """The next messages of a file, if any; None where it is not any more what was read before."""
        if file.lines is None:
            state = file.state
            if state == file.seen:
                return Raw(self.name, [], [], [], file.part.position)
            file.seen = state
            file.written = file.status.st_mtime_ns
            file.lines = Lines(file.part, self.max_record_bytes, growing=not file.final and not file.part.suffix)
        raw = file.lines.ahead(limit)
        if not file.is_the_same():
            return None
        self._since = max(self._since, file.written)
        if not raw.payloads and not raw.rejects:
            self._move(raw)
        return raw

    def _move(self, raw: Raw) -> None:
        """Put the position in the present file behind messages of it."""
        file = self._file
        assert file is not None
        assert file.lines is not None
        file.part.position = Position(raw.end.offset, raw.end.line)
        file.part.told = -1 if not raw.end.identity else int(raw.end.identity.rpartition("-")[2])
        if not file.part.suffix:
            file.tail = file.before(raw.end.offset)
        if file.lines.finished and not file.lines.messages:
            file.lines.stream.close()
            file.lines = None

    def _placed(self, raw: Raw) -> Raw:
        """Messages of the present file as the log's."""
        file = self._file
        assert file is not None
        at = raw.end.offset
        head = file.head[:at]
        tail = hash_of_size(file.status.st_size) if file.part.suffix else hash_of(file.before(at))
        mark = f"{Mark(fingerprint(head), tail, at, self._since)}{raw.end.identity}"
        rejects = [msgspec.structs.replace(each, position=file.base + each.position) for each in raw.rejects]
        offsets = [file.base + offset for offset in raw.offsets]
        return replace(raw, offsets=offsets, rejects=rejects, end=Position(file.base + at, raw.end.line, mark))

    # ---- from file to file ------------------------------------------------------------------------------------------

    def _is_settled(self, file: _Open) -> bool:
        """Whether the file was not written for a while."""
        return bool(file.part.suffix) or _age(file.status) >= self.settled

    def _successor(self, file: _Open) -> Sibling | None:
        """The next file of the log with something in it, where the present one is not any more what its path names."""
        state = _state(self.path)
        if self.retired or _key(self.path) == file.key:
            self.trouble = ""
            return None
        if state is not None and state == self._passed_by:
            return None
        files = self._siblings()
        own = next((each for each in files if each.key == file.key), None)
        mark = Mark.parse(self._placed(Raw(self.name, [], [], [], file.part.position)).end.identity, 0)
        assert mark is not None
        behind = [each for each in self._behind(files, own) if own is not None or not mark.at or not mark.is_in(each)]
        found = next((each for each in behind if each.status.st_size), None)
        self._passed_by = state if found is None and not self.trouble else None
        return found

    def _behind(self, files: list[Sibling], than: Sibling | None) -> list[Sibling]:
        """What is to be read after a file, which may be gone: rotated ones, and at last the log."""
        last = [each for each in files if each.path == self.path and each is not than]
        return [*newer(files, than, self._since), *last]

    def _find(self) -> bool:
        """Open the file that the position stands in, or what comes after it; False where there is none, or trouble."""
        if self._asleep is not None and self._asleep == _state(self.path):
            return False
        files, self._asleep = self._siblings(), None
        if self.trouble:
            return False
        mark = Mark.parse(self.position.identity, self.position.offset)
        if mark is None or not mark.at:
            if self.position.offset:
                said = f"the stored position {self.position.offset} is of no file"
                self.notices.append(f"{self.name}: {said}; reading begins at the start of what is there")
            self._tell("nothing had been read of it")
            older = [each for each in files if each.path in self.older or each.path == self.path]
            behind = [each for each in older if each.status.st_size] or older[-1:]
            return bool(behind) and self._turn_to(behind[0], self.position.offset)
        self._since = max(self._since, mark.since)
        own = marked(files, mark) if mark.at else None
        if own is not None:
            self._tell(f"the rest of what it held before is read from {own.path}")
            at = Position(mark.at, self.position.line)
            return self._turn_to(own, self.position.offset - mark.at, at, mark.told)
        behind = [] if self.retired else self._behind(files, None)
        if (head := self._cut_short) is not None:  # a copy that was made before all was read that was read
            behind = [each for each in behind if not each.rotated or not head.startswith(each.partition().head())]
        behind = [each for each in behind if each.status.st_size] or behind[-1:]
        if not behind:
            return False
        if self._cut_short is None:
            said = (
                f"the file of the stored position, at byte {mark.at}, cannot be found; what was not read of it is lost"
            )
            self.notices.append(f"{self.name}: {said}, and reading goes on at the start of {behind[0].path}")
        self._tell("what was not read of it before, if anything, is lost")
        return self._turn_to(behind[0], self.position.offset)

    def _begin_anew(self, file: _Open) -> None:
        """The present file does not hold any more what was read of it: it was truncated, maybe after it was copied."""
        self._file, self._cut_short = None, file.head
        file.close()

    def _tell(self, rest: str) -> None:
        if self._cut_short is not None:
            self.notices.append(f"{self.name} was truncated or written anew, and is read from its start; {rest}")
        self._cut_short = None

    def _siblings(self) -> list[Sibling]:
        """The files of the log; one of them that may not be read is trouble."""
        self.trouble = ""
        try:
            found = siblings(self.path)
            for each in found:
                if each.rotated or each.path == self.path:
                    with suppress(FileNotFoundError):
                        os.close(os.open(each.path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self.trouble = f"{error.filename} cannot be opened: {error.strerror}"
            return []
        return found

    def _turn_to(self, file: Sibling, base: int, at: Position = _START, told: int = -1) -> bool:
        """Read a file from a position in it on; False where it cannot be opened any more."""
        try:
            descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # renamed meanwhile, as below: the next look finds it
            return False
        except OSError as error:
            self.trouble = f"{file.path} cannot be opened: {error.strerror}"
            return False
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != file.key:
            os.close(descriptor)
            return False
        if self._file is not None:
            self._file.close()
        part = FilePartition(self.name, file.path, suffix_of(file.path), position=at, told=told, descriptor=descriptor)
        self._file, self._passed_by, self.trouble = _Open(part, descriptor, base), None, ""
        self._file.head = part.head()
        if not part.suffix:
            self._file.tail = self._file.before(at.offset)
        return True


def _age(status: os.stat_result) -> float:
    """Seconds since it was changed last; where its clock is ahead, that cannot be told."""
    return abs(time.time() - status.st_mtime)


def _is_old(folder: str) -> bool:
    """Whether what changes in it from now on changes its state: its clock may stand still for some milliseconds."""
    return _age(os.stat(folder)) >= SETTLED_SECONDS  # noqa: PTH116  as text


def _state(path: str) -> object:
    """What changes when a file is written or replaced; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  as text
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.errno
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _key(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  as text
    except OSError:
        return None
    return status.st_dev, status.st_ino
