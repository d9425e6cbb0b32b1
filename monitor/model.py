"""The nouns of driftd: what flows from one step of the loop to the next.

Nothing here computes a statistic or touches a clock, a file or a network. Times are integer milliseconds since the
Unix epoch, UTC; durations are integer milliseconds; every array is numpy and has one entry a record unless said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Kind = Literal["numeric", "rate", "category", "vector", "level"]
Scale = Literal["log", "unit"]
Verdict = Literal["ok", "drift", "insufficient", "learning"]
AlertState = Literal["inactive", "pending", "firing", "resolved"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Vectors = NDArray[np.float32]
"""One row a record; a row of NaN is no observation."""
HalfVectors = NDArray[np.float16]
"""The same as they are kept: half precision tells near from far."""

OTHER = "other"
"""Name of the bucket for whatever a cap leaves out: streams, segments, categories."""


# ---- records --------------------------------------------------------------------------------------------------------


class Position(msgspec.Struct, frozen=True):
    """Where reading goes on in a partition: the next byte or offset, and what it counts in."""

    offset: int
    line: int = 0
    """Lines before `offset`; 0 where a partition has no lines."""
    identity: str = ""
    """Which file or topic `offset` belongs to; a source refuses a position of another one."""


class Reject(msgspec.Struct, frozen=True):
    """A message that could not become a record, with all that may be kept of it."""

    reason: str
    source: str
    position: int
    size: int
    sha256: str
    line: int | None = None
    detail: str = ""
    """What was wrong and in which field; never text of the message."""
    excerpt: str | None = None


class Refused(NamedTuple):
    """A message that could not become a record, whole."""

    reject: Reject
    message: bytes


@dataclass(frozen=True, slots=True)
class Raw:
    """Messages of one partition in its own order, as a source read them."""

    partition: str
    payloads: list[bytes]
    offsets: list[int]
    """Position of each payload: the byte a line begins at, or a Kafka offset."""
    lines: list[int]
    """Line number (from 1) of each payload; empty where the partition has no lines."""
    end: Position
    """Where the next read begins, behind the payloads and the rejects."""
    rejects: list[Reject] = field(default_factory=list)
    """What the source itself had to refuse (oversized, cut short)."""
    append: Ints | None = None
    """Append times set by something other than the producer, or None."""
    aside: Mapping[int, bytes] = field(default_factory=dict)
    """Position -> the message, of `rejects`, as far as the source keeps them."""


@dataclass(frozen=True, slots=True)
class Records:
    """Decoded records of one partition, in its order, transposed to columns."""

    partition: str
    offsets: Ints
    """The offset of each record, for its id where it has none and for the range of the data."""
    id_hash: Hashes
    """64-bit hash of (kind, id)."""
    content_hash: Hashes
    """64-bit hash of the whole message: tells a copy from a conflict."""
    ts: Ints
    columns: Mapping[str, Sequence[Any]]
    """Canonical field name -> one Python value a record (None where absent)."""
    append: Ints | None = None

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, rows: NDArray[Any]) -> Records:
        """The records at `rows` (indices), in that order."""
        at = rows.tolist()
        return Records(
            self.partition,
            self.offsets[rows],
            self.id_hash[rows],
            self.content_hash[rows],
            self.ts[rows],
            {name: [column[i] for i in at] for name, column in self.columns.items()},
            None if self.append is None else self.append[rows],
        )


@dataclass(frozen=True, slots=True)
class Transcripts:
    """What was said in some exchanges, one entry an exchange: what sample signals are measured on."""

    prompt: NDArray[np.object_]
    """Text, or None."""
    response: NDArray[np.object_]
    contexts: NDArray[np.object_]
    """A list of texts, or None."""

    def __len__(self) -> int:
        return len(self.prompt)

    def take(self, rows: NDArray[Any]) -> Transcripts:
        """The exchanges at `rows` (indices or a mask), in that order."""
        return Transcripts(self.prompt[rows], self.response[rows], self.contexts[rows])

    def dump(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Packed fields, for a checkpoint."""
        return self.prompt.tolist(), self.response.tolist(), self.contexts.tolist()

    @classmethod
    def load(cls, packed: Sequence[Sequence[Any]]) -> Transcripts:
        """The inverse of `dump`; also from any three columns of equal length."""
        return cls(*(np.fromiter(column, np.object_, len(column)) for column in packed))


