from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import monitor.store
from monitor.model import Action, Alert, AlertChange, Blob, Checkpoint, Contribution, Event, Position, Reading, Reject
from monitor.store import (
    EVENTS,
    VERSION,
    Store,
    StoreError,
    StoreSettings,
    StoreUnwritableError,
    Wanted,
    read_only,
    restore,
)

ALERT = Alert("AnyDrift", "warning", "bot", None, "firing", 5, 4, (Contribution("cost", 60, 1.0, 0.1, 2.0, "up"),) * 2)
CHANGE = AlertChange(5, "AnyDrift", "firing", "drift", "warning", "bot", None, ["cost"], 60, 1.0, 1e-9, 4, "a sentence")
READING = Reading(
    at=5,
    window=60,
    window_start=0,
    stream="bot",
    segment="tenant=ä",
    signal="cost",
    kind="numeric",
    test="histogram_l2",
    value=0.1,
    reference_value=None,
    effect=2.0,
    effect_unit="ratio",
    p_value=5e-324,
    threshold=1e-9,
    verdict="drift",
    n=5,
    units=4,
    reference_n=100,
    reference_slices=72,
    detectable=None,
    distances={"psi": 0.1 + 0.2, "ks": None},
)
REJECT = Reject("no_ts", "a.jsonl", 7, 3, "00", 2, "$.ts: no time")


def checkpoint(**more: Any) -> Checkpoint:
    full: dict[str, Any] = {
        "positions": {"a.jsonl": Position(10, 2, "xxh3")},
        "blobs": [Blob("ring", "1", b"\0"), Blob("ring", "2", b"")],
        "counts": {"counted": 3, "held": 2},
        "readings": [READING],
        "changes": [CHANGE],
        "alerts": [ALERT],
        "rejects": [REJECT],
        "notices": ["look"],
        "meta": {"watermark": "now"},
        "events": [Event(5, "deployment", "v2", "ci", None, "all of it")],
        "actions": [Action(6, "ci", "event", "deployment: v2")],
    }
    return Checkpoint(**(full | more))


def contents(store: Store) -> Sequence[object]:
    rows = [store.positions(), store.blobs(), store.counts(), store.meta(), store.notices(), store.alerts()]
    happened = [store.page(EVENTS, Wanted(), 0, 99), store.actions()]
    return [*rows, *happened, list(store.rejects()), list(store.readings()), list(store.changes())]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driftd.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path)
    yield opened
    opened.close()


EXPECTED = [
    {"a.jsonl": Position(10, 2, "xxh3")},
    [("ring", "1", b"\0"), ("ring", "2", b"")],
    {"counted": 3, "held": 2},
    {"watermark": "now"},
    ["look"],
    [("AnyDrift", "firing", "warning", "bot", "", "1970-01-01T00:00:00.004Z", "cost")],
    [(1, Event(5, "deployment", "v2", "ci", None, "all of it"))],
    [Action(6, "ci", "event", "deployment: v2")],
    [REJECT],
    [READING],
    [CHANGE],
]


def test_what_was_committed_is_there_when_the_file_is_opened_again(store: Store, path: Path) -> None:
    store.commit(checkpoint())
    assert contents(store) == EXPECTED
    store.close()
    again = Store(path)
    assert contents(again) == EXPECTED
    again.close()


def test_a_later_commit_replaces_state_and_appends_events(store: Store) -> None:
    store.commit(checkpoint())
    later = msgspec.structs.replace(READING, at=6)
    store.commit(
        checkpoint(
            positions={"a.jsonl": Position(20, 4, "xxh3"), "b.jsonl": Position(1)},
            blobs=[Blob("ring", "1", None), Blob("ring", "3", b"3")],
            counts={"counted": 5},
            alerts=[],
            readings=[later],
        )
    )
    assert store.positions() == {"a.jsonl": Position(20, 4, "xxh3"), "b.jsonl": Position(1)}
    assert store.blobs() == [("ring", "2", b""), ("ring", "3", b"3")]
    assert store.counts() == {"counted": 5}  # nothing is held any more
    assert store.alerts() == []
    assert list(store.readings()) == [READING, later]
    assert list(store.changes()) == [CHANGE, CHANGE]


