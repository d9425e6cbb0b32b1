"""Laws of the nulls: whatever the traffic, an unchanged series is decided no oftener than its threshold allows.

Hypothesis draws the traffic. Of each that it draws many series are simulated, each with a reference of its own, through
what the product itself uses: summaries, `Learning`, `Judge`. A series may be decided at error probability a a slice in
T slices with probability T a; that a law fails means that as many as were would have a chance below _CHANCE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

from monitor.calibration import NullTerms
from monitor.evidence import ShareNulls, share_nulls
from monitor.model import Floats, Hashes, Ints, Kind, Signal
from monitor.readings import Judge, vectors, watched
from monitor.readings.vectors import BLOCKS
from monitor.reference import Learning
from monitor.summaries import summarise
from monitor.windows import SLICES, Contents, Slice
from tests.bench.null import SIZE, Setting, sampled, scope_of, simulate, stands_for

_CHANCE = 1e-6
_OFTEN = (0.3, 0.05, 0.005)
"""Parts of the series that may ever be decided: T a for the error probabilities a that are asked about."""
_SERIES, _WINDOWS = 40, 6


def no_oftener(least: Floats, tests: int, slack: float = 1.0) -> None:
    """At most as many series as may have ever passed below each error probability, given the least p of each."""
    for part in _OFTEN:
        decided = int((least <= part / tests).sum())
        chance = float(stats.binom.sf(decided - 1, len(least), min(slack * part, 1.0)))
        assert chance >= _CHANCE, f"{decided} of {len(least)} decided at {part / tests:.2g} a test in {tests} tests"


# ---- rates, numbers, categories -------------------------------------------------------------------------------------


@st.composite
def traffic(draw: st.DrawFn, kind: Kind) -> Setting:
    """Units per slice from 2 to 500, references of 72 to 288 slices, values of any shape."""
    slices, units = draw(st.integers(72, 288)), draw(st.sampled_from([2, 3, 5, 10, 30, 100, 500]))
    factor = draw(st.sampled_from([0.25, 1.0, 4.0, 20.0]).filter(lambda factor: units * factor <= 500))
    sample, sessions = draw(st.sampled_from([0, 0, 8, 64])), draw(st.booleans()) if units <= 100 else False
    values = shape(draw, kind, float(slices * units))
    return Setting(units * SLICES, factor, slices, sessions=sessions, shares=values, sample=sample)


def shape(draw: st.DrawFn, kind: Kind, units: float) -> tuple[float, ...]:
    """Of a rate also those of which the reference is expected to hold none or a few; of numbers also few distinct."""
    if kind == "rate":
        few = st.sampled_from([0.1, 1.0, 3.0, 10.0]).map(lambda successes: min(successes / units, 0.5))
        rate = draw(few | st.floats(0.001, 0.999))
        return 1 - rate, rate
    weights = st.floats(-7, 0).map(lambda log: float(np.exp(log)))
    found = draw(st.lists(weights, min_size=2, max_size=30))
    usual = kind == "numeric" and draw(st.booleans())
    return () if usual else tuple(np.array(found) / sum(found))


def law_of_shares(setting: Setting, kind: Kind) -> None:
    no_oftener(simulate(setting, kind, _SERIES, _WINDOWS).least, _WINDOWS * SLICES)


@settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate])
@given(setting=traffic("rate"))
def test_unchanged_rates_are_decided_no_oftener_than_allowed(setting: Setting) -> None:
    law_of_shares(setting, "rate")


@settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate])
@given(setting=traffic("numeric"))
def test_unchanged_numbers_are_decided_no_oftener_than_allowed(setting: Setting) -> None:
    law_of_shares(setting, "numeric")


@settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate])
@given(setting=traffic("category"))
def test_unchanged_categories_are_decided_no_oftener_than_allowed(setting: Setting) -> None:
    law_of_shares(setting, "category")


# ---- faults in the null of shares -----------------------------------------------------------------------------------


def even(nulls: ShareNulls) -> ShareNulls:
    """Slices are taken to differ by their units alone."""
    weights = np.full_like(nulls.log_weights, -np.inf)
    weights[..., 0] = 0
    return replace(nulls, log_weights=weights, excess=np.zeros_like(nulls.excess))


def plugged_in(nulls: ShareNulls) -> ShareNulls:
    """The reference's rate is taken for the true one."""
    return replace(even(nulls), known=np.full_like(nulls.known, 1e12))