@dataclass(frozen=True, slots=True)
class Categories:
    """A category column: `codes` index `names`; -1 is a record without a value."""

    names: Sequence[str]
    codes: NDArray[np.int32]

    def take(self, rows: NDArray[Any]) -> Categories:
        return Categories(self.names, self.codes[rows])


Column = Floats | Categories | Vectors
"""Numbers and rates are float64 with NaN for "no observation" (a rate is 0.0 or 1.0); categories carry their names;
vectors are float32, one row a record."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What a scorer made of a batch."""

    columns: Mapping[str, Column]
    """Signal name -> column."""
    remarks: Mapping[str, Flags] = field(default_factory=dict)
    """What the owner should know of how records were scored: name (`toxicity_language`) -> records it is true of."""


class Signal(msgspec.Struct, frozen=True):
    """One measured column: what it is called, what kind it is, on which scale it lives."""

    name: str
    kind: Kind
    scale: Scale = "log"
    """Numeric only: `log` for positive amounts (1 % cells), `unit` for scores from 0 to 1 (0.001 cells)."""
    sample: bool = False
    """Measured on a sample of the exchanges of each slice, not on every record."""
    fingerprint: str = ""
    """What decides how it is measured, where that can be set: of vectors which model with which settings made them, of
    others an operating point or a field. What was measured in two ways is never added or compared."""
    size: int = 0
    """Vectors only: entries of one vector."""


class Scope(NamedTuple):
    """A stream, or one segment (``label=value``) of it."""

    stream: str
    segment: str | None = None

    @property
    def words(self) -> str:
        """As it is told to a person."""
        return self.stream if self.segment is None else f"{self.stream}, {self.segment}"


