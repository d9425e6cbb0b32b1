"""A live source is followed: who is idle, what an outage is not, partitions that come and go, what is acknowledged."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from monitor import pipeline as loop
from monitor.app import make_engine, make_scorers
from monitor.decoding import Native
from monitor.idleness import Idleness
from monitor.model import Checkpoint, Position, Raw, Reading, Refused, Reject
from monitor.pipeline import Pipeline
from monitor.store import Store, StoreUnwritableError
from monitor.watermark import Admission
from tests.replay.logs import START, Few, config, lines, make_log, shuffled

SETTINGS = config("signals: {embedding: false, language: false}", lateness="5s")
SECOND, MINUTE = 1_000, 60_000
IDLE_AFTER = 60.0
_NUMBERS = itertools.count()

Action = Callable[["Feed"], None]


@dataclass
class Feed:
    """A live source in memory. Each poll takes a second and is one act of a script; when that is over it says stop."""

    script: Iterator[Action | None]
    messages: dict[str, list[bytes]] = field(default_factory=dict)
    at: dict[str, int] = field(default_factory=dict)
    name: str = "feed"
    trouble: str = ""
    no_place: bool = False
    """Whether what is refused cannot be set aside."""
    now: float = 0.0
    over: bool = False
    told: list[str] = field(default_factory=list)
    acknowledged: list[Mapping[str, Position]] = field(default_factory=list)
    aside: list[Refused] = field(default_factory=list)

    def add(self, name: str, *messages: bytes) -> None:
        self.messages.setdefault(name, []).extend(messages)

    def act(self) -> None:
        self.now += 1
        action = next(self.script, self)
        self.over = action is self
        if callable(action):
            action(self)

    def partitions(self) -> Mapping[str, bool]:
        return dict.fromkeys(self.messages, False)

    def resume(self, positions: Mapping[str, Position]) -> None:
        self.at = {name: position.offset for name, position in positions.items()}

    def peek(self, partition: str, limit: int) -> Raw:
        begin = 0 if self.trouble else self.at.get(partition, 0)
        found = [] if self.trouble else self.messages[partition][begin : begin + limit]
        return Raw(partition, found, list(range(begin, begin + len(found))), [], Position(begin + len(found)))

    def poll(self, wanted: Sequence[str], limit: int, *, wait: bool = True) -> list[Raw]:  # noqa: ARG002  it never does
        self.act()
        answers: list[Raw] = []
        for name in wanted:
            raw = self.peek(name, limit)
            if raw.payloads and limit:
                answers.append(raw)
                self.at[name] = raw.end.offset
                limit -= len(raw.payloads)
        return answers

    def close(self) -> None:
        pass

    def drained(self) -> set[str]:
        return set() if self.trouble else {n for n, found in self.messages.items() if self.at.get(n, 0) == len(found)}

    def lag(self) -> dict[str, int]:
        return {}

    def set_aside(self, refused: Sequence[Refused]) -> Sequence[Reject] | None:
        if self.no_place:
            self.act()
            return None
        self.aside += refused
        return [each.reject for each in refused if each.message.startswith(b"keep")]

    def committed(self, positions: Mapping[str, Position]) -> None:
        self.acknowledged.append(dict(positions))

    def notices(self) -> list[str]:
        told, self.told = self.told, []
        return told


def rows(begin: int, count: int, step: int = SECOND) -> list[bytes]:
    return [
        json.dumps({"id": f"r{next(_NUMBERS)}", "ts": START + begin + i * step, "model": "m"}).encode()
        for i in range(count)
    ]


def begin(**messages: Sequence[bytes]) -> Action:
    """Partitions that are there from the beginning, with their messages."""

    def act(feed: Feed) -> None:
        for name, found in messages.items():
            feed.add(name, *found)

    return act


def wait(seconds: int) -> list[None]:
    return [None] * seconds


def adding(name: str, *messages: bytes) -> Action:
    return lambda feed: feed.add(name, *messages)


def breaking(feed: Feed) -> None:
    feed.trouble = "no route to the broker"


def mending(feed: Feed) -> None:
    feed.trouble = ""


def follow(
    path: Path,
    script: Sequence[Action | None],
    feed: Feed | None = None,
    *,
    batch: int = 4096,
    idle_after: float = IDLE_AFTER,
    on_beat: Callable[[Pipeline], None] = lambda _: None,
) -> Pipeline:
    """A run over a live source from where the last one on the same store stopped, to the end of a script."""
    feed = feed or Feed(iter(()))
    feed.script, feed.over = iter(script), False
    with closing(Store(path)) as store:
        scorers = [Few(scorer) for scorer in make_scorers(SETTINGS)]
        engine = make_engine(SETTINGS, scorers)
        pipeline = Pipeline(
            feed, Native, scorers, engine, Admission(SETTINGS.times()), store, on_beat=on_beat, batch=batch
        )
        pipeline.resume()
        pipeline.follow(feed, Idleness(idle_after), lambda: feed.over, lambda: feed.now)
        return pipeline


def readings(path: Path) -> list[Reading]:
    with closing(Store(path)) as store:
        return list(store.readings())


def closed(pipeline: Pipeline) -> int:
    """Milliseconds behind the start up to which slices are closed."""
    return (pipeline.engine.slices.closed_upto or START) - START


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driftd.db"


# ---- same as a replay -----------------------------------------------------------------------------------------------


LOG = shuffled(make_log(3, 3_000), 1, 3_000)


def parted(seed: int) -> dict[str, list[bytes]]:
    """The log over three partitions, each in its order."""
    found: dict[str, list[bytes]] = {f"t-{number}": [] for number in range(3)}
    for number, message in enumerate(lines(LOG)):
        found[f"t-{hash((seed, number)) % 3}"].append(message)
    return found


def outcome(path: Path, upto: int) -> list[tuple[int, str, str]]:
    with closing(Store(path)) as store:
        found = [(r.at, "reading", repr(r)) for r in store.readings()]
        found += [(c.at, "change", repr(c)) for c in store.changes()]
    return [row for row in found if row[0] <= upto]


def whole(pipeline: Pipeline) -> bool:
    """Whether every record of the log counted, or waits for the exchange that it is about."""
    fates = pipeline.fates()
    return fates.keys() <= {"counted", "waiting"} and sum(fates.values()) == len(LOG)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the log in one partition that is there at once."""
    path = tmp_path_factory.mktemp("replayed") / "driftd.db"
    assert whole(follow(path, [adding("t-0", *lines(LOG)), None], idle_after=1e9))
    return path


