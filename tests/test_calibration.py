"""The null against closed forms, exact covariances and simulations; and three faults that these must notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from monitor import calibration
from monitor.calibration import (
    LAGS,
    FalseAlarmSettings,
    NullMoments,
    NullTerms,
    ReferenceSlices,
    critical,
    decided,
    multinomial_within,
    needed_shift,
    null_moments,
    null_terms,
    raised_lead,
    stack_terms,
    tail,
    thresholds,
    vector_within,
)
from monitor.model import Floats, Ints, Scope
from monitor.settings import DAY

KNOWN = 1e12
"""Degrees of freedom of a trace that is known exactly, as far as numbers go."""


def moments(lead: float, weight: float, m: float, freedom: float = 1e6) -> NullMoments:
    """The null that is lead X_1 + weight X_m."""
    return NullMoments(
        np.array([lead + weight * m]),
        np.array([lead**2 + weight**2 * m]),
        np.array([lead]),
        np.array([m + 1]),
        np.array([freedom]),
    )


def tail_at(statistic: float, null: NullMoments) -> float:
    return float(tail(np.array([statistic]), null)[0])


# ---- tails ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 5, 15, 64])
@pytest.mark.parametrize("p", [0.1, 1e-2, 1e-4, 1e-6, 1e-9])
def test_the_tail_of_equal_weights_is_chi_square(freedom: int, p: float) -> None:
    statistic = float(stats.chi2.isf(p, freedom))
    null = NullMoments(*(np.array([x], float) for x in (freedom, freedom, 1, freedom, 1e6)))
    assert tail_at(statistic, null) == pytest.approx(p, rel=0.08 if freedom == 1 else 0.04)


@pytest.mark.parametrize("noise", [6.0, 12.0, 40.0])
@pytest.mark.parametrize("p", [0.05, 1e-3, 1e-6])
def test_the_tail_with_a_noisy_trace_is_f(noise: float, p: float) -> None:
    freedom = 15
    statistic = freedom * float(stats.f.isf(p, freedom, noise))
    null = NullMoments(*(np.array([x], float) for x in (freedom, freedom, 1, freedom, noise)))
    assert tail_at(statistic, null) == pytest.approx(p, rel=0.05)


@pytest.mark.parametrize(
    ("lead", "weight", "m", "noise"),
    [(5.0, 1.0, 10.0, np.inf), (30.0, 1.0, 14.0, np.inf), (3.0, 0.5, 6.0, 30.0), (1.0, 0.2, 3.0, np.inf)],
)
def test_the_tail_of_a_mixture_is_that_of_simulation(lead: float, weight: float, m: float, noise: float) -> None:
    rng = np.random.default_rng(7)
    draws = lead * rng.chisquare(1, 2_000_000) + weight * rng.chisquare(m, 2_000_000)
    if np.isfinite(noise):
        draws /= rng.chisquare(noise, len(draws)) / noise
    null = moments(lead, weight, m, min(noise, 1e6))
    for p in (0.05, 1e-2, 1e-3, 1e-4):
        assert tail_at(float(np.quantile(draws, 1 - p)), null) == pytest.approx(
            p, rel=0.08 + 3 / np.sqrt(p * len(draws))
        )


def test_the_tail_falls_as_the_statistic_grows_and_is_a_probability() -> None:
    for null in (moments(5, 1, 10), moments(1, 1, 14, 8.0), moments(1, 1e-9, 3)):
        x = np.geomspace(1e-6, 1e4, 3000) * float(null.trace[0])
        many = NullMoments(*(np.repeat(getattr(null, name), 3000) for name in NullMoments.__dataclass_fields__))
        p = tail(x, many)
        assert ((p >= 0) & (p <= 1)).all()
        below = p < 0.25
        assert (np.diff(p[below]) <= 1e-12).all()
        assert p[x < null.trace[0]].min() >= 0.3


def test_nothing_that_varies_has_no_tail_below_one_third() -> None:
    null = NullMoments(*(np.array([x], float) for x in (0, 0, 0, 1, 1e6)))
    assert tail_at(0.0, null) >= 0.3


@pytest.mark.parametrize("null", [moments(1, 1, 14), moments(3, 1, 9), moments(8, 1, 12, 40.0), moments(2, 0.5, 2)])
@pytest.mark.parametrize("p", [1e-2, 1e-4, 1e-6])
def test_the_critical_value_has_about_the_tail_that_was_asked_for(null: NullMoments, p: float) -> None:
    assert tail_at(float(critical(np.array([p]), null)[0]), null) == pytest.approx(p, rel=0.1)


@pytest.mark.parametrize("lead", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("p", [1e-3, 1e-6])
def test_a_needed_shift_is_flagged_nine_times_of_ten(lead: float, p: float) -> None:
    """Along the direction that varies most; along any other more often."""
    rng, null = np.random.default_rng(3), moments(lead, 1.0, 10)
    weights = np.array([lead, *([1.0] * 10)])
    shift = float(needed_shift(np.array([p]), null)[0])
    power = []
    for direction in (np.eye(11)[0], np.eye(11)[10], np.full(11, 1 / 11)):
        moved = np.sqrt(shift * direction) + rng.standard_normal((4000, 11)) * np.sqrt(weights)
        power.append(float((tail((moved**2).sum(axis=1), _repeated(null, 4000)) <= p).mean()))
    assert power[0] == pytest.approx(0.91, abs=0.02)
    assert min(power) >= 0.89


def _repeated(null: NullMoments, count: int) -> NullMoments:
    return NullMoments(*(np.repeat(getattr(null, name), count) for name in NullMoments.__dataclass_fields__))


# ---- the budget -----------------------------------------------------------------------------------------------------


def test_thresholds_add_up_to_the_budget() -> None:
    settings = FalseAlarmSettings.model_validate({"at_most": 2, "per": "30d"})
    series = {Scope("a"): 7.0, Scope("b"): 3.0, Scope("a", "t=1"): 5.0, Scope("a", "t=2"): 0.0}
    lengths = [25_000, 300_000]
    found = thresholds(settings, series, lengths)
    spent = sum(
        count * found[length][scope.segment is not None] * (30 * DAY / length)
        for scope, count in series.items()
        for length in lengths
    )
    assert spent == pytest.approx(2)
    assert found[25_000][False] * 10 == pytest.approx(found[25_000][True] * 5)  # half to whole streams
    alone = thresholds(settings, {Scope("a"): 10.0}, [25_000])
    assert alone[25_000][False] * 10 * 30 * DAY / 25_000 == pytest.approx(2)
    assert thresholds(settings, {}, [25_000])[25_000][False] == pytest.approx(2 * 25_000 / (30 * DAY))


# ---- small parts ----------------------------------------------------------------------------------------------------


def test_w_is_the_unbiased_covariance_of_an_indicator() -> None:
    rng = np.random.default_rng(0)
    p = np.array([0.6, 0.3, 0.1])
    units = rng.integers(1, 6, 20_000).astype(float)  # slices of 1 unit say nothing; those of 2 much too little
    shares = np.stack([rng.multinomial(int(n), p) / n for n in units])
    np.testing.assert_allclose(multinomial_within(shares, units), np.diag(p) - np.outer(p, p), atol=0.01)
    assert not multinomial_within(shares[:1] * 0, np.ones(1)).any()


def test_drift_is_beyond_the_threshold_and_by_as_much_as_matters() -> None:
    p, effect = np.array([1e-9, 1e-9, 0.5, 1e-9]), np.array([0.2, 0.05, 0.2, -0.2])
    assert decided(p, np.full(4, 1e-6), effect, np.full(4, 0.1)).tolist() == [True, False, False, True]


# ---- tr(DC) against the exact covariance of a process that is known -------------------------------------------------


class Process:
    """Slice means of three cells: shares p + swing_s * direction, swing AR(1), and k_s of n_s units seen of them."""

    def __init__(
        self, *, swing: float, memory: float, scored: float = 1.0, uneven: bool = False, records: int = 200
    ) -> None:
        self.p = np.array([0.5, 0.3, 0.2])
        self.direction = np.array([1.0, -0.4, -0.6])
        self.swing, self.memory, self.scored, self.uneven, self.records = swing, memory, scored, uneven, records

    def traffic(self, rng: np.random.Generator, count: int) -> Floats:
        spread = 0.5 if self.uneven else 0.0
        return np.maximum(np.round(self.records * np.exp(rng.standard_normal(count) * spread)), 4)

    def path(self, rng: np.random.Generator, count: int) -> Floats:
        state, found = rng.standard_normal(), np.empty(count)
        for i in range(count):
            state = self.memory * state + np.sqrt(1 - self.memory**2) * rng.standard_normal()
            found[i] = state
        return found * self.swing

    def draw(self, rng: np.random.Generator, units: Floats) -> tuple[Floats, Floats]:
        """Shares and units seen of each slice."""
        seen = np.maximum(np.round(units * self.scored), 1)
        shares = np.clip(self.p + self.path(rng, len(units))[:, None] * self.direction, 1e-3, 1)
        shares /= shares.sum(axis=1, keepdims=True)
        counts = rng.multinomial(seen.astype(np.int64), shares)
        return counts / seen[:, None], seen

    def reference(self, rng: np.random.Generator, count: int) -> ReferenceSlices:
        units = self.traffic(rng, count)
        shares, seen = self.draw(rng, units)
        weight = units / units.sum()
        lags = np.array([(weight[: count - lag] * weight[lag:]).sum() for lag in range(LAGS)])
        return ReferenceSlices(
            np.arange(count),
            shares,
            units,
            seen,
            multinomial_within(shares, seen),
            weight @ shares,
            float(units.sum()),
            lags,
            float((weight**2 / seen).sum()),
        )

    def exact_trace(self, slices: ReferenceSlices, units: Floats, seen: Floats, metric: Floats) -> float:
        """tr(D Var(window - reference)), all covariances written out."""
        total = 0.0
        within = np.diag(self.p) - np.outer(self.p, self.p) - self.swing**2 * np.outer(self.direction, self.direction)
        for n, k in ((units, seen), (slices.units, slices.seen)):
            weight = n / n.sum()
            apart = np.abs(np.subtract.outer(np.arange(len(n)), np.arange(len(n))))
            swing = float(weight @ self.memory**apart @ weight) * self.swing**2
            total += float((metric * np.diag(within)).sum()) * float((weight**2 / k).sum())
            total += float((metric * self.direction**2).sum()) * swing
        return total


PROCESSES = {
    "iid": Process(swing=0.0, memory=0.0),
    "swing": Process(swing=0.03, memory=0.8),
    "uneven": Process(swing=0.03, memory=0.8, uneven=True),
    "sampled": Process(swing=0.02, memory=0.6, scored=0.25),
    "sampled, no swing": Process(swing=0.0, memory=0.0, scored=0.25),
}


def mean_ratio(process: Process, *, traffic: float = 1.0, scored: float | None = None, references: int = 40) -> float:
    """The estimated trace over the exact one, both averaged over references of 240 slices and windows."""
    rng = np.random.default_rng(11)
    metric, found, exact = np.array([1.0, 2.0, 3.0]), 0.0, 0.0
    share = process.scored if scored is None else scored
    for _ in range(references):
        slices = process.reference(rng, 240)
        units = process.traffic(rng, LAGS) * traffic
        seen = np.maximum(np.round(units * share), 1)
        terms = stack_terms([calibration.null_terms(slices, np.arange(3), metric)])
        found += float(null_moments(terms, units[None, :], seen[None, :]).trace[0])
        exact += process.exact_trace(slices, units, seen, metric)
    return found / exact


def traces_are_exact(process: Process) -> None:
    """Within an eighth; where slices do not differ at all, more, as an estimate of B below 0 counts as 0."""
    for traffic in (0.2, 1.0, 5.0):
        assert 0.88 <= mean_ratio(process, traffic=traffic) <= (1.12 if process.swing else 1.0 + 0.08 * (1 + traffic))


@pytest.mark.parametrize("process", PROCESSES.values(), ids=list(PROCESSES))
def test_the_trace_is_that_of_the_exact_covariance(process: Process) -> None:
    traces_are_exact(process)


def test_windows_that_are_sampled_where_the_reference_was_not() -> None:
    assert mean_ratio(PROCESSES["swing"], scored=0.1) == pytest.approx(1, abs=0.12)


def test_slices_with_nothing_seen_weigh_nothing() -> None:
    slices = PROCESSES["swing"].reference(np.random.default_rng(0), 100)
    terms = stack_terms([null_terms(slices, np.arange(3), np.ones(3))])
    units = np.full((1, LAGS), 50.0)
    seen = np.where(np.arange(LAGS) < 6, 50.0, 0.0)[None, :]
    half = null_moments(terms, units, seen)
    alone = null_moments(terms, np.where(seen > 0, units, 0), seen)
    assert float(half.trace[0]) == float(alone.trace[0]) > float(null_moments(terms, units, units).trace[0])
    assert float(null_moments(terms, units * 0, seen * 0).trace[0]) > 0  # no units: the reference's part stays


def test_runs_are_kept_apart() -> None:
    """Slices before and after a gap are no neighbours: 24 runs of twelve give the trace of the whole."""
    process, rng = Process(swing=0.03, memory=0.9), np.random.default_rng(5)
    ratios = []
    for _ in range(40):
        slices = process.reference(rng, 24 * 12)
        gaps = replace(slices, number=slices.number + 30 * (slices.number // 12))
        near, apart = (null_terms(rows, np.arange(3), np.ones(3)).between for rows in (slices, gaps))
        ratios.append((float(near[1]), float(apart[1])))
    whole, split = np.mean(ratios, axis=0)
    assert split == pytest.approx(whole, rel=0.1)


def test_many_series_are_as_one_by_one() -> None:
    rng = np.random.default_rng(2)
    terms, rows = [], []
    for process in PROCESSES.values():
        slices = process.reference(rng, 100)
        terms.append(null_terms(slices, np.arange(3), np.array([1.0, 2.0, 3.0])))
        rows.append(process.traffic(rng, LAGS))
    units = np.stack(rows)
    together = null_moments(stack_terms(terms), units, units)
    statistic = together.trace * np.array([0.5, 1, 2, 5, 20])
    for row, one in enumerate(terms):
        alone = null_moments(stack_terms([one]), units[row : row + 1], units[row : row + 1])
        for name in NullMoments.__dataclass_fields__:
            assert getattr(alone, name)[0] == getattr(together, name)[row]
        assert tail(statistic[row : row + 1], alone)[0] == tail(statistic, together)[row]


def test_terms_know_pooled_bins_only() -> None:
    """Pooling first and computing then is computing with labels."""
    rng = np.random.default_rng(2)
    slices = PROCESSES["swing"].reference(rng, 100)
    labels = np.array([0, 1, 1])
    onto = np.eye(2)[labels]
    pooled_first = replace(
        slices, shares=slices.shares @ onto, within=onto.T @ slices.within @ onto, mean=slices.mean @ onto
    )
    one = null_terms(slices, labels, np.array([1.0, 2.0]))
    other = null_terms(pooled_first, np.arange(2), np.array([1.0, 2.0]))
    for name in NullTerms.__dataclass_fields__:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-18)


# ---- p-values of simulated windows, and the faults they must notice -------------------------------------------------


def share_below(process: Process, level: float, *, traffic: float = 1.0, references: int = 30) -> float:
    """Share of p-values below `level` over 100 windows each of references of 240 slices."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(references):
        slices = process.reference(rng, 240)
        units = np.stack([np.maximum(process.traffic(rng, LAGS) * traffic, 4) for _ in range(100)])
        drawn = [process.draw(rng, row) for row in np.round(units)]
        seen = np.stack([k for _, k in drawn])
        weight = units / units.sum(axis=1, keepdims=True)
        means = np.einsum("ws,wsb->wb", weight, np.stack([shares for shares, _ in drawn]))
        metric = 1 / slices.mean
        terms = calibration.null_terms(slices, np.arange(3), metric)
        null = null_moments(stack_terms([terms] * 100), units, seen)
        found.append(tail(((means - slices.mean) ** 2 * metric).sum(axis=1), null))
    return float((np.concatenate(found) <= level).mean())


