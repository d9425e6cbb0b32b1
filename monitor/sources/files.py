"""Logs on disk, finished or growing: lines of plain, gzip and Zstandard files, of folders and of standard input.

A partition is a file, by the name of its real path; standard input is ``-``. Positions count decompressed bytes and
carry a fingerprint of the file's beginning, so that a file is known again after it has grown, was renamed or was
compressed, and a position in another file is refused.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Literal, cast

import pydantic
import xxhash

from monitor.decoding import Format
from monitor.model import Position, Raw
from monitor.settings import Settings
from monitor.sources.content import BLOCK, COMPRESSIONS, Stream
from monitor.sources.lines import HEAD, FilePartition, Lines

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
"""The files that are looked for in a folder; a file that is named itself may be called anything."""
STANDARD_INPUT = "-"
MAX_OPEN = 64
"""Files open at once. Each holds up to two blocks and a decompressor's window (2 MiB at zstd's default level)."""


class FilesSettings(Settings):
    """Logs to read: files, folders, globs (``**`` too) and ``-`` for standard input."""

    kind: Literal["files"]
    paths: list[Annotated[str, pydantic.Field(min_length=1)]] = pydantic.Field(min_length=1)
    format: Format = "native"
    max_record_bytes: pydantic.PositiveInt = 8 << 20


# ---- which files ----------------------------------------------------------------------------------------------------


def _find(paths: Sequence[str]) -> list[str]:
    """Real paths of all files that are meant, each once, in order; raises ValueError with all that is wrong."""
    found: dict[tuple[int, int], str] = {}
    problems: list[str] = []
    for path in paths:
        if path == STANDARD_INPUT:
            found[-1, -1] = path
            continue
        for file in expanded(path, problems):
            try:
                status = file.stat()
                if stat.S_ISREG(status.st_mode):
                    file.open("rb").close()
                    found.setdefault((status.st_dev, status.st_ino), str(file.resolve()))
                else:
                    problems.append(f"{file} is not a file; what comes through a pipe belongs to standard input, -")
            except OSError as error:
                problems.append(f"{file} cannot be opened: {error.strerror}")
    if problems:
        raise ValueError("\n".join(problems))
    return list(found.values())


def expanded(path: str, problems: list[str]) -> list[Path]:
    """The files that a path, a folder or a glob stands for."""

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename or path} cannot be opened: {error.strerror}")

    try:
        # pathlib's own glob takes no absolute pattern and no `**.jsonl`, and finds hidden files
        matches = [path] if Path(path).exists() else sorted(glob.glob(path, recursive=True))  # noqa: PTH207
    except OSError as error:
        unreadable(error)
        return []
    if not matches:
        problems.append(f"{path} matches no file" if glob.has_magic(path) else f"{path} does not exist")
    files: list[Path] = []
    known = len(problems)
    for match in map(Path, matches):
        if match.is_dir():
            walk = os.walk(match, onerror=unreadable)
            files += sorted(Path(top, name) for top, _, names in walk for name in names if name.endswith(SUFFIXES))
        else:
            files.append(match)
    if matches and not files and len(problems) == known:
        problems.append(f"{path} holds no file that ends in {', '.join(SUFFIXES)}")
    return files


# ---- positions ------------------------------------------------------------------------------------------------------

_IDENTITY = re.compile(r"(?P<head>xxh3-(?P<length>\d{1,4})-[0-9a-f]{16})(?:-broken-(?P<told>\d+))?")


def fingerprint(head: bytes) -> str:
    """Name of a beginning: as many bytes of a file that has grown since have the same.

    >>> fingerprint(b"")
    'xxh3-0-2d06800538d394c2'
    """
    return f"xxh3-{len(head)}-{xxhash.xxh3_64_hexdigest(head)}"


def _refusal(partition: FilePartition, position: Position) -> str:
    """Why `position` cannot be one in this partition; empty where it can."""
    identity = _IDENTITY.fullmatch(position.identity)
    if identity is None:
        return f"{partition.name}: the position at byte {position.offset} carries no fingerprint of a file"
    length = int(identity["length"])
    if identity["head"] not in (partition.identity, fingerprint(partition.head(length))):
        return f"{partition.name}: the position at byte {position.offset} belongs to a file with another beginning"
    if partition.upkeep == 0 and (size := Path(partition.path).stat().st_size) < position.offset:
        return f"{partition.name}: the position is byte {position.offset}, but the file has {size} bytes now"
    return ""


class Files:
    """The `files` source (`monitor.contracts.Source`).

    With `growing` a last line without its newline is left for a later run, unless it is a whole JSON value. `stdin`
    takes the place of the process's standard input. Raises ValueError for paths that name no file that can be read,
    all of them at once, a line each.
    """

    def __init__(self, settings: FilesSettings, *, growing: bool = False, stdin: BufferedIOBase | None = None) -> None:
        self._settings = settings
        self._growing = growing
        self._partitions: dict[str, FilePartition] = {}
        self._open: dict[str, Lines] = {}
        for path in _find(settings.paths):
            if path == STANDARD_INPUT:
                # Not `read`, which waits for all it was asked for, and hears no Ctrl-C between two waits.
                given = stdin or cast("BufferedIOBase", sys.stdin.buffer)
                pieces = iter(partial(given.read1, BLOCK), b"")
                partition = FilePartition(path, "", "", stream=Stream(pieces))
            else:
                name = os.fsencode(path).decode("utf-8", "backslashreplace")  # the store keeps no other bytes
                partition = FilePartition(name, path, next(filter(path.endswith, COMPRESSIONS), ""))
                stream = partition.open()
                partition.identity = fingerprint(stream.head(HEAD))
                partition.ended = not stream.head(1) and not stream.broken
                stream.close()
            self._partitions[partition.name] = partition

    def partitions(self) -> Mapping[str, bool]:
        return {name: partition.ended for name, partition in self._partitions.items()}

    def resume(self, positions: Mapping[str, Position]) -> None:
        """Go on from `positions`; standard input only as long as nothing of it was peeked at.

        A position of a file that is not among the paths is left aside, unless it fits a file among them that has none:
        a renamed (or since compressed) one, which keeps the partition's name of before.

        Raises ValueError, naming file and byte, for positions in other data; a line each.
        """
        if STANDARD_INPUT in self._open:
            raise ValueError("standard input cannot be resumed any more: it has been read from")
        self.close()
        self._identify_standard_input()
        self._follow_renamed(positions)
        problems = []
        for name, partition in self._partitions.items():
            position = positions.get(name, partition.position)
            if position == partition.position:
                continue
            if problem := _refusal(partition, position):
                problems.append(problem)
                continue
            partition.position = position
            told = _IDENTITY.fullmatch(position.identity)
            partition.told = int(told["told"]) if told and told["told"] else -1
        if problems:
            raise ValueError("\n".join(problems))

    def peek(self, partition: str, limit: int) -> Raw:
        if self._partitions[partition].ended:
            return Raw(partition, [], [], [], self._partitions[partition].position)
        return self._lines(partition).ahead(limit)

    def poll(self, wanted: Sequence[str], limit: int) -> list[Raw]:
        """The next messages of the first of `wanted` that has not ended; fewer than `limit` where they are long."""
        partition = next((self._partitions[name] for name in wanted if not self._partitions[name].ended), None)
        if partition is None:
            return []
        lines = self._lines(partition.name)
        raw = lines.ahead(limit)
        lines.drop(len(raw.payloads) + len(raw.rejects))
        partition.position = raw.end
        if lines.finished and not lines.messages:
            partition.ended = True
            self._open.pop(partition.name).stream.close()
        return [raw] if raw.payloads or raw.rejects else []

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].stream.close()

    def _lines(self, name: str) -> Lines:
        lines = self._open.pop(name, None)
        if lines is None:
            if len(self._open) >= MAX_OPEN:
                dispensable = min(self._open, key=lambda other: self._partitions[other].upkeep)
                self._open.pop(dispensable).stream.close()
            self._identify_standard_input()
            lines = Lines(self._partitions[name], self._settings.max_record_bytes, growing=self._growing)
        self._open[name] = lines  # behind those that were not used for longer
        return lines

    def _identify_standard_input(self) -> None:
        """Late, because it waits for what is typed or piped."""
        partition = self._partitions.get(STANDARD_INPUT)
        if partition is not None and not partition.identity:
            partition.identity = fingerprint(partition.head())

    def _follow_renamed(self, positions: Mapping[str, Position]) -> None:
        """Give files without a position the name of a position without a file that has the same beginning."""
        lost = [(name, positions[name]) for name in sorted(positions) if name not in self._partitions]
        free = [each for each in self._partitions.values() if each.name not in positions and each.stream is None]
        heads = [each.head() for each in free] if lost else []
        by_length: dict[int, dict[str, FilePartition]] = {}
        for name, position in lost:
            identity = _IDENTITY.fullmatch(position.identity)
            length = int(identity["length"]) if identity else 0
            if identity is None or length == 0:
                continue
            if length not in by_length:
                beginnings = [fingerprint(head[:length]) for head in heads]
                by_length[length] = dict(zip(reversed(beginnings), reversed(free), strict=True))
            partition = by_length[length].get(identity["head"])
            if partition is not None and partition.name not in positions and not _refusal(partition, position):
                partition.name = name
        self._partitions = {each.name: each for each in self._partitions.values()}