@dataclass(frozen=True, slots=True)
class Scored:
    """Measured records of one partition: everything behind the scorers works on this, and no text is left in it."""

    ts: Ints
    id_hash: Hashes
    content_hash: Hashes
    session_hash: Hashes
    """0 where the record has no session."""
    user_hash: Hashes
    """0 where the record names no user."""
    of_hash: Hashes
    """Feedback events: `id_hash` of the exchange they are about; else 0."""
    feedback_event: Flags
    """True for feedback events, which count for feedback signals only."""
    stream: Categories
    segments: Mapping[str, Categories]
    """Label -> its value."""
    values: Mapping[str, Column]
    """Signal name -> column."""
    append: Ints | None = None
    remarks: Mapping[str, Flags] = field(default_factory=dict)
    """As in Scores."""
    transcripts: Transcripts | None = None
    """What was said, where signals are measured on a sample; it goes no further than the sample."""

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, rows: NDArray[Any]) -> Scored:
        """The records at `rows` (indices or a mask), in that order."""
        return replace(
            self,
            **{
                f.name: getattr(self, f.name)[rows]
                for f in fields(self)
                if isinstance(getattr(self, f.name), np.ndarray)
            },
            stream=self.stream.take(rows),
            segments={label: column.take(rows) for label, column in self.segments.items()},
            values={
                name: column.take(rows) if isinstance(column, Categories) else column[rows]
                for name, column in self.values.items()
            },
            remarks={name: flags[rows] for name, flags in self.remarks.items()},
            transcripts=None if self.transcripts is None else self.transcripts.take(rows),
        )

    def fitted(self, signals: Mapping[str, Signal], lost: Collection[str], *, said: bool) -> Scored:
        """The same records with a column for each of these signals; without observation of those that it had not.

        Parameters
        ----------
        lost : signals that are measured otherwise now, so that what is there is none of them
        said : whether what was said goes along; where it is not known nothing was

        """
        nothing = np.full(len(self), np.nan), Categories([], np.full(len(self), -1, np.int32))
        known = {name: column for name, column in self.values.items() if name not in lost}
        values = {name: known.get(name, nothing[signal.kind == "category"]) for name, signal in signals.items()}
        unknown = self.transcripts or Transcripts.load([[None] * len(self)] * 3)
        return replace(self, values=values, transcripts=unknown if said else None)

    def dump(self) -> tuple[Any, ...]:
        """Packed fields, for a checkpoint."""
        arrays = {name: getattr(self, name).tobytes() for name in _SCORED_ARRAYS}
        values = [
            (name, column.names, column.codes.tobytes())
            if isinstance(column, Categories)
            else (name, None, column.tobytes())
            for name, column in self.values.items()
        ]
        groups = [(name, column.names, column.codes.tobytes()) for name, column in self.segments.items()]
        append = None if self.append is None else self.append.tobytes()
        stream = list(self.stream.names), self.stream.codes.tobytes()
        remarks = {name: flags.tobytes() for name, flags in self.remarks.items()}
        said = None if self.transcripts is None else self.transcripts.dump()
        return arrays, append, stream, groups, values, remarks, said

    @classmethod
    def load(cls, packed: Sequence[Any]) -> Scored:
        """The inverse of `dump`."""
        arrays, append, (streams, codes), groups, values, remarks, said = packed

        def categories(names: list[str], data: bytes) -> Categories:
            return Categories(names, np.frombuffer(data, np.int32))

        return cls(
            **{name: np.frombuffer(arrays[name], kind) for name, kind in _SCORED_ARRAYS.items()},
            stream=categories(streams, codes),
            segments={name: categories(names, data) for name, names, data in groups},
            values={
                name: np.frombuffer(data, np.float64) if names is None else categories(names, data)
                for name, names, data in values
            },
            append=None if append is None else np.frombuffer(append, np.int64),
            remarks={name: np.frombuffer(data, np.bool_) for name, data in remarks.items()},
            transcripts=None if said is None else Transcripts.load(said),
        )


_SCORED_ARRAYS: dict[str, Any] = {
    "ts": np.int64,
    "id_hash": np.uint64,
    "content_hash": np.uint64,
    "session_hash": np.uint64,
    "user_hash": np.uint64,
    "of_hash": np.uint64,
    "feedback_event": np.bool_,
}


def concatenate(parts: Sequence[Scored]) -> Scored:
    """The records of one or more batches with the same signals, in order; category names are joined."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    arrays = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(first)
        if isinstance(getattr(first, f.name), np.ndarray)
    }
    columns = {name: concatenate_columns([part.values[name] for part in parts]) for name in first.values}
    return replace(
        first,
        **arrays,
        stream=concatenate_categories([part.stream for part in parts]),
        segments={name: concatenate_categories([part.segments[name] for part in parts]) for name in first.segments},
        values=columns,
        remarks=concatenate_remarks([(len(part), part.remarks) for part in parts]),
        transcripts=concatenate_transcripts([part.transcripts for part in parts if part.transcripts is not None]),
    )


def concatenate_transcripts(parts: Sequence[Transcripts]) -> Transcripts | None:
    """The exchanges of several batches, in order; None of none."""
    if not parts:
        return None
    columns = ([getattr(part, f.name) for part in parts] for f in fields(Transcripts))
    return Transcripts(*map(np.concatenate, columns))


def concatenate_remarks(parts: Sequence[tuple[int, Mapping[str, Flags]]]) -> dict[str, Flags]:
    """Remarks of several batches, each with its length; one that a batch does not make is true of none there."""
    names = dict.fromkeys(name for _, remarks in parts for name in remarks)
    return {name: np.concatenate([part.get(name, np.zeros(n, np.bool_)) for n, part in parts]) for name in names}


def concatenate_columns(parts: Sequence[Column]) -> Column:
    """One signal's values in several batches, in order."""
    if isinstance(parts[0], Categories):
        return concatenate_categories(parts)  # type: ignore[arg-type]
    return np.concatenate(parts)  # type: ignore[arg-type]


