"""The laws of every row of SUMMARIES, and for each law a wrong summary that it must catch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from monitor.model import Categories, Column, Flags, Floats, Hashes, Ints, Kind, Signal, Vectors
from monitor.summaries import SUMMARIES, AnySummary, Category, Counts, Numeric, Rate, Vector, counts, merged, summarise
from monitor.summaries.category import CATEGORIES, OTHER_KEY, category_key
from monitor.summaries.counts import STEP, distinct
from monitor.summaries.numeric import GRID_CELLS, grid_keys, grid_values
from monitor.summaries.vector import BANDWIDTHS, FREQUENCIES, embed, frequencies, projection

CAP = 5
"""Sessions kept, in these tests: few, so that the cap is passed."""


@pytest.fixture(autouse=True)
def _few_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "SESSIONS", CAP)


@dataclass(frozen=True)
class Shards:
    """Records of one signal, cut into parts of any size, none included."""

    signal: Signal
    values: Column
    session: Hashes
    cuts: tuple[int, ...]
    slices: Ints | None = None
    """Samples and vectors, ascending: the slice of each record; cuts lie between slices."""
    weight: Floats | None = None
    """What a record of each slice stands for."""
    order: Hashes | None = None

    def all(self) -> AnySummary:
        return self._of(np.arange(len(self.session)))

    def each(self) -> list[AnySummary]:
        bounds = [0, *self.cuts, len(self.session)]
        return [self._of(np.arange(a, b)) for a, b in pairwise(bounds)]

    def _of(self, rows: np.ndarray[Any, Any]) -> AnySummary:
        if self.slices is None:
            return self.grouped(rows, np.zeros(len(rows), np.int64), 1)[0]
        names, groups = np.unique(self.slices[rows], return_inverse=True)
        weight = None if self.weight is None else self.weight[names]
        return merged([SUMMARIES[self.signal.kind].empty(self.signal), *self.grouped(rows, groups, len(names), weight)])

    def grouped(
        self, rows: np.ndarray[Any, Any], groups: Ints, number: int, weight: Floats | None = None
    ) -> list[AnySummary]:
        values = self.values.take(rows) if isinstance(self.values, Categories) else self.values[rows]
        order = None if self.order is None else self.order[rows]
        return summarise(self.signal, values, groups, number, self.session[rows], weight, order)

    @property
    def seen(self) -> Flags:
        """Which records have a value."""
        if isinstance(self.values, Categories):
            return self.values.codes >= 0
        if self.values.ndim == 2:
            return np.asarray((np.abs(self.values) < 1e6).all(axis=1), np.bool_)
        return ~np.isnan(self.values)


Merge = Callable[[list[AnySummary]], AnySummary]
Law = Callable[[Shards, Merge], None]


def content(summary: AnySummary) -> tuple[Any, ...]:
    """All that a summary holds, in a form that can be compared."""
    arrays = tuple(array.tolist() for array in cell_arrays(summary.cells))
    if isinstance(summary, Vector):
        sums = (summary.sums, summary.features, summary.moments, summary.order, summary.sizes, summary.rows)
        return (summary.fingerprint, summary.size, summary.alike, *(array.tolist() for array in sums), *arrays)
    if isinstance(summary, Numeric):
        return (summary.scale, summary.whole, summary.fraction, summary.low, summary.high, *arrays)
    return (sorted(summary.names.items()) if isinstance(summary, Category) else (), *arrays)


def cell_arrays(cells: Counts) -> list[np.ndarray[Any, Any]]:
    return [
        cells.keys,
        cells.counts,
        cells.inside_keys,
        cells.inside_counts,
        cells.session,
        cells.session_keys,
        cells.session_counts,
        cells.weighted,
        np.array([cells.squares], np.object_),
    ]


def nothing_changes_nothing(shards: Shards, merge: Merge) -> None:
    empty: AnySummary = SUMMARIES[shards.signal.kind].empty(shards.signal)
    whole = shards.all()
    assert content(merge([empty, whole])) == content(whole)
    assert content(merge([whole, empty])) == content(whole)
    assert content(merge([empty, empty])) == content(empty)


def merged_is_direct(shards: Shards, merge: Merge) -> None:
    same = content(merge(shards.each())) == content(shards.all())
    assert same  # not what differs: to show that of large arrays takes long


def pairs_in_any_order(shards: Shards, merge: Merge) -> None:
    parts = shards.each()
    left, right = parts[0], parts[-1]
    for part in parts[1:]:
        left = merge([left, part])
    for part in reversed(parts[:-1]):
        right = merge([part, right])
    assert content(left) == content(right) == content(merge(parts[::-1]))


def leaves_arguments_alone(shards: Shards, merge: Merge) -> None:
    parts = shards.each()
    before = [content(part) for part in parts]
    merge(parts)
    same = [content(part) for part in parts] == before
    assert same


def comes_back_the_same(shards: Shards, merge: Merge) -> None:
    parts = shards.each()
    loaded = [type(part).load(part.dump()) for part in parts]
    assert [content(part) for part in loaded] == [content(part) for part in parts]
    assert merge(loaded).dump() == merge(parts).dump()


def loses_no_record(shards: Shards, merge: Merge) -> None:
    found = merge(shards.each())
    seen = shards.seen
    assert found.n == int(seen.sum())
    assert int(found.cells.inside_counts.sum()) == int((shards.session[seen] != 0).sum())
    inside = np.unique(shards.session[seen & (shards.session != 0)])
    assert found.cells.sessions().tolist() == inside[:CAP].tolist()


def grouped_is_one_by_one(shards: Shards, merge: Merge) -> None:
    """One pass over all groups is as one pass a group."""
    bounds = [0, *shards.cuts, len(shards.session)]
    groups, number = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds)), len(bounds) - 1
    if shards.slices is not None:
        groups, number = shards.slices, int(shards.slices.max(initial=-1)) + 1
    order = np.argsort(groups * 7 % 5, kind="stable")
    weight = None if shards.weight is None else shards.weight[:number]
    together = shards.grouped(order, groups[order], number, weight)
    alone = [
        shards.grouped(rows, np.zeros(len(rows), np.int64), 1, None if weight is None else weight[[g]])[0]
        for g in range(number)
        for rows in [np.flatnonzero(groups == g)]
    ]
    assert [content(merge([part])) for part in together] == [content(part) for part in alone]


def stands_for_its_slices(shards: Shards, merge: Merge) -> None:
    """Every record counts for what it stands for, and as much as its session lets it."""
    cells = merge(shards.each()).cells
    if shards.slices is None:
        assert (cells.population, len(cells.weighted), cells.squares) == (cells.n, 0, 0)
        return
    whole, squares = Fraction(0), Fraction(0)
    for number in np.unique(shards.slices):
        mine = shards.seen & (shards.slices == number)
        steps = Fraction(1 if shards.weight is None else round(shards.weight[number] * STEP) / STEP)
        sizes = np.unique(shards.session[mine & (shards.session != 0)], return_counts=True)[1]
        whole += steps * int(mine.sum())
        squares += steps**2 * (int((sizes**2).sum()) + int((mine & (shards.session == 0)).sum()))
    assert cells.population == float(whole)
    assert abs(cells.squares - squares * STEP) <= len(np.unique(shards.slices))
    if whole:
        assert cells.effective == pytest.approx(float(whole**2 / squares), rel=1e-4)
        assert 0 < cells.effective <= cells.n * (1 + 1e-4)
        assert cells.mass.sum() == pytest.approx(cells.n)


LAWS: list[Law] = [
    nothing_changes_nothing,
    merged_is_direct,
    pairs_in_any_order,
    leaves_arguments_alone,
    comes_back_the_same,
    loses_no_record,
    grouped_is_one_by_one,
    stands_for_its_slices,
]
VECTOR = Signal("x", "vector", fingerprint="model@1", size=3)
SIGNALS = [
    Signal("x", "numeric"),
    Signal("x", "numeric", "unit"),
    Signal("x", "rate"),
    Signal("x", "category"),
    VECTOR,
    Signal("x", "numeric", sample=True),
    Signal("x", "rate", sample=True),
    Signal("x", "category", sample=True),
    replace(VECTOR, sample=True),
]


def named(codes: list[int | None], many: int = 90) -> Categories:
    names = [f"name {i}" for i in range(many)]
    return Categories(names, np.array([-1 if code is None else code for code in codes], np.int32))


@st.composite
def shards_of(draw: st.DrawFn, signal: Signal) -> Shards:
    """Up to 300 records, some without a value, some in few or in many sessions, cut anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([0, 1, 2, 3, 20, 300]))
    missing = rng.random(n) < draw(st.sampled_from([0.0, 0.2]))
    if signal.kind == "vector":
        vectors = rng.normal(size=(n, signal.size)).astype(np.float32) / np.float32(2)
        vectors[missing, 0] = draw(st.sampled_from([np.nan, np.inf, -1e7]))
        values: Column = vectors
    elif signal.kind == "category":
        codes = rng.integers(0, draw(st.sampled_from([1, 3, 90])), n)
        values = named([None if gone else int(code) for code, gone in zip(codes, missing, strict=True)])
    else:
        x = (rng.random(n) < 0.3).astype(float) if signal.kind == "rate" else rng.lognormal(0, 9, n)
        x = np.minimum(x, 1) if signal.scale == "unit" else np.where(rng.random(n) < 0.1, -x, x)
        values = np.where(missing, np.nan, x)
    names = rng.integers(1, 2**63, draw(st.sampled_from([1, 4, 40]))).astype(np.uint64) * np.uint64(2)
    share = draw(st.sampled_from([0.0, 0.5, 1.0]))
    session = np.where(rng.random(n) < share, rng.choice(names, n), 0).astype(np.uint64)
    cuts = tuple(sorted(draw(st.lists(st.integers(0, n), min_size=1, max_size=6))))
    if signal.kind != "vector" and not signal.sample:
        return Shards(signal, values, session, cuts)
    slices = np.sort(rng.integers(0, draw(st.sampled_from([1, 4, 9])), n))
    cuts = tuple(int(slices.searchsorted(slices[cut])) if cut < n else n for cut in cuts)
    weight = rng.uniform(1, draw(st.sampled_from([2, 1e4])), 9) if signal.sample else None
    within = np.arange(n) - slices.searchsorted(slices)
    order = (within if draw(st.booleans()) else rng.permutation(n)).astype(np.uint64) * np.uint64(2**50 + 1)
    return Shards(signal, values, session, cuts, slices, weight, order)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("signal", SIGNALS, ids=lambda s: f"{s.kind}-{s.scale}{'-sample' if s.sample else ''}")
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_summary_keeps_every_law(law: Law, signal: Signal, data: st.DataObject) -> None:
    law(data.draw(shards_of(signal)), merged)