def sessions_as_records(nulls: ShareNulls) -> ShareNulls:
    """Sessions are taken to end with the slice in which they began, and their units for three each."""
    return replace(even(nulls), unit=nulls.unit / 3, going_on=np.ones_like(nulls.going_on))


def scored_as_all(nulls: ShareNulls) -> ShareNulls:
    """Records of a sample are taken for all that they stand for."""
    return replace(nulls, unit=nulls.unit / 10, base=nulls.base / 10, known=nulls.known * 10)


FAULTS: Sequence[tuple[Callable[[ShareNulls], ShareNulls], Kind, Setting]] = [
    (plugged_in, "rate", Setting(60, 20, 72, shares=(0.9, 0.1))),
    (plugged_in, "rate", Setting(60, 20, 72, shares=(0.997, 0.003))),
    (plugged_in, "numeric", Setting(60, 20, 72)),
    (sessions_as_records, "numeric", Setting(360, 1, 72, sessions=True)),
    (scored_as_all, "category", Setting(960, 1, 72, sample=8)),
]


@pytest.mark.parametrize(("fault", "kind", "setting"), FAULTS)
def test_the_law_notices_a_fault_in_the_null(
    fault: Callable[[ShareNulls], ShareNulls], kind: Kind, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "share_nulls", lambda *args, **rest: fault(share_nulls(*args, **rest)))
    with pytest.raises(AssertionError, match="decided at"):
        law_of_shares(setting, kind)


# ---- vectors --------------------------------------------------------------------------------------------------------

_TOPICS, _VECTORS, _FEW_WINDOWS = 5, 16, 4


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is usual in a simulation of vectors."""

    slices: int
    records: float
    """Of a slice while the reference is learned."""
    factor: float = 1.0
    """The windows' traffic against the reference's."""
    sample: int = 128
    """Records of a slice that are scored, at most."""
    sessions: bool = False
    size: int = 16
    """Entries of a vector."""
    noise: float = 1.0
    """Of a record about its topic."""


@dataclass(slots=True)
class Voices:
    """Draws the vectors of many series, slice by slice."""

    spoken: Spoken
    series: int
    rng: np.random.Generator
    signal: Signal = field(init=False)
    topics: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.signal = Signal("embedding", "vector", sample=True, fingerprint="m", size=self.spoken.size)
        self.topics = self.rng.normal(size=(_TOPICS, self.spoken.size))

    def slices(self, first: int, count: int, factor: float) -> list[Slice]:
        """The next `count` slices of all series, from slice number `first` on."""
        number, length = self.series * count, SIZE // SLICES
        groups, session, topic = self._about(factor, number)
        records = np.bincount(groups, minlength=number)
        rows = sampled(groups, number, self.spoken.sample, self.rng)
        groups, session, topic = groups[rows], session[rows], topic[rows]
        x = self.topics[topic] + self.spoken.noise * self.rng.standard_normal((len(rows), self.spoken.size))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        order, weight = (
            self.rng.integers(1, 2**63, len(rows)).astype(np.uint64),
            stands_for(records, self.spoken.sample),
        )
        found = summarise(self.signal, x.astype(np.float32), groups, number, session, weight, order)
        return [
            Slice(
                (first + i) * length,
                (first + i + 1) * length,
                {
                    scope_of(row): Contents(int(records[row * count + i]), {self.signal.name: part})
                    for row, part in enumerate(found[i::count])
                    if part.n
                },
            )
            for i in range(count)
        ]

    def _about(self, factor: float, number: int) -> tuple[Ints, Hashes, Ints]:
        """Slice, session and topic of each record; sessions, of five on average, lie in one slice."""
        mix, each = np.array([0.4, 0.3, 0.15, 0.1, 0.05]), 5 if self.spoken.sessions else 1
        begun = np.repeat(np.arange(number), self.rng.poisson(self.spoken.records * factor / each, number))
        topics, row = self.rng.choice(_TOPICS, len(begun), p=mix), np.arange(len(begun))
        names = np.zeros(len(begun), np.uint64)
        if self.spoken.sessions:
            names = self.rng.integers(1, 2**63, len(begun)).astype(np.uint64)
            row = np.repeat(row, self.rng.geometric(1 / each, len(begun)))
        return begun[row], names[row], topics[row]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a simulation of vectors found."""

    least: Floats
    """Least p-value of each series by evidence over time. Shape (series,)."""
    blocks: dict[int, Floats]
    """Least p-value of each series over its blocks of so many slices. Shape (series,) each."""
    slices: int


