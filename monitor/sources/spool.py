"""A queue of messages on disk: any thread appends, one reads and forgets, and what was appended is there for good.

A folder of segments, each named by the position of its first byte; positions count the bytes of all segments that ever
were. A message is a frame: a checksum, when it came, its length, whether it is the last of those that were appended
together, and itself. Messages that were appended together are there after a crash all or not at all.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import xxhash

SEGMENT = 4 << 20
"""Bytes from which on a segment is not added to."""
READ = 1 << 20
"""Bytes read at a time."""
READ_AHEAD = 1 << 25
"""Bytes in one answer after which it is long enough, whatever the limit of messages."""
_SUM, _HEAD = struct.Struct("<Q"), struct.Struct("<qI?")
OVERHEAD = _SUM.size + _HEAD.size
_SUFFIX = ".spool"


class SpoolFullError(Exception):
    """What would pass the cap of a spool: it is to be tried again when some of it has been read and committed."""


class Message(NamedTuple):
    """A message and where it stands."""

    at: int
    end: int
    arrived: int
    """Milliseconds since the epoch."""
    content: bytes
    damaged: bool = False
    """Whether `content` is instead what the disk has left of a segment from a damaged frame on."""


class Spool:
    """The queue in `folder`, which one process at a time may have, of `at_most` bytes.

    `cut` is how many bytes a crash had left of messages that were not appended to their end, and that are gone now.
    Raises ValueError where the folder cannot be used.
    """

    def __init__(self, folder: Path, at_most: int) -> None:
        self._folder, self._at_most = folder, at_most
        self._guard = threading.RLock()
        self._sizes: dict[int, int] = {}
        """First position -> bytes, of each segment in order; the last one is added to."""
        self._writing, self._torn = -1, False
        self._reading: tuple[int, int] = (-1, -1)
        self.cut = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(PermissionError):  # of a volume that belongs to another; its files are closed to others
                folder.chmod(0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ValueError(f"{folder} cannot hold a spool: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.identity = self._identify()
            self._recover()
        except OSError as error:
            self.close()
            busy = "is in use by another driftd process" if isinstance(error, BlockingIOError) else None
            raise ValueError(f"{folder} {busy or f'cannot hold a spool: {error.strerror}'}") from None

    @property
    def begin(self) -> int:
        """Position of the first message that is there."""
        with self._guard:
            return next(iter(self._sizes))

    @property
    def end(self) -> int:
        """Position behind the last one."""
        with self._guard:
            return self._last + self._sizes[self._last]

    @property
    def _last(self) -> int:
        """The segment that is added to."""
        return next(reversed(self._sizes))

    # ---- writing ----------------------------------------------------------------------------------------------------

    def append(self, messages: Sequence[bytes], arrived: int) -> None:
        """Add messages, and return when they are on the disk.

        Raises SpoolFullError, or OSError where the disk does not take them; nothing of them is there then.
        """
        frames = b"".join(
            _frame(message, arrived, last=number == len(messages)) for number, message in enumerate(messages, 1)
        )
        with self._guard:
            held = sum(self._sizes.values())
            if held + len(frames) > self._at_most:
                said = f"{held:,} of its {self._at_most:,} bytes wait to be read and committed"
                raise SpoolFullError(f"{self._folder} has no room for {len(frames):,} bytes: {said}")
            if self._torn:
                self._clear()
            if self._sizes[self._last] >= SEGMENT:
                self._add_segment(self.end)
            try:
                _write(self._writing, frames, self._sizes[self._last])
                os.fsync(self._writing)
            except OSError:
                self._torn = True
                with suppress(OSError):
                    self._clear()
                raise
            self._sizes[self._last] += len(frames)

    def _clear(self) -> None:
        """Remove what stands behind the last message."""
        os.ftruncate(self._writing, self._sizes[self._last])
        os.fsync(self._writing)
        self._torn = False

    def _add_segment(self, start: int) -> None:
        added = os.open(self._path(start), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if self._writing >= 0:
            os.close(self._writing)
        self._writing = added
        self._sizes[start] = 0
        self._sync_folder()

    # ---- reading ----------------------------------------------------------------------------------------------------

    def read(self, at: int, limit: int) -> list[Message]:
        """The messages from position `at` on, `limit` at most, and fewer where they are long."""
        found: list[Message] = []
        volume = 0
        while len(found) < limit and volume < READ_AHEAD:
            with self._guard:
                place = next(((start, size) for start, size in self._sizes.items() if start + size > at), None)
            if place is None:
                break
            start, size = place
            at = max(at, start)
            for message in self._frames(start, at - start, size):
                found.append(message)
                at = message.end
                volume += message.end - message.at
                if len(found) == limit:
                    break
        return found

    def _frames(self, start: int, at: int, size: int) -> list[Message]:
        """One piece of a segment, from byte `at` of it on."""
        if self._reading[0] != start:
            self._stop_reading()
            self._reading = (start, os.open(self._path(start), os.O_RDONLY | os.O_CLOEXEC))
        data = os.pread(self._reading[1], min(READ, size - at), at)
        if len(data) >= OVERHEAD and (whole := _length(data)) > len(data):
            data = os.pread(self._reading[1], min(whole, size - at), at)
        if found := _unframed(data, start + at):
            return [message for message, _ in found]
        rest = os.pread(self._reading[1], size - at, at)
        return [Message(start + at, start + size, 0, rest, damaged=True)]

    def _stop_reading(self) -> None:
        if self._reading[1] >= 0:
            os.close(self._reading[1])
        self._reading = (-1, -1)

    # ---- what is kept -----------------------------------------------------------------------------------------------

    def forget(self, before: int) -> None:
        """Delete segments that lie before a position as a whole; where all does, what is there begins at its end."""
        with self._guard:
            if before >= self.end > self.begin:
                if self._torn:
                    self._clear()
                if self._sizes[self._last]:
                    self._add_segment(self.end)
            for start, size in list(self._sizes.items())[:-1]:
                if start + size <= before:
                    self._path(start).unlink(missing_ok=True)
                    del self._sizes[start]

    def move(self, begin: int) -> None:
        """Let what is there begin at a later position, so that no position means two messages."""
        with self._guard:
            self._stop_reading()
            for start in reversed(list(self._sizes)):
                self._path(start).rename(self._path(start + begin - self.begin))
            self._sync_folder()
            self._sizes = {start + begin - self.begin: size for start, size in self._sizes.items()}

    def close(self) -> None:
        """Let go of the folder. Idempotent."""
        with self._guard:
            self._stop_reading()
            for held in (self._writing, self._lock):
                if held >= 0:
                    os.close(held)
            self._writing = self._lock = -1

    # ---- after a restart --------------------------------------------------------------------------------------------

    def _identify(self) -> str:
        """A name of this spool for as long as its folder lives."""
        name = os.pread(self._lock, 64, 0).decode("ascii", "replace")
        if not re.fullmatch("spool-[0-9a-f]{32}", name):
            name = f"spool-{uuid.uuid4().hex}"
            os.ftruncate(self._lock, 0)
            _write(self._lock, name.encode(), 0)
            os.fsync(self._lock)
        return name

    def _recover(self) -> None:
        """Find the segments, and cut off what a crash has left behind the last message of the last one."""
        names = sorted(path.stem for path in self._folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
        self._sizes = {int(name): self._path(int(name)).stat().st_size for name in names}
        if not self._sizes:
            self._add_segment(0)
            return
        start = self._last
        self._writing = os.open(self._path(start), os.O_RDWR | os.O_CLOEXEC)
        found = _unframed(os.pread(self._writing, self._sizes[start], 0), start)
        end = next((message.end for message, last in reversed(found) if last), start)
        self.cut = start + self._sizes[start] - end
        self._sizes[start] = end - start
        if self.cut:
            self._clear()

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:020}{_SUFFIX}"

    def _sync_folder(self) -> None:
        held = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(held)
        finally:
            os.close(held)


def _frame(message: bytes, arrived: int, *, last: bool) -> bytes:
    rest = _HEAD.pack(arrived, len(message), last) + message
    return _SUM.pack(xxhash.xxh3_64_intdigest(rest)) + rest


def _length(data: bytes) -> int:
    """Of the frame that `data` begins with."""
    _, length, _ = _HEAD.unpack_from(data, _SUM.size)
    return OVERHEAD + int(length)


def _unframed(data: bytes, at: int) -> list[tuple[Message, bool]]:
    """Messages up to the first frame that is damaged or not there as a whole, and whether each ends what came with it.

    >>> _unframed(_frame(b"[]", 7, last=True) + b"torn", 100)
    [(Message(at=100, end=123, arrived=7, content=b'[]', damaged=False), True)]
    """
    found: list[tuple[Message, bool]] = []
    begin = 0
    while len(data) >= begin + OVERHEAD:
        (checksum,) = _SUM.unpack_from(data, begin)
        arrived, length, last = _HEAD.unpack_from(data, begin + _SUM.size)
        end = begin + OVERHEAD + length
        rest = data[begin + _SUM.size : end]
        if len(data) < end or xxhash.xxh3_64_intdigest(rest) != checksum:
            break
        found.append((Message(at + begin, at + end, arrived, rest[_HEAD.size :]), last))
        begin = end
    return found


def _write(to: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(to, view, at)
        view, at = view[written:], at + written