def test_every_row_of_the_table_has_its_laws() -> None:
    assert {signal.kind for signal in SIGNALS} == set(SUMMARIES)


# ---- for every law, one merge that breaks it ------------------------------------------------------------------------


def many_categories() -> Shards:
    """90 names: the first 45 twice in the second half, so that who is frequent depends on where one looks."""
    codes = [*range(90), *range(45), *range(45)]
    return Shards(Signal("x", "category"), named(list(codes)), np.zeros(180, np.uint64), (90, 130))


def numbers_of_sessions() -> Shards:
    rng = np.random.default_rng(3)
    session = np.repeat(rng.integers(1, 2**63, 20).astype(np.uint64), 3)
    return Shards(Signal("x", "numeric"), rng.lognormal(0, 2, 60), session, (20, 21, 21))


def vectors_of_sessions() -> Shards:
    """Three slices of 20 records in sessions of 3, sampled more and less thinly."""
    rng = np.random.default_rng(3)
    session = np.repeat(rng.integers(1, 2**63, 20).astype(np.uint64), 3)
    slices, order = np.repeat(np.arange(3), 20), rng.permutation(60).astype(np.uint64)
    values = rng.normal(size=(60, 3)).astype(np.float32)
    weight = np.array([1.0, 7.25, 3.5])
    return Shards(replace(VECTOR, sample=True), values, session, (20, 40), slices, weight, order)


