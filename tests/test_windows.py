"""Slices and windows against a slow, obvious way of computing them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.model import Categories, Scope, Scored, Signal
from monitor.slices import OpenSlices, StreamSettings, name_hash
from monitor.summaries import Category, Numeric, Rate
from monitor.windows import SLICES, Contents, Rings, Slice, add_contents, check_sizes, further

SIGNALS = {
    "chars": Signal("chars", "numeric"),
    "error": Signal("error", "rate"),
    "reason": Signal("reason", "category"),
}
SIZE = 1_000
ANY_ORDER = st.randoms(use_true_random=False)


class Record(NamedTuple):
    ts: int
    id: int
    stream: str = "bot"
    tenant: str | None = None
    chars: float = 1.0
    error: float = 0.0
    reason: str | None = None
    session: int = 0
    user: int = 0
    said: int = 0
    feedback: bool = False


def scored(records: Sequence[Record]) -> Scored:
    return Scored(
        ts=np.array([r.ts for r in records], np.int64),
        id_hash=np.array([r.id for r in records], np.uint64),
        content_hash=np.array([r.said for r in records], np.uint64),
        session_hash=np.array([r.session for r in records], np.uint64),
        user_hash=np.array([r.user for r in records], np.uint64),
        of_hash=np.zeros(len(records), np.uint64),
        feedback_event=np.array([r.feedback for r in records], bool),
        stream=categories([r.stream for r in records]),
        segments={"tenant": categories([r.tenant for r in records])},
        values={
            "chars": np.array([r.chars for r in records], np.float64),
            "error": np.array([r.error for r in records], np.float64),
            "reason": categories([r.reason for r in records]),
        },
    )


def categories(values: Sequence[str | None]) -> Categories:
    names = sorted({value for value in values if value is not None})
    return Categories(names, np.array([names.index(v) if v is not None else -1 for v in values], np.int32))


def opened(at_most: int = 50) -> OpenSlices:
    return OpenSlices(SIZE, SIGNALS, StreamSettings(segments=("tenant",), at_most=at_most), 8, list)


def told(contents: Contents) -> dict[str, object]:
    """What a slice holds of one scope, in words of the obvious implementation."""
    found: dict[str, object] = {"records": contents.records}
    for name, summary in contents.summaries.items():
        sessions = set(summary.cells.sessions().tolist())
        if isinstance(summary, Numeric):
            found[name] = (summary.n, summary.sum, summary.low, summary.high, sessions)
        elif isinstance(summary, Rate):
            found[name] = (summary.n, summary.successes, sessions)
        elif isinstance(summary, Category):
            found[name] = (Counter(summary.counts()), sessions)
    return found


def obvious(records: Sequence[Record], size: int = SIZE) -> dict[int, dict[Scope, dict[str, object]]]:
    """Slice start -> scope -> what it holds, record by record; of one id the first counts."""
    seen: set[int] = set()
    held: dict[int, dict[Scope, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        if r.id in seen:
            continue
        seen.add(r.id)
        held[r.ts // size * size][Scope(r.stream)].append(r)
        if r.tenant is not None:
            held[r.ts // size * size][Scope(r.stream, f"tenant={r.tenant}")].append(r)
    return {start: {scope: obvious_contents(rs) for scope, rs in scopes.items()} for start, scopes in held.items()}


def obvious_contents(records: Sequence[Record]) -> dict[str, object]:
    found: dict[str, object] = {"records": sum(not r.feedback for r in records)}
    chars = [r.chars for r in records if not np.isnan(r.chars)]
    if chars:
        found["chars"] = (
            len(chars),
            sum(chars),
            min(chars),
            max(chars),
            {r.session for r in records if r.session and not np.isnan(r.chars)},
        )
    errors = [r for r in records if not np.isnan(r.error)]
    if errors:
        found["error"] = (len(errors), sum(r.error for r in errors), {r.session for r in errors if r.session})
    reasons = [r for r in records if r.reason is not None]
    if reasons:
        found["reason"] = (Counter(str(r.reason) for r in reasons), {r.session for r in reasons if r.session})
    return found


def all_told(slices: Sequence[Slice]) -> dict[int, dict[Scope, dict[str, object]]]:
    return {found.start: {scope: told(contents) for scope, contents in found.scopes.items()} for found in slices}


@st.composite
def logs(draw: st.DrawFn, streams: int = 3, tenants: int = 4) -> list[Record]:
    """Up to 120 records over up to 40 slices with gaps, copies, conflicts and missing values."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.sampled_from([1, 2, 30, 120]))
    span = draw(st.sampled_from([1, 3, 40])) * SIZE
    return [
        Record(
            ts=1_000_000 + int(rng.integers(span)),
            id=int(rng.integers(1, 10 * count)),
            stream=f"bot {rng.integers(streams)}",
            tenant=None if rng.random() < 0.2 else f"t{rng.integers(tenants)}",
            chars=np.nan if rng.random() < 0.1 else float(rng.integers(0, 4000)) / 4,
            error=np.nan if rng.random() < 0.1 else float(rng.random() < 0.3),
            reason=None if rng.random() < 0.1 else f"r{rng.integers(4)}",
            session=int(rng.integers(0, 6)),
            said=int(rng.integers(0, 2)),
            feedback=bool(rng.random() < 0.1),
        )
        for _ in range(count)
    ]