def portions(feed: Feed, rng: np.random.Generator) -> list[Action | None]:
    """Acts that bring the log, a portion at a time, one partition far ahead of another now and then."""
    left, acts = parted(int(rng.integers(1_000))), list[Action | None]()
    for name in left:
        feed.add(name)
    while any(left.values()):
        name = f"t-{rng.integers(3)}"
        count = int(rng.choice([1, 20, 200]))
        acts.append(adding(name, *left[name][:count]))
        left[name] = left[name][count:]
    return acts


@pytest.mark.parametrize("seed", range(5))
def test_however_it_comes_and_however_often_it_is_restarted_the_readings_are_the_same(
    path: Path, replayed: Path, seed: int
) -> None:
    rng, feed = np.random.default_rng(seed), Feed(iter(()))
    acts = portions(feed, rng)
    batch = int(rng.choice([7, 100, 4096]))
    for part in np.array_split(np.arange(len(acts)), rng.integers(1, 5)):
        follow(path, [acts[number] for number in part.tolist()], feed, batch=batch, idle_after=1e9)
    pipeline = follow(path, wait(3 + len(LOG) // batch), feed, batch=batch, idle_after=1e9)
    assert whole(pipeline)
    upto = pipeline.engine.now or 0
    expected = outcome(replayed, upto)
    assert any(kind == "change" for _, kind, _ in expected)
    assert outcome(path, upto) == expected


# ---- idle partitions ------------------------------------------------------------------------------------------------


def test_a_partition_that_was_not_read_yet_holds_time_until_it_is_idle(path: Path) -> None:
    begun = begin(a=rows(0, 100), b=[])
    assert closed(follow(path, [begun, *wait(int(IDLE_AFTER) - 2)])) == 0
    path.unlink()
    assert closed(follow(path, [begun, *wait(int(IDLE_AFTER) + 3)])) >= 95_000


def test_an_idle_partition_lets_the_others_go_on_and_takes_part_again_when_something_comes(path: Path) -> None:
    feed = Feed(iter(()))
    script = [begin(a=rows(0, 60), b=rows(0, 60))]
    more = [adding("a", *rows(60_000 + i * SECOND, 1)) for i in range(300)]
    pipeline = follow(path, [*script, *more[:30]], feed)
    assert closed(pipeline) == 50_000, "b may still bring what is as old as its last"
    pipeline = follow(path, more[30:200], feed)
    assert closed(pipeline) > 200_000
    late = follow(path, [adding("b", *rows(100_000, 3)), *more[200:240]], feed)
    assert late.fates()["closed"] == 3
    assert late.admission.partitions["b"].newest == START + 102_000
    assert not late.admission.partitions["b"].idle
    assert closed(late) == closed(pipeline), "it holds time again"


def test_readings_that_the_clock_has_closed_say_so(path: Path) -> None:
    both = [begin(a=rows(0, 900), b=rows(0, 600))]
    follow(path, [*both, *wait(5)])
    before = readings(path)
    assert before
    assert not any(reading.forced for reading in before)
    path.unlink()
    follow(path, [*both, *wait(200)])
    after = readings(path)
    assert [reading.forced for reading in after] == [reading.at > START + 594_000 for reading in after]
    assert any(reading.forced for reading in after)


def test_when_all_are_silent_time_goes_on_by_the_clock(path: Path) -> None:
    feed = Feed(iter(()))
    script = [adding("a", *rows(0, 100)), *wait(int(IDLE_AFTER))]
    assert closed(follow(path, script, feed)) == 90_000
    assert closed(follow(path, wait(int(IDLE_AFTER) - 1), feed)) == 90_000, (
        "after a restart it is not known that nothing comes"
    )
    assert closed(follow(path, wait(int(IDLE_AFTER) + 101), feed)) == pytest.approx(190_000, abs=5_000)
    back = follow(path, [adding("a", *rows(150_000, 1), *rows(250_000, 200)), *wait(2)], feed)
    assert back.fates() == {"closed": 1, "counted": 300}


def test_what_was_held_is_decided_when_its_partition_is_idle(path: Path) -> None:
    leap = rows(3_600_000, 3)
    script = [adding("a", *rows(0, 30), *leap)]
    assert follow(path, [*script, *wait(10)]).fates() == {"counted": 30, "held": 3}
    path.unlink()
    assert follow(path, [*script, *wait(int(IDLE_AFTER) + 2)]).fates() == {"counted": 33}


def test_an_outage_is_not_idleness(path: Path) -> None:
    both = [begin(a=rows(0, 60), b=rows(0, 60))]
    outage = [breaking, *wait(5 * int(IDLE_AFTER)), mending]
    backlog = [adding("a", *rows(60_000, 500)), *wait(3), adding("b", *rows(60_000, 500)), *wait(3)]
    pipeline = follow(path, [*both, *wait(3), *outage, *backlog])
    assert pipeline.fates() == {"counted": 1_120}, "nothing was closed before its records came"
    assert not any(reading.forced for reading in readings(path))


def test_back_pressure_is_not_idleness(path: Path) -> None:
    """One far ahead is not read; that nothing comes of it says nothing."""
    both = begin(ahead=[*rows(0, 30), *rows(299_000, 30), *rows(590_000, 30)], behind=rows(0, 30))
    slow = [action for i in range(30) for action in [adding("behind", *rows(30_000 + i * SECOND, 1)), *wait(5)]]
    pipeline = follow(path, [both, *slow], batch=30)
    assert not pipeline.admission.partitions["ahead"].idle
    assert closed(pipeline) <= 60_000


# ---- partitions that come and go ------------------------------------------------------------------------------------


def test_new_partitions_are_placed_and_hold_time(path: Path) -> None:
    script = [adding("a", *rows(0, 60)), *wait(3), adding("b", *rows(30_000, 25)), adding("a", *rows(60_000, 60))]
    pipeline = follow(path, [*script, *wait(3)])
    assert pipeline.fates()["counted"] == 145 - pipeline.fates().get("closed", 0)
    assert closed(pipeline) == 50_000, "what is older than time had come to is closed, and no newer time is"


def test_partitions_that_are_gone_leave_time_and_hold_it_when_they_are_back(path: Path) -> None:
    feed = Feed(iter(()))
    follow(path, [begin(a=rows(0, 60), b=rows(0, 60)), *wait(2)], feed)
    gone = feed.messages.pop("b")
    assert closed(follow(path, [adding("a", *rows(60_000, 60)), *wait(3)], feed)) == 110_000
    feed.messages["b"] = gone
    back = follow(path, [adding("a", *rows(120_000, 60)), *wait(3)], feed)
    assert (back.admission.partitions["b"].ended, closed(back)) == (False, 110_000)


def test_partitions_that_cannot_be_asked_for_are_not_gone(path: Path) -> None:
    follow(path, [begin(a=rows(0, 60)), *wait(2)])
    unreachable = Feed(iter(()), trouble="no route to the broker")
    assert closed(follow(path, wait(300), unreachable)) == 50_000


# ---- what is committed and acknowledged -----------------------------------------------------------------------------


def test_positions_are_acknowledged_after_they_are_stored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "COMMIT_SECONDS", 0.0)
    seen: list[tuple[int, int]] = []

    class Asking(Feed):
        def committed(self, positions: Mapping[str, Position]) -> None:
            with closing(Store(path, writable=False)) as store:
                stored = store.positions()["a"].offset if store.positions() else 0
            seen.append((positions["a"].offset if positions else 0, stored))

    follow(path, [adding("a", *rows(i * 10_000, 10)) for i in range(5)], Asking(iter(())))
    assert seen[-1] == (50, 50)
    assert all(told <= stored for told, stored in seen)


def test_what_the_source_tells_is_kept(path: Path) -> None:
    feed = Feed(iter(()), told=["t-0 was made anew"])
    assert follow(path, wait(1), feed).notices == ["t-0 was made anew"]
    with closing(Store(path)) as store:
        assert store.notices() == ["t-0 was made anew"]


def test_refused_messages_are_set_aside_whole_before_the_commit_behind_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "COMMIT_SECONDS", 0.0)
    stored: list[tuple[int, int]] = []

    class Asking(Feed):
        def set_aside(self, refused: Sequence[Refused]) -> Sequence[Reject] | None:
            with closing(Store(path, writable=False)) as store:
                known = store.positions().get("a", Position(0)).offset
            stored.extend((known, each.reject.position) for each in refused)
            return super().set_aside(refused)

    feed = Asking(iter(()))
    script = [adding("a", *rows(i * 10_000, 10), b"lost %d" % i, b"keep 4111 1111 1111 1111") for i in range(4)]
    pipeline = follow(path, [*script, None], feed)
    assert [each.message for each in feed.aside][::2] == [b"lost 0", b"lost 1", b"lost 2", b"lost 3"]
    assert pipeline.fates() == {"counted": 40, "unparseable": 8}
    assert stored
    assert all(position >= known for known, position in stored)
    with closing(Store(path)) as store:
        assert [reject.excerpt for reject in store.rejects()] == ["keep [card]"] * 4


