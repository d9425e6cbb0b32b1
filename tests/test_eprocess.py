"""E-processes of rates: closed forms, the bound on false decisions, delay, and state that can be rebuilt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import special, stats

from monitor import eprocess
from monitor.eprocess import BLOCKS, REACH, STARTS, Evidence, RateNull, log_likelihood, rate_null, step_length
from monitor.model import Floats, Ints

_CORRELATIONS = eprocess._CORRELATIONS


def beta_binomial(rng: np.random.Generator, trials: Ints, rate: float, correlation: float) -> Floats:
    """Successes of slices whose units correlate."""
    p = np.full(trials.shape, rate)
    if correlation:
        p = rng.beta(rate * (1 / correlation - 1), (1 - rate) * (1 / correlation - 1), trials.shape)
    return rng.binomial(trials, p).astype(np.float64)


@dataclass(frozen=True)
class World:
    """Slices of a rate, as they are while nothing changes."""

    rate: float = 0.05
    trials: float = 30
    correlation: float = 0.0

    def draw(self, rng: np.random.Generator, *shape: int) -> tuple[Floats, Floats]:
        trials = rng.poisson(self.trials, shape)
        return beta_binomial(rng, trials, self.rate, self.correlation), trials.astype(np.float64)

    def learned(self, rng: np.random.Generator, slices: int = 100) -> RateNull:
        successes, trials = self.draw(rng, slices)
        return rate_null(np.arange(slices), successes, trials, (0.0, 0.0), 0.0125)


def evidence_of(nulls: list[RateNull]) -> Evidence:
    evidence = Evidence()
    for null in nulls:
        evidence.join(null)
    return evidence


# ---- closed forms ---------------------------------------------------------------------------------------------------


def test_the_likelihood_is_beta_binomial() -> None:
    rates, trials = np.array([0.01, 0.3]), 40
    k = np.arange(trials + 1, dtype=np.float64)
    found = log_likelihood(k, np.full(41, 40.0), np.broadcast_to(rates, (41, 2)))
    found = found + (special.gammaln(41) - special.gammaln(k + 1) - special.gammaln(41 - k))[:, None, None]
    for row, q in enumerate(rates):
        np.testing.assert_allclose(np.exp(found[:, row, 0]), stats.binom.pmf(k, trials, q), rtol=1e-9)
        for column, correlation in enumerate(_CORRELATIONS[1:], 1):
            a, b = q * (1 / correlation - 1), (1 - q) * (1 / correlation - 1)
            np.testing.assert_allclose(np.exp(found[:, row, column]), stats.betabinom.pmf(k, trials, a, b), rtol=1e-6)


def test_the_null_is_the_posterior_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    null = replace(World(0.05, 30)).learned(rng, 400)
    weight = np.exp(null.log_null)
    assert weight.sum() == pytest.approx(1)
    assert np.exp(null.log_alternative).sum() == pytest.approx(1)
    mean = float(weight.sum(axis=1) @ null.rates)
    spread = float(np.sqrt(weight.sum(axis=1) @ (null.rates - mean) ** 2))
    assert mean == pytest.approx(null.rate, rel=0.02)
    assert spread == pytest.approx(np.sqrt(0.05 * 0.95 / 12_000), rel=0.3)


def test_the_null_finds_how_units_correlate() -> None:
    rng = np.random.default_rng(0)
    found = [np.mean([World(0.3, 60, c).learned(rng, 200).correlation for _ in range(8)]) for c in (0.0, 0.01, 0.1)]
    assert found[0] < 0.002
    assert 0.006 < found[1] < 0.02
    assert found[2] > 0.06


def test_slices_that_were_not_kept_tell_of_the_rate_only() -> None:
    """The rate is that of all slices; what is said of correlation comes from those kept."""
    rng = np.random.default_rng(1)
    successes, trials = World(0.05, 30, 0.01).draw(rng, 100)
    alone = rate_null(np.arange(100), successes, trials, (0.0, 0.0), 0.01)
    most = rate_null(np.arange(100), successes, trials, (0.06 * 30_000, 30_000.0), 0.01)
    assert most.rate == pytest.approx((successes.sum() + 1800) / (trials.sum() + 30_000))
    mean = float(np.exp(most.log_null).sum(axis=1) @ most.rates)
    assert mean == pytest.approx(most.rate, rel=0.01)
    by_correlation = [np.exp(null.log_null).sum(axis=0) for null in (alone, most)]
    np.testing.assert_allclose(by_correlation[0], by_correlation[1], atol=0.1)


@pytest.mark.parametrize("world", [World(0.05, 30), World(0.5, 30, 0.03), World(0.001, 30)])
def test_an_e_value_has_mean_one_under_the_null(world: World) -> None:
    """Summed over every possible count of one step, exactly."""
    null = replace(world.learned(np.random.default_rng(3)), block=1, more=1.0)
    n = 30
    k = np.arange(n + 1, dtype=np.float64)
    evidence = evidence_of([null] * (n + 1))
    evidence.step(0, k, np.full(n + 1, float(n)))
    choose = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    log_pmf = log_likelihood(k, np.full(n + 1, float(n)), np.broadcast_to(null.rates, (n + 1, len(null.rates))))
    under_null = np.exp(choose) * (np.exp(log_pmf) * np.exp(null.log_null)).sum(axis=(1, 2))
    assert under_null.sum() == pytest.approx(1)
    assert float(under_null @ np.exp(evidence.log_sum)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("rate", "trials"), [(0.0, 30), (1.0, 30), (0.0, 0), (0.5, 0.01)])
def test_rates_at_the_edge_and_references_with_nothing_are_finite(rate: float, trials: float) -> None:
    rng = np.random.default_rng(0)
    null = World(rate, trials).learned(rng, 80)
    evidence = evidence_of([null])
    for number in range(40):
        evidence.step(number, np.array([rate * trials]), np.array([float(trials)]))
    assert np.isfinite(evidence.log_sum).all()
    assert float(evidence.log_sum[0]) < np.log(1e3)


# ---- false decisions ------------------------------------------------------------------------------------------------

Learn = Callable[[World, np.random.Generator], RateNull]


def share_alarmed(world: World, alpha: float, steps: int, paths: int, learn: Learn = World.learned) -> float:
    """Share of unchanged paths, each with a reference of its own, whose evidence passes 1/alpha within `steps`."""
    rng = np.random.default_rng(5)
    evidence = evidence_of([learn(world, rng) for _ in range(paths)])
    spent = alpha * np.array([null.block for null in evidence.nulls])
    alarmed = np.zeros(paths, bool)
    for number in range(steps):
        evidence.step(number, *world.draw(rng, paths))
        alarmed |= evidence.log_sum >= -np.log(spent)
    return float(alarmed.mean())


WORLDS = [World(0.05, 30), World(0.05, 30, 0.01), World(0.3, 100, 0.02), World(0.002, 30)]


def holds_its_bound(learn: Learn) -> None:
    """P(alarm by step T) <= alpha T for every T, which a mean time of at least 1/alpha asks for; T half of it."""
    for world in WORLDS:
        assert share_alarmed(world, 1e-2, 50, 100, learn) <= 0.5 * 0.6
        assert share_alarmed(world, 2e-3, 250, 40, learn) <= 0.5 * 0.6


def test_the_mean_time_to_a_false_decision_is_bounded() -> None:
    holds_its_bound(World.learned)


def plugged_in(world: World, rng: np.random.Generator) -> RateNull:
    """As if the reference's rate were known and its units did not correlate."""
    null = world.learned(rng)
    log_null = np.full_like(null.log_null, -np.inf)
    log_null[np.abs(null.rates - null.rate).argmin(), 0] = 0.0
    return replace(null, log_null=log_null)