TABLES = ("position", "blob", "count", "meta", "reading", "change", "reject", "notice", "alert", "event", "audit")


def law_of_one_transaction(store: Store, table: str) -> None:
    """Whatever fails in a commit, nothing of it is kept."""
    store.commit(checkpoint())
    before = contents(store)
    for event in ("insert", "delete") if table in {"alert", "count"} else ("insert",):
        trigger = f"create temp trigger fail before {event} on {table} begin select raise(abort, 'no'); end"
        store._db.execute(trigger)
        with pytest.raises(sqlite3.IntegrityError):
            store.commit(checkpoint(counts={"counted": 9}, positions={"a.jsonl": Position(99)}))
        store._db.execute("drop trigger fail")
        assert contents(store) == before
    store.commit(checkpoint(counts={"counted": 9}))
    assert store.counts() == {"counted": 9}


@pytest.mark.parametrize("table", TABLES)
def test_a_commit_that_fails_leaves_nothing(store: Store, table: str) -> None:
    law_of_one_transaction(store, table)


def test_the_tables_of_these_tests_are_all_there_are(store: Store) -> None:
    found = store._db.execute("select name from sqlite_master where type = 'table'").fetchall()
    assert {name for (name,) in found} == set(TABLES)


class Autocommit:
    """A connection that hears of no transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def execute(self, sql: str, *given: Any) -> Any:
        return self.connection.execute("select 1" if sql in {"begin immediate", "commit", "rollback"} else sql, *given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


def test_the_law_of_one_transaction_notices_many(store: Store) -> None:
    store._db = Autocommit(store._db)  # type: ignore[assignment]
    with pytest.raises(AssertionError):
        law_of_one_transaction(store, "alert")


def test_a_commit_for_which_there_is_no_room_leaves_nothing_and_may_be_tried_again(store: Store) -> None:
    store.commit(checkpoint())
    (pages,) = store._db.execute("pragma page_count").fetchone()
    store._db.execute(f"pragma max_page_count = {pages}")
    before, large = contents(store), checkpoint(blobs=[Blob("ring", "3", bytes(100_000))], notices=["more"])
    for _ in range(2):
        with pytest.raises(StoreUnwritableError, match=r"driftd.db cannot be written: database or disk is full"):
            store.commit(large)
        assert contents(store) == before
    store._db.execute("pragma max_page_count = 1000000")
    store.commit(large)
    assert store.notices() == ["look", "more"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs to be allowed to mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_full_is_said_and_used_again_when_it_has_room(small_disk: Path) -> None:
    with closing(Store(small_disk / "driftd.db")) as store:
        store.commit(checkpoint())
        before, large = contents(store), checkpoint(blobs=[Blob("ring", "3", bytes(500_000))], notices=["more"])
        other = small_disk / "other"
        with other.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        for _ in range(2):
            with pytest.raises(StoreUnwritableError, match=r"driftd.db cannot be written"):
                store.commit(large)
            assert contents(store) == before
        other.unlink()
        store.commit(large)
    with closing(Store(small_disk / "driftd.db")) as store:
        assert store.notices() == ["look", "more"]


def test_an_interrupt_in_a_commit_leaves_nothing(store: Store) -> None:
    def interrupted() -> Iterator[tuple[str, int]]:
        yield "counted", 9
        raise KeyboardInterrupt

    class Counts(dict[str, int]):
        def items(self) -> Any:
            return interrupted()

    store.commit(checkpoint())
    with pytest.raises(KeyboardInterrupt):
        store.commit(checkpoint(counts=Counts(), positions={}))
    assert contents(store) == EXPECTED


def test_one_small_fact_is_remembered(store: Store) -> None:
    store.remember("configuration", "{}")
    store.remember("configuration", "{1}")
    store.commit(checkpoint())
    assert store.meta() == {"configuration": "{1}", "watermark": "now"}


# ---- files that cannot be used --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_a_second_process_is_refused(path: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nfrom monitor.store import Store\nStore(Path(sys.argv[1]))"
    root = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code, path], cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert f"StoreError: {path} is in use by another driftd process" in found.stderr


def test_the_lock_goes_with_the_store(path: Path) -> None:
    for _ in range(2):
        store = Store(path)
        with pytest.raises(StoreError, match="in use by another driftd process"):
            Store(path)
        store.close()
        store.close()


def test_a_newer_schema_is_refused(path: Path) -> None:
    Store(path).close()
    other = sqlite3.connect(path)
    other.execute(f"pragma user_version = {VERSION + 1}")
    other.close()
    with pytest.raises(StoreError, match=rf"newer driftd \(schema {VERSION + 1}; this one knows {VERSION}\)"):
        Store(path)
    with pytest.raises(StoreError, match="newer driftd"):
        read_only(path)


def test_a_database_of_something_else_is_refused_and_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("create table cake (slices integer)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is a database of something else"):
        Store(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"my diary\n" * 500)
    for opened in (Store, read_only):
        with pytest.raises(StoreError, match="is not a driftd store, or is damaged: file is not a database"):
            opened(path)
    assert path.read_bytes() == b"my diary\n" * 500


def test_a_damaged_store_is_refused(path: Path) -> None:
    store = Store(path)
    store.commit(checkpoint())
    store.close()
    data = path.read_bytes()
    path.write_bytes(data[:40] + b"\xff" * 60 + data[100:])
    with pytest.raises(StoreError, match="damaged"):
        Store(path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises((StoreError, OSError), match="nowhere"):
        Store(tmp_path / "nowhere" / "driftd.db")


def test_reading_only_sees_what_was_committed_and_writes_nothing(store: Store, path: Path) -> None:
    store.commit(checkpoint())
    looking = read_only(path)
    assert contents(looking) == EXPECTED
    store.commit(checkpoint(counts={"counted": 4}))
    assert looking.counts() == {"counted": 4}
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        looking.remember("a", "b")
    looking.close()


def test_reading_only_wants_a_file(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store at"):
        read_only(path)
    assert not path.exists()


def test_a_store_that_nobody_wrote_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "driftd.db").touch()
    with pytest.raises(StoreError, match="is empty"):
        read_only(tmp_path / "driftd.db")


# ---- what is forgotten ----------------------------------------------------------------------------------------------


def readings_at(*times: int) -> list[Reading]:
    return [msgspec.structs.replace(READING, at=at) for at in times]


def changes_at(rule: str, *times: int) -> list[AlertChange]:
    return [msgspec.structs.replace(CHANGE, rule=rule, at=at) for at in times]


def settings(**given: Any) -> StoreSettings:
    return StoreSettings.model_validate(given)


def test_what_is_old_is_forgotten_but_for_alerts_that_are_live(store: Store) -> None:
    changes = [*changes_at("AnyDrift", 1, 9), *changes_at("Other", 1, 9)]
    store.commit(checkpoint(readings=readings_at(1, 5, 9), changes=changes))
    store.prune(5, settings())
    assert [reading.at for reading in store.readings()] == [5, 9]
    assert [(change.rule, change.at) for change in store.changes()] == [("AnyDrift", 1), ("AnyDrift", 9), ("Other", 9)]


def test_the_newest_refused_messages_are_kept(store: Store) -> None:
    rejects = [msgspec.structs.replace(REJECT, position=number) for number in range(10)]
    store.commit(checkpoint(rejects=rejects))
    store.prune(0, settings(rejects=3))
    assert [reject.position for reject in store.rejects()] == [7, 8, 9]
    store.prune(0, settings(rejects=0))
    assert not list(store.rejects())


def test_a_file_that_is_too_large_forgets_its_oldest(store: Store) -> None:
    large = [msgspec.structs.replace(READING, at=number, moved="x" * 4_000) for number in range(8_000)]
    store.commit(checkpoint(readings=large))
    (pages,) = store._db.execute("pragma page_count").fetchone()
    assert store.megabytes > 16
    for _ in range(3):
        store.prune(0, settings(megabytes=16))
    left = [reading.at for reading in store.readings()]
    assert left == list(range(8_000 - len(left), 8_000))
    assert 0 < store.megabytes <= 16
    store.commit(checkpoint(readings=large[:2_000]))
    assert store._db.execute("pragma page_count").fetchone() == (pages,), "the room is used again"


# ---- versions -------------------------------------------------------------------------------------------------------


def test_an_older_file_is_brought_up_to_date_and_read_only_after_that(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(checkpoint())
    before = contents(store)
    store.close()
    monkeypatch.setattr(monitor.store, "_MIGRATIONS", (*monitor.store._MIGRATIONS, "create table more (x integer);"))
    monkeypatch.setattr(monitor.store, "VERSION", VERSION + 1)
    with pytest.raises(StoreError, match="was written by an older driftd"):
        read_only(path)
    with closing(Store(path)) as newer:
        assert contents(newer) == before
        assert newer._db.execute("pragma user_version").fetchone() == (VERSION + 1,)
    with closing(read_only(path)) as looked_at:
        assert contents(looked_at) == before


def test_a_change_of_the_schema_that_fails_leaves_the_file_as_it_was(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(checkpoint())
    store.close()
    with monkeypatch.context() as patch:
        broken = "create table more (x integer); create table meta (x integer);"
        patch.setattr(monitor.store, "_MIGRATIONS", (*monitor.store._MIGRATIONS, broken))
        patch.setattr(monitor.store, "VERSION", VERSION + 1)
        with pytest.raises(StoreError, match=f"cannot be brought to schema {VERSION + 1}: .* it is as it was"):
            Store(path)
    with closing(Store(path)) as again:
        assert contents(again)[:3] == EXPECTED[:3]
        assert not again._db.execute("select 1 from sqlite_master where name = 'more'").fetchall()


# ---- copies ---------------------------------------------------------------------------------------------------------


def test_a_backup_of_a_store_in_use_is_restored_as_it_was(store: Store, path: Path, tmp_path: Path) -> None:
    store.commit(checkpoint())
    before, copy = contents(store), tmp_path / "copy.db"
    with closing(read_only(path)) as source:
        source.backup(copy)
    store.commit(checkpoint(notices=["after"]))
    with pytest.raises(StoreError, match="is in use by another driftd"):
        restore(copy, path, replace=True)
    store.close()
    with pytest.raises(StoreError, match="exists already; --replace"):
        restore(copy, path)
    restore(copy, path, replace=True)
    with closing(Store(path)) as again:
        assert contents(again) == before
    assert not list(tmp_path.glob("*.restored*"))


def test_the_log_of_writes_of_the_store_that_goes_is_not_read_into_the_one_that_comes(
    path: Path, tmp_path: Path
) -> None:
    with closing(Store(path)) as store:
        store.commit(checkpoint())
        store.backup(tmp_path / "copy.db")
    code = f"""
import os
from pathlib import Path
from monitor.store import Store
from tests.test_store import checkpoint
store = Store(Path({str(path)!r}))
store.commit(checkpoint(notices=["after"]))
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert path.with_name("driftd.db-wal").stat().st_size > 0
    restore(tmp_path / "copy.db", path, replace=True)
    with closing(Store(path)) as again:
        assert again.notices() == ["look"]


def test_a_backup_wants_a_new_file_that_can_be_written(store: Store, tmp_path: Path) -> None:
    store.commit(checkpoint())
    (tmp_path / "there").touch()
    with pytest.raises(StoreError, match="there exists already"):
        store.backup(tmp_path / "there")
    with pytest.raises(StoreError, match="cannot be written"):
        store.backup(tmp_path / "no" / "folder")


def test_a_damaged_backup_is_not_restored(store: Store, tmp_path: Path) -> None:
    store.commit(checkpoint(blobs=[Blob("ring", str(number), bytes(3_000)) for number in range(50)]))
    copy = tmp_path / "copy.db"
    store.backup(copy)
    content = bytearray(copy.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = b"\xff" * 4096
    copy.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        restore(copy, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
