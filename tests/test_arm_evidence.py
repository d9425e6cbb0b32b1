"""Evidence on two arms: e-variables by enumeration, its null by simulation, and how soon it finds what differs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from monitor.arm_evidence import FAR, HEAD, ODDS, ArmEvidence, log_e_values, start_weight
from monitor.model import Floats, Ints


def sums_of(rows: list[list[float]]) -> Floats:
    return np.array(rows, np.float64)


def test_it_is_the_product_over_units_of_the_ratio_of_their_likelihoods() -> None:
    yes, units, yes_b, units_b, level = 3, 7, 11, 40, 0.23
    found = log_e_values(np.array([level]), sums_of([[yes, units, yes_b, units_b]]))[0]
    for ratio, log_e in zip(ODDS.tolist(), found.tolist(), strict=True):
        own = float(special.expit(special.logit(level) + ratio))
        both = (units * own + units_b * level) / (units + units_b)
        arm = [1] * yes + [0] * (units - yes)
        baseline = [1] * yes_b + [0] * (units_b - yes_b)
        parts = [(arm, own), (baseline, level), (arm + baseline, both)]
        logs = [float(np.sum(stats.bernoulli.logpmf(values, rate))) for values, rate in parts]
        assert log_e == pytest.approx(logs[0] + logs[1] - logs[2], abs=1e-9)


@pytest.mark.parametrize(("units", "units_b"), [(1, 1), (1, 20), (7, 3), (4, 80), (30, 30)])
@pytest.mark.parametrize("rate", [0.0, 0.003, 0.02, 0.3, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("level", [0.001, 0.02, 0.4, 0.9])
def test_its_mean_is_at_most_one_whatever_the_common_rate(units: int, units_b: int, rate: float, level: float) -> None:
    arm, baseline = np.arange(units + 1), np.arange(units_b + 1)
    chance = np.outer(stats.binom.pmf(arm, units, rate), stats.binom.pmf(baseline, units_b, rate)).ravel()
    a, b = (side.ravel() for side in np.meshgrid(arm, baseline, indexing="ij"))
    outcomes = np.stack([a, np.full(len(a), units), b, np.full(len(b), units_b)], axis=1).astype(np.float64)
    found = np.exp(log_e_values(np.full(len(outcomes), level), outcomes))
    assert (chance @ found <= 1 + 1e-9).all()


@pytest.mark.parametrize("mean", [0.05, 0.3, 0.5, 0.8])
def test_so_it_is_for_units_between_no_and_yes(mean: float) -> None:
    """A unit is 0, 1/2 or 1, in another mixture in each arm, with the same mean."""
    level, units, units_b = 0.3, 4, 12
    shares = []
    for half, count in ((0.8 * min(mean, 1 - mean), units), (0.2 * min(mean, 1 - mean), units_b)):
        one = np.array([1 - mean - half / 2, half, mean - half / 2])
        total = np.array([1.0])
        for _ in range(count):
            total = np.convolve(total, one)
        shares.append(total)
    chance = np.outer(*shares).ravel()
    a, b = (side.ravel() / 2 for side in np.meshgrid(*(np.arange(len(s)) for s in shares), indexing="ij"))
    outcomes = np.stack([a, np.full(len(a), units), b, np.full(len(b), units_b)], axis=1)
    assert chance.sum() == pytest.approx(1)
    assert (chance @ np.exp(log_e_values(np.full(len(outcomes), level), outcomes)) <= 1 + 1e-9).all()


def test_starts_weigh_no_more_than_slices_have_passed_but_for_the_first() -> None:
    total = np.cumsum(start_weight(np.arange(4 * HEAD)))
    assert total[HEAD - 1] == HEAD
    assert (np.diff(total) <= 1).all()
    assert total[0] == (HEAD + 1) / 2


# ---- simulated pairs ------------------------------------------------------------------------------------------------


class Traffic:
    """Many pairs at once; nothing differs between the arms but what is said."""

    def __init__(
        self, pairs: int, units: float, units_b: float, rate: float, *, seed: int = 1, known: int | None = None
    ) -> None:
        self.rng, self.pairs = np.random.default_rng(seed), pairs
        self.units, self.units_b, self.logit = units, units_b, float(special.logit(rate))
        self.evidence = ArmEvidence()
        first = max(round(11 * units_b), 40) if known is None else known
        self.evidence.join(self.rng.binomial(first, rate, pairs).astype(np.float64), first)
        self.number, self.weight = 0, 0.0

    def draw(self, *, common: float = 0.0, apart: float = 0.0, excess: float = 0.0, alike: float = 0) -> Floats:
        """One slice: yes and units of both. `alike`: units are means of that many records with correlation 1/2."""
        count = self.rng.poisson(self.units, self.pairs), self.rng.poisson(self.units_b, self.pairs)
        columns = []
        for n, own in zip(count, (apart, 0.0), strict=True):
            odds: Floats = excess * self.rng.standard_normal(self.pairs) + (self.logit + common + own)
            rate: Floats = special.expit(odds)
            columns += [self._yes(n, rate, alike), n.astype(np.float64)]
        return np.stack(columns, axis=1)

    def _yes(self, n: Ints, rate: Floats, alike: float) -> Floats:
        if not alike:
            return self.rng.binomial(n, rate).astype(np.float64)
        each = np.repeat(rate, n)
        own = self.rng.beta(each, 1 - each)  # correlation 1/2 within
        means = self.rng.binomial(int(alike), own) / alike
        total: Floats = np.bincount(np.repeat(np.arange(len(n)), n), means, minlength=len(n)).astype(np.float64)
        return total

    def step(self, sums: Floats) -> Floats:
        weight = self.evidence.step(sums, self.number)
        self.number += 1
        self.weight += float(weight.mean())
        return self.evidence.log_e()


def ever(traffic: Traffic, slices: int, **what: float) -> Floats:
    """The most evidence of each pair over so many slices; `day` is the amplitude of a cycle that both share."""
    day, most = what.pop("day", 0.0), np.full(traffic.pairs, -np.inf)
    for number in range(slices):
        common = day * math.sin(2 * math.pi * number / 96)
        most = np.maximum(most, traffic.step(traffic.draw(common=common, **what)))
    return most


NULLS = {
    "half and half": ((60, 60, 0.05), {}),
    "one to twenty, by day and night": ((10, 200, 0.05), {"day": 1.0}),
    "few units a slice": ((2, 3, 0.3), {"day": 0.5}),
    "rare": ((20, 180, 0.004), {"day": 0.7}),
    "common and many": ((400, 400, 0.4), {"day": 0.8}),
    "units that are means": ((10, 40, 0.2), {"alike": 4, "day": 0.5}),
}


@pytest.mark.parametrize("name", NULLS)
def test_unchanged_arms_are_decided_no_more_often_than_allowed(name: str) -> None:
    """3,000 pairs, each watched for 200 slices: the share ever beyond a level is at most that times the weights."""
    how, what = NULLS[name]
    traffic = Traffic(3_000, *how)
    most = ever(traffic, 200, **what)
    for allowed in (1e-2, 1e-3):
        level = allowed / traffic.weight
        decided = int((most >= -math.log(level)).sum())
        assert decided <= stats.poisson.ppf(0.99, 3_000 * allowed), f"{decided} of 3,000 at {allowed}"


def test_what_is_predicted_of_a_slice_comes_from_those_before_it() -> None:
    traffic = Traffic(20, 6, 30, 0.2)
    for _ in range(30):
        level, before = traffic.evidence.predicted, traffic.evidence.log_sum.copy()
        sums, weight = traffic.draw(), start_weight(traffic.evidence.steps)
        sums[:, [1, 3]] += 1
        traffic.step(sums)
        added = traffic.evidence.log_sum - np.logaddexp(before, np.log(weight)[:, None])
        swollen = log_e_values(level, sums) / np.minimum(added, 5.0)
        assert np.ptp(swollen, axis=1) == pytest.approx(0, abs=1e-6), "one number a share, as predicted before"
        assert (swollen >= 1 - 1e-9).all()


def test_the_bound_is_not_far_from_what_happens() -> None:
    traffic = Traffic(3_000, 60, 60, 0.05)
    most = ever(traffic, 200)
    assert (most >= math.log(traffic.weight / 0.1)).mean() > 0.01, "a tenth was allowed"


@pytest.mark.parametrize("excess", [0.1, 0.2])
def test_arms_that_differ_from_slice_to_slice_are_not_taken_to_differ_for_good(excess: float) -> None:
    """Of 91 units in effect: 1.08 and 1.33 times the variance that they make."""
    traffic = Traffic(3_000, 100, 1_000, 0.1)
    most = ever(traffic, 200, excess=excess)
    for allowed in (1e-2, 1e-3):
        decided = int((most >= math.log(traffic.weight / allowed)).sum())
        assert decided <= stats.poisson.ppf(0.99, 3_000 * allowed), f"{decided} of 3,000 at {allowed}"


def bound(units: float, units_b: float, rates: tuple[float, float], needed: float) -> float:
    """Slices to `needed` nats at the divergence of two rates from their mean."""
    (own, usual), n = rates, units + units_b
    both = (units * own + units_b * usual) / n
    parts = [(units, own), (units_b, usual)]
    per_slice = sum(k * (p * math.log(p / both) + (1 - p) * math.log((1 - p) / (1 - both))) for k, p in parts)
    return needed / per_slice


def delays(traffic: Traffic, ratio: float, level: float, *, begins: int, slices: int) -> Floats:
    """Slices from where the arm's odds change to the decision; infinite where there is none."""
    found = np.full(traffic.pairs, np.inf)
    for number in range(slices):
        log_e = traffic.step(traffic.draw(apart=ratio if number >= begins else 0.0))
        found = np.where(np.isinf(found) & (log_e >= -math.log(level)), number + 1 - begins, found)
    return found