def test_it_waits_until_refused_messages_are_set_aside_and_commits_nothing_behind_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "RETRY_SECONDS", 0.0)

    def unreachable(feed: Feed) -> None:
        feed.no_place = True

    feed = Feed(iter(()))
    follow(path, [adding("a", *rows(0, 30), b"junk", *rows(30_000, 10)), unreachable, *wait(5)], feed)
    with closing(Store(path)) as store:
        assert store.positions() == {}, "it was stopped while it waited"
    assert feed.aside == []
    feed.no_place = False
    assert follow(path, wait(3), feed).fates() == {"counted": 40, "unparseable": 1}
    assert [each.message for each in feed.aside] == [b"junk"]


def test_large_refused_messages_make_a_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "COMMIT_SECONDS", 1e9)
    monkeypatch.setattr(loop, "COMMIT_REFUSED_BYTES", 100)
    feed = Feed(iter(()))
    follow(path, [adding("a", b"x" * 60) for _ in range(5)], feed)
    assert len(feed.acknowledged) == 3


# ---- a disk that is full --------------------------------------------------------------------------------------------


def test_a_full_disk_is_waited_for_and_nothing_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to a run with room; and nothing is read while there is none."""
    monkeypatch.setattr(loop, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "RETRY_SECONDS", 0.0)
    script = [adding("a", *lines(LOG[:500])), adding("a", *lines(LOG[500:1500])), adding("a", *lines(LOG[1500:])), None]
    follow(path.with_name("other.db"), script, idle_after=1e9)
    troubles: list[str] = []
    commit, tries = Store.commit, itertools.count()

    def full_for_a_while(store: Store, checkpoint: Checkpoint) -> None:
        number = next(tries)
        store._db.execute(f"pragma max_page_count = {1 if 2 <= number <= 6 else 1_000_000}")
        commit(store, checkpoint)

    def look(pipeline: Pipeline) -> None:
        troubles.append(pipeline.trouble)

    monkeypatch.setattr(Store, "commit", full_for_a_while)
    pipeline = follow(path, script, idle_after=1e9, on_beat=look)
    assert pipeline.trouble == ""
    assert sum("database or disk is full" in trouble for trouble in troubles) == 5
    assert outcome(path, START + 10**9) == outcome(path.with_name("other.db"), START + 10**9)


def test_stopped_before_a_full_disk_had_room_it_says_so_and_goes_on_next_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "RETRY_SECONDS", 0.0)
    feed, commit = Feed(iter(())), Store.commit

    def full(store: Store, checkpoint: Checkpoint) -> None:
        feed.act()
        store._db.execute("pragma max_page_count = 1")
        commit(store, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", full)
        with pytest.raises(StoreUnwritableError, match=r"disk is full"):
            follow(path, [adding("a", *rows(0, 30)), *wait(5)], feed)
    feed.at = {}
    assert follow(path, wait(2), feed).fates() == {"counted": 30}
