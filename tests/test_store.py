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

from monitor.model import Alert, AlertChange, Blob, Checkpoint, Contribution, Position, Reading, Reject
from monitor.store import VERSION, Store, StoreError, StoreUnwritableError, read_only

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
    }
    return Checkpoint(**(full | more))


def contents(store: Store) -> Sequence[object]:
    rows = [store.positions(), store.blobs(), store.counts(), store.meta(), store.notices(), store.alerts()]
    return [*rows, list(store.rejects()), list(store.readings()), list(store.changes())]


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


TABLES = ("position", "blob", "count", "meta", "reading", "change", "reject", "notice", "alert")


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
