"""The laws of every row of SUMMARIES, and for each law a wrong summary that it must catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.model import Categories, Column, Floats, Hashes, Kind, Signal
from monitor.summaries import SUMMARIES, AnySummary, Category, Counts, Numeric, Rate, counts, merged, summarise
from monitor.summaries.category import CATEGORIES, OTHER_KEY, category_key
from monitor.summaries.counts import distinct
from monitor.summaries.numeric import GRID_CELLS, grid_keys, grid_values

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

    def all(self) -> AnySummary:
        return self._of(np.arange(len(self.session)))

    def each(self) -> list[AnySummary]:
        bounds = [0, *self.cuts, len(self.session)]
        return [self._of(np.arange(a, b)) for a, b in pairwise(bounds)]

    def _of(self, rows: np.ndarray[Any, Any]) -> AnySummary:
        values = self.values.take(rows) if isinstance(self.values, Categories) else self.values[rows]
        return summarise(self.signal, values, np.zeros(len(rows), np.int64), 1, self.session[rows])[0]


Merge = Callable[[list[AnySummary]], AnySummary]
Law = Callable[[Shards, Merge], None]


def content(summary: AnySummary) -> tuple[Any, ...]:
    """All that a summary holds, in a form that can be compared."""
    arrays = tuple(array.tolist() for array in cell_arrays(summary.cells))
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
    ]


def nothing_changes_nothing(shards: Shards, merge: Merge) -> None:
    empty: AnySummary = SUMMARIES[shards.signal.kind].empty(shards.signal)
    whole = shards.all()
    assert content(merge([empty, whole])) == content(whole)
    assert content(merge([whole, empty])) == content(whole)
    assert content(merge([empty, empty])) == content(empty)


def merged_is_direct(shards: Shards, merge: Merge) -> None:
    assert content(merge(shards.each())) == content(shards.all())


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
    assert [content(part) for part in parts] == before


def comes_back_the_same(shards: Shards, merge: Merge) -> None:
    parts = shards.each()
    loaded = [type(part).load(part.dump()) for part in parts]
    assert [content(part) for part in loaded] == [content(part) for part in parts]
    assert merge(loaded).dump() == merge(parts).dump()


def loses_no_record(shards: Shards, merge: Merge) -> None:
    found = merge(shards.each())
    seen = shards.values.codes >= 0 if isinstance(shards.values, Categories) else ~np.isnan(shards.values)
    assert found.n == int(seen.sum())
    assert int(found.cells.inside_counts.sum()) == int((shards.session[seen] != 0).sum())
    inside = np.unique(shards.session[seen & (shards.session != 0)])
    assert found.cells.sessions().tolist() == inside[:CAP].tolist()


def grouped_is_one_by_one(shards: Shards, merge: Merge) -> None:
    """One pass over all groups is as one pass a group."""
    bounds = [0, *shards.cuts, len(shards.session)]
    groups = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.argsort(groups * 7 % 5, kind="stable")
    values = shards.values.take(order) if isinstance(shards.values, Categories) else shards.values[order]
    together = summarise(shards.signal, values, groups[order], len(bounds) - 1, shards.session[order])
    assert [content(merge([part])) for part in together] == [content(part) for part in shards.each()]


LAWS: list[Law] = [
    nothing_changes_nothing,
    merged_is_direct,
    pairs_in_any_order,
    leaves_arguments_alone,
    comes_back_the_same,
    loses_no_record,
    grouped_is_one_by_one,
]
SIGNALS = [Signal("x", "numeric"), Signal("x", "numeric", "unit"), Signal("x", "rate"), Signal("x", "category")]


def named(codes: list[int | None], many: int = 90) -> Categories:
    names = [f"name {i}" for i in range(many)]
    return Categories(names, np.array([-1 if code is None else code for code in codes], np.int32))


@st.composite
def shards_of(draw: st.DrawFn, signal: Signal) -> Shards:
    """Up to 300 records, some without a value, some in few or in many sessions, cut anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([0, 1, 2, 3, 20, 300]))
    missing = rng.random(n) < draw(st.sampled_from([0.0, 0.2]))
    if signal.kind == "category":
        codes = rng.integers(0, draw(st.sampled_from([1, 3, 90])), n)
        values: Column = named([None if gone else int(code) for code, gone in zip(codes, missing, strict=True)])
    else:
        x = (rng.random(n) < 0.3).astype(float) if signal.kind == "rate" else rng.lognormal(0, 9, n)
        x = np.minimum(x, 1) if signal.scale == "unit" else np.where(rng.random(n) < 0.1, -x, x)
        values = np.where(missing, np.nan, x)
    names = rng.integers(1, 2**63, draw(st.sampled_from([1, 4, 40]))).astype(np.uint64) * np.uint64(2)
    share = draw(st.sampled_from([0.0, 0.5, 1.0]))
    session = np.where(rng.random(n) < share, rng.choice(names, n), 0).astype(np.uint64)
    cuts = tuple(sorted(draw(st.lists(st.integers(0, n), min_size=1, max_size=6))))
    return Shards(signal, values, session, cuts)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: f"{signal.kind}-{signal.scale}")
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
    return replace(found, low=parts[-1].low)


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
    return replace(found, cells=replace(found.cells, session=session, session_keys=rows, session_counts=sizes))


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
