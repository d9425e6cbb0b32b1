"""Logs on disk that grow, as `tail -F` follows them: by their paths, through rotation, truncation and restarts.

A partition is a log, by the name of its real path; what rotation makes of its files belongs to it and is no partition
of its own (`monitor.sources.chain`). Compressed files among the paths are read once. Nothing but looking tells that
something has come.
"""

from __future__ import annotations

import glob
import os
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from monitor.model import Position, Raw, Refused, Reject
from monitor.sources.chain import SETTLED_SECONDS, Chain
from monitor.sources.files import MAX_OPEN, STANDARD_INPUT, SUFFIXES, FilesSettings, expanded
from monitor.sources.rotation import is_rotated


class Followed:
    """The `files` source of `driftd run` (`monitor.contracts.LiveSource`).

    Raises ValueError for standard input.

    Parameters
    ----------
    wait : seconds that a poll waits where nothing has come
    refresh : seconds between two looks for new files
    settled : seconds for which a file that was rotated away must not have been written before the next one is begun

    """

    def __init__(
        self,
        settings: FilesSettings,
        *,
        wait: float = 0.1,
        refresh: float = 15.0,
        settled: float = SETTLED_SECONDS,
    ) -> None:
        if STANDARD_INPUT in settings.paths:
            raise ValueError(f"paths: standard input ({STANDARD_INPUT}) cannot be followed; `driftd replay` reads it")
        self._settings, self._wait, self._refresh, self._settled = settings, wait, refresh, settled
        self._chains: dict[str, Chain] = {}
        """By name."""
        self._open: dict[str, Chain] = {}
        """Those that hold a file open, in the order in which they were used last."""
        self._listed: list[str] = []
        self._known: Mapping[str, Position] = {}
        """Stored positions of logs that the paths mean and that were not found yet."""
        self._matched: set[str] = set()
        """Paths that have named something."""
        self._missing: list[str] = []
        self._look = 0.0

    # ---- what a source promises -------------------------------------------------------------------------------------

    def partitions(self) -> Mapping[str, bool]:
        if time.monotonic() >= self._look:
            self._look_around()
            self._look = time.monotonic() + self._refresh
        return dict.fromkeys(self._listed, False)

    def resume(self, positions: Mapping[str, Position]) -> None:
        """Go on from `positions`; whether their files are still there, and as what, shows when they are read."""
        self.close()
        self._chains, self._listed, self._look = {}, [], 0.0
        self._known = {
            name: position
            for name, position in positions.items()
            if any(_means(path, name) for path in self._settings.paths)
        }
        self._matched = {path for path in self._settings.paths if any(_means(path, name) for name in self._known)}

    def peek(self, partition: str, limit: int) -> Raw:
        self.partitions()
        raw = self._chains[partition].peek(limit)
        self._tidy(partition)
        return raw

    def poll(self, wanted: Sequence[str], limit: int, *, wait: bool = True) -> list[Raw]:
        self.partitions()
        found: list[Raw] = []
        for name in wanted:
            if limit and (raw := self._chains[name].poll(limit)) is not None:
                found.append(raw)
                limit -= len(raw.payloads) + len(raw.rejects)
            self._tidy(name)
        if not found and wait:
            time.sleep(self._wait)
        return found

    def close(self) -> None:
        """Let go of all files. Idempotent."""
        while self._open:
            self._open.popitem()[1].close()

    # ---- what a live source promises --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return f"files {', '.join(self._settings.paths)}"

    @property
    def trouble(self) -> str:
        """What cannot be read now; all else is."""
        return "; ".join([*self._missing, *(chain.trouble for chain in self._chains.values() if chain.trouble)])

    def drained(self) -> Collection[str]:
        return {name for name in self._listed if self._chains[name].drained}

    def lag(self) -> Mapping[str, int]:
        """Nothing: how many lines are in what was not read is not known."""
        return {}

    def set_aside(self, refused: Sequence[Refused]) -> Sequence[Reject] | None:
        """It has no place for them."""
        return [reject for reject, _ in refused]

    def committed(self, positions: Mapping[str, Position]) -> None:
        """Nothing is to be done: files are their owner's."""

    def notices(self) -> list[str]:
        said = [notice for chain in self._chains.values() for notice in chain.notices]
        for chain in self._chains.values():
            chain.notices.clear()
        return said

    # ---- which logs -------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Find logs that are new, and those that are gone."""
        found = self._found()
        known = {*(chain.path for chain in self._chains.values()), *self._known}
        log_of = {path: _log_of(path, found | known) for path in sorted(found | known)}
        for log in dict.fromkeys([*log_of.values(), *known]):
            older = {path for path in found - known if log_of[path] == log != path}
            chain = Chain(log, self._settings.max_record_bytes, older=older, settled=self._settled)
            if chain.name not in self._chains:
                chain.position = self._known.get(chain.name, chain.position)
                self._chains[chain.name] = chain
            self._chains[chain.name].retired = log_of.get(log, log) != log
        self._known = {}
        there = {name for name, chain in self._chains.items() if chain.is_there()}
        self._listed = sorted(self._chains if self.trouble else there)

    def _found(self) -> set[str]:
        """Real paths of all files that are meant."""
        found: set[str] = set()
        self._missing = []
        for path in self._settings.paths:
            problems: list[str] = []
            for file in expanded(path, problems):
                with suppress(FileNotFoundError):
                    if stat.S_ISREG(file.stat().st_mode):
                        found.add(str(file.resolve()))
                        self._matched.add(path)
                    else:
                        problems.append(f"{file} is not a file")
            if found or path not in self._matched:
                self._missing += problems
        return found

    def _tidy(self, name: str) -> None:
        """Let go of another file where too many are open."""
        self._open.pop(name, None)
        if self._chains[name].is_open:
            self._open[name] = self._chains[name]
        if len(self._open) > MAX_OPEN:
            dispensable = min(self._open, key=lambda each: self._open[each].upkeep)
            if self._open[dispensable].upkeep < 2:
                self._open.pop(dispensable).close()


def _log_of(path: str, among: Collection[str]) -> str:
    """The log that rotation has made a file of; the file itself where there is none.

    >>> _log_of("/a.jsonl.1.gz", {"/a.jsonl", "/a.jsonl.1", "/a"}), _log_of("/a.jsonl", {"/a"})
    ('/a.jsonl', '/a.jsonl')
    """
    begins = (path[:end] for end in range(path.rfind("/") + 2, len(path)) if path[end] in "-._")
    return next((log for log in begins if log in among and is_rotated(path, log)), path)


def _means(path: str, name: str) -> bool:
    """Whether a path of the settings means a file of this name, which may be gone."""
    real = os.path.realpath(path)
    if glob.has_magic(path) and not Path(path).exists():
        parts = Path(path).parts
        fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
        pattern = f"{glob.escape(os.path.realpath(Path(*parts[:fixed])))}/{'/'.join(parts[fixed:])}".replace("//", "/")
        return fnmatchcase(name, pattern) and ("**" in pattern or name.count("/") == pattern.count("/"))
    return name == real or (name.startswith(f"{real}/") and name.endswith(SUFFIXES))