def hear(spoken: Spoken, series: int, windows: int, seed: int = 1) -> Heard:
    """Watch each of so many unchanged series, each with a reference of its own, for so many windows."""
    voices = Voices(spoken, series, np.random.default_rng(seed))
    judge, length = Judge(SIZE, {}), SIZE // SLICES
    learning = [Learning(scope_of(row), 0, spoken.slices * length, [SIZE]) for row in range(series)]
    for first in range(0, spoken.slices, SLICES):
        for found in voices.slices(first, min(SLICES, spoken.slices - first), 1.0):
            for one in learning:
                one.take(SIZE, found)
    for one in learning:
        judge.join(one.freeze({voices.signal.name: voices.signal}), [])
    table, least = judge.vectors, np.ones(series)
    blocks = {size: np.ones(series) for size in BLOCKS}
    for first in range(0, windows * SLICES, SLICES):
        for at, found in enumerate(voices.slices(spoken.slices + first, SLICES, spoken.factor), first + 1):
            judge.push(found)
            least = np.minimum(least, table.p_values())
            for size in BLOCKS:
                if at % size == 0:
                    p_value = table._p_values(vectors.cautious(table._terms()), size)
                    blocks[size] = np.minimum(blocks[size], p_value)
    return Heard(least, blocks, windows * SLICES)


@st.composite
def spoken(draw: st.DrawFn) -> Spoken:
    """From 2 to 500 records a slice, references of 72 to 200 slices."""
    records, factor = draw(st.sampled_from([2, 5, 20, 50, 500])), draw(st.sampled_from([0.25, 1.0, 4.0]))
    sample, size = draw(st.sampled_from([8, 32, 64])), draw(st.sampled_from([4, 16, 48]))
    slices, sessions, noise = draw(st.integers(72, 200)), draw(st.booleans()), draw(st.floats(0.2, 2.0))
    return Spoken(slices, records, factor, sample, sessions, size, noise)


def law_of_vectors(spoken: Spoken) -> None:
    found = hear(spoken, _VECTORS, _FEW_WINDOWS)
    no_oftener(found.least, found.slices)
    for size, least in found.blocks.items():
        no_oftener(least, found.slices // size)


@settings(max_examples=2, deadline=None, derandomize=True, phases=[Phase.generate])
@given(spoken=spoken())
def test_unchanged_vectors_are_decided_no_oftener_than_allowed(spoken: Spoken) -> None:
    """Nor are p-values of their blocks below any error probability oftener than that says."""
    law_of_vectors(spoken)


def known_reference(terms: NullTerms) -> NullTerms:
    """The reference is taken for what is true, and slices to differ by their units alone."""
    nothing = ("lag_weights", "inverse", "shared", "between", "nominal", "noise")
    return replace(terms, **{name: 0 * getattr(terms, name) for name in nothing})


def test_the_law_notices_a_reference_of_vectors_that_is_taken_for_what_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "cautious", known_reference)
    with pytest.raises(AssertionError, match="decided at"):
        law_of_vectors(Spoken(72, 4, 25.0))


THINNED = Spoken(144, 40, 10.0, sample=64, sessions=True, size=48, noise=2.0)
"""Of each session that had five records in the reference's samples hardly more than one is left."""


def test_vectors_of_sessions_that_more_traffic_thins_are_decided_no_oftener_than_allowed() -> None:
    law_of_vectors(THINNED)


def test_the_law_notices_thinned_sessions_that_are_taken_for_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "like_reference", lambda effective, *_: effective)
    with pytest.raises(AssertionError, match="decided at"):
        law_of_vectors(THINNED)