def test_twice_the_refusals_in_a_tenth_of_the_traffic_are_found_near_the_bound() -> None:
    ratio = float(special.logit(0.04) - special.logit(0.02))
    least = bound(20, 180, (0.04, 0.02), -math.log(1e-7))
    assert least == pytest.approx(116, abs=1)
    found = delays(Traffic(300, 20, 180, 0.02), ratio, 1e-7, begins=0, slices=500)
    assert found.max() < np.inf
    assert found.mean() < 1.3 * least
    late = delays(Traffic(300, 20, 180, 0.02), ratio, 1e-7, begins=200, slices=700)
    assert (late > 0).all()
    assert np.median(late) < 1.5 * least, "whenever it begins"


def test_no_slice_decides_alone() -> None:
    found = delays(Traffic(50, 500, 500, 0.1), 4.0, 1e-7, begins=20, slices=30)
    assert found.min() > 1
    assert found.max() <= 6


def test_where_a_difference_begins_is_estimated() -> None:
    traffic = Traffic(100, 100, 400, 0.1)
    for number in range(160):
        traffic.step(traffic.draw(apart=1.0 if number >= 120 else 0.0))
    began = np.array([traffic.evidence.strongest(row)[0] for row in range(100)])
    assert abs(np.median(began) - 120) <= 2
    sums = np.array([traffic.evidence.strongest(row)[1] for row in range(100)]).mean(axis=0)
    assert sums[0] / sums[1] == pytest.approx(special.expit(traffic.logit + 1), abs=0.02)
    assert sums[2] / sums[3] == pytest.approx(0.1, abs=0.01)


