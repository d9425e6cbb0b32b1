"""How often the 95 % interval of an effect holds the true one: `python tests/bench/coverage.py [--quick]`.

Every series learns its own reference and is then read by what the product itself uses, once for each window that does
not overlap the last: first unchanged ones, then ones that lie wholly after a change. Printed: the share of windows
whose interval holds the difference between what records are drawn from and what those of the reference were.

All windows of one series are held against the same reference; shares are over `series` references.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from monitor.model import Categories, Column, Floats, Ints, Kind, Reading, Signal
from monitor.readings import Judge
from monitor.windows import SLICES
from tests.bench.null import SIZE, Change, Setting, Traffic, learn, slices_of

WHAT = ("rate", "amount", "score", "category")
CHANGES = {"rate": (0.01, 0.03, 0.1), "amount": (0.1, 0.3), "score": (0.03, 0.1), "category": (0.02, 0.05, 0.2)}
SCORE = Signal("numeric", "numeric", "unit")
_RATE_EDGE, _MIDDLE = 1.7506861, 0.45


@dataclass(frozen=True, slots=True)
class Measured:
    """One simulation: of each interval that was read whether it held the true effect, and how wide it was."""

    held: dict[str, Floats]
    """`window` or `stretch`, by what the effect was of -> shape (readings,)."""
    below: float
    """Share of all intervals that lie wholly below the true effect."""
    width: float


def change_of(what: str, amount: float, seed: int) -> Change | None:
    """A change by `amount`: of a rate in points of what was 0, of amounts in parts, of scores in logits, of categories
    in the share of records that leaves the first value for the fourth."""
    rng = np.random.default_rng(seed)

    def change(values: Column, series: Ints) -> Column:
        del series
        if isinstance(values, Categories):
            codes = values.codes.copy()
            codes[(codes == 0) & (rng.random(len(codes)) < amount / _MIDDLE)] = 3
            return Categories(values.names, codes)
        numbers = np.asarray(values, np.float64)
        if what == "amount":
            return numbers * (1 + amount)
        if what == "score":
            return special.ndtr((np.log(numbers) - 4) / 0.8 - 1 + amount * 3)
        return np.where((numbers == 0) & (rng.random(len(numbers)) < amount), 1.0, numbers)

    return change if amount or what == "score" else None


def true_effect(what: str, setting: Setting, amount: float) -> float:
    """The difference in what records are drawn from."""
    spread = np.sqrt(1 + setting.swing**2)
    if what == "rate":
        return amount * float(special.ndtr(_RATE_EDGE / spread))
    if what == "category":
        return amount / _MIDDLE * float(special.ndtr(special.ndtri(_MIDDLE) / spread))
    if what == "score":  # the mean of Phi(z + c) is Phi(c/sqrt(1 + variance of z))
        whole = np.sqrt(1 + spread**2)
        return float(special.ndtr((amount * 3 - 1) / whole) - special.ndtr(-1 / whole))
    return amount


def simulate(setting: Setting, what: str, amount: float, series: int, windows: int, *, seed: int = 1) -> Measured:
    """Coverage over so many windows of each of `series` series, from the second after the change on."""
    kind: Kind = "numeric" if what in {"amount", "score"} else what  # type: ignore[assignment]
    signal = SCORE if what == "score" else None
    traffic, judge = Traffic.begin(setting, kind, series, seed), Judge(SIZE, {})
    learn(traffic, judge, change_of(what, 0.0, seed), signal)
    true, readings = true_effect(what, setting, amount), []
    for i in range(windows + 1):
        change, first = change_of(what, amount, seed + i), setting.slices + i * SLICES
        window = slices_of(traffic, first, SLICES, setting.traffic, change, signal=signal)
        for found in window:
            judge.push(found)
        read = judge.read(window[-1].end, list(enumerate(window)), {False: 1e-4}, partial=True)
        readings += read
    readings = [reading for reading in readings if reading.effect is not None]
    stretch = np.array(["stretch" in reading.effect_unit for reading in readings])
    ends = np.array([_ends(reading) for reading in readings])
    low, high = ends.T
    held = (low <= true + 1e-12) & (true <= high + 1e-12)
    width = float(np.median(high - low))
    of = {"window": held[~stretch], "stretch": held[stretch]}
    return Measured(of, float((high < true).mean()), width)


def _ends(reading: Reading) -> tuple[float, float]:
    low, high = reading.effect_low, reading.effect_high
    return -np.inf if low is None else low, np.inf if high is None else high


FULL: Sequence[Setting] = [
    Setting(60, slices=144),
    Setting(300),
    Setting(300, 0.2),
    Setting(3000, slices=144),
    Setting(300, swing=0.1, memory=0.8),
    Setting(3000, slices=144, swing=0.1, memory=0.8),
    Setting(300, swing=0.3, memory=0.8),
    Setting(300, slices=72, swing=0.1, memory=0.8),
    Setting(600, sessions=True),
    Setting(600, slices=144, sessions=True, swing=0.1, memory=0.8),
]
QUICK: Sequence[Setting] = [FULL[1], FULL[4], FULL[8]]


def row_of(found: Measured) -> str:
    parts = [f"{name} {held.mean():.3f} of {len(held)}" for name, held in found.held.items() if len(held)]
    return f"{', '.join(parts)}; too high {found.below:.3f}, width {found.width:.3g}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three settings")
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    for setting in QUICK if chosen.quick else FULL:
        for what in WHAT:
            for amount in (0.0, *CHANGES[what]):
                windows = 2 if setting.records > 1000 else 4
                found = simulate(setting, what, amount, chosen.series, windows, seed=chosen.seed)
                print(
                    f"{setting.name}  {what} +{amount:g}: {row_of(found)}",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
