"""From bytes to messages: the lines of one file, and what cannot be one.

Only a line feed ends a line (JSON has no other, and text holds many), and one carriage return before it goes with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, compress, count
from operator import add

import msgspec

from monitor.model import Position, Raw, Reject
from monitor.sources.content import BLOCK, FIRST_BLOCK, Stream, decompressed, plain
from monitor.sources.rejects import oversized

HEAD = 1024
"""Bytes of a file that its fingerprint is made from."""
READ_AHEAD = 1 << 25
"""Bytes in one answer after which it is long enough, whatever the limit of messages."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


_START = Position(0)


@dataclass(slots=True)
class FilePartition:
    name: str
    path: str
    """Empty for standard input."""
    suffix: str
    """Of its compression; empty where there is none."""
    identity: str = ""
    position: Position = _START
    stream: Stream | None = None
    """Standard input, which cannot be opened twice."""
    told: int = -1
    """The byte at which an earlier run found the content to break off, and said so; or -1."""
    ended: bool = False
    descriptor: int | None = None
    """Of a file that is held open, whatever becomes of its path."""

    @property
    def upkeep(self) -> int:
        """How dear opening it again is: a plain file seeks, a compressed one is read anew, standard input is lost."""
        return 2 if self.stream else 1 if self.suffix else 0

    def open(self, offset: int = 0) -> Stream:
        """The content from `offset` on; nothing where it is shorter."""
        file = self.path if self.descriptor is None else self.descriptor
        if self.upkeep == 0:
            return Stream(plain(file, offset))
        stream = self.stream or Stream(decompressed(file, self.suffix))
        stream.skip(offset)
        return stream

    def head(self, size: int = HEAD) -> bytes:
        if self.stream is not None:
            return self.stream.head(size)
        stream = self.open()
        head = stream.head(size)
        stream.close()
        return head