def test_a_rate_that_is_plugged_in_is_noticed() -> None:
    with pytest.raises(AssertionError):
        holds_its_bound(plugged_in)


# ---- delay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(0.05, 0.15), (0.05, 0.09), (0.3, 0.2), (0.02, 0.08)])
@pytest.mark.parametrize("alpha", [1e-4, 1e-7])
def test_a_change_is_found_within_three_times_the_least_delay(before: float, after: float, alpha: float) -> None:
    """The least that any procedure needs on average is ln(1/alpha)/KL records (Lorden 1971); medians over 40 paths."""
    rng = np.random.default_rng(2)
    divergence = float(special.rel_entr(after, before) + special.rel_entr(1 - after, 1 - before))
    least = -np.log(alpha) / divergence / 30
    evidence = evidence_of([replace(World(before, 30).learned(rng, 288), block=1, more=1.0) for _ in range(40)])
    for number in range(24):
        evidence.step(number, *World(before, 30).draw(rng, 40))
    found = np.full(40, np.inf)
    for number in range(24, 24 + int(4 * least) + 6):
        evidence.step(number, *World(after, 30).draw(rng, 40))
        found = np.where(np.isinf(found) & (evidence.log_sum >= -np.log(alpha)), number - 23, found)
    assert float(np.median(found)) <= 3 * least + 1


