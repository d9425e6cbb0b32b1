"""Laws of the evidence on shares: what the null holds, how fast a change shows, and that state is exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from monitor import evidence as module
from monitor.calibration import LAGS, ReferenceSlices, multinomial_within
from monitor.evidence import REACH, STARTS, Evidence, ShareNulls, join_nulls, log_e_values, share_nulls, shown_by
from monitor.model import Floats, Ints

YES = np.array([[False, True]])


def reference(share: Floats, units: Floats, number: Ints | None = None, *, whole: float = 1.0) -> ReferenceSlices:
    """What one series says of its slices; `whole` times as many records were seen as are kept."""
    shares, total = np.stack([1 - share, share], axis=1), float(units.sum()) * whole
    lags = [float((units[: len(units) - lag] * units[lag:]).sum()) * whole / total**2 for lag in range(LAGS)]
    number = np.arange(len(share)) if number is None else number
    mean, within = units @ shares / units.sum(), multinomial_within(shares, units)
    return ReferenceSlices(number, shares, units, units, within, mean, total, np.array(lags), 1 / total)


@dataclass(frozen=True)
class World:
    """Rates that swing about a mean as an AR(1) process on the normal scale, and records a slice."""

    rate: float
    records: float
    swing: float = 0.0
    memory: float = 0.8
    slices: int = 288

    def path(self, rng: np.random.Generator, series: int, slices: int, *, rate: float | None = None) -> Floats:
        """Shape (series, slices, 2): share and records."""
        level, found = rng.standard_normal(series), np.zeros((series, slices, 2))
        middle = special.ndtri(self.rate if rate is None else rate) * np.sqrt(1 + self.swing**2)
        for at in range(slices):
            level = self.memory * level + np.sqrt(1 - self.memory**2) * rng.standard_normal(series)
            n = rng.poisson(self.records, series)
            yes = rng.binomial(n, special.ndtr(middle + self.swing * level))
            found[:, at] = np.stack([yes / np.maximum(n, 1), n], axis=1)
        return found

    def nulls(self, rng: np.random.Generator, series: int, *, whole: float = 1.0) -> ShareNulls:
        paths = self.path(rng, series, self.slices)
        return join_nulls([share_nulls(reference(path[:, 0], path[:, 1], whole=whole), YES) for path in paths])


def watch(nulls: ShareNulls, path: Floats) -> Floats:
    """Log evidence after each slice. Shape (series, slices)."""
    evidence, found = Evidence.begin(nulls), np.zeros(path.shape[:2])
    for at in range(path.shape[1]):
        evidence.step(path[:, at, 0], path[:, at, 1], path[:, at, 1])
        found[:, at] = evidence.log_sum
    return found


# ---- e-values -------------------------------------------------------------------------------------------------------


@given(
    rate=st.floats(0.002, 0.5),
    records=st.integers(2, 2_000),
    kept=st.integers(20, 300),
    whole=st.sampled_from([1.0, 12.0]),
    slices=st.integers(1, 40),
)
def test_an_e_value_has_mean_at_most_one(rate: float, records: int, kept: int, whole: float, slices: int) -> None:
    """Exactly, by summing over all counts of a stretch, for references that hold about what they should."""
    successes = rate * records
    share = np.clip((successes + np.sqrt(successes) * special.ndtri((np.arange(kept) + 0.5) / kept)) / records, 0, 1)
    shuffled = np.random.default_rng(0).permutation(share)
    units = np.full(kept, float(records))
    nulls = share_nulls(reference(shuffled, units, whole=whole), YES)
    total = records * slices
    low, high = (int(stats.binom.ppf(q, total, rate)) for q in (1e-12, 1 - 1e-12))
    counts = np.arange(low, high + 1)
    many = np.full(len(counts), float(total))
    found, _, _ = log_e_values(
        nulls,
        np.zeros(len(counts), np.int64),
        counts / total,
        many,
        in_slice=many / slices,
        ages=np.full(len(counts), slices),
    )
    # Given one reference it may be more, as that is off by its own noise: a deviation of 0 is what it is off by least.
    mean = float(nulls.rate[0])
    chance: Floats = np.asarray(stats.binom.pmf(counts, total, min(mean, 1.0)), np.float64)
    assert float(chance @ np.exp(found)) <= 1.3


SWINGING = [World(0.5, 30, 0.1), World(0.2, 300, 0.1), World(0.5, 30, 0.3)]


@pytest.mark.parametrize("world", [World(0.05, 30), World(0.5, 300), World(0.001, 30), *SWINGING], ids=str)
@pytest.mark.parametrize("slices", [1, 5, 12, 48])
def test_an_e_value_is_rarely_large_over_references(world: World, slices: int) -> None:
    """On average at most 1 where slices are independent; beyond 100 in at most 1 % whatever they are."""
    rng, series = np.random.default_rng(1), 1_500
    nulls = world.nulls(rng, series)
    path = world.path(rng, series, slices)
    units = path[..., 1].sum(axis=1)
    rate = (path[..., 0] * path[..., 1]).sum(axis=1) / np.maximum(units, 1)
    squares = (path[..., 1] ** 2).sum(axis=1) / np.maximum(units, 1)
    ages = np.full(series, slices)
    found, _, _ = log_e_values(nulls, np.arange(series), rate, np.maximum(units, 1), in_slice=squares, ages=ages)
    assert (found >= np.log(100)).mean() <= 0.01
    if not world.swing:
        assert np.exp(found).mean() <= 1.1


def test_more_of_a_change_says_more_on_either_side() -> None:
    nulls = World(0.3, 50).nulls(np.random.default_rng(0), 1)
    rates = np.linspace(0, 0.9, 181)
    many = np.full(181, 600.0)
    found, _, _ = log_e_values(nulls, np.zeros(181, np.int64), rates, many, in_slice=many / 12, ages=np.full(181, 12))
    least = int(found.argmin())
    assert rates[least] == pytest.approx(0.3, abs=0.03)
    assert all(a >= b for a, b in pairwise(found[: least + 1]))
    assert all(a <= b for a, b in pairwise(found[least:]))


@pytest.mark.parametrize(("rate", "trials"), [(0.0, 30), (1.0, 30), (0.5, 0.01), (0.0, 1)])
def test_rates_at_the_edge_and_references_with_next_to_nothing_are_numbers(rate: float, trials: float) -> None:
    nulls = share_nulls(reference(np.full(20, rate), np.full(20, trials)), YES)
    path = np.stack([np.tile([0.0, 1.0, 0.5, 0.0], 5), np.tile([30.0, 30.0, 0.0, 1.0], 5)], axis=1)[None]
    found = watch(nulls, path)
    assert (found < np.inf).all()


@pytest.mark.parametrize("world", [World(0.05, 30), World(0.5, 300, swing=0.3), World(0.001, 30)], ids=str)
def test_what_is_left_out_of_a_sum_is_small(world: World) -> None:
    """Stretches that deviate by less than 4 count nothing: their e-values are below e^2/0.65."""
    rng, count = np.random.default_rng(2), 4_000
    nulls, rows = world.nulls(rng, 1), np.zeros(count, np.int64)
    rates, known, ages = rng.beta(0.5, 2, count), rng.uniform(1, 5_000, count), rng.integers(1, 512, count)
    found, deviance, _ = log_e_values(nulls, rows, rates, known, in_slice=known / ages, ages=ages)
    assert (deviance < 4).sum() > 100
    assert found[deviance < 4].max() < 2 - np.log(0.65)


def test_a_reference_without_a_success_sees_the_first_ones() -> None:
    """As many of 1,000 as are beyond chance where 20,000 held none, and not fewer."""
    nulls = share_nulls(reference(np.zeros(200), np.full(200, 100.0)), YES)
    found = [watch(nulls, np.tile([k / 1_000, 100.0], (1, 10, 1)))[0, -1] for k in (0, 1, 2, 20)]
    assert found[1] < np.log(1e2)
    assert found[2] < np.log(1e4)
    assert found[3] > np.log(1e6)


# ---- the time to a false decision -----------------------------------------------------------------------------------

WORLDS = [World(0.05, 30), World(0.5, 30), World(0.003, 100), World(0.05, 200, 0.1), World(0.5, 30, 0.3)]


def reached(world: World, level: float, *, slices: int = 300, series: int = 200) -> float:
    """Share of unchanged series whose evidence ever passes one over `level`."""
    rng = np.random.default_rng(2)
    return float(
        (watch(world.nulls(rng, series), world.path(rng, series, slices)).max(axis=1) >= -np.log(level)).mean()
    )


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_unchanged_series_are_rarely_decided(world: World) -> None:
    """At most 1e-4 a slice for 300 slices."""
    assert reached(world, 1e-4) <= 0.03 + 2 * np.sqrt(0.03 / 200)


def without_lags(nulls: ShareNulls) -> ShareNulls:
    """The null of slices that are independent."""
    weights = np.repeat(nulls.log_weights[:, :1], nulls.log_weights.shape[1], axis=1)
    return replace(nulls, log_weights=weights, excess=np.repeat(nulls.excess[:, :1], nulls.excess.shape[1], axis=1))


def without_excess(nulls: ShareNulls) -> ShareNulls:
    """The null of slices that differ by their units alone: B of zero."""
    weights = np.full_like(nulls.log_weights, -np.inf)
    weights[..., 0] = 0
    return replace(nulls, log_weights=weights, excess=np.zeros_like(nulls.excess))


def plugged_in(nulls: ShareNulls) -> ShareNulls:
    """The null of a rate that is exactly the reference's, of slices that differ by their units alone."""
    return replace(without_excess(nulls), known=np.full_like(nulls.known, 1e12))