def batches(records: Sequence[Record], sizes: Sequence[int]) -> list[list[Record]]:
    found, at = [], 0
    for size in [*sizes, len(records)]:
        found.append(list(records[at : at + size]))
        at += size
    return [batch for batch in found if batch]


@settings(max_examples=40, deadline=None)
@given(log=logs(), sizes=st.lists(st.integers(1, 20), max_size=10))
def test_slices_are_those_of_the_obvious_way(log: list[Record], sizes: list[int]) -> None:
    slices, fates = opened(), Counter[str]()
    for batch in batches(log, sizes):
        fates.update(slices.add(scored(batch)))
    found = list(slices.close(max(r.ts for r in log) + SIZE))
    assert all_told(found) == obvious(log)
    assert [s.start for s in found] == sorted(s.start for s in found)
    assert all(s.end - s.start == SIZE and not s.start % SIZE for s in found)
    first: dict[int, Record] = {}
    expected = Counter[str]()
    for r in log:
        known = first.setdefault(r.id, r)
        expected["counted" if known is r else "duplicate" if known.said == r.said else "conflicting"] += 1
    assert +fates == expected


@settings(max_examples=40, deadline=None)
@given(log=logs(streams=9, tenants=9), order=ANY_ORDER, sizes=st.lists(st.integers(1, 20), max_size=10))
def test_caps_and_other_do_not_know_who_came_first(log: list[Record], order: st.DataObject, sizes: list[int]) -> None:
    log = [r._replace(id=i, ts=1_000_000 + r.ts % SIZE) for i, r in enumerate(log)]
    shuffled = list(log)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = opened(at_most=2), opened(at_most=2)
    one.add(scored(log))
    for batch in batches(shuffled, sizes):
        other.add(scored(batch))
    assert all_told(list(one.close(2_000_000))) == all_told(list(other.close(2_000_000)))


def test_caps_do_not_know_how_many_slices_were_open() -> None:
    """Records of the later slice come before or after the earlier one has closed."""
    early, late = sorted(["a", "b"], key=name_hash, reverse=True)
    first = [Record(0, 1, stream=early)]
    second = [Record(SIZE, 2, stream=early), Record(SIZE, 3, stream=late)]
    one, other = opened(at_most=1), opened(at_most=1)
    one.add(scored([*second, *first]))
    found = list(one.close(2 * SIZE))
    other.add(scored(first))
    again = list(other.close(SIZE))
    other.add(scored(second))
    again += other.close(2 * SIZE)
    assert all_told(found) == all_told(again)


