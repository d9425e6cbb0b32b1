"""Slices that records may still be added to: who is kept apart, who counts, and what closes.

A closed slice never changes. Nothing here depends on the order in which records or names come: of the names that are
new in a slice those of least hash are admitted to a cap, decided when the slice closes. Pure: no clock, the caller says
how far time has come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import msgspec
import numpy as np
import pydantic
import xxhash
from numpy.typing import NDArray

from monitor.model import OTHER, Categories, Flags, Hashes, Ints, Scope, Scored, Signal
from monitor.sampling import Measures, Redact, Sample, add_samples
from monitor.scoring import count_remarks
from monitor.settings import Settings
from monitor.summaries import AnySummary, merged, summarise
from monitor.windows import Contents, Slice, scope_order


class StreamSettings(Settings):
    """What is watched on its own."""

    by: str = "model"
    """Field or label whose value names the stream of a record."""
    segments: tuple[str, ...] = ("segment", "model_version", "prompt_version")
    """Fields or labels whose values are watched on their own within each stream."""
    arms: tuple[str, ...] = ("model_version", "prompt_version")
    """Those of `segments` whose values are versions that run at the same time: each is compared with another one."""
    at_most: Annotated[int, pydantic.Field(ge=1)] = 50
    """Streams kept apart, and values kept apart of each segment label in each stream; the rest is `other`."""

    @property
    def compared(self) -> tuple[str, ...]:
        """The labels whose values are compared with each other."""
        return tuple(label for label in self.arms if label in self.segments)


@dataclass(slots=True)
class Names:
    """Names admitted to a cap, in order of admission; all others are OTHER."""

    at_most: int
    admitted: list[str] = field(default_factory=list)

    def least(self, names: set[str]) -> set[str]:
        """Of new names, those that an open slice keeps apart: at most the cap, of least hash."""
        if len(self.admitted) >= self.at_most:
            return set()
        new = sorted(names - set(self.admitted) - {OTHER}, key=name_hash)
        return set(new[: self.at_most])

    def admit(self, names: set[str]) -> None:
        """Take in the new names of a slice that closes, as far as there is room."""
        new = sorted(names - set(self.admitted) - {OTHER}, key=name_hash)
        self.admitted += new[: max(self.at_most - len(self.admitted), 0)]  # the cap may have been higher before


def name_hash(name: str) -> int:
    """XXH3 of a name: fixed and unsalted, so that admission is the same on every machine."""
    return xxhash.xxh3_64_intdigest(name.encode())


@dataclass(slots=True)
class _OpenScope:
    sampled: int
    records: int = 0
    parts: dict[str, list[AnySummary]] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)
    """Of streams; a segment uses its part of its stream's."""

    def add(self, other: _OpenScope) -> None:
        self.records += other.records
        for name, parts in other.parts.items():
            self.parts.setdefault(name, []).extend(parts)
        self.sample = add_samples([self.sample, other.sample]).least(self.sampled)

    def contents(self) -> Contents:
        return Contents(self.records, {name: merged(parts) for name, parts in sorted(self.parts.items())})


@dataclass(slots=True)
class _Seen:
    """Ids counted in open slices, with a hash of what they said: sorted runs, merged when there are many."""

    runs: list[tuple[Hashes, Hashes, Ints]] = field(default_factory=list)

    def find(self, ids: Hashes) -> tuple[Flags, Hashes]:
        """Whether each id was counted, and the hash of its message."""
        found, said = np.zeros(len(ids), bool), np.zeros(len(ids), np.uint64)
        for known, content, _ in self.runs:
            at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
            hit = (known[at] == ids) & ~found
            found |= hit
            said[hit] = content[at][hit]
        return found, said

    def add(self, ids: Hashes, content: Hashes, end: Ints) -> None:
        order = np.argsort(ids)
        self.runs.append((ids[order], content[order], end[order]))
        if len(self.runs) > 8:
            self._merge(self.runs)

    def forget(self, upto: int) -> None:
        """Drop the ids of slices that ended by `upto`."""
        kept = [(ids[live], said[live], end[live]) for ids, said, end in self.runs for live in [end > upto]]
        self.runs = [run for run in kept if len(run[0])]

    def _merge(self, runs: list[tuple[Hashes, Hashes, Ints]]) -> None:
        ids, said, end = (np.concatenate(columns) for columns in zip(*runs, strict=True))
        order = np.argsort(ids)
        self.runs = [(ids[order], said[order], end[order])]

    def dump(self) -> tuple[bytes, bytes, bytes]:
        if len(self.runs) > 1:
            self._merge(self.runs)
        return tuple(column.tobytes() for column in self.runs[0]) if self.runs else (b"", b"", b"")  # type: ignore[return-value]

    @classmethod
    def load(cls, packed: Sequence[bytes]) -> _Seen:
        ids, said, end = packed
        run = (np.frombuffer(ids, np.uint64), np.frombuffer(said, np.uint64), np.frombuffer(end, np.int64))
        return cls([run] if len(run[0]) else [])


