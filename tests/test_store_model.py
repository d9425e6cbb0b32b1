"""A store against a model of it in memory, through random commits, crashes in the middle of one, and new openings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from monitor.model import Alert, Blob, Checkpoint, Contribution, Position
from monitor.store import Store, StoreSettings
from tests.mortal import Mortal
from tests.test_store import CHANGE, READING, REJECT

NAMES = st.sampled_from(["a", "b", "c"])
TIMES = st.integers(0, 20)


class DiedError(Exception):
    """What a crash in the middle of a commit is here."""


def die() -> None:
    raise DiedError


@dataclass
class Model:
    """What a store should hold."""

    positions: dict[str, int] = field(default_factory=dict)
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    readings: list[int] = field(default_factory=list)
    changes: list[tuple[str, int]] = field(default_factory=list)
    live: set[str] = field(default_factory=set)
    rejects: list[int] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def commit(self, made: Checkpoint) -> None:
        self.positions |= {name: position.offset for name, position in made.positions.items()}
        for blob in made.blobs:
            if blob.data is None:
                self.blobs.pop((blob.table, blob.key), None)
            else:
                self.blobs[blob.table, blob.key] = blob.data
        self.counts, self.meta = dict(made.counts), self.meta | dict(made.meta)
        self.readings += [reading.at for reading in made.readings]
        self.changes += [(change.rule, change.at) for change in made.changes]
        self.live = {alert.rule for alert in made.alerts}
        self.rejects += [reject.position for reject in made.rejects]
        self.notices += made.notices

    def prune(self, before: int, rejects: int) -> None:
        self.readings = [at for at in self.readings if at >= before]
        self.changes = [(name, at) for name, at in self.changes if at >= before or name in self.live]
        self.rejects = self.rejects[max(len(self.rejects) - rejects, 0) :]


def alert(name: str) -> Alert:
    return Alert(name, "warning", "bot", None, "firing", 5, 4, (Contribution("cost", 60, 1.0, 0.1, 2.0, "up"),))


BLOBS = st.builds(Blob, st.sampled_from(["ring", "engine"]), NAMES, st.none() | st.binary(max_size=9))
CHECKPOINTS = st.builds(
    Checkpoint,
    positions=st.dictionaries(NAMES, st.builds(Position, st.integers(0, 99))),
    blobs=st.lists(BLOBS, unique_by=lambda blob: (blob.table, blob.key)),
    counts=st.dictionaries(NAMES, st.integers(0, 99)),
    readings=st.lists(TIMES.map(lambda at: msgspec.structs.replace(READING, at=at)), max_size=3),
    changes=st.lists(
        st.builds(lambda rule, at: msgspec.structs.replace(CHANGE, rule=rule, at=at), NAMES, TIMES), max_size=3
    ),
    alerts=st.sets(NAMES).map(lambda names: [alert(name) for name in sorted(names)]),
    rejects=st.lists(st.integers(0, 99).map(lambda at: msgspec.structs.replace(REJECT, position=at)), max_size=3),
    notices=st.lists(NAMES, max_size=2),
    meta=st.dictionaries(NAMES, NAMES),
)


class Stores(RuleBasedStateMachine):
    """Commits, forgetting, crashes and openings."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "driftd.db"
        self.store, self.model = Store(self.path), Model()

    @rule(made=CHECKPOINTS)
    def commit(self, made: Checkpoint) -> None:
        self.store.commit(made)
        self.model.commit(made)

    @rule(made=CHECKPOINTS, steps=st.integers(0, 14))
    def die_in_a_commit(self, made: Checkpoint, steps: int) -> None:
        """As the process would: what was written before is there, and nothing of this."""
        real = self.store._db
        self.store._db = Mortal(real, steps, die)  # type: ignore[assignment]
        try:
            self.store.commit(made)
        except DiedError:
            pass
        else:
            self.model.commit(made)
        self.store._db = real
        self.store.close()
        self.store = Store(self.path)

    @rule(before=TIMES, rejects=st.integers(0, 5))
    def prune(self, before: int, rejects: int) -> None:
        self.store.prune(before, StoreSettings.model_validate({"rejects": rejects}))
        self.model.prune(before, rejects)

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = Store(self.path)

    @precondition(lambda self: not (self.path.parent / "copy.db").exists())
    @rule()
    def copy_and_use_the_copy(self) -> None:
        self.store.backup(self.path.with_name("copy.db"))
        self.store.close()
        self.path.unlink()
        self.path.with_name("copy.db").rename(self.path)
        self.store = Store(self.path)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        store, model = self.store, self.model
        assert {name: position.offset for name, position in store.positions().items()} == model.positions
        assert {(table, key): data for table, key, data in store.blobs()} == model.blobs
        assert (store.counts(), store.meta(), store.notices()) == (model.counts, model.meta, model.notices)
        assert [reading.at for reading in store.readings()] == model.readings
        assert [(change.rule, change.at) for change in store.changes()] == model.changes
        assert {row[0] for row in store.alerts()} == model.live
        assert sorted(reject.position for reject in store.rejects()) == sorted(model.rejects)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


SOME = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_a_store_holds_what_its_model_holds() -> None:
    run_state_machine_as_test(Stores, settings=SOME)


# ---- seen failing ---------------------------------------------------------------------------------------------------

FEW = settings(SOME, phases=[Phase.generate], report_multiple_bugs=False, derandomize=True)
COMMIT = Store.commit


def state_before_its_transaction(store: Store, made: Checkpoint) -> None:
    store._write_blobs(made.blobs)
    COMMIT(store, made)


def alerts_that_stay(store: Store, made: Checkpoint) -> None:
    COMMIT(store, replace(made, alerts=[*made.alerts, alert("z")]))


@pytest.mark.parametrize("fault", [state_before_its_transaction, alerts_that_stay])
def test_the_model_notices(fault: Callable[[Store, Checkpoint], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "commit", fault)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Stores, settings=FEW)
