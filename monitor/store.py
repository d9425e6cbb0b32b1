"""The one file that driftd remembers by: SQLite, one writer, one transaction a commit.

Positions, alerts, readings and rejects are real columns, for whoever opens the file with another tool; the state of
open slices, windows and references is packed. What a commit wrote is there after a crash, or nothing of it.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Generic, TypeVar

import msgspec
import pydantic

from monitor.model import Action, Alert, AlertChange, Blob, Checkpoint, Event, Position, Reading, Reject
from monitor.sampling import Redact
from monitor.settings import DAY, Duration, Settings, format_time

_FIRST = """
create table position (partition text primary key, offset integer not null, line integer not null,
  identity text not null);
create table blob (kind text not null, key text not null, data blob not null, primary key (kind, key)) without rowid;
create table count (name text primary key, records integer not null);
create table meta (name text primary key, value text not null);
create table notice (id integer primary key, text text not null);
create table reject (id integer primary key, reason text not null, source text not null, position integer not null,
  size integer not null, sha256 text not null, line integer, detail text not null, excerpt text);
create table reading (id integer primary key, at integer not null, stream text not null, segment text,
  signal text not null, window integer not null, verdict text not null, row blob not null);
create index reading_at on reading (at);
create table change (id integer primary key, at integer not null, rule text not null, stream text not null,
  segment text, state text not null, row blob not null);
create table alert (rule text not null, stream text not null, segment text not null, state text not null,
  severity text not null, started_at integer not null, signals text not null, primary key (rule, stream, segment));
"""

_EVENTS = """
create table event (id integer primary key, at integer not null, kind text not null, title text not null,
  by text not null, stream text, text text);
create table audit (id integer primary key, at integer not null, who text not null, what text not null,
  detail text not null);
"""

_MIGRATIONS = (_FIRST, _EVENTS)
"""The statements that bring a file from the version that is their place here to the next. None of them ever changes."""
VERSION = len(_MIGRATIONS)
"""Version of the schema."""
_REJECT = "reason, source, position, size, sha256, line, detail, excerpt"  # the fields of Reject, in its order

_FORGET_READINGS = "delete from reading where id in (select id from reading where at < ? order by id limit ?)"
_FORGET_CHANGES = """delete from change where id in (select id from change where at < ? and not exists
  (select 1 from alert where alert.rule = change.rule and alert.stream = change.stream
   and alert.segment = coalesce(change.segment, '')) order by id limit ?)"""
_AT_ONCE = 5_000
"""Rows that are forgotten at a time, so that nothing waits long."""
_NEVER = 1 << 62
_UNWRITABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}

T = TypeVar("T")


class StoreSettings(Settings):
    """Where the file is, and how much it remembers. What is judged by is never forgotten."""

    path: Path = Path("driftd.db")
    keep: Duration = 90 * DAY
    """How long readings and changes of alerts are kept, in event time; those of alerts that are live always are."""
    rejects: pydantic.NonNegativeInt = 10_000
    """How many refused messages are kept, the newest."""
    megabytes: Annotated[int, pydantic.Field(ge=16)] = 4096
    """How large the file may grow by readings and changes of alerts; the oldest go."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are wanted; None: all."""

    stream: str | None = None
    segment: str | None = None
    """`label=value`; '' for whole streams."""
    signal: str | None = None
    begin: int | None = None
    """Event time, inclusive; `end` is not."""
    end: int | None = None

    def terms(self) -> Iterator[tuple[str, str, object]]:
        """Column, operator and value of each condition."""
        if self.segment is not None:
            yield "segment", "is", self.segment or None
        for column, operator, value in (
            ("stream", "=", self.stream),
            ("signal", "=", self.signal),
            ("at", ">=", self.begin),
            ("at", "<", self.end),
        ):
            if value is not None:
                yield column, operator, value


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A table that can be asked for page by page."""

    table: str
    row: str
    columns: frozenset[str]
    """Those that can be asked by."""
    of: Callable[[Sequence[Any]], T]
    """The row's values as what they are."""


READINGS = Page(
    "reading",
    "row",
    frozenset({"at", "stream", "segment", "signal"}),
    lambda row: msgspec.msgpack.decode(row[0], type=Reading),
)
CHANGES = Page(
    "change",
    "row",
    frozenset({"at", "stream", "segment"}),
    lambda row: msgspec.msgpack.decode(row[0], type=AlertChange),
)
EVENTS = Page("event", "at, kind, title, by, stream, text", frozenset({"at", "stream"}), lambda row: Event(*row))


class StoreError(Exception):
    """The file cannot be used as it is; the message says why and what to do."""


class StoreUnwritableError(StoreError):
    """There is no room for a commit, or the disk fails: nothing of it was written, and the same may be tried again."""