@dataclass(slots=True)
class OpenSlices:
    """The slices of the finest size that records may still be added to."""

    size: int
    """Length of a slice in milliseconds."""
    signals: Mapping[str, Signal]
    """Those measured on all records."""
    settings: StreamSettings
    sampled: int
    """Exchanges of a slice of a stream that are sampled, where records come with what was said."""
    redact: Redact
    """What the text of a sampled exchange passes through before it is kept."""
    remarks: Counter[str] = field(default_factory=Counter)
    """Remark -> records that count of which a scorer made it."""
    closed_upto: int | None = None
    """End of the last slice that closed."""
    streams: Names = field(init=False)
    segments: dict[tuple[str, str], Names] = field(default_factory=dict)
    """(Stream, label) -> its values."""
    _open: dict[int, dict[Scope, _OpenScope]] = field(default_factory=dict)
    _seen: _Seen = field(default_factory=_Seen)

    def __post_init__(self) -> None:
        self.streams = Names(self.settings.at_most)

    def add(self, records: Scored) -> dict[str, int]:
        """Add accepted records; returns how many met which fate (counted, duplicate, conflicting, closed)."""
        start = records.ts // self.size * self.size
        gone = np.zeros(len(records), bool) if self.closed_upto is None else start < self.closed_upto
        copy, conflict = self._copies(records, gone)
        counted = ~(gone | copy)
        rows = np.flatnonzero(counted)
        if len(rows):
            kept = records.take(rows)
            self._seen.add(kept.id_hash, kept.content_hash, start[rows] + self.size)
            self._summarise(kept, start[rows])
            self.remarks.update(count_remarks(kept.remarks))
        return {
            "counted": len(rows),
            "duplicate": int((copy & ~conflict).sum()),
            "conflicting": int((copy & conflict).sum()),
            "closed": int(gone.sum()),
        }

    def _copies(self, records: Scored, gone: Flags) -> tuple[Flags, Flags]:
        """Which records repeat the id of one that counts, and which of these say something else."""
        if self.closed_upto is not None:
            self._seen.forget(self.closed_upto)
        copy, said = self._seen.find(records.id_hash)
        copy &= ~gone
        live = np.flatnonzero(~(copy | gone))
        order = live[np.argsort(records.id_hash[live], kind="stable")]
        ids = records.id_hash[order]
        repeats = np.concatenate(([False], ids[1:] == ids[:-1])) if len(ids) else np.zeros(0, bool)
        first = order[np.maximum.accumulate(np.where(repeats, 0, np.arange(len(ids))))] if len(ids) else order
        copy[order[repeats]] = True
        said[order[repeats]] = records.content_hash[first[repeats]]
        return copy, copy & (said != records.content_hash)

    def _summarise(self, records: Scored, start: Ints) -> None:
        """Add records to every scope they belong to, one vectorised pass a signal and level of scope."""
        levels: list[tuple[str | None, NDArray[np.int64]]] = [(None, np.zeros(len(records), np.int64))]
        levels += [(label, column.codes.astype(np.int64)) for label, column in records.segments.items()]
        streams = len(records.stream.names)
        for label, codes in levels:
            rows = np.flatnonzero(codes >= 0)
            values = ("",) if label is None else records.segments[label].names
            flat = (start[rows] // self.size * streams + records.stream.codes[rows]) * len(values) + codes[rows]
            found, groups = np.unique(flat, return_inverse=True)
            names = [
                (
                    code // len(values) // streams * self.size,
                    records.stream.names[code // len(values) % streams],
                    label,
                    values[code % len(values)],
                )
                for code in found.tolist()
            ]
            for name in names:  # whoever has to give way does so before anything is added
                self._place(*name)
            places = [self._place(*name) for name in names]
            self._add_groups(records, rows, groups, places)
            if label is None and records.transcripts is not None:
                self._add_samples(records, groups, places)

    def _add_samples(self, records: Scored, groups: Ints, places: list[_OpenScope]) -> None:
        """Offer the exchanges to the samples of their slices and streams."""
        transcripts = records.transcripts
        assert transcripts is not None
        named = {
            label: np.array([*column.names, None], np.object_)[column.codes]
            for label, column in records.segments.items()
        }
        exchange = ~records.feedback_event
        for group, place in enumerate(places):
            wanted = exchange & (groups == group)
            if len(place.sample) >= self.sampled:
                wanted &= records.id_hash < place.sample.id_hash[self.sampled - 1]
            rows = np.flatnonzero(wanted)
            rows = rows[np.argsort(records.id_hash[rows])[: self.sampled]]
            if not len(rows):
                continue
            offered = Sample(
                records.id_hash[rows],
                records.session_hash[rows],
                records.user_hash[rows],
                transcripts.take(rows),
                {label: values[rows] for label, values in named.items()},
                measures=Measures.of(records.values, rows),
            )
            place.sample = place.sample.joined(offered, self.sampled, self.redact)

    def _add_groups(self, records: Scored, rows: Ints, groups: Ints, places: list[_OpenScope]) -> None:
        exchanges = np.bincount(groups, ~records.feedback_event[rows], minlength=len(places))
        for place, count in zip(places, exchanges.tolist(), strict=True):
            place.records += int(count)
        session = records.session_hash[rows]
        for name, signal in self.signals.items():
            column = records.values[name]
            taken = column.take(rows) if isinstance(column, Categories) else column[rows]
            for place, summary in zip(places, summarise(signal, taken, groups, len(places), session), strict=True):
                if summary.n:
                    place.parts.setdefault(name, []).append(summary)

    def _place(self, start: int, stream: str, label: str | None, value: str) -> _OpenScope:
        """The open scope for a stream or segment, within what an open slice may keep apart."""
        scopes = self._open.setdefault(start, {})
        if stream not in self.streams.admitted:
            stream = self._bounded(start, self.streams, stream, None)
        if label is None:
            return scopes.setdefault(Scope(stream), _OpenScope(self.sampled))
        names = self.segments.setdefault((stream, label), Names(self.settings.at_most))
        if value not in names.admitted:
            value = self._bounded(start, names, value, (stream, label))
        return scopes.setdefault(Scope(stream, f"{label}={value}"), _OpenScope(self.sampled))

    def _bounded(self, start: int, names: Names, name: str, within: tuple[str, str] | None) -> str:
        """`name` if the slice keeps it apart, else OTHER, where those go that it displaces.

        A slice keeps as many new names as the cap, and those that another open slice keeps: if that one closes before
        and admits them, they count here too. So do, in a stream that may yet move to OTHER, the values that OTHER has.
        """
        scopes = self._open[start]
        candidates = _present(scopes, within) | {name}
        kept = names.least(candidates)
        gone = candidates - kept - set(names.admitted) - {OTHER}
        if gone and len(names.admitted) < names.at_most:
            elsewhere = (_present(found, within) for other, found in self._open.items() if other != start)
            gone -= set().union(*elsewhere)
        if gone and within is not None and within[0] not in self.streams.admitted:
            others = OTHER, within[1]
            gone -= _present(scopes, others) | set(self.segments.get(others, Names(0)).admitted)
        _rename(scopes, gone - {name}, within)
        return OTHER if name in gone else name

    def close(self, upto: int) -> Iterator[Slice]:
        """Close, in order, the slices that hold records and end by `upto`."""
        for start in sorted(start for start in self._open if start + self.size <= upto):
            scopes = self._open.pop(start)
            self._admit(scopes)
            self.pass_over(start + self.size)
            ordered = sorted(scopes.items(), key=scope_order)
            samples = {
                scope.stream: _named(found.sample, scopes, scope.stream)
                for scope, found in ordered
                if len(found.sample)
            }
            contents = {scope: found.contents() for scope, found in ordered}
            yield Slice(start, start + self.size, contents, samples)
        self.pass_over(upto // self.size * self.size)

    def pass_over(self, end: int) -> None:
        """Nothing is added any more to slices that end by `end`."""
        self.closed_upto = end if self.closed_upto is None else max(self.closed_upto, end)

    def _admit(self, scopes: dict[Scope, _OpenScope]) -> None:
        """Let the new names of a closing slice in, as far as there is room, and move the others to OTHER."""
        streams = _present(scopes, None)
        self.streams.admit(streams)
        _rename(scopes, streams - set(self.streams.admitted), None)
        for stream, label in sorted({(scope.stream, _label(scope)) for scope in scopes if scope.segment}):
            names = self.segments.setdefault((stream, label), Names(self.settings.at_most))
            values = _present(scopes, (stream, label))
            names.admit(values)
            _rename(scopes, values - set(names.admitted), (stream, label))
        live = {*self.streams.admitted, OTHER}
        open_streams = {scope.stream for found in self._open.values() for scope in found}
        self.segments = {key: names for key, names in self.segments.items() if key[0] in live | open_streams}

    @property
    def newest(self) -> int | None:
        """End of the newest open slice, None where none is open."""
        return max(self._open) + self.size if self._open else None

    @property
    def oldest_end(self) -> int | None:
        """End of the oldest open slice, None where none is open."""
        return min(self._open) + self.size if self._open else None

    def rewrite(self, contents: Callable[[Contents], Contents], sample: Callable[[Sample], Sample]) -> None:
        """Put other contents and samples in the place of those of the open slices."""
        for scopes in self._open.values():
            for scope, found in scopes.items():
                scopes[scope] = self._opened(contents(found.contents()), sample(found.sample))

    def dump(self) -> bytes:
        """All of the state, packed."""
        names = [self.streams.admitted, [(*key, found.admitted) for key, found in self.segments.items()]]
        slices = [
            (start, [(scope, found.contents().dump(), found.sample.dump()) for scope, found in scopes.items()])
            for start, scopes in self._open.items()
        ]
        return msgspec.msgpack.encode((self.closed_upto, names, self._seen.dump(), slices, self.remarks))

    def restore(self, data: bytes) -> None:
        """The inverse of `dump`, into new open slices."""
        self.closed_upto, (streams, segments), seen, slices, remarks = msgspec.msgpack.decode(data)
        self.remarks = Counter(remarks)
        self.streams.admitted = streams
        self.segments = {(s, label): Names(self.settings.at_most, names) for s, label, names in segments}
        self._seen = _Seen.load(seen)
        for start, rows in slices:
            self._open[start] = {
                Scope(*scope): self._opened(Contents.load(packed), Sample.load(sample))
                for scope, packed, sample in rows
            }

    def _opened(self, contents: Contents, sample: Sample) -> _OpenScope:
        parts = {name: [summary] for name, summary in contents.summaries.items()}
        return _OpenScope(self.sampled, contents.records, parts, sample)


def _named(sample: Sample, scopes: Mapping[Scope, object], stream: str) -> Sample:
    """A stream's sample with segments named as the scopes of its slice are: what is not kept apart is OTHER."""
    segments = {}
    for label, values in sample.segments.items():
        names = {None, *_present(scopes, (stream, label))}
        named = [value if value in names else OTHER for value in values]
        segments[label] = np.fromiter(named, np.object_, len(named))
    return replace(sample, segments=segments)


def _label(scope: Scope) -> str:
    return (scope.segment or "").partition("=")[0]


def _present(scopes: Mapping[Scope, object], within: tuple[str, str] | None) -> set[str]:
    """The streams that are kept apart, or the values of the segment `within` = (stream, label)."""
    if within is None:
        return {scope.stream for scope in scopes}
    stream, prefix = within[0], f"{within[1]}="
    found = (scope.segment for scope in scopes if scope.stream == stream and scope.segment)
    return {segment.removeprefix(prefix) for segment in found if segment.startswith(prefix)}


def _rename(scopes: dict[Scope, _OpenScope], names: set[str], within: tuple[str, str] | None) -> None:
    """Move streams (`within` None), or values of the segment (stream, label), into OTHER."""
    for name in sorted(names - {OTHER}):
        if within is None:
            moved = {scope: Scope(OTHER, scope.segment) for scope in scopes if scope.stream == name}
        else:
            stream, label = within
            moved = {Scope(stream, f"{label}={name}"): Scope(stream, f"{label}={OTHER}")}
        for scope, target in moved.items():
            found = scopes.pop(scope)
            if target in scopes:
                scopes[target].add(found)
            else:
                scopes[target] = found