def one_record_in_a_slice() -> Shards:
    values = np.eye(3, dtype=np.float32)
    order, slices = np.array([3, 1, 2], np.uint64), np.array([0, 0, 1])
    return Shards(VECTOR, values, np.zeros(3, np.uint64), (2,), slices, None, order)


def keeps_the_first_rows(parts: list[AnySummary]) -> AnySummary:
    found, first = merged(parts), parts[0]
    assert isinstance(found, Vector)
    assert isinstance(first, Vector)
    return dataclasses.replace(found, order=first.order, sizes=first.sizes, rows=first.rows)


def means_of_means(parts: list[AnySummary]) -> AnySummary:
    found = merged(parts)
    assert isinstance(found, Vector)
    features = [part.features // part.n for part in parts if isinstance(part, Vector) and part.n]
    return dataclasses.replace(found, features=np.sum(features, axis=0) * found.n // len(features))


def counts_each_for_one(parts: list[AnySummary]) -> AnySummary:
    found = merged(parts)
    assert isinstance(found, Vector)
    cells = dataclasses.replace(found.cells, weighted=found.cells.counts * STEP)
    return dataclasses.replace(found, cells=cells)


def takes_records_for_units(parts: list[AnySummary]) -> AnySummary:
    found = merged(parts)
    assert isinstance(found, Vector)
    cells = found.cells
    squares = int(cells.weighted.sum()) ** 2 // (cells.n * STEP)
    return dataclasses.replace(found, cells=dataclasses.replace(cells, squares=squares))


def adds_features_in_place(parts: list[AnySummary]) -> AnySummary:
    assert isinstance(parts[0], Vector)
    parts[0].features[:] += 1
    return merged(parts)


def forgets_features_that_were_packed(parts: list[AnySummary]) -> AnySummary:
    assert isinstance(parts[0], Vector)
    return merged(parts) if parts[0].features.flags.writeable else SUMMARIES["vector"].empty(VECTOR)


def keeps_the_most_frequent(parts: list[AnySummary]) -> AnySummary:
    names: dict[int, str] = {}
    for part in parts:
        assert isinstance(part, Category)
        names |= part.names
    cells = counts.merge_counts([part.cells for part in parts])
    order = np.argsort(-cells.counts, kind="stable")
    kept = np.sort(cells.keys[order][: CATEGORIES // 2])
    cells = cells.renamed(lambda keys: np.where(np.isin(keys, kept), keys, OTHER_KEY))
    return Category(cells, {key: names[key] for key in cells.keys.tolist() if key != OTHER_KEY})


def drops_single_records(parts: list[AnySummary]) -> AnySummary:
    return merged([part for part in parts if part.n > 1] or parts[:1])


def remembers_the_latest_low(parts: list[AnySummary]) -> AnySummary:
    found = merged(parts)
    assert isinstance(found, Numeric)
    assert isinstance(parts[-1], Numeric)
    return dataclasses.replace(found, low=parts[-1].low)


def adds_in_place(parts: list[AnySummary]) -> AnySummary:
    parts[0].cells.counts[:] += 1
    return merged(parts)


def forgets_what_was_packed(parts: list[AnySummary]) -> AnySummary:
    found = merged(parts)
    return found if parts[0].cells.counts.flags.writeable else SUMMARIES["numeric"].empty(Signal("x", "numeric"))


def keeps_all_sessions(parts: list[AnySummary]) -> AnySummary:
    found = merged(parts)
    session, rows, sizes = (
        np.concatenate([getattr(part.cells, name) for part in parts])
        for name in ("session", "session_keys", "session_counts")
    )
    assert isinstance(found, Numeric)
    return dataclasses.replace(
        found, cells=dataclasses.replace(found.cells, session=session, session_keys=rows, session_counts=sizes)
    )


def counts_twice(parts: list[AnySummary]) -> AnySummary:
    return merged([*parts, parts[-1]])


WRONG: list[tuple[Law, Merge, Callable[[], Shards]]] = [
    (nothing_changes_nothing, keeps_the_most_frequent, many_categories),
    (nothing_changes_nothing, remembers_the_latest_low, numbers_of_sessions),
    (merged_is_direct, keeps_the_most_frequent, many_categories),
    (merged_is_direct, drops_single_records, numbers_of_sessions),
    (pairs_in_any_order, keeps_the_most_frequent, many_categories),
    (pairs_in_any_order, remembers_the_latest_low, numbers_of_sessions),
    (leaves_arguments_alone, adds_in_place, numbers_of_sessions),
    (comes_back_the_same, forgets_what_was_packed, numbers_of_sessions),
    (loses_no_record, keeps_all_sessions, numbers_of_sessions),
    (loses_no_record, drops_single_records, numbers_of_sessions),
    (grouped_is_one_by_one, counts_twice, numbers_of_sessions),
    (nothing_changes_nothing, keeps_the_first_rows, vectors_of_sessions),
    (merged_is_direct, means_of_means, vectors_of_sessions),
    (merged_is_direct, counts_each_for_one, vectors_of_sessions),
    (pairs_in_any_order, keeps_the_first_rows, vectors_of_sessions),
    (pairs_in_any_order, means_of_means, vectors_of_sessions),
    (leaves_arguments_alone, adds_features_in_place, vectors_of_sessions),
    (comes_back_the_same, forgets_features_that_were_packed, vectors_of_sessions),
    (loses_no_record, drops_single_records, one_record_in_a_slice),
    (grouped_is_one_by_one, counts_twice, vectors_of_sessions),
    (stands_for_its_slices, counts_each_for_one, vectors_of_sessions),
    (stands_for_its_slices, takes_records_for_units, vectors_of_sessions),
]


@pytest.mark.parametrize(("law", "wrong", "shards"), WRONG, ids=lambda part: getattr(part, "__name__", ""))
def test_every_law_catches_a_wrong_merge(law: Law, wrong: Merge, shards: Callable[[], Shards]) -> None:
    law(shards(), merged)
    with pytest.raises(AssertionError):
        law(shards(), wrong)


# ---- what only some kinds promise -----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), low=st.sampled_from([-1e6, 0.0]), high=st.sampled_from([1e-3, 1.0, 1e9]))
def test_sums_are_those_of_fractions_whatever_the_order(seed: int, low: float, high: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(low, high, 200)
    signal, none = Signal("x", "numeric"), np.zeros(200, np.uint64)
    direct = summarise(signal, values, np.zeros(200, np.int64), 1, none)[0]
    shuffled = summarise(signal, rng.permutation(values), np.arange(200) % 7, 7, none)
    assert content(merged(shuffled))[1:3] == content(direct)[1:3]
    exact = float(sum(map(Fraction, values.tolist()), Fraction(0)))
    assert isinstance(direct, Numeric)
    assert direct.sum == pytest.approx(exact, rel=1e-12, abs=200 * 2.0**-31)


def test_ten_tenths_are_one_in_any_order() -> None:
    signal, none = Signal("x", "numeric"), np.zeros(3, np.uint64)
    values: list[Floats] = [np.array([1e9, 0.1, 0.2]), np.array([0.2, 0.1, 1e9])]
    sums = [summarise(signal, value, np.zeros(3, np.int64), 1, none)[0] for value in values]
    assert content(sums[0]) == content(sums[1])


def test_another_scale_is_refused() -> None:
    one, other = (SUMMARIES["numeric"].empty(signal) for signal in SIGNALS[:2])
    with pytest.raises(ValueError, match="different scales"):
        merged([one, other])


@pytest.mark.parametrize("kind", SUMMARIES)
@pytest.mark.parametrize("data", [b"", b"\xc1", b"{}", b"\x93\xa3new\x01\x90"], ids=["none", "damaged", "map", "kind"])
def test_what_is_no_summary_is_refused(kind: Kind, data: bytes) -> None:
    with pytest.raises(ValueError, match=f"{kind} summary"):
        SUMMARIES[kind].load(data)


def test_columns_that_do_not_agree_are_refused() -> None:
    arrays = Counts(np.array([1, 2]), np.array([3, 4])).arrays()
    with pytest.raises(ValueError, match="different lengths"):
        Counts.of_arrays([*arrays[:1], arrays[1][:8], *arrays[2:]])


def test_of_categories_those_of_least_hash_are_kept() -> None:
    names = [f"name {i}" for i in range(90)]
    found = many_categories().all()
    assert isinstance(found, Category)
    kept = sorted(names, key=category_key)[:CATEGORIES]
    assert set(found.counts()) == {*kept, "other"}
    assert found.counts()["other"] == sum(1 + 2 * (int(name.split()[1]) < 45) for name in set(names) - set(kept))
    assert sorted(found.counts().values(), reverse=True) == list(found.counts().values())


def test_a_category_named_other_is_the_bucket() -> None:
    found = summarise(SIGNALS[3], Categories(["a", "other"], np.array([0, 1, 1], np.int32)), *_one_group(3))[0]
    assert isinstance(found, Category)
    assert found.counts() == {"other": 2, "a": 1}


def _one_group(n: int) -> tuple[np.ndarray[Any, np.dtype[np.int64]], int, Hashes]:
    return np.zeros(n, np.int64), 1, np.zeros(n, np.uint64)


def test_sessions_beyond_the_cap_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "SESSIONS", 400)
    session = np.random.default_rng(0).integers(1, 2**64, 10_000, dtype=np.uint64)
    found = summarise(SIGNALS[2], np.zeros(10_000), np.zeros(10_000, np.int64), 1, session)[0]
    assert len(found.cells.sessions()) == 400
    assert found.cells.units() == pytest.approx(10_000, rel=4 / np.sqrt(400))
    assert found.cells.units() != 400
    assert distinct(np.sort(session)[:399]) == 399


def test_projected_shares_are_means_over_units() -> None:
    """Two sessions of 4 and 1 records and two loose ones: four units of one vote each."""
    values = np.array([1.0, 1, 1, 0, 1, 0, 0])
    session = np.array([5, 5, 5, 5, 9, 0, 0], np.uint64)
    found = summarise(SIGNALS[2], values, np.zeros(7, np.int64), 1, session)[0]
    share, units, seen = found.cells.project(lambda keys: keys, 2)
    assert (units, seen, found.n, found.cells.loose, found.cells.units()) == (4, 4, 7, 2, 4)
    np.testing.assert_allclose(share, [(0.25 + 0 + 1 + 1) / 4, (0.75 + 1 + 0 + 0) / 4])


def test_the_grids_are_as_fine_as_stated() -> None:
    x = np.geomspace(1e-8, 1e11, 100_001)
    assert np.abs(grid_values("log")[grid_keys(x, "log")] / x - 1).max() <= 0.01 + 1e-9
    assert grid_keys(np.array([-3.0, 0, 1e-300, 1e300]), "log").tolist() == [0, 0, 0, GRID_CELLS["log"] - 1]
    unit = np.linspace(0, 1, 10_001)
    assert np.abs(grid_values("unit")[grid_keys(unit, "unit")] - unit).max() <= 0.0005 + 1e-12
    assert grid_keys(np.array([-1.0, 2.0]), "unit").tolist() == [0, 1000]


def test_quantiles_and_means() -> None:
    x = np.random.default_rng(1).lognormal(3, 1, 5000)
    found = summarise(SIGNALS[0], x, *_one_group(5000))[0]
    assert isinstance(found, Numeric)
    assert found.mean == pytest.approx(x.mean(), rel=1e-9)
    assert (found.low, found.high) == (x.min(), x.max())
    for q in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert found.quantile(q) == pytest.approx(np.quantile(x, q, method="inverted_cdf"), rel=0.011)
    assert Numeric.empty(SIGNALS[0]).quantile(0.5) is None
    assert Numeric.empty(SIGNALS[0]).mean is None
    assert Rate.empty(SIGNALS[2]).mean is None


# ---- samples --------------------------------------------------------------------------------------------------------


def test_slices_weigh_by_what_they_hold_however_thinly_they_were_sampled() -> None:
    """A slice of 1,000 records at 0.2 and one of 10 at 0.8, both known by five."""
    values = np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.8, 0.8, 0.8, 0.8, 0.8])
    groups, none = np.repeat([0, 1], 5), np.zeros(10, np.uint64)
    found = merged(summarise(replace(SIGNALS[1], sample=True), values, groups, 2, none, np.array([200.0, 2.0])))
    assert isinstance(found, Numeric)
    assert found.mean == pytest.approx((1000 * 0.2 + 10 * 0.8) / 1010, abs=1e-6)
    assert (found.quantile(0.5), found.quantile(0.995), found.quantile(1.0)) == (0.2, 0.8, 0.8)
    share, units, seen = found.cells.project(lambda keys: (keys > 500).astype(np.int64), 2)
    np.testing.assert_allclose(share, [1000 / 1010, 10 / 1010])
    assert (found.n, found.cells.units(), units) == (10, 10, 1010)
    assert seen == pytest.approx(1010**2 / (5 * 200**2 + 5 * 2**2))


def test_a_session_of_a_sample_counts_as_far_as_its_records_could_agree() -> None:
    session = np.array([7, 7, 7, 7, 7, 7, 7, 7, 0, 0], np.uint64)
    found = summarise(SIGNALS[2], np.ones(10), *_one_group(10)[:2], session, np.array([3.0]))[0]
    assert (found.n, found.cells.units(), found.cells.population) == (10, 3, 30)
    assert found.cells.effective == pytest.approx(100 / (64 + 1 + 1))


def test_a_sample_and_all_records_are_not_added() -> None:
    whole = summarise(SIGNALS[2], np.ones(2), *_one_group(2))[0]
    sample = summarise(SIGNALS[2], np.ones(2), *_one_group(2), np.ones(1))[0]
    with pytest.raises(ValueError, match="a sample to counts of all records"):
        merged([whole, sample])
    with pytest.raises(ValueError, match="more than nothing"):
        summarise(SIGNALS[2], np.ones(2), *_one_group(2), np.zeros(1))
    arrays = sample.cells.arrays()
    with pytest.raises(ValueError, match="different lengths"):
        Counts.of_arrays([*arrays[:-2], arrays[-2] * 2, arrays[-1]])


# ---- vectors --------------------------------------------------------------------------------------------------------


def unit_vectors(n: int, size: int, seed: int = 0) -> Vectors:
    found = np.random.default_rng(seed).normal(size=(n, size)) + 0.3
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def vector(values: Vectors, weight: float | None = None, session: Hashes | None = None) -> Vector:
    n, size = values.shape
    order, none = np.arange(n, dtype=np.uint64), np.zeros(n, np.uint64)
    weights = None if weight is None else np.array([weight])
    signal = replace(VECTOR, size=size)
    found = summarise(signal, values, np.zeros(n, np.int64), 1, none if session is None else session, weights, order)[0]
    assert isinstance(found, Vector)
    return found


@pytest.mark.parametrize("size", [2, 3, 24, 25, 384])
def test_vector_means_and_moments_are_those_of_the_records(size: int) -> None:
    x = unit_vectors(300, size)
    found = vector(x, 12.5)
    np.testing.assert_allclose(found.centroid, x.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.embedding, embed(x).mean(axis=0), atol=1e-6)
    at = x.astype(np.float64) @ projection(size)
    np.testing.assert_allclose(found.projected[:, 0], at.mean(axis=0), atol=5e-5)
    np.testing.assert_allclose(found.projected[:, 1:], np.cov(at.T, ddof=0), atol=5e-5)
    assert found.projected.shape == (min(size, 24), min(size, 24) + 1)


@pytest.mark.parametrize("size", [2, 24, 384])
def test_features_stand_for_gaussian_kernels(size: int) -> None:
    x = unit_vectors(200, size)
    squared = ((x[:, None, :].astype(np.float64) - x) ** 2).sum(axis=2)
    kernel = np.mean([np.exp(-squared / (2 * width**2)) for width in BANDWIDTHS], axis=0)
    features = embed(x)
    np.testing.assert_allclose((features**2).sum(axis=1), 1, atol=1e-6)
    assert np.abs(features @ features.T - kernel).max() < 5 / np.sqrt(FREQUENCIES)
    assert np.sqrt(np.mean((features @ features.T - kernel) ** 2)) < 1 / np.sqrt(FREQUENCIES)


def test_features_do_not_depend_on_the_batch() -> None:
    x = unit_vectors(200, 384)
    assert embed(x).tobytes() == np.concatenate([embed(x[:1]), embed(x[1:70]), embed(x[70:])]).tobytes()


def test_frequencies_are_fixed() -> None:
    """Another draw would make features that cannot be held against those of a reference that is kept."""
    whole = np.rint(frequencies(384) * 2**8).astype(np.int64)
    assert whole.shape == (384, FREQUENCIES)
    assert [int(whole[0, 0]), int(whole[383, 255]), int(np.abs(whole).sum())] == [-48, 19, 18290320]


def test_units_kept_are_those_of_least_hash_whatever_was_merged() -> None:
    x, session = unit_vectors(60, 5), np.repeat(np.arange(20), 3).astype(np.uint64)
    found = vector(x, session=session)
    assert found.order.tolist() == [0, 1, 2, 3, 6, 9, 12, 15]  # the first session, 0, is none: three records
    assert found.sizes.tolist() == [1, 1, 1, 3, 3, 3, 3, 3]
    features = embed(x)
    expected = np.concatenate([features[:3], features[3:18].reshape(5, 3, -1).mean(axis=1)])
    np.testing.assert_allclose(found.units, expected, atol=0.5 / 127 / 16 + 1e-6)
    parts = [vector(x[:30], session=session[:30]), vector(x[30:], session=session[30:])]
    later = dataclasses.replace(parts[1], order=parts[1].order + np.uint64(30))
    both = merged([later, parts[0]])
    assert isinstance(both, Vector)
    assert (both.order.tolist(), both.sizes.tolist()) == (found.order.tolist(), found.sizes.tolist())
    assert both.rows.tobytes() == found.rows.tobytes()


def test_records_of_a_session_agree_as_far_as_they_are_alike() -> None:
    x = unit_vectors(90, 5)
    assert vector(x).agreement == 1
    same = np.repeat(x[:30], 3, axis=0)
    session = np.repeat(np.arange(1, 31), 3).astype(np.uint64)
    assert vector(same, session=session).agreement == pytest.approx(1, abs=1e-5)
    of_sessions = embed(x).reshape(30, 3, -1).mean(axis=1)
    expected = float((of_sessions**2).sum(axis=1).mean())
    assert vector(x, 4.0, session).agreement == pytest.approx(expected, abs=1e-5)
    assert expected < 0.9


def test_vectors_of_two_models_are_not_added() -> None:
    one = vector(unit_vectors(5, 3))
    other = dataclasses.replace(one, fingerprint="model@2")
    with pytest.raises(ValueError, match=r"vectors of model@2 \(3 entries\) to vectors of model@1 \(3 entries\)"):
        merged([one, other])
    with pytest.raises(ValueError, match=r"model@1 \(4 entries\) to"):
        merged([one, vector(unit_vectors(5, 4))])
    with pytest.raises(ValueError, match="made slim"):
        merged([one, one.slim(2)])
    with pytest.raises(ValueError, match=r"x: vectors of 3 entries expected, found \(2,\)"):
        summarise(VECTOR, unit_vectors(5, 2), *_one_group(5), None, np.arange(5, dtype=np.uint64))
    with pytest.raises(ValueError, match="x: vectors are summarised with the hashes"):
        summarise(VECTOR, unit_vectors(5, 3), *_one_group(5))


def test_a_vector_summary_that_was_cut_is_refused() -> None:
    kind, version, payload = msgspec.msgpack.decode(vector(unit_vectors(20, 3)).dump())
    payload[4][1] = payload[4][1][:-8]
    with pytest.raises(ValueError, match="different lengths"):
        Vector.load(msgspec.msgpack.encode((kind, version, payload)))


def test_slim_vectors_keep_what_tells_how_slices_differ() -> None:
    session = np.repeat(np.arange(100), 3).astype(np.uint64)
    found = vector(unit_vectors(300, 384), 3.0, session)
    slim = Vector.load(found.slim(4).dump())
    assert slim.embedding.tobytes() == found.embedding.tobytes()
    assert (slim.cells.population, slim.cells.effective) == (found.cells.population, found.cells.effective)
    assert (slim.agreement, len(slim.rows), len(slim.sums)) == (found.agreement, 4, 0)
    assert len(found.dump()) < 18_000
    assert len(slim.dump()) < 6_500


def test_nothing_is_known_of_no_vectors() -> None:
    found = vector(np.full((3, 4), np.nan, np.float32))
    assert (found.n, found.cells.population, found.cells.units()) == (0, 0, 0)
    for part in (found.centroid, found.embedding, found.projected):
        assert np.isnan(part).all()
    assert np.isnan(found.agreement)
    assert len(found.units) == 0
