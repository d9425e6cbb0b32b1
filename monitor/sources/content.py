"""From a file to its decompressed bytes: plain, gzip and Zstandard, many members and damaged ones too."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, Protocol

import zstandard

FIRST_BLOCK, BLOCK = 1 << 15, 1 << 18
"""Bytes read at a time: little where a file is only peeked at, doubling to what is fastest."""
FEED = 1 << 10
"""Compressed bytes decompressed at a time. A zstd block can make 128 KiB of 4 bytes: at most 32 MiB come of this."""


class _UnreadableError(Exception):
    """Compressed data that is damaged or cut short."""


class _Decompressor(Protocol):
    """What zlib and zstandard agree on: one gzip member or one zstd frame."""

    def decompress(self, data: bytes, /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def _start_gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=31)  # 16 for a gzip header, 15 for the largest window


def _start_zstd() -> _Decompressor:
    return zstandard.ZstdDecompressor().decompressobj()


COMPRESSIONS = {".gz": ("gzip", _start_gzip), ".zst": ("zstd", _start_zstd)}


def plain(path: str | int, offset: int) -> Iterator[bytes]:
    """The content of a file, by its path or by a descriptor, which stays open."""
    with open(path, "rb", buffering=0, closefd=isinstance(path, str)) as file:
        file.seek(offset)
        yield from iter(partial(file.read, BLOCK), b"")


def decompressed(path: str | int, suffix: str) -> Iterator[bytes]:
    """Non-empty pieces of all members or frames of a file; raises _UnreadableError behind the last good byte."""
    name, start = COMPRESSIONS[suffix]
    with open(path, "rb", closefd=isinstance(path, str)) as file:
        file.seek(0)
        machine, frame = None, -1
        while data := file.read(FEED):
            while data:
                if machine is None:
                    data = data.lstrip(b"\0") if frame >= 0 else data  # blocks of tapes are padded behind the data
                    if not data:
                        break
                    machine, frame = start(), file.tell() - len(data)
                try:
                    piece = machine.decompress(data)
                except (zlib.error, zstandard.ZstdError) as error:
                    yield from _salvaged(file, start(), frame, file.tell() - len(data))
                    raise _UnreadableError(f"the {name} data is damaged: {error}") from error
                if piece:
                    yield piece
                data, machine = (machine.unused_data, None) if machine.eof else (b"", machine)
    if machine is not None:
        raise _UnreadableError(f"the {name} data is cut short: it ends before its end mark")


def _salvaged(file: BinaryIO, machine: _Decompressor, frame: int, damaged: int) -> Iterator[bytes]:
    """What lies between `damaged` and the byte that a decompressor trips over; it drops its output when it does."""
    file.seek(frame)
    while file.tell() < damaged:
        machine.decompress(file.read(min(FEED, damaged - file.tell())))
    while byte := file.read(1):
        try:
            piece = machine.decompress(byte)
        except (zlib.error, zstandard.ZstdError):
            return
        if piece:
            yield piece


class Stream:
    """Bytes in pieces, to be read in any sizes. Its end is either the end of the file or `broken`, in words."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.broken = ""
        self._pieces = pieces
        self._ahead = b""

    def read(self, size: int) -> bytes:
        """`size` bytes or somewhat more; fewer at the end only."""
        parts = [self._ahead] if self._ahead else []
        total, self._ahead = len(self._ahead), b""
        try:
            while total < size and (piece := next(self._pieces, b"")):
                parts.append(piece)
                total += len(piece)
        except _UnreadableError as error:
            self.broken = str(error)
        except OSError as error:
            self.broken = f"the file cannot be read: {error.strerror or error}"
        return b"".join(parts)

    def head(self, size: int) -> bytes:
        """The next `size` bytes, which stay where they are."""
        self._ahead = self.read(size)
        return self._ahead[:size]

    def skip(self, size: int) -> None:
        while size and (data := self.read(min(size, BLOCK))):
            self._ahead = data[size:]
            size -= min(size, len(data))

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)  # a generator closes its file
        if close is not None:
            close()