def p_values_hold(process: Process) -> None:
    for traffic in (0.2, 1.0, 5.0):
        assert share_below(process, 1e-2, traffic=traffic) <= 0.02
        assert share_below(process, 1e-3, traffic=traffic) <= 0.004


@pytest.mark.parametrize("process", PROCESSES.values(), ids=list(PROCESSES))
def test_p_values_of_unchanged_windows_hold(process: Process) -> None:
    p_values_hold(process)


def test_p_values_are_not_idle_either() -> None:
    assert share_below(PROCESSES["swing"], 1e-1) >= 0.05
    assert share_below(PROCESSES["iid"], 1e-1) >= 0.05


Terms = Callable[[ReferenceSlices, Ints, Floats], NullTerms]


def without_lags(slices: ReferenceSlices, labels: Ints, metric: Floats) -> NullTerms:
    terms = null_terms(slices, labels, metric)
    between = terms.between.copy()
    between[1:] = 0
    kernel = (LAGS - np.arange(LAGS)) / LAGS**2 + terms.lag_weights
    return replace(terms, between=between, nominal=np.asarray(kernel[0] * between[0]))


def without_b(slices: ReferenceSlices, labels: Ints, metric: Floats) -> NullTerms:
    terms = null_terms(slices, labels, metric)
    zero = np.asarray(0.0)
    return replace(terms, between=terms.between * 0, nominal=zero, cross=zero, square=zero, lead_between=zero)


