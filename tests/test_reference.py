"""References: which slices are kept, when learning ends, what comes back after packing, and what the slices say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pydantic
import pytest

from monitor.calibration import LAGS, NullTerms
from monitor.model import Categories, Column, Floats, Hashes, Scope, Signal
from monitor.reference import (
    BINS,
    KEPT,
    RUNS,
    Learning,
    ReferenceSettings,
    ScopeReference,
    SeriesReference,
    coarse_cells,
    cut,
    kept_starts,
    mismatch,
    place_keys,
)
from monitor.settings import DAY, HOUR, parse_time
from monitor.summaries import SUMMARIES, Vector, summarise
from monitor.summaries.numeric import grid_keys
from monitor.windows import SLICES, Contents, Slice, add_contents, add_slices, further

BOT = Scope("bot")
SECOND = 1_000
SIZE = SLICES * SECOND
SIGNALS = {
    "chars": Signal("chars", "numeric"),
    "score": Signal("score", "numeric", "unit"),
    "reason": Signal("reason", "category"),
    "error": Signal("error", "rate"),
}


def slice_of(number: int, n: int, *, sessions: int = 0, seed: int = 0, shift: float = 0.0) -> Slice:
    rng = np.random.default_rng([seed, number])
    session = rng.integers(1, sessions + 1, n).astype(np.uint64) if sessions else np.zeros(n, np.uint64)
    values: dict[str, Column] = {
        "chars": rng.lognormal(5 + shift, 1, n),
        "score": rng.random(n),
        "reason": Categories(["a", "b", "c"], rng.choice(3, n, p=[0.7, 0.2, 0.1]).astype(np.int32)),
        "error": (rng.random(n) < 0.1).astype(np.float64),
    }
    one = np.zeros(n, np.int64), 1, session
    parts = {name: summarise(SIGNALS[name], column, *one)[0] for name, column in values.items()}
    return Slice(number * SECOND, (number + 1) * SECOND, {BOT: Contents(n, parts)} if n else {})


def learned(slices: list[Slice], end: int | None = None, begin: int = 0) -> ScopeReference:
    learning = Learning(BOT, begin, slices[-1].end if end is None else end, [SIZE])
    for found in slices:
        learning.take(SIZE, found)
    return learning.freeze(SIGNALS)


# ---- when and what --------------------------------------------------------------------------------------------------


def test_all_slices_are_kept_where_there_are_few() -> None:
    assert kept_starts(0, KEPT * SECOND, SECOND) == {i * SECOND for i in range(KEPT)}
    assert kept_starts(500, 10 * SECOND, SECOND) == {i * SECOND for i in range(10)}
    assert kept_starts(0, 999, SECOND) == set()


@pytest.mark.parametrize("count", [KEPT + 1, KEPT + 12, 500, 3456, 100_000])
@pytest.mark.parametrize("begin", [0, 7 * SECOND])
def test_of_many_slices_runs_of_twelve_are_kept(count: int, begin: int) -> None:
    kept = np.array(sorted(kept_starts(begin, begin + count * SECOND, SECOND))) // SECOND - begin // SECOND
    assert kept.min() >= 0
    assert kept.max() < count
    assert len(kept) == KEPT
    part = count / RUNS
    for run in range(RUNS):  # one run within each of 24 equal parts
        mine = kept[run * SLICES : (run + 1) * SLICES]
        assert (np.diff(mine) == 1).all()
        assert run * part - 1 <= mine[0]
        assert mine[-1] <= (run + 1) * part
    if count > 2 * KEPT:
        phases = (kept[::SLICES] - np.arange(RUNS) * part) / (part - SLICES)
        assert np.histogram(phases, 4, (0, 1))[0].min() >= 3  # no phase of a cycle is left out


def test_learning_ends_by_size_or_until() -> None:
    assert ReferenceSettings().end(5, 0) == 5 + DAY
    assert ReferenceSettings.model_validate({"size": "2h"}).end(5, 0) == 5 + 2 * HOUR
    until = parse_time("2026-11-20T00:00:00Z")
    settings = ReferenceSettings.model_validate({"until": "2026-11-20T00:00:00Z"})
    origin = until - DAY
    assert settings.end(origin, origin) == until
    assert settings.end(origin + DAY // 2, origin) == until
    late = origin + DAY // 2 + 1
    assert settings.end(late, origin) == late + DAY  # as long as the others
    assert settings.end(until + HOUR, origin) == until + HOUR + DAY
    with pytest.raises(pydantic.ValidationError, match="not both"):
        ReferenceSettings.model_validate({"size": "2h", "until": "2026-11-20T00:00:00Z"})


def test_only_whole_slices_within_the_period_are_learned() -> None:
    slices = [slice_of(i, 10) for i in range(40)]
    whole = learned(slices[:30])
    assert learned(slices, end=30 * SECOND).dump() == whole.dump()
    assert learned(slices, end=30 * SECOND + 999).series["chars"].n == 300
    assert learned(slices, end=30 * SECOND + 999).ends(SIZE) == 30 * SECOND
    assert learned(slices, end=30 * SECOND, begin=10 * SECOND).series["chars"].n == 200


def test_coarser_sizes_learn_from_the_same_records() -> None:
    coarse = 3 * SIZE
    learning = Learning(BOT, 0, 90 * SECOND, [SIZE, coarse])
    fine = [slice_of(i, 10) for i in range(90)]
    for i, found in enumerate(fine):
        learning.take(SIZE, found)
        if i % 3 == 2:
            learning.take(coarse, add_slices(fine[i - 2 : i + 1], (i - 2) * SECOND, (i + 1) * SECOND))
    reference = learning.freeze(SIGNALS)
    assert reference.slices == {SIZE: 90, coarse: 30}
    rows = reference.series["chars"].slices
    assert (rows[SIZE].total, rows[coarse].total) == (900, 900)
    assert rows[coarse].units.tolist() == [30.0] * 30
    np.testing.assert_allclose(rows[coarse].shares, rows[SIZE].shares.reshape(30, 3, -1).mean(axis=1))
    np.testing.assert_allclose(rows[coarse].mean, rows[SIZE].mean)


# ---- bins and shares ------------------------------------------------------------------------------------------------


def test_bins_are_quantiles_and_cover_everything() -> None:
    x = np.random.default_rng(0).lognormal(5, 1, 20_000)
    summary = summarise(SIGNALS["chars"], x, np.zeros(len(x), np.int64), 1, np.zeros(len(x), np.uint64))[0]
    series = SeriesReference(BOT, SIGNALS["chars"], summary, {})
    shares = np.bincount(series.place(grid_keys(x, "log")), minlength=series.bins) / len(x)
    assert series.bins == len(shares) == BINS
    np.testing.assert_allclose(shares, 1 / BINS, atol=0.03)  # a cell is 2 % wide: up to 0.008 of the records
    assert series.place(grid_keys(np.array([0.0, 1e12]), "log")).tolist() == [0, BINS - 1]


def test_few_values_make_few_bins() -> None:
    none = np.zeros(100, np.int64), 1, np.zeros(100, np.uint64)
    assert len(coarse_cells(summarise(SIGNALS["chars"], np.full(100, 7.0), *none)[0])) == 0
    two = summarise(SIGNALS["chars"], np.repeat([1.0, 2.0], 50), *none)[0]
    assert len(coarse_cells(two)) == 1
    assert len(coarse_cells(SUMMARIES["numeric"].empty(SIGNALS["chars"]))) == 0
    assert coarse_cells(SUMMARIES["rate"].empty(SIGNALS["error"])).tolist() == [0]


def test_unknown_categories_go_to_the_last_bin() -> None:
    reason = SIGNALS["reason"]
    cells = np.array([3, 8, 20])
    assert place_keys(reason, cells, np.array([3, 8, 20, -1, 5, 99])).tolist() == [0, 1, 2, 3, 3, 3]
    assert place_keys(reason, np.empty(0, np.int64), np.array([4, -1])).tolist() == [0, 0]


@pytest.mark.parametrize("sessions", [0, 6])
def test_slices_hold_means_over_units(sessions: int) -> None:
    slices = [slice_of(i, 20 if i % 3 else 0, sessions=sessions) for i in range(60)]
    reference = learned(slices, end=60 * SECOND)
    for name, series in reference.series.items():
        rows = series.slices[SIZE]
        assert rows.number.tolist() == [i for i in range(60) if i % 3]
        for row, number in enumerate(rows.number.tolist()):
            cells = slices[number].scopes[BOT].summaries[name].cells
            keys = np.repeat(cells.keys, cells.counts)
            bins = np.eye(series.bins)[series.place(keys)].mean(axis=0)
            if sessions:
                bins = np.stack(
                    [
                        np.eye(series.bins)[
                            series.place(np.repeat(cells.session_keys, cells.session_counts)[mine])
                        ].mean(axis=0)
                        for one in np.unique(cells.session)
                        for mine in [np.repeat(cells.session, cells.session_counts) == one]
                    ]
                ).mean(axis=0)
            np.testing.assert_allclose(rows.shares[row], bins, atol=1e-12)
            assert rows.units[row] == rows.seen[row] == (cells.units() if sessions else 20)


def test_the_mean_is_that_of_all_slices_and_its_variance_too() -> None:
    """Kept are 288 of 1,000 slices, which differ much; the mean is known of all."""
    rng = np.random.default_rng(0)
    slices = [slice_of(i, int(rng.integers(1, 9)), shift=float(rng.normal())) for i in range(1000)]
    reference = learned(slices)
    total = add_contents([found.scopes[BOT] for found in slices])
    for name, series in reference.series.items():
        rows = series.slices[SIZE]
        assert len(rows.number) == KEPT
        cells = total.summaries[name].cells
        expected = np.bincount(series.place(cells.keys), cells.counts, minlength=series.bins) / cells.n
        np.testing.assert_allclose(rows.mean, expected, atol=1e-12)
        n = np.array([found.scopes[BOT].records for found in slices], np.float64)
        assert rows.total == pytest.approx(n.sum(), rel=0.1)
        assert rows.inverse == pytest.approx(1 / n.sum(), rel=0.1)
        weight = n / n.sum()
        lags = [float((weight[: 1000 - lag] * weight[lag:]).sum()) for lag in range(LAGS)]
        assert rows.lag_weights[0] == pytest.approx(lags[0], rel=0.15)
        assert (np.diff(rows.lag_weights) < 1e-12 + 0.5 * lags[0]).all()


def test_where_slices_are_kept_in_runs_longer_ones_cover_all_time() -> None:
    """Those of a further size are sums of twelve, none of them begun before the reference."""
    fine = [slice_of(i, 3) for i in range(5, 1000)]
    longer = [add_slices(fine[max(i - 5, 0) : i + 7], i * SECOND, (i + 12) * SECOND) for i in range(0, 1000, 12)]
    learning = Learning(BOT, 5 * SECOND, 1000 * SECOND, [SIZE])
    for found in fine:
        learning.take(SIZE, found)
    for found in longer:
        learning.take(further([SIZE]), found)
    series = learning.freeze(SIGNALS).series["chars"]
    assert [(times, rows.number.tolist()) for times, rows in series.coarser(SIZE)] == [(12, list(range(1, 83)))]
    whole = Learning(BOT, 0, KEPT * SECOND, [SIZE])
    for found in [slice_of(i, 3) for i in range(KEPT)]:
        whole.take(SIZE, found)
    whole.take(further([SIZE]), longer[1])
    assert whole.freeze(SIGNALS).series["chars"].coarser(SIZE) == []


def test_with_sessions_the_mean_and_its_variance_are_those_of_the_slices_kept() -> None:
    reference = learned([slice_of(i, 6, sessions=3) for i in range(1000)])
    rows = reference.series["error"].slices[SIZE]
    np.testing.assert_allclose(rows.mean, rows.units @ rows.shares / rows.units.sum())
    assert rows.inverse == pytest.approx(1 / rows.units.sum())
    assert rows.total == pytest.approx(rows.units.sum() * 1000 / KEPT)


def test_w_of_sessions_is_smaller_than_of_records_by_their_length() -> None:
    """Records of made-up sessions do not correlate: the mean over six of them varies a sixth as much."""
    alone = learned([slice_of(i, 60) for i in range(72)]).series["error"].slices[SIZE]
    grouped = learned([slice_of(i, 60, sessions=10) for i in range(72)]).series["error"].slices[SIZE]
    np.testing.assert_allclose(alone.within, [[0.09, -0.09], [-0.09, 0.09]], atol=0.01)
    assert grouped.within[0, 0] == pytest.approx(0.09 / 6, rel=0.25)


# ---- volume ---------------------------------------------------------------------------------------------------------


def test_volume_is_the_range_of_whole_windows() -> None:
    counts = [10] * 20 + [40] * 12 + [10] * 16 + [0] * 12 + [10] * 12
    reference = learned([slice_of(i, n) for i, n in enumerate(counts)])
    least, usual, most = reference.volume[SIZE]
    assert (least, most) == (0, 480)
    assert usual == pytest.approx(12 * np.mean(counts))


def test_volume_of_less_than_a_window_has_no_range() -> None:
    least, usual, most = learned([slice_of(i, 10) for i in range(5)]).volume[SIZE]
    assert (least, usual, most) == (0, 120, np.inf)


# ---- packing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sessions", [0, 4])
def test_a_reference_comes_back_as_it_was(sessions: int) -> None:
    reference = learned([slice_of(i, 20, sessions=sessions) for i in range(80)])
    loaded = ScopeReference.load(reference.dump())
    assert loaded.dump() == reference.dump()
    assert (loaded.scope, loaded.begin, loaded.end) == (BOT, 0, 80 * SECOND)
    assert (loaded.slices, loaded.volume) == (reference.slices, reference.volume)
    for name, series in loaded.series.items():
        mine, theirs = series.slices[SIZE], reference.series[name].slices[SIZE]
        for column in ("number", "shares", "units", "seen", "within", "mean", "lag_weights"):
            assert getattr(mine, column).tolist() == getattr(theirs, column).tolist()
        assert (mine.total, mine.inverse) == (theirs.total, theirs.inverse)
        assert series.cells.tolist() == reference.series[name].cells.tolist()


def test_another_version_is_refused() -> None:
    data = learned([slice_of(i, 5) for i in range(12)]).dump()
    assert data[1] == 9
    with pytest.raises(ValueError, match="version 5; this driftd reads version 9"):
        ScopeReference.load(data[:1] + b"\x05" + data[2:])


def learned_with_a_break(slices: Sequence[Slice], cut: int) -> Learning:
    """Packed and put back before slice `cut`."""
    learning = Learning(BOT, 0, len(slices) * SECOND, [SIZE])
    for i, found in enumerate(slices):
        if i == cut:
            fresh = Learning.load(learning.dump(), [SIZE])
            for start in learning.kept[SIZE]:
                fresh.put_back(SIZE, start, learning.dump_kept(SIZE, start))
            learning = fresh
        learning.take(SIZE, found)
    return learning


@pytest.mark.parametrize("cut", [0, 1, 40, 79])
def test_learning_goes_on_where_it_was_packed(cut: int) -> None:
    slices = [slice_of(i, 15, sessions=5) for i in range(80)]
    whole = learned(slices)
    assert learned_with_a_break(slices, cut).freeze(SIGNALS).dump() == whole.dump()


def test_a_reference_of_nothing_can_be_packed() -> None:
    learning = Learning(BOT, 0, 12 * SECOND, [SIZE])
    reference = learning.freeze(SIGNALS)
    assert reference.series == {}
    assert ScopeReference.load(reference.dump()).dump() == reference.dump()


@pytest.mark.parametrize(("share", "watched"), [(1.0, False), (0.99, True), (0.0, True)])
def test_a_field_that_was_never_logged_is_not_watched_for_its_absence(share: float, watched: bool) -> None:  # noqa: FBT001
    signal = Signal("cost_missing", "rate")
    learning = Learning(BOT, 0, 20 * SECOND, [SIZE])
    for number in range(20):
        values = (np.arange(100) < 100 * share).astype(np.float64)
        part = summarise(signal, values, np.zeros(100, np.int64), 1, np.zeros(100, np.uint64))[0]
        contents = Contents(100, {signal.name: part})
        learning.take(SIZE, Slice(number * SECOND, (number + 1) * SECOND, {BOT: contents}))
    assert (signal.name in learning.freeze({signal.name: signal}).series) is watched


# ---- samples and vectors --------------------------------------------------------------------------------------------

VECTOR = Signal("vector", "vector", sample=True, fingerprint="model@1", size=6)
SAMPLED = {
    "score": Signal("score", "numeric", "unit", sample=True),
    "reason": Signal("reason", "category", sample=True),
    "vector": VECTOR,
}


def topics_of(session: Hashes, rng: np.random.Generator, alike: float) -> Floats:
    """One of three topics for each session, or for each record where it is alone or goes its own way."""
    topic = rng.integers(0, 3, len(session))
    of_session = (session * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(3)
    shared = (session != 0) & (rng.random(len(session)) < alike)
    return np.where(shared, of_session, topic).astype(np.float64)


def sampled_slice(
    number: int, records: int, *, scored: int = 40, sessions: int = 0, alike: float = 0.0, shift: float = 0.0
) -> Slice:
    """`scored` of `records` records, in `sessions` sessions whose records are alike."""
    rng = np.random.default_rng([number, 77])
    scored = min(scored, records)
    session = rng.integers(1, 2**62, max(sessions, 1)).astype(np.uint64)[rng.integers(0, max(sessions, 1), scored)]
    session = session if sessions else np.zeros(scored, np.uint64)
    topic = topics_of(session, rng, alike)
    vectors = np.eye(6)[topic.astype(np.int64)] + 0.5 * rng.normal(size=(scored, 6)) + shift * np.eye(6)[5]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values: dict[str, Column] = {
        "score": (topic + 0.5 + shift) / 4,
        "reason": Categories(["a", "b", "c"], topic.astype(np.int32)),
        "vector": vectors.astype(np.float32),
    }
    weight, order = np.array([records / scored]), rng.permutation(scored).astype(np.uint64)
    parts = {
        name: summarise(SAMPLED[name], column, np.zeros(scored, np.int64), 1, session, weight, order)[0]
        for name, column in values.items()
    }
    return Slice(number * SECOND, (number + 1) * SECOND, {BOT: Contents(records, parts)})


def learned_samples(slices: list[Slice]) -> tuple[ScopeReference, Learning]:
    learning = Learning(BOT, 0, slices[-1].end, [SIZE])
    for found in slices:
        learning.take(SIZE, found)
    return learning.freeze(SAMPLED), learning


def test_a_sampled_reference_is_known_by_its_sample_and_stands_for_all() -> None:
    reference, _ = learned_samples([sampled_slice(i, 400 if i % 2 else 4000) for i in range(72)])
    for name in ("score", "reason"):
        rows = reference.series[name].slices[SIZE]
        assert rows.total == 36 * 4400
        assert rows.seen.tolist() == pytest.approx([40.0] * 72)
        assert reference.series[name].known(SIZE) == pytest.approx(4400**2 * 36 / ((400**2 + 4000**2) / 40))
        np.testing.assert_allclose(rows.mean, rows.units @ rows.shares / rows.units.sum())
        np.testing.assert_allclose(np.diag(rows.within)[:3], [2 / 9] * 3, atol=0.02)
    assert reference.series["vector"].known(SIZE) == pytest.approx(reference.series["score"].known(SIZE), rel=1e-6)


@pytest.mark.parametrize("alike", [0.0, 1.0])
def test_w_of_samples_is_by_the_effective_number_of_units(alike: float) -> None:
    """W/k is how slice means vary, whether records of a session are alike or not: k counts them as if they were."""
    slices = [sampled_slice(i, 800, sessions=8, alike=alike) for i in range(288)]
    reference, learning = learned_samples(slices)
    for name in ("score", "reason", "vector"):
        if name == "vector":
            parts = [c.summaries[name] for c in learning.kept[SIZE].values()]
            means = np.array([part.embedding for part in parts if isinstance(part, Vector)])
            seen = np.array([part.cells.effective for part in parts])
            within = float(reference.series[name].vectors[SIZE].terms.within)
        else:
            rows = reference.series[name].slices[SIZE]
            means, seen, within = rows.shares, rows.seen, float(np.trace(rows.within))
        assert seen.mean() < 9
        expected = within * float((1 / seen).mean())
        assert float(means.var(axis=0, ddof=1).sum()) == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("sessions", [0, 10])
def test_vectors_of_a_reference_come_back_as_they_were(sessions: int) -> None:
    reference, _ = learned_samples([sampled_slice(i, 200, sessions=sessions, alike=0.5) for i in range(80)])
    loaded = ScopeReference.load(reference.dump())
    assert loaded.dump() == reference.dump()
    here, there = (found.series["vector"].vectors[SIZE] for found in (loaded, reference))
    for part in fields(NullTerms):
        assert getattr(here.terms, part.name).tobytes() == getattr(there.terms, part.name).tobytes(), part.name
    assert (here.known, here.slices) == (there.known, there.slices) == (there.known, 80)


@pytest.mark.parametrize("cut", [1, 40])
def test_learning_of_vectors_goes_on_where_it_was_packed(cut: int) -> None:
    slices = [sampled_slice(i, 100, sessions=10, alike=0.5) for i in range(80)]
    whole, _ = learned_samples(slices)
    assert learned_with_a_break(slices, cut).freeze(SAMPLED).dump() == whole.dump()


def test_a_vector_seen_in_no_slice_that_is_kept_is_known_by_nothing() -> None:
    slices = [sampled_slice(i, 50) for i in range(12)]
    learning = Learning(BOT, 0, 12 * SECOND, [SIZE, 12 * SIZE])
    for found in slices:
        learning.take(SIZE, found)
    series = learning.freeze(SAMPLED).series["vector"]
    assert (series.vectors[12 * SIZE].slices, series.known(12 * SIZE)) == (0, 0)
    assert series.vectors[SIZE].slices == 12


def test_what_windows_cannot_be_held_against_is_named() -> None:
    reference, _ = learned_samples([sampled_slice(i, 50) for i in range(24)])
    assert mismatch(reference, SAMPLED) == []
    told = "vector: the reference was made with another embedding model or other settings of it"
    other = {
        "score": Signal("score", "rate"),
        "vector": Signal("vector", "vector", sample=True, fingerprint="model@2", size=6),
    }
    assert mismatch(reference, other) == [
        "score: of kind numeric in the reference, of kind rate now",
        "reason: the reference has it, nothing measures it now",
        f"{told}, model@1, not with model@2",
    ]
    wider = SAMPLED | {"vector": Signal("vector", "vector", sample=True, fingerprint="model@1", size=8)}
    assert mismatch(reference, wider) == ["vector: the reference has vectors of 6 entries, the model now makes 8"]
    whole = SAMPLED | {"score": Signal("score", "numeric", "unit")}
    assert mismatch(reference, whole) == [
        "score: the reference measured it on another scale or on another part of the records"
    ]


# ---- whether it was steady ------------------------------------------------------------------------------------------


def test_a_learning_period_that_changed_is_flagged() -> None:
    for count, shift in ((72, 0.6), (288, 0.4), (1000, 0.4)):
        for part in (0.2, 0.5, 0.7) if count == 288 else (0.5,):
            slices = [slice_of(i, 60, shift=shift * (i >= count * part)) for i in range(count)]
            assert learned(slices).unsteady == {"chars": "a step"}, (count, part)
    changed = [sampled_slice(i, 400, shift=0.3 * (i >= 72)) for i in range(144)]
    reference, _ = learned_samples(changed)
    assert reference.unsteady["vector"] == "a step"
    assert ScopeReference.load(reference.dump()).unsteady == reference.unsteady


def test_vectors_that_follow_a_cycle_are_flagged_with_it() -> None:
    turns = 2 * np.pi * np.arange(288) / 72
    reference, _ = learned_samples([sampled_slice(i, 400, shift=0.3 * float(np.sin(turns[i]))) for i in range(288)])
    assert reference.unsteady["vector"] == "a cycle of about 1m12s"


def test_a_slow_climb_is_flagged() -> None:
    climbing = learned([slice_of(i, 200, shift=2.0 * i / 288) for i in range(288)])
    assert climbing.unsteady == {"chars": "a trend"}


@pytest.mark.parametrize("count", [72, 288])
def test_a_steady_learning_period_is_not_flagged(count: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        swing = rng.normal(size=count) * 0.1
        slices = [slice_of(i, 40, sessions=seed % 2 * 10, seed=seed, shift=float(swing[i])) for i in range(count)]
        assert learned(slices).unsteady == {}
    for alike in (0.0, 1.0):
        steady = [sampled_slice(i, 400, sessions=10, alike=alike) for i in range(count)]
        assert learned_samples(steady)[0].unsteady == {}


def test_too_short_a_learning_period_is_not_judged() -> None:
    assert cut(learned([slice_of(i, 60) for i in range(47)]).series["chars"].slices[SIZE]) is None