def test_the_strongest_stretch_begins_about_where_the_rate_changed() -> None:
    rng = np.random.default_rng(4)
    evidence = evidence_of([replace(World(0.05, 30).learned(rng, 288), block=1) for _ in range(20)])
    for number in range(60):
        evidence.step(number, *World(0.05, 30).draw(rng, 20))
    for number in range(60, 76):
        evidence.step(number, *World(0.3, 30).draw(rng, 20))
    rates = [successes / trials for successes, trials in (evidence.stretch(row) for row in range(20))]
    assert np.median(rates) == pytest.approx(0.3, rel=0.15)
    assert 12 <= np.median(evidence.strongest) <= 24


# ---- steps ----------------------------------------------------------------------------------------------------------


def swinging(rng: np.random.Generator, slices: int, memory: float, amount: float) -> tuple[Floats, Floats]:
    state, found = rng.standard_normal(), np.empty(slices)
    for i in range(slices):
        state = memory * state + np.sqrt(1 - memory**2) * rng.standard_normal()
        found[i] = state
    trials = rng.poisson(200, slices)
    return rng.binomial(trials, special.expit(-2 + amount * found)).astype(np.float64), trials.astype(np.float64)


def test_slices_that_correlate_make_longer_steps() -> None:
    rng = np.random.default_rng(6)
    chosen = {
        memory: [step_length(np.arange(288), *swinging(rng, 288, memory, 0.3)) for _ in range(30)]
        for memory in (0.0, 0.5, 0.9)
    }
    blocks = {memory: [block for block, _ in found] for memory, found in chosen.items()}
    assert np.mean([block == 1 for block in blocks[0.0]]) >= 0.7
    assert np.median(blocks[0.5]) >= 3
    assert np.median(blocks[0.9]) == BLOCKS[-1]
    assert np.median([more for _, more in chosen[0.9]]) > 1.3  # what even the longest steps leave
    assert all(more >= 1 for found in chosen.values() for _, more in found)


def test_slices_across_a_gap_are_no_neighbours() -> None:
    rng = np.random.default_rng(6)
    successes, trials = swinging(rng, 288, 0.95, 0.5)
    assert step_length(np.arange(288), successes, trials)[0] > 1
    assert step_length(np.arange(288) * 1000, successes, trials) == (1, 1.0)


def test_a_step_waits_for_its_last_slice() -> None:
    null = replace(World().learned(np.random.default_rng(0)), block=4)
    evidence = evidence_of([null, replace(null, block=1)])
    complete = [evidence.step(number, np.ones(2), np.full(2, 9.0)).tolist() for number in range(2, 9)]
    assert [both[0] for both in complete] == [False, True, False, False, False, True, False]
    assert all(both[1] for both in complete)
    assert evidence.step_number.tolist() == [2, 7]
    assert evidence.history[0, -2:].tolist() == [[2, 18], [4, 36]]
    assert evidence.filling[0].tolist() == [1, 9]