def one_over_n_for_k_scored(slices: ReferenceSlices, labels: Ints, metric: Floats) -> NullTerms:
    share = float(slices.seen.sum() / slices.units.sum())
    terms = null_terms(replace(slices, seen=slices.units, inverse=slices.inverse * share), labels, metric)
    return replace(terms, within=terms.within * share)


@pytest.mark.parametrize(
    ("fault", "process"),
    [
        (without_lags, PROCESSES["swing"]),
        (without_b, PROCESSES["swing"]),
        (one_over_n_for_k_scored, PROCESSES["sampled, no swing"]),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
@pytest.mark.parametrize("check", [traces_are_exact, p_values_hold], ids=lambda check: check.__name__)
def test_a_fault_in_the_null_is_noticed(
    monkeypatch: pytest.MonkeyPatch, fault: Terms, process: Process, check: Callable[[Process], None]
) -> None:
    monkeypatch.setattr(calibration, "null_terms", fault)
    with pytest.raises(AssertionError):
        check(process)


# ---- vectors --------------------------------------------------------------------------------------------------------


def test_powers_of_w_have_no_bias_though_there_are_more_dimensions_than_units() -> None:
    """60 units of 80 dimensions of falling variance, over and over: the means are those of the true W."""
    rng = np.random.default_rng(0)
    spectrum = 0.5 * 0.93 ** np.arange(80)
    traces = [float((spectrum**power).sum()) for power in (1, 2, 3)]
    found, plain = [], []
    for _ in range(150):
        rows = rng.normal(size=(60, 80)) * np.sqrt(spectrum)
        of, ones = np.repeat(np.arange(20), 3), np.ones(60, np.int64)
        means, seen = np.zeros((20, 80)), np.full(20, 1e9)
        agreement = np.full(20, traces[0])
        within, (square, cube, _) = vector_within(rows, of, ones, means=means, seen=seen, agreement=agreement)
        assert np.trace(within) == pytest.approx(traces[0], rel=1e-6)
        found.append((square, cube))
        plain.append(float((within * within).sum()))
    np.testing.assert_allclose(np.mean(found, axis=0), traces[1:], rtol=0.08)
    assert np.mean(plain) > 1.1 * traces[1]


def test_the_tail_follows_the_third_cumulant() -> None:
    """A sum of many chi-squares with falling weights: lead and second moment alone say it is too rare."""
    weights = 0.9 ** np.arange(60)
    drawn = np.random.default_rng(0).chisquare(1, (400_000, 60)) @ weights
    one = np.ones(1)
    trace, square, cube = ((weights**power).sum() * one for power in (1, 2, 3))
    plain = NullMoments(trace, square, one, 60 * one, 1e6 * one)
    raised = replace(plain, lead=raised_lead(trace, square, one, cube))
    for level in (1e-2, 1e-3, 1e-4):
        at = np.quantile(drawn, 1 - level, keepdims=True)
        assert 0.85 * level <= tail(at, raised)[0] <= 3 * level  # it keeps to the safe side
        assert tail(at, plain)[0] < 0.9 * level


def test_a_lead_that_says_enough_is_left() -> None:
    lead = raised_lead(*(np.array([value]) for value in (4.0, 5.0, 2.0, 1e-3)))
    assert lead[0] == pytest.approx(2.0, rel=1e-9)