@pytest.mark.parametrize(
    ("fault", "world"),
    [
        (without_lags, World(0.5, 30, 0.3)),
        (without_excess, World(0.5, 30, 0.3)),
        (plugged_in, World(0.05, 30, slices=24)),
    ],
    ids=["a dropped lag term", "a frozen B of zero", "a rate that is plugged in"],
)
def test_a_fault_in_the_null_is_noticed(
    fault: Callable[[ShareNulls], ShareNulls], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = World.nulls
    monkeypatch.setattr(World, "nulls", lambda self, rng, series: fault(sound(self, rng, series)))
    assert reached(world, 1e-4) > 0.03 + 2 * np.sqrt(0.03 / 200)


@pytest.mark.parametrize(("told", "sound"), [(20.0, True), (200.0, False)])
def test_one_over_n_for_k_scored_is_noticed(told: float, sound: bool) -> None:  # noqa: FBT001
    """Of 200 records a slice 20 are scored: told that all were, evidence comes from nothing."""
    rng, seen = np.random.default_rng(3), np.full(288, told)
    nulls = []
    for share in rng.binomial(20, 0.3, (200, 288)) / 20:
        rows = reference(share, np.full(288, 200.0))
        within = multinomial_within(rows.shares, seen)
        nulls.append(share_nulls(replace(rows, within=within, seen=seen, inverse=1 / (288 * told)), YES))
    evidence, most = Evidence.begin(without_excess(join_nulls(nulls))), np.zeros(200)
    for _ in range(200):
        evidence.step(rng.binomial(20, 0.3, 200) / 20, np.full(200, 200.0), np.full(200, told))
        most = np.maximum(most, evidence.log_sum)
    decided = float((most >= np.log(1e4)).mean())
    assert decided <= 0.05 if sound else decided > 0.5


def daily(rng: np.random.Generator, series: int, slices: int) -> Floats:
    """A rate that follows the day, a slice of 25 s at a time. Shape (series, slices, 2): share and records."""
    level = special.ndtri(0.3) + 0.05 * np.sin(2 * np.pi * np.arange(slices) / 3456)
    n = rng.poisson(100, (series, slices))
    return np.stack([rng.binomial(n, special.ndtr(level)) / np.maximum(n, 1), n], axis=-1)


@pytest.mark.parametrize("sound", [True, False])
def test_a_daily_cycle_seen_in_runs_only_needs_longer_slices(sound: bool) -> None:  # noqa: FBT001
    """A day learned, most of it as sums of twelve slices; without these the first half of the next day is a change."""
    rng = np.random.default_rng(11)
    nulls = []
    kept = (np.arange(24)[:, None] * 144 + 66 + np.arange(12)).ravel()
    for share, n in np.moveaxis(daily(rng, 20, 3456), -1, 1):
        units = n.reshape(-1, 12).sum(axis=1)
        longer = reference((share * n).reshape(-1, 12).sum(axis=1) / units, units)
        rows = replace(reference(share[kept], n[kept], kept, whole=12), mean=longer.mean)
        nulls.append(share_nulls(rows, YES, [(12, longer)] if sound else []))
    decided = watch(join_nulls(nulls), daily(rng, 20, 1728)).max(axis=1) > np.log(1e5)
    assert decided.sum() == 0 if sound else decided.sum() >= 2


# ---- the time to a decision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(0.05, 0.1), (0.02, 0.06), (0.3, 0.4), (0.04, 0.02)])
def test_a_change_is_found_within_twice_the_least_delay(before: float, after: float) -> None:
    """ln(1/level) over the divergence is the least that any procedure takes on average (Lorden 1971)."""
    world, rng, level, quiet = World(before, 125), np.random.default_rng(4), 1e-7, 40
    nulls = world.nulls(rng, 100, whole=12.0)
    path = np.concatenate([world.path(rng, 100, quiet), world.path(rng, 100, 150, rate=after)], axis=1)
    evidence = watch(nulls, path)
    assert (evidence[:, :quiet] < -np.log(level)).all()
    found = evidence[:, quiet:] >= -np.log(level)
    delay = np.where(found.any(axis=1), found.argmax(axis=1) + 1, np.inf)
    divergence = after * np.log(after / before) + (1 - after) * np.log((1 - after) / (1 - before))
    least = -np.log(level) / divergence / 125
    assert np.median(delay) <= 2 * least + 1
    assert np.sort(delay)[90] <= 3.5 * least + 1


def test_what_is_shown_by_a_rate_is_exceeded_nine_times_of_ten() -> None:
    world, rng = World(0.1, 100), np.random.default_rng(5)
    nulls = world.nulls(rng, 400)
    promised = shown_by(nulls, np.arange(400), np.full(400, 0.16), 1_200.0, 12)
    path = np.stack([rng.binomial(100, 0.16, (400, 12)) / 100, np.full((400, 12), 100.0)], axis=2)
    rate, many = path[..., 0].mean(axis=1), np.full(400, 1_200.0)
    found, _, _ = log_e_values(nulls, np.arange(400), rate, many, in_slice=many / 12, ages=np.full(400, 12))
    assert 0.85 <= (found >= promised).mean() <= 0.96


def test_the_strongest_stretch_begins_about_where_the_rate_changed() -> None:
    world, rng = World(0.05, 60), np.random.default_rng(6)
    evidence = Evidence.begin(world.nulls(rng, 20))
    path = np.concatenate([world.path(rng, 20, 60), world.path(rng, 20, 20, rate=0.15)], axis=1)
    for at in range(80):
        evidence.step(path[:, at, 0], path[:, at, 1], path[:, at, 1])
    slices, rates = zip(*(evidence.strongest(row) for row in range(20)), strict=True)
    assert np.median(np.abs(np.array(slices) - 20)) <= 4
    assert np.mean(rates) == pytest.approx(0.15, abs=0.02)


# ---- what slices say of each other ----------------------------------------------------------------------------------


def test_the_excess_is_that_of_the_process() -> None:
    """Variance of the mean of so many slices over what records alone make it, less one."""
    world, rng = World(0.5, 100, 0.2, memory=0.6, slices=4_000), np.random.default_rng(7)
    nulls = world.nulls(rng, 5)
    ages = module._AGES.tolist()
    for age in (1, 4, 12):
        means = world.path(rng, 2_000, age)
        rate = (means[..., 0] * means[..., 1]).sum(axis=1) / means[..., 1].sum(axis=1)
        expected = rate.var() / (0.25 / (100 * age)) - 1
        assert nulls.excess[:, ages.index(age)].mean() == pytest.approx(expected, rel=0.25)


def test_slices_across_a_gap_are_no_neighbours() -> None:
    share, units = np.tile([0.2, 0.8], 40), np.full(80, 50.0)
    near = share_nulls(reference(share, units), YES)
    apart = share_nulls(reference(share, units, np.arange(80) * 20), YES)
    assert near.excess[0, 1] < 1 < apart.excess[0, 1]


# ---- state ----------------------------------------------------------------------------------------------------------


def test_what_is_put_back_goes_on_bit_by_bit() -> None:
    world, rng = World(0.1, 40), np.random.default_rng(8)
    nulls, path = world.nulls(rng, 3), world.path(rng, 3, 90)
    one, two = Evidence.begin(nulls), Evidence.begin(nulls)
    for at in range(60):
        one.step(path[:, at, 0], path[:, at, 1], path[:, at, 1])
    one.restart(np.array([1]))
    steps, births, sums = one.state()
    two.put_back(steps.copy(), births.copy(), sums.copy())
    for at in range(60, 90):
        assert one.log_sum.tobytes() == two.log_sum.tobytes()
        for evidence in (one, two):
            evidence.step(path[:, at, 0], path[:, at, 1], path[:, at, 1])
    assert [part.tobytes() for part in one.state()] == [part.tobytes() for part in two.state()]


def test_many_shares_are_as_one_by_one() -> None:
    world, rng = World(0.1, 40), np.random.default_rng(9)
    nulls, path = world.nulls(rng, 4), world.path(rng, 4, 70)
    together = watch(nulls, path)
    for row in range(4):
        alone = ShareNulls(*(getattr(nulls, name)[row : row + 1] for name in ShareNulls.__slots__))
        assert watch(alone, path[row : row + 1]).tobytes() == together[row : row + 1].tobytes()


@given(steps=st.integers(1, 3_000))
def test_starts_are_four_to_an_octave_and_never_too_many(steps: int) -> None:
    births: list[int] = []
    for now in range(steps):
        stride = [2 ** max(int(np.log2(max(now - birth, 1))) - 2, 0) for birth in births]
        births = [b for b, s in zip(births, stride, strict=True) if b % s == 0 and now - b < REACH] + [now]
        assert len(births) <= STARTS
    if steps > 16:
        assert any(8 <= steps - 1 - birth <= 15 for birth in births)


def test_a_slice_without_records_says_nothing() -> None:
    world, rng = World(0.1, 40), np.random.default_rng(10)
    path = world.path(rng, 1, 20)
    evidence = Evidence.begin(world.nulls(rng, 1))
    for at in range(20):
        evidence.step(path[:, at, 0], path[:, at, 1], path[:, at, 1])
    before = {int(birth): value for birth, value in zip(evidence.births[0], evidence.sums[0, :, 0], strict=True)}
    evidence.step(np.array([0.7]), np.zeros(1), np.zeros(1))
    after = {int(birth): value for birth, value in zip(evidence.births[0], evidence.sums[0, :, 0], strict=True)}
    assert (evidence.log_sum < np.inf).all()
    assert {birth: before[birth] for birth in after if 0 <= birth < 20} == {
        birth: value for birth, value in after.items() if 0 <= birth < 20
    }


def test_a_restart_forgets_everything_of_its_share_only() -> None:
    world, rng = World(0.1, 40), np.random.default_rng(11)
    nulls, path = world.nulls(rng, 2), World(0.3, 40).path(rng, 2, 30)
    evidence = Evidence.begin(nulls)
    for at in range(30):
        evidence.step(path[:, at, 0], path[:, at, 1], path[:, at, 1])
    kept = evidence.log_sum[1]
    evidence.restart(np.array([0]))
    assert (evidence.log_sum[0], evidence.log_sum[1]) == (-np.inf, kept)
    evidence.step(path[:, 0, 0], path[:, 0, 1], path[:, 0, 1])
    fresh = watch(ShareNulls(*(getattr(nulls, name)[:1] for name in ShareNulls.__slots__)), path[:1, :1])
    assert evidence.log_sum[0] == fresh[0, 0]