def test_the_names_of_least_hash_are_kept_and_the_rest_is_other() -> None:
    names = [f"bot {i}" for i in range(9)]
    kept = sorted(names, key=name_hash)[:2]
    records = [Record(1_000_000, 10 * i + j, stream=name) for i, name in enumerate(names) for j in range(i + 1)]
    slices = opened(at_most=2)
    slices.add(scored(records))
    found = next(slices.close(2_000_000))
    counts = {scope.stream: contents.records for scope, contents in found.scopes.items()}
    assert counts == {name: names.index(name) + 1 for name in kept} | {
        "other": sum(i + 1 for i, name in enumerate(names) if name not in kept)
    }
    slices.add(scored([Record(2_000_000, 1, stream=names[0]), Record(2_000_001, 2, stream="new"), *records[:0]]))
    later = next(slices.close(3_000_000))
    assert {scope.stream for scope in later.scopes} <= {*kept, "other"}


def test_a_name_may_be_other_itself() -> None:
    slices = opened(at_most=1)
    slices.add(scored([Record(0, 1, stream="other"), Record(0, 2, stream="bot"), Record(0, 3, tenant="other")]))
    found = next(slices.close(SIZE))
    assert {scope: contents.records for scope, contents in found.scopes.items()} == {
        Scope("bot"): 2,
        Scope("bot", "tenant=other"): 1,
        Scope("other"): 1,
    }


def test_segments_move_with_their_stream() -> None:
    """A stream that has to give way takes the records of its tenants along."""
    names = sorted(["a", "b"], key=name_hash)
    slices = opened(at_most=1)
    slices.add(scored([Record(0, 1, stream=names[1], tenant="x")]))
    slices.add(scored([Record(0, 2, stream=names[0], tenant="x")]))
    found = next(slices.close(SIZE))
    assert {scope: contents.records for scope, contents in found.scopes.items()} == {
        Scope(names[0]): 1,
        Scope(names[0], "tenant=x"): 1,
        Scope("other"): 1,
        Scope("other", "tenant=x"): 1,
    }


def test_closed_slices_take_nothing_more_and_are_counted() -> None:
    slices = opened()
    assert slices.add(scored([Record(500, 1), Record(1_500, 2)]))["counted"] == 2
    assert [found.start for found in slices.close(1_999)] == [0]
    fates = slices.add(scored([Record(999, 3), Record(1_000, 4), Record(1_400, 2), Record(1_400, 2, said=7)]))
    assert fates == {"counted": 1, "duplicate": 1, "conflicting": 1, "closed": 1}
    assert list(slices.close(1_999)) == []
    assert [found.scopes[Scope("bot")].records for found in slices.close(2_000)] == [2]
    assert slices.closed_upto == 2_000
    assert (slices.oldest_end, slices.newest) == (None, None)


def test_an_id_is_forgotten_with_its_slice() -> None:
    slices = opened()
    slices.add(scored([Record(500, 1)]))
    list(slices.close(1_000))
    assert slices.add(scored([Record(1_500, 1)]))["counted"] == 1


@settings(max_examples=25, deadline=None)
@given(log=logs(streams=5), sizes=st.lists(st.integers(1, 20), max_size=6), cut=st.integers(0, 6))
def test_restored_anywhere_goes_on_as_if_nothing_had_happened(log: list[Record], sizes: list[int], cut: int) -> None:
    log = sorted(log)
    one, other = opened(at_most=3), opened(at_most=3)
    parts, seen, again = batches(log, sizes), [], []
    for i, batch in enumerate(parts):
        if i == cut:
            fresh = opened(at_most=3)
            fresh.restore(other.dump())
            assert fresh.dump() == other.dump()
            other = fresh
        assert one.add(scored(batch)) == other.add(scored(batch))
        upto = batch[0].ts
        seen += [found.dump() for found in one.close(upto)]
        again += [found.dump() for found in other.close(upto)]
    end = log[-1].ts + SIZE
    assert seen + [s.dump() for s in one.close(end)] == again + [s.dump() for s in other.close(end)]


