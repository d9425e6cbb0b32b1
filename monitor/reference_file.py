"""A reference as a file: learned once from finished logs, kept, shipped, and held against whatever comes later.

Comes in: frozen references of streams and segments. Goes out: bytes that are the same for the same logs and settings,
and whose own hash names them. A file that was cut short or changed is refused; none of it is run when it is read.

    magic, version (2 bytes), length of the body (8 bytes), body, SHA-256 of all before it

The body is msgpack: a header, then the packed reference of each stream and segment. Magic, length and hash stand where
they do in every version.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from monitor import __version__
from monitor.calibration import Cycle
from monitor.clusters import Books, Codebook
from monitor.distances import DISTANCES, Distance
from monitor.model import Floats, Scope, Signal
from monitor.reference import ScopeReference, SeriesReference, differing
from monitor.settings import format_duration
from monitor.summaries import Category, Numeric, Rate, Vector
from monitor.summaries.numeric import GRID_CELLS, grid_values
from monitor.windows import scope_order

MAGIC = b"driftd reference\n"
VERSION = 3
ID_DIGITS = 12
"""Hex digits of the hash that name a file."""
_PREAMBLE = struct.Struct(">HQ")
_HASH_BYTES = 32
_AGAIN = "build it again with `driftd reference build`"


class ReferenceFileError(ValueError):
    """The file cannot be used; the message says why and what to do."""


class _Header(msgspec.Struct, frozen=True):
    made_by: str
    begin: int
    end: int
    sizes: list[int]
    signals: list[Signal]


@dataclass(frozen=True, slots=True)
class ReferenceFile:
    """What a file holds."""

    id: str
    """First digits of the hash of its content."""
    made_by: str
    """Version of driftd."""
    begin: int
    end: int
    sizes: Sequence[int]
    """Window sizes that may be held against it."""
    signals: Mapping[str, Signal]
    """All that were measured when it was made."""
    scopes: Mapping[Scope, ScopeReference]
    books: Books
    """What clusters of vectors are, by stream and signal."""

    @property
    def length(self) -> int:
        """How long was learned, in milliseconds."""
        return self.end - self.begin

    @property
    def cycle(self) -> Cycle | None:
        """What its references follow."""
        return next((reference.cycle for reference in self.scopes.values() if reference.cycle is not None), None)


def pack(
    sizes: Sequence[int], signals: Mapping[str, Signal], references: Iterable[ScopeReference], books: Books
) -> bytes:
    """The file of some references, one a scope. Raises ValueError where there is none."""
    ordered = sorted(references, key=lambda reference: scope_order((reference.scope, None)))
    if not ordered:
        raise ValueError("no stream has learned anything")
    begin, end = min(r.begin for r in ordered), max(r.end for r in ordered)
    header = _Header(__version__, begin, end, sorted(sizes), sorted(signals.values(), key=lambda signal: signal.name))
    clusters = [(*key, book.dump()) for key, book in sorted(books.items())]
    body = msgspec.msgpack.encode((header, [reference.dump() for reference in ordered], clusters))
    whole = MAGIC + _PREAMBLE.pack(VERSION, len(body)) + body
    return whole + hashlib.sha256(whole).digest()


def unpack(data: bytes, name: str) -> ReferenceFile:
    """The inverse of `pack`. Raises ReferenceFileError, which begins with `name`.

    >>> unpack(b"{}", "old.ref")
    Traceback (most recent call last):
    monitor.reference_file.ReferenceFileError: old.ref: is not a reference that `driftd reference build` made
    """
    if not data.startswith(MAGIC[: max(len(data), 1)]):
        raise ReferenceFileError(f"{name}: is not a reference that `driftd reference build` made")
    start = len(MAGIC) + _PREAMBLE.size
    if len(data) < start:
        raise ReferenceFileError(f"{name}: is cut short, at {len(data)} bytes; copy it again, or {_AGAIN}")
    version, length = _PREAMBLE.unpack_from(data, len(MAGIC))
    whole = start + length + _HASH_BYTES
    if len(data) < whole:
        raise ReferenceFileError(f"{name}: is cut short, {len(data)} of {whole} bytes; copy it again, or {_AGAIN}")
    found = hashlib.sha256(data[:-_HASH_BYTES]).digest()
    if len(data) > whole or found != data[-_HASH_BYTES:]:
        raise ReferenceFileError(
            f"{name}: was changed after it was built (its hash is not that of its content); copy it again, or {_AGAIN}"
        )
    if version > VERSION:
        raise ReferenceFileError(
            f"{name}: was built by a newer driftd (format {version}; this one knows {VERSION}); upgrade, or {_AGAIN}"
        )
    return _read(data[start : start + length], found.hex()[:ID_DIGITS], name)


def _read(body: bytes, digits: str, name: str) -> ReferenceFile:
    try:
        header, packed, clusters = msgspec.msgpack.decode(
            body, type=tuple[_Header, list[bytes], list[tuple[str, str, bytes]]]
        )
    except msgspec.MsgspecError as error:
        raise ReferenceFileError(f"{name}: cannot be read: {error}; {_AGAIN}") from None
    try:
        scopes = {found.scope: found for found in map(ScopeReference.load, packed)}
    except ValueError as error:
        raise ReferenceFileError(f"{name}: holds {error}; {_AGAIN}") from None
    signals = {signal.name: signal for signal in header.signals}
    books = {(stream, signal): Codebook.load(book) for stream, signal, book in clusters}
    return ReferenceFile(digits, header.made_by, header.begin, header.end, header.sizes, signals, scopes, books)


def misfits(file: ReferenceFile, sizes: Sequence[int], measured: Mapping[str, Signal]) -> list[str]:
    """Why windows cannot be held against a file, one sentence each; empty where they can."""
    lacking = [format_duration(size) for size in sizes if size not in file.sizes]
    there = ", ".join(map(format_duration, file.sizes))
    problems = [f"windows of {', '.join(lacking)} are not in it, it has {there}"] if lacking else []
    new = [name for name in measured if name not in file.signals]
    return [
        *problems,
        *(f"{name}: it is measured now, the reference lacks it" for name in new),
        *differing(file.signals, measured),
    ]


# ---- two files side by side -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compared:
    """How one signal of one scope differs between two references."""

    scope: Scope
    signal: Signal
    before: str
    after: str
    distances: Mapping[str, float]
    """By name; NaN where one of the two has no observation."""

    @property
    def size(self) -> float:
        """What differences are ordered by."""
        return self.distances[leading(self.signal)]


def leading(signal: Signal) -> str:
    """The distance that differences are ordered by."""
    return "mmd" if signal.kind == "vector" else "jensen_shannon"


def compare(before: ReferenceFile, after: ReferenceFile) -> list[Compared]:
    """The signals that both have of a scope, the most different first."""
    found = [
        Compared(scope, old.signal, *_values(old, new), _distances(old, new))
        for scope, reference in before.scopes.items()
        if scope in after.scopes
        for name, old in reference.series.items()
        for new in [after.scopes[scope].series.get(name)]
        if new is not None and not differing({name: old.signal}, {name: new.signal})
    ]
    return sorted(found, key=lambda row: (-np.nan_to_num(row.size), scope_order((row.scope, None)), row.signal.name))


def _distances(old: SeriesReference, new: SeriesReference) -> dict[str, float]:
    """The descriptive distances of what the newer holds from what the older does, over records."""
    rows = [distance for distance in DISTANCES.values() if old.signal.kind in distance.kinds]
    return {distance.name: float(_distance(distance, old, new)) for distance in rows}


def _distance(distance: Distance, old: SeriesReference, new: SeriesReference) -> Floats:
    if isinstance(old.summary, Vector) and isinstance(new.summary, Vector):
        of = {"features": "embedding", "moments": "projected", "centroid": "centroid"}[distance.cells]
        return distance(getattr(new.summary, of), getattr(old.summary, of))
    grid = distance.cells == "grid"
    here, there = (_counts(series, old, grid=grid) for series in (new, old))
    return distance(here, there, grid_values(old.signal.scale) if grid else None)


def _counts(series: SeriesReference, bins: SeriesReference, *, grid: bool) -> Floats:
    cells = series.summary.cells
    if grid:
        return np.bincount(cells.keys, cells.mass, minlength=GRID_CELLS[series.signal.scale]).astype(np.float64)
    return np.bincount(bins.place(cells.keys), cells.mass, minlength=bins.bins).astype(np.float64)


def _values(old: SeriesReference, new: SeriesReference) -> tuple[str, str]:
    """What a person compares: a median, a mean, a rate, or the share of the category that moved most."""
    one, two = old.summary, new.summary
    if isinstance(one, Category) and isinstance(two, Category):
        shares = [part.shares() for part in (one, two)]
        names = sorted({*shares[0], *shares[1]})
        moved = max(names, key=lambda name: abs(shares[1].get(name, 0) - shares[0].get(name, 0)), default="")
        before, after = (f"{moved} {100 * share.get(moved, 0):.3g} %" for share in shares)
        return before, after
    before, after = (_value(series) for series in (old, new))
    return before, after


def _value(series: SeriesReference) -> str:
    summary = series.summary
    if isinstance(summary, Numeric):
        found = summary.quantile(0.5) if summary.scale == "log" else summary.mean
    else:
        found = summary.mean if isinstance(summary, Rate) else None
    return "" if found is None else f"{found:.4g}"