def concatenate_categories(parts: Sequence[Categories]) -> Categories:
    names = sorted({name for part in parts for name in part.names})
    code_of = {name: code for code, name in enumerate(names)}
    tables = [np.array([*(code_of[name] for name in part.names), -1], np.int32) for part in parts]
    return Categories(names, np.concatenate([table[part.codes] for table, part in zip(tables, parts, strict=True)]))


# ---- what comes out -------------------------------------------------------------------------------------------------


RELATIVE = "relative change of "
"""How the unit of an effect on a quantile begins; which quantile follows."""
STRETCH = " in the strongest stretch"
"""How the unit of an effect ends that is not the window's, but of the slices likeliest to hold all of a change."""


class Reading(msgspec.Struct, frozen=True):
    """One signal of one window held against the reference (DESIGN section 9, readings.jsonl)."""

    at: int
    window: int
    window_start: int
    stream: str
    segment: str | None
    signal: str
    kind: Kind
    test: str | None
    value: float | None
    reference_value: float | None
    effect: float | None
    effect_unit: str
    p_value: float | None
    threshold: float | None
    verdict: Verdict
    n: int
    units: int
    reference_n: int
    reference_slices: int
    detectable: float | None
    tail: str | None = None
    forced: bool = False
    distances: dict[str, float | None] = msgspec.field(default_factory=dict)
    against: str = ""
    """Of a series that is held against two references: which of them says so, `anchor` or `rolling`. Of an arm that is
    compared with another one: that one, `label=value`."""
    lacks: str = ""
    """What it would have taken to say more, where the verdict is `insufficient`."""
    moved: str = ""
    """Where the verdict is `drift`, what of the distribution of a number moved: `location`, `spread`, `upper tail` or
    `lower tail`; of a category the value whose share moved most."""
    changed_at: int | None = None
    """Where the verdict is `drift`, when the change is estimated to have begun: where the strongest evidence begins."""
    from_prompts: float | None = None
    """Where the verdict of a signal of answers is `drift`, the part of the shift that goes with other prompts: 1 all, 0
    none; outside where prompts and answers pull apart. None where it is not known."""
    from_prompts_low: float | None = None
    from_prompts_high: float | None = None
    """Its 95 % interval."""
    effect_low: float | None = None
    """Lower end of a 95 % interval of `effect`, in its unit; None where there is no effect."""
    effect_high: float | None = None
    """Its upper end; None as well where nothing bounds it."""
    mostly: str = ""
    """Where the verdict is `drift`, the one part of the stream that explains at least half of the shift with less than
    half of the records: `tenant=acme`, or a user or session by the first digits of its hash (`user 3f2a91`)."""
    mostly_share: float | None = None
    """The part of the shift that is gone without its records."""
    mostly_records: float | None = None
    """Its part of the records."""
    trend: float | None = None
    """Change a day, in `trend_unit`, by a straight line through all that the evidence remembers; None of less than 24
    slices, of vectors and of volume. Of a category it is of the value that `moved`."""
    trend_low: float | None = None
    """Ends of its 95 % interval."""
    trend_high: float | None = None
    trend_unit: str = ""

    @property
    def scope(self) -> Scope:
        return Scope(self.stream, self.segment)

    @property
    def baseline(self) -> str:
        """The arm that this one is compared with, as a segment; '' of what is held against a reference."""
        return self.against if "=" in self.against else ""

    @property
    def value_then(self) -> float | None:
        """`value`; of a rate whose effect is that of the strongest stretch the rate of that, as `effect` says it."""
        of_stretch = self.kind == "rate" and self.effect_unit.endswith(STRETCH) and not self.baseline
        if not of_stretch or self.effect is None or self.reference_value is None:
            return self.value
        return self.reference_value + self.effect