class Lines:
    """Messages of a partition from its position on, cut from blocks and queued until they are taken."""

    def __init__(self, partition: FilePartition, max_record_bytes: int, *, growing: bool) -> None:
        self.partition = partition
        self.max_record_bytes = max_record_bytes
        self.growing = growing
        self.finished = False
        self.messages: list[bytes | Reject] = []
        self.offsets: list[int] = []
        self.lines: list[int] = []
        position = partition.position
        self.offset, self.line = position.offset, position.line
        """Where the unfinished line behind the queue begins, and the lines before it."""
        self.stream = partition.open(max(0, position.offset - 1))
        self.tail = b""
        self.block = FIRST_BLOCK
        self.mark = ""
        """Added to the identity behind a Reject for what breaks off, so that a later run does not repeat it."""
        if position.offset:
            before = self.stream.head(1)
            self.stream.skip(1)
            if not before:
                self.stream.broken = self.stream.broken or "the content ends before the position"
            elif before != b"\n" and self.line:
                self.line -= 1  # the line before was counted without its end: what has come since belongs to it

    def ahead(self, limit: int) -> Raw:
        """The next messages. One more than these is read, so that the end is known with the last of them."""
        while not self.finished and self._wants_more(limit):
            block = self.stream.read(max(self.block, len(self.tail)))
            self.block = min(2 * self.block, BLOCK)
            if block:
                self._split(self.tail + block)
            else:
                self._finish()
            while len(self.tail) > self.max_record_bytes + 1:  # 1 for a carriage return
                self._pass_over()
        return self._raw(min(limit, len(self.messages) - (not self.finished)))

    def drop(self, messages: int) -> None:
        for queue in (self.messages, self.offsets, self.lines):
            del queue[:messages]

    def _wants_more(self, limit: int) -> bool:
        if len(self.messages) < 2:
            return True
        return len(self.messages) <= limit and self.offset - self.offsets[0] < READ_AHEAD

    def _raw(self, number: int) -> Raw:
        messages, offsets, lines = self.messages[:number], self.offsets[:number], self.lines[:number]
        rejects = [message for message in messages if isinstance(message, Reject)]
        payloads = [message for message in messages if isinstance(message, bytes)]
        if rejects:
            good = [isinstance(message, bytes) for message in messages]
            offsets, lines = list(compress(offsets, good)), list(compress(lines, good))
        identity = self.partition.identity
        if number < len(self.messages):
            end = Position(self.offsets[number], self.lines[number] - 1, identity)
        else:
            end = Position(self.offset, self.line, identity + self.mark)
        return Raw(self.partition.name, payloads, offsets, lines, end, rejects)

    def _split(self, text: bytes) -> None:
        """Queue the whole lines of `text`, which begins where the queue ends, and keep the rest."""
        if self.offset == 0 and text.startswith(BYTE_ORDER_MARK):
            text = text.removeprefix(BYTE_ORDER_MARK)
            self.offset = len(BYTE_ORDER_MARK)
        payloads = text.split(b"\n")
        self.tail = payloads.pop()
        if not payloads:
            return
        first, self.line = self.line + 1, self.line + len(payloads)
        lines: Iterable[int] = range(first, self.line + 1)
        offsets = list(map(add, accumulate(map(len, payloads), initial=self.offset), count()))
        self.offset = offsets.pop()
        if b"\r" in text:  # a search for one byte is eighty times faster than for two
            payloads = text.replace(b"\r\n", b"\n").split(b"\n")[:-1]
        if not all(map(bytes.strip, payloads)):
            filled = [bool(payload.strip()) for payload in payloads]
            payloads, offsets, lines = (list(compress(column, filled)) for column in (payloads, offsets, lines))
        self.offsets += offsets
        self.lines += lines
        if payloads and max(map(len, payloads)) > self.max_record_bytes:
            self.messages += map(self._checked, payloads, offsets, lines)
        else:
            self.messages += payloads

    def _checked(self, payload: bytes, offset: int, line: int) -> bytes | Reject:
        if len(payload) <= self.max_record_bytes:
            return payload
        return self._oversized(offset, line, len(payload), hashlib.sha256(payload).hexdigest())

    def _oversized(self, offset: int, line: int, size: int, sha256: str) -> Reject:
        return oversized(self.partition.name, offset, size, sha256, at_most=self.max_record_bytes, line=line)

    def _pass_over(self) -> None:
        """Read to the end of a line that is too long to be kept, whose beginning is in `tail`."""
        digest, size, held, piece = hashlib.sha256(), 0, b"", self.tail
        newline = rest = b""
        while piece and not newline:
            line, newline, rest = piece.partition(b"\n")
            line = held + line
            held = b"\r" if line.endswith(b"\r") else b""  # ends the line, unless more of it comes
            line = line.removesuffix(b"\r")
            digest.update(line)
            size += len(line)
            piece = b"" if newline else self.stream.read(BLOCK)
        self.tail = b""
        self.finished = not newline
        if not newline and self.stream.broken:
            digest.update(held)
            self._break_off(size + len(held), digest.hexdigest())
        elif newline or not self.growing:
            self._queue(self._oversized(self.offset, self.line + 1, size, digest.hexdigest()))
            self.offset += size + len(held + newline)
            self.line += 1
            self._split(rest)

    def _finish(self) -> None:
        """Judge what stands behind the last newline."""
        self.finished = True
        tail, self.tail = self.tail, b""
        if self.stream.broken:
            self._break_off(len(tail), hashlib.sha256(tail).hexdigest())
        elif tail and (not self.growing or _is_json(tail)):
            self._split(tail + b"\n")
            self.offset -= 1

    def _break_off(self, size: int, sha256: str) -> None:
        """Refuse an unfinished line. Reading goes on at its beginning, should the file be mended or go on one day."""
        broken_at = self.offset + size
        self.mark = f"-broken-{broken_at}"
        if broken_at != self.partition.told:
            detail = f"{self.stream.broken}; nothing behind byte {broken_at} was read"
            self._queue(Reject("unreadable", self.partition.name, broken_at, size, sha256, self.line + 1, detail))

    def _queue(self, reject: Reject) -> None:
        self.messages.append(reject)
        self.offsets.append(self.offset)
        self.lines.append(self.line + 1)


def _is_json(text: bytes) -> bool:
    """Whether `text` is one whole JSON value that nothing could be added to."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return text.rstrip().endswith((b"}", b"]", b'"'))