def test_a_slice_comes_back_as_it_was_packed() -> None:
    slices = opened()
    slices.add(scored([Record(0, 1, tenant="x", reason="stop", session=4), Record(1, 2, stream="b", error=1.0)]))
    found = next(slices.close(SIZE))
    loaded = Slice.load(found.dump())
    assert loaded.dump() == found.dump()
    assert (loaded.start, loaded.end, all_told([loaded])) == (0, SIZE, all_told([found]))


# ---- rings ----------------------------------------------------------------------------------------------------------

SIZES = [12 * SIZE, 36 * SIZE, 144 * SIZE]


def run_rings(log: Sequence[Record], restart: int | None = None) -> dict[tuple[int, int], list[tuple[int, Slice]]]:
    """(Now, size) -> window, at every step."""
    slices, rings = opened(), Rings(SIZES, further(SIZES))
    slices.add(scored(log))
    end = max(r.ts for r in log) // SIZE * SIZE + SIZE
    closed = {found.end: found for found in slices.close(end)}
    windows = {}
    for number, now in enumerate(range(min(closed), end + 1, SIZE)):
        if number == restart:
            fresh = Rings(SIZES, further(SIZES))
            for size, found in rings.held():
                fresh.restore(size, Slice.load(found.dump()))
            rings = fresh
        if now in closed:
            rings.push(closed[now])
        for size, found_slice in rings.step(now):
            window = rings.window(size, now)
            windows[now, size] = window
            last = [s for place, s in window if place == SLICES - 1]
            assert last == ([] if found_slice is None else [found_slice])
    return windows


@settings(max_examples=25, deadline=None)
@given(log=logs(streams=2, tenants=2), stretch=st.sampled_from([1, 3, 20]), restart=st.none() | st.integers(0, 400))
def test_windows_of_all_sizes_are_those_of_the_obvious_way(
    log: list[Record], stretch: int, restart: int | None
) -> None:
    log = [r._replace(id=i, ts=1_000_000 + (r.ts - 1_000_000) * stretch) for i, r in enumerate(log)]
    windows = run_rings(log, restart)
    sizes = [*SIZES, further(SIZES)]
    assert {size for _, size in windows} == {
        size for size in sizes if any(now % (size // 12) == 0 for now, _ in windows)
    }
    for (now, size), window in windows.items():
        length = size // SLICES
        assert now % length == 0
        held = length if size == further(SIZES) else size
        expected = obvious([r for r in log if now - held <= r.ts < now], length)
        assert all_told([s for _, s in window]) == expected
        assert [place for place, _ in window] == [(s.start - (now - size)) // length for _, s in window]


def test_a_long_gap_empties_the_rings() -> None:
    rings = Rings(SIZES)
    rings.push(Slice(0, SIZE, {Scope("bot"): Contents(1)}))
    assert rings.step(SIZE)
    now = SIZE
    while not rings.empty:
        now += SIZE
        rings.step(now)
    # The coarsest window is looked at once more, empty, when its slice ends.
    assert now == SIZES[-1] + SIZES[-1] // SLICES


def test_contents_of_nothing_and_of_one_part() -> None:
    one = Contents(3, {})
    assert add_contents([one]) is one
    assert add_contents([Contents(), one]).records == 3


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ([7], "7ms does not divide into 12 slices"),
        ([1_000_001], "does not divide into 12 slices"),
        ([24_000, 12_000], "must grow and not repeat"),
        ([12_000, 12_000], "must grow and not repeat"),
        ([12_000, 36_000, 60_000], "1m is not a whole multiple of the next shorter one, 36s"),
    ],
)
def test_sizes_that_do_not_nest_are_refused(sizes: list[int], problem: str) -> None:
    assert any(problem in found for found in check_sizes(sizes))
    assert check_sizes([12_000, 36_000]) == []


def test_category_names_survive_a_window() -> None:
    log = [Record(i * SIZE, i, reason=f"r{i % 3}") for i in range(12)]
    window = run_rings(log)[12 * SIZE, 12 * SIZE]
    whole = add_contents([s.scopes[Scope("bot")] for _, s in window])
    reason = whole.summaries["reason"]
    assert isinstance(reason, Category)
    assert reason.counts() == {"r0": 4, "r1": 4, "r2": 4}