class Level(msgspec.Struct, frozen=True):
    """What a level rule looks at: one value of one window with its 95 % bounds."""

    rule: str
    at: int
    window: int
    stream: str
    segment: str | None
    signal: str
    value: float | None
    low: float | None
    high: float | None
    records: int


class AlertKey(NamedTuple):
    """What makes two alerts the same alert."""

    rule: str
    stream: str
    segment: str | None

    @property
    def name(self) -> str:
        """RULE/STREAM or RULE/STREAM/LABEL=VALUE."""
        return "/".join(part for part in self if part is not None)


class Contribution(msgspec.Struct, frozen=True):
    """A series that made an alert fire or joined it."""

    signal: str
    window: int
    value: float | None
    p_value: float | None
    effect: float | None
    """The effect at which it said drift: its alert resolves below half of it."""
    summary: str
    """What it said then, for a person."""
    changed_at: int | None = None
    baseline: str = ""
    """As of its reading."""


class Alert(msgspec.Struct, frozen=True):
    """The state of one rule on one stream or segment, between two steps."""

    rule: str
    severity: str
    stream: str
    segment: str | None
    state: AlertState
    since: int
    """When this state began."""
    started_at: int
    """When the condition was first seen."""
    contributions: tuple[Contribution, ...]
    """First the one that began it, then in the order they joined."""
    quiet_since: int | None = None
    """Since when every contributing series has been calm; None while one is not."""
    lost_since: int | None = None
    """Since when, after it last stood, a contributing series had too little data to say."""

    @property
    def key(self) -> AlertKey:
        return AlertKey(self.rule, self.stream, self.segment)


class AlertChange(msgspec.Struct, frozen=True):
    """One row of alerts.jsonl: an alert changed its state, or signals joined it."""

    at: int
    rule: str
    state: AlertState
    reason: str
    severity: str
    stream: str
    segment: str | None
    signals: list[str]
    window: int | None
    value: float | None
    p_value: float | None
    started_at: int
    summary: str
    explanation: str | None = None
    changed_at: int | None = None
    """When the change of the first signal is estimated to have begun; None of levels and silence."""

    @property
    def key(self) -> AlertKey:
        return AlertKey(self.rule, self.stream, self.segment)


class Event(msgspec.Struct, frozen=True):
    """Something that the owner says has happened: a deployment, another prompt, a campaign."""

    at: int
    kind: str
    title: str
    by: str
    """Who said so: the name of a token, or `anybody` where none is asked for."""
    stream: str | None = None
    text: str | None = None


class Action(msgspec.Struct, frozen=True):
    """What somebody did to a running daemon, for the record."""

    at: int
    """By the clock, where an event's is in event time."""
    who: str
    what: str
    detail: str


class Blob(NamedTuple):
    """A packed piece of state under its own key; `data` None removes it."""

    table: str
    key: str
    data: bytes | None


Pieces = dict[tuple[str, str], Callable[[], bytes]]
"""(Table, key) of a piece of state that never changes -> what packs it."""


def piece_key(*parts: object) -> str:
    """The key of a piece that several things name."""
    return msgspec.json.encode(parts).decode()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that one commit writes, or nothing of it."""

    positions: Mapping[str, Position]
    blobs: Sequence[Blob]
    counts: Mapping[str, int]
    """Fate of a record -> records so far."""
    readings: Sequence[Reading]
    changes: Sequence[AlertChange]
    alerts: Sequence[Alert]
    """All alerts that are pending or firing now."""
    rejects: Sequence[Reject]
    notices: Sequence[str]
    """New sentences for the owner: what was ignored, or could not be judged."""
    meta: Mapping[str, str]
    """Small facts shown by `driftd status`: watermark, budget."""
    events: Sequence[Event] = ()
    actions: Sequence[Action] = ()