# ---- state ----------------------------------------------------------------------------------------------------------


def state(evidence: Evidence) -> list[bytes]:
    arrays = (evidence.log_sum, evidence.strongest, evidence.step_number)
    order = np.argsort(evidence._births, axis=1, kind="stable")
    births = np.take_along_axis(evidence._births, order, axis=1)
    held = np.take_along_axis(evidence._sums, order[:, :, None, None], axis=1)
    sums = np.where((births >= 0)[:, :, None, None], held, 0.0)  # a free place may hold anything
    return [array.tobytes() for array in (*arrays, births, sums)]


def test_what_is_derived_is_rebuilt_bit_by_bit() -> None:
    """At any step, beyond REACH, after restarts, with steps of different lengths."""
    rng = np.random.default_rng(8)
    null = World().learned(rng)
    evidence = evidence_of([null, replace(null, block=3), replace(null, more=1.7), null])
    checks = {0, 1, 2, 7, 31, 32, 33, 200, REACH - 1, REACH, REACH + 1, REACH + 77}
    for number in range(max(checks) + 1):
        evidence.step(number, *World().draw(rng, 4))
        if number == 120:
            evidence.restart(np.array([3]))
        if number in checks:
            fresh = evidence_of(evidence.nulls)
            fresh.step_number, fresh.history = evidence.step_number.copy(), evidence.history.copy()
            fresh.filling = evidence.filling.copy()
            fresh.replay()
            assert state(fresh) == state(evidence)
    assert ((evidence._births >= 0).sum(axis=1) <= STARTS).all()


def test_starts_reach_back_as_far_as_is_kept() -> None:
    evidence = evidence_of([World().learned(np.random.default_rng(0))])
    for number in range(REACH + 300):
        evidence.step(number, np.array([1.0]), np.array([30.0]))
    age = evidence.step_number[0] - evidence._births[0][evidence._births[0] >= 0]
    assert age.min() == 1
    assert REACH * 0.75 <= age.max() <= REACH
    assert (np.diff(np.log2(np.sort(age))) <= 1).all()
    assert len(age) >= STARTS * 0.7


def test_a_restart_forgets_everything_of_its_series_only() -> None:
    rng = np.random.default_rng(0)
    null = World().learned(rng)
    evidence = evidence_of([null, null])
    for number in range(20):
        evidence.step(number, np.array([9.0, 9.0]), np.array([30.0, 30.0]))
    before = float(evidence.log_sum[1])
    evidence.drifting[:] = True
    evidence.restart(np.array([0]))
    assert evidence.log_sum.tolist() == [-np.inf, before]
    assert evidence.drifting.tolist() == [False, True]
    assert evidence.step_number.tolist() == [0, 20]
    alone = evidence_of([null])
    for number in range(20, 30):
        counts = np.array([3.0, 9.0]), np.array([30.0, 30.0])
        evidence.step(number, *counts)
        alone.step(number, counts[0][:1], counts[1][:1])
        assert float(evidence.log_sum[0]) == pytest.approx(float(alone.log_sum[0]), rel=1e-12)


def test_many_series_are_as_one_by_one() -> None:
    rng = np.random.default_rng(9)
    nulls = [World(rate).learned(rng) for rate in (0.01, 0.1, 0.5)]
    together, alone = evidence_of(nulls), [evidence_of([null]) for null in nulls]
    for number in range(60):
        successes, trials = World(0.2).draw(rng, 3)
        together.step(number, successes, trials)
        for row, one in enumerate(alone):
            one.step(number, successes[row : row + 1], trials[row : row + 1])
    for row, one in enumerate(alone):
        assert float(together.log_sum[row]) == pytest.approx(float(one.log_sum[0]), rel=1e-12)


def test_state_that_disagrees_is_refused() -> None:
    evidence = evidence_of([World().learned(np.random.default_rng(0))])
    evidence.step_number = np.array([-1])
    with pytest.raises(ValueError, match="disagree"):
        evidence.replay()