class Store:
    """The open file. One process at a time may write: a second one is refused."""

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        self.path = path
        self._lock = _locked(path) if writable else None
        mode = "rwc" if writable else "ro"
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        try:
            self._check()
            if writable:
                self._prepare()
        except sqlite3.DatabaseError as error:
            self.close()
            raise StoreError(f"{path} is not a driftd store, or is damaged: {error}") from None
        except StoreError:
            self.close()
            raise

    def _check(self) -> None:
        """Refuse what another program, or a newer driftd, has made."""
        (self._version,) = self._db.execute("pragma user_version").fetchone()
        if self._version > VERSION:
            raise StoreError(
                f"{self.path} was written by a newer driftd (schema {self._version}; this one knows {VERSION})"
            )
        (tables,) = self._db.execute("select count(*) from sqlite_master").fetchone()
        if self._version == 0 and tables:
            raise StoreError(f"{self.path} is a database of something else")
        if self._lock is None and self._version < VERSION:
            raise StoreError(
                f"{self.path} was written by an older driftd; this one brings it up to date when it writes it"
            )

    def _prepare(self) -> None:
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.execute("pragma secure_delete = on")  # text of a slice that closed is gone, not only unreachable
        if self._version < VERSION:
            steps = " ".join(_MIGRATIONS[self._version :])
            try:
                self._db.executescript(f"begin immediate; {steps} pragma user_version = {VERSION}; commit")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                said = f"{self.path} cannot be brought to schema {VERSION}: {error}; it is as it was"
                raise StoreError(said) from None

    def commit(self, checkpoint: Checkpoint) -> None:
        """Write all of a checkpoint, or nothing. Raises StoreUnwritableError where the disk will not have it.

        1. Begin, taking the write lock. 2. Positions. 3. Packed state. 4. Counts and facts. 5. Readings, changes of
        alerts, rejects, notices, events and who did what, appended. 6. The alerts that are live now, replaced.
        7. Commit, synced to disk.
        """
        with self._transaction() as db:
            db.executemany(
                "insert or replace into position values (?, ?, ?, ?)",
                [(name, p.offset, p.line, p.identity) for name, p in checkpoint.positions.items()],
            )
            self._write_blobs(checkpoint.blobs)
            db.execute("delete from count")  # a fate that nobody meets any more is not listed
            db.executemany("insert into count values (?, ?)", checkpoint.counts.items())
            db.executemany("insert or replace into meta values (?, ?)", checkpoint.meta.items())
            self._append(checkpoint)
            db.execute("delete from alert")
            db.executemany(
                "insert into alert values (?, ?, ?, ?, ?, ?, ?)",
                [_alert_row(alert) for alert in checkpoint.alerts],
            )

    def _write_blobs(self, blobs: Sequence[Blob]) -> None:
        kept = [(b.table, b.key, b.data) for b in blobs if b.data is not None]
        self._db.executemany("delete from blob where kind = ? and key = ?", [b[:2] for b in blobs if b.data is None])
        self._db.executemany("insert or replace into blob values (?, ?, ?)", kept)

    def _append(self, checkpoint: Checkpoint) -> None:
        encode = msgspec.msgpack.encode
        self._db.executemany(
            "insert into reading (at, stream, segment, signal, window, verdict, row) values (?, ?, ?, ?, ?, ?, ?)",
            [(r.at, r.stream, r.segment, r.signal, r.window, r.verdict, encode(r)) for r in checkpoint.readings],
        )
        self._db.executemany(
            "insert into change (at, rule, stream, segment, state, row) values (?, ?, ?, ?, ?, ?)",
            [(c.at, c.rule, c.stream, c.segment, c.state, encode(c)) for c in checkpoint.changes],
        )
        self._db.executemany(
            f"insert into reject ({_REJECT}) values (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  fixed names
            [msgspec.structs.astuple(reject) for reject in checkpoint.rejects],
        )
        self._db.executemany("insert into notice (text) values (?)", [(text,) for text in checkpoint.notices])
        self._db.executemany(
            "insert into event (at, kind, title, by, stream, text) values (?, ?, ?, ?, ?, ?)",
            [msgspec.structs.astuple(event) for event in checkpoint.events],
        )
        self._db.executemany(
            "insert into audit (at, who, what, detail) values (?, ?, ?, ?)",
            [msgspec.structs.astuple(action) for action in checkpoint.actions],
        )

    def prune(self, before: int, settings: StoreSettings) -> None:
        """Forget what is too old or too much.

        Those are readings and changes of alerts from before a time, refused messages beyond their number, and of a file
        that is too large its oldest readings and changes: some of them now, the rest at the next call. Changes of
        alerts that are live stay. Raises StoreUnwritableError.
        """
        with self._transaction() as db:
            db.execute(_FORGET_READINGS, [before, _AT_ONCE])
            db.execute(_FORGET_CHANGES, [before, _AT_ONCE])
            db.execute("delete from reject where id <= (select max(id) from reject) - ?", [settings.rejects])
            if self.megabytes > settings.megabytes:
                db.execute(_FORGET_READINGS, [_NEVER, _AT_ONCE])
                db.execute(_FORGET_CHANGES, [_NEVER, _AT_ONCE // 10])

    def redact(self, redact: Redact, *, keeps_text: bool) -> None:
        """Keep less of what was said in what was told already: once more is as once. Raises StoreUnwritableError.

        Summaries, names of values, notices and what people said of events pass through `redact`, and so do excerpts of
        messages and explanations, or without `keeps_text` these go.
        """

        def said(text: str | None) -> str | None:
            return redact([text])[0] if text else text

        def quoted(text: str | None) -> str | None:
            return said(text) if keeps_text else None

        encode = msgspec.msgpack.encode
        with self._transaction() as db:
            rejects = db.execute("select id, excerpt from reject where excerpt is not null").fetchall()
            db.executemany("update reject set excerpt = ? where id = ?", [(quoted(text), id_) for id_, text in rejects])
            notices = db.execute("select id, text from notice").fetchall()
            db.executemany("update notice set text = ? where id = ?", [(said(text), id_) for id_, text in notices])
            events = db.execute("select id, title, text from event").fetchall()
            fresh = [(said(title), said(text), id_) for id_, title, text in events]
            db.executemany("update event set title = ?, text = ? where id = ?", fresh)
            actions = db.execute("select id, detail from audit").fetchall()
            db.executemany("update audit set detail = ? where id = ?", [(said(text), id_) for id_, text in actions])
            for id_, row in db.execute("select id, row from change").fetchall():
                change = msgspec.msgpack.decode(row, type=AlertChange)
                told = said(change.summary), quoted(change.explanation)
                change = msgspec.structs.replace(change, summary=told[0], explanation=told[1])
                db.execute("update change set row = ? where id = ?", [encode(change), id_])
            for id_, row in db.execute("select id, row from reading where verdict = 'drift'").fetchall():
                reading = msgspec.msgpack.decode(row, type=Reading)
                reading = msgspec.structs.replace(
                    reading, moved=said(reading.moved), trend_unit=said(reading.trend_unit)
                )
                db.execute("update reading set row = ? where id = ?", [encode(reading), id_])

    @property
    def megabytes(self) -> float:
        """What the file holds; the room that was given up in it is not counted."""
        (pages,), (free,), (size,) = (
            self._db.execute(f"pragma {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
        )
        return float((pages - free) * size / 2**20)

    def backup(self, to: Path) -> None:
        """Copy the whole of it to a new file, while another process may go on writing it.

        Raises StoreError where there is a file already, or it cannot be written.
        """
        if to.exists():
            raise StoreError(f"{to} exists already; give the name of a new file")
        part = to.with_name(to.name + ".part")
        try:
            part.unlink(missing_ok=True)
            with closing(sqlite3.connect(part)) as copy:
                self._db.backup(copy)
                copy.execute("pragma journal_mode = delete")  # one file, without others beside it
            part.replace(to)
        except (OSError, sqlite3.Error) as error:
            part.unlink(missing_ok=True)
            raise StoreError(f"{to} cannot be written: {error}") from None

    def check_whole(self) -> None:
        """Raises StoreError where a page of the file is damaged."""
        (found,) = self._db.execute("pragma integrity_check(1)").fetchone()
        if found != "ok":
            raise StoreError(f"{self.path} is damaged: {found}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing. Raises StoreUnwritableError where the disk will not have it."""
        db = self._db
        try:
            db.execute("begin immediate")
            yield db
            db.execute("commit")
        except BaseException as error:
            if db.in_transaction:  # SQLite itself takes some back
                db.execute("rollback")
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in _UNWRITABLE:
                raise StoreUnwritableError(f"{self.path} cannot be written: {error}") from error
            raise

    def positions(self) -> dict[str, Position]:
        rows = self._db.execute("select partition, offset, line, identity from position")
        return {name: Position(offset, line, identity) for name, offset, line, identity in rows}

    def set_position(self, partition: str, offset: int) -> None:
        """Go on elsewhere in a partition, whatever was there when it was read, and say so among the notices."""
        with self._transaction() as db:
            (before,) = db.execute("select offset from position where partition = ?", [partition]).fetchone()
            db.execute("update position set offset = ?, identity = '' where partition = ?", [offset, partition])
            said = f"{partition}: somebody set the position from {before} to {offset}"
            db.execute("insert into notice (text) values (?)", [said])

    def blobs(self, table: str | None = None) -> list[tuple[str, str, bytes]]:
        """All packed state, or that of one table, in order of the keys."""
        which, of = ("", ()) if table is None else ("where kind = ?", (table,))
        return self._db.execute(f"select kind, key, data from blob {which} order by kind, key", of).fetchall()  # noqa: S608

    def counts(self) -> dict[str, int]:
        return dict(self._db.execute("select name, records from count").fetchall())

    def meta(self) -> dict[str, str]:
        return dict(self._db.execute("select name, value from meta").fetchall())

    def remember(self, name: str, value: str) -> None:
        """Keep one small fact."""
        self._db.execute("insert or replace into meta values (?, ?)", (name, value))

    def notices(self) -> list[str]:
        return [text for (text,) in self._db.execute("select text from notice order by id")]

    def alerts(self) -> list[tuple[str, str, str, str, str, str, str]]:
        """Live alerts: rule, state, severity, stream, segment ('' for none), start, signals."""
        rows = self._db.execute(
            "select rule, state, severity, stream, segment, started_at, signals from alert order by started_at, rule"
        )
        return [(*row[:5], format_time(row[5]), row[6]) for row in rows]

    def rejects(self) -> Iterator[Reject]:
        rows = self._db.execute(f"select {_REJECT} from reject order by source, position, id")  # noqa: S608
        return (Reject(*row) for row in rows)

    def readings(self) -> Iterator[Reading]:
        return self._rows("select row from reading order by id", Reading)

    def readings_of(self, signal: str, since: int) -> Iterator[Reading]:
        """Those of one signal later than `since`."""
        return self._rows("select row from reading where at > ? and signal = ? order by id", Reading, since, signal)

    def changes(self) -> Iterator[AlertChange]:
        return self._rows("select row from change order by id", AlertChange)

    def page(self, what: Page[T], wanted: Wanted, after: int, limit: int) -> list[tuple[int, T]]:
        """Readings, changes of alerts or events that are wanted, in the order of their ids, each with its id.

        Parameters
        ----------
        after : ids up to it are left out
        limit : rows at most

        """
        terms, of = ["id > ?"], list[object]([after])
        for column, operator, value in wanted.terms():
            if column in what.columns:
                terms.append(f"{column} {operator} ?")
                of.append(value)
        query = f"select id, {what.row} from {what.table} where {' and '.join(terms)} order by id limit ?"  # noqa: S608  fixed names
        return [(row[0], what.of(row[1:])) for row in self._db.execute(query, [*of, limit])]

    def actions(self) -> list[Action]:
        """What was done to the daemon, in order."""
        return [Action(*row) for row in self._db.execute("select at, who, what, detail from audit order by id")]

    def _rows(self, query: str, kind: type[T], *of: object) -> Iterator[T]:
        decoder = msgspec.msgpack.Decoder(kind)
        return (decoder.decode(row) for (row,) in self._db.execute(query, of))

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._db.close()
        if self._lock is not None:
            self._lock.close()


def read_only(path: Path) -> Store:
    """A store to look at while another process may be writing it. Raises StoreError where there is none."""
    if not path.is_file():
        raise StoreError(f"there is no store at {path}")
    if not path.stat().st_size:
        raise StoreError(f"{path} is empty: no driftd has written it yet")
    return Store(path, writable=False)


def restore(backup: Path, path: Path, *, replace: bool = False) -> None:
    """Put a backup in the place of a store that no process has open.

    Raises StoreError where the backup is none or is damaged, where there is a store already, unless it is to be
    replaced, and where a process has it open.
    """
    with closing(read_only(backup)) as source:
        source.check_whole()
        with _locked(path):
            if path.exists() and not replace:
                raise StoreError(f"{path} exists already; --replace puts the backup in its place")
            fresh = path.with_name(path.name + ".restored")
            fresh.unlink(missing_ok=True)
            source.backup(fresh)
            for beside in ("-wal", "-shm"):  # they belong to the file that goes
                path.with_name(path.name + beside).unlink(missing_ok=True)
            fresh.replace(path)


def _locked(path: Path) -> IO[str]:
    """Hold a lock beside the file for as long as it is open."""
    lock = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StoreError(f"{path} is in use by another driftd process") from None
    return lock


def _alert_row(alert: Alert) -> tuple[str, str, str, str, str, int, str]:
    signals = ", ".join(dict.fromkeys(part.signal for part in alert.contributions))
    return alert.rule, alert.stream, alert.segment or "", alert.state, alert.severity, alert.started_at, signals