def test_what_would_have_shown_shows_nine_times_in_ten() -> None:
    traffic = Traffic(400, 60, 240, 0.1)
    for _ in range(60):
        traffic.step(traffic.draw())
    evidence, rows = traffic.evidence, np.arange(400)
    tried = np.full((400, 1), 0.19)
    promised = float(np.median(evidence.shown(rows, tried)))
    evidence.restart(rows)
    ratio = float(special.logit(0.19) - special.logit(0.1))
    for _ in range(12):
        log_e = traffic.step(traffic.draw(apart=ratio))
    assert promised > 3
    assert (log_e >= promised).mean() == pytest.approx(0.9, abs=0.08)


def test_slices_without_one_of_the_arms_say_nothing_and_cost_nothing() -> None:
    traffic = Traffic(3, 20, 20, 0.2)
    for _ in range(10):
        traffic.step(traffic.draw())
    before, weight = traffic.evidence.log_sum.copy(), traffic.weight
    alone = traffic.draw()
    alone[:, :2] = 0
    traffic.step(alone)
    assert (traffic.evidence.log_sum == before).all()
    assert traffic.weight == weight
    assert (traffic.evidence.window[:, -1] == 0).all()
    assert (traffic.evidence.steps == 10).all()


def test_after_a_restart_nothing_is_left_but_the_level_and_no_head_start() -> None:
    traffic = Traffic(2, 50, 50, 0.2)
    for _ in range(30):
        traffic.step(traffic.draw(apart=2.0))
    level = traffic.evidence.level.copy()
    traffic.evidence.restart(np.array([1]))
    assert np.isneginf(traffic.evidence.log_e()[1])
    assert traffic.evidence.log_e()[0] > 20
    assert (traffic.evidence.level == level).all()
    assert traffic.evidence.step(traffic.draw(), 99).tolist() == [0.5, 1.0]


def test_the_window_alone_says_when_a_difference_is_over() -> None:
    traffic = Traffic(20, 100, 100, 0.2)
    for _ in range(20):
        traffic.step(traffic.draw(apart=1.5))
    assert (traffic.evidence.recent() > 5).all()
    for _ in range(12):
        traffic.step(traffic.draw())
    assert (traffic.evidence.recent() < 3).all()
    assert (traffic.evidence.log_e() > 10).all()


def test_state_comes_back_bit_by_bit_and_goes_on_as_if_it_had_not() -> None:
    one, two = Traffic(5, 8, 30, 0.1), Traffic(5, 8, 30, 0.1)
    for number in range(40):
        sums = one.draw()
        one.step(sums)
        two.step(sums)
        two.evidence = ArmEvidence.load(two.evidence.dump())
        assert two.evidence.dump() == one.evidence.dump(), number
    with pytest.raises(ValueError, match="different lengths"):
        ArmEvidence.load([two.evidence.dump()[0][8:], *two.evidence.dump()[1:]])


def test_one_share_does_not_depend_on_those_beside_it() -> None:
    whole, part = Traffic(6, 8, 30, 0.1), Traffic(6, 8, 30, 0.1)
    part.evidence.keep(np.array([1, 4]))
    for _ in range(50):
        sums = whole.draw()
        whole.step(sums)
        part.evidence.step(sums[[1, 4]], whole.number - 1)
    whole.evidence.keep(np.array([1, 4]))
    assert whole.evidence.dump() == part.evidence.dump()
    assert len(part.evidence) == 2


def test_what_is_remembered_of_excess_does_not_grow_for_ever() -> None:
    traffic = Traffic(2, 5, 5, 0.3)
    for _ in range(200):
        traffic.step(traffic.draw())
    assert (traffic.evidence.excess[:, 4] < FAR).all()
