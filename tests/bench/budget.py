"""Months without a change, and how soon a change shows: `python tests/bench/budget.py [--months 20] [--only NAME]`.

Every stream learns a day of its own and is watched for 30 days in the default windows, slice by slice, by what the
product decides by (`streams.py`). Nothing changes but what the setting says is usual. A series that is decided counts
as one false alarm and begins anew; that an effect must matter as well, which the product asks on top, is left out, so
that these are more than it would raise.

Then the delay of changes, beside the information bound: ln(evaluations x series / budget) over the divergence of what
came from what was, which no procedure that keeps the budget beats on average (Lorden, Annals of Statistics 1971).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

from monitor.calibration import FalseAlarmSettings
from monitor.model import Floats, Ints
from monitor.settings import DAY, HOUR
from tests.bench.streams import CATEGORY, FINE, NUMBERS, Series, Streams, Traffic, alarms, rate, step, watches

_NUMBERS: Series = ("numeric", NUMBERS)
_CATEGORY: Series = ("category", CATEGORY)
_RATES: list[Series] = [("rate", rate(share)) for share in (0.005, 0.02, 0.05, 0.3)]
_NINE: list[Series] = [_NUMBERS, _NUMBERS, _NUMBERS, *_RATES, _CATEGORY, _CATEGORY]
DEFAULT = Traffic(_NINE)
SETTINGS: Mapping[str, Traffic] = {
    "default": DEFAULT,
    "slow traffic": replace(DEFAULT, records=0.1),
    "seasonal": replace(DEFAULT, day=0.1, load=1.0),
    "bursty": replace(DEFAULT, bursts=0.7),
    "uneven": replace(DEFAULT, bursts=0.7, load=1.0, records=0.5),
    "swinging": replace(DEFAULT, swing=0.05),
    "sessions": replace(DEFAULT, goes_on=0.5),
    "a sample of each slice": replace(DEFAULT, records=20.0, sample=128),
    "one signal": replace(DEFAULT, series=_RATES[1:2]),
    "100 signals": replace(DEFAULT, series=[*_NINE * 11, _NUMBERS]),
    "5 segments": replace(DEFAULT, segments=5),
    "20 segments": replace(DEFAULT, segments=20, series=_NINE[2:6]),
    "a short reference": replace(DEFAULT, reference=6 * HOUR),
    "half a day": replace(DEFAULT, reference=12 * HOUR),
    "records in 6 slices of 72": replace(DEFAULT, reference=6 * HOUR, one_in=12),
    "records in 24 slices of 288": replace(DEFAULT, one_in=12),
}
_AT_ONCE = 360
"""Series that are watched side by side, at most."""


def months(traffic: Traffic, count: int, slices: int, seed: int) -> Ints:
    """Decisions in each of `count` streams in so many slices."""
    streams = Streams(traffic, count, np.random.default_rng(seed))
    watching = watches(streams, FalseAlarmSettings())
    for number in range(slices):
        step(streams, watching, number)
    of_scope = alarms(streams, watching)
    found: Ints = of_scope[:count] + of_scope[count:].reshape(count, -1).sum(axis=1)
    return found


def interval(found: int) -> tuple[float, float]:
    """95 % interval of a Poisson mean (Garwood, Biometrika 1936)."""
    low = float(stats.chi2.ppf(0.025, 2 * found) / 2) if found else 0.0
    return low, float(stats.chi2.ppf(0.975, 2 * found + 2) / 2)


# ---- changes --------------------------------------------------------------------------------------------------------

_ALIVE = 27
"""Series that a stream with text has, over which the budget is split."""
_QUIET = 40
"""Slices before a change."""
_AT_MOST = 12.0
"""Delays are watched for up to so many times the bound."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a series was, what it becomes, and by how much a record tells the two apart."""

    name: str
    series: Series
    after: Floats
    divergence: float
    sample: int = 0


def of_rate(before: float, after: float) -> Change:
    shares, changed = rate(before), rate(after)
    divergence = float(special.rel_entr(changed, shares).sum())
    return Change(f"rate {before:g} to {after:g}", ("rate", shares), changed, divergence)


def of_length(move: float, spread: float = 1.0, sigma: float = 0.8) -> Change:
    """Log-normal lengths of median 400 whose median moves by a part of it, or whose log's deviation grows."""
    shift = np.log1p(move) / sigma
    cuts = special.ndtri(np.cumsum(NUMBERS)[:-1])
    below = special.ndtr((cuts - shift) / spread)
    after = np.diff(below, prepend=0.0, append=1.0)
    divergence = (spread**2 + shift**2 - 1) / 2 - np.log(spread)
    name = f"length, median by {move:.0%}" if move else f"length, spread by {spread - 1:.0%}"
    return Change(name, ("numeric", NUMBERS), after, float(divergence))


def of_topic(part: float, cluster: float) -> Change:
    """A new topic of a part of the traffic that falls in a cluster which held `cluster` of it before."""
    others = 0.85 ** np.arange(15)
    usual = np.concatenate([(0.99 - cluster) * others / others.sum(), [cluster, 0.01, 0.0]])  # 0.01 lies elsewhere
    after = (1 - part) * usual
    after[15] += part
    divergence = float(special.rel_entr(after, usual).sum())
    return Change(f"topic of {part:.0%} in a cluster of {cluster:.1%}", ("category", usual), after, divergence, 128)


def of_rare_value(after: float) -> Change:
    """One of 30 values that have 10 % of the traffic together; 12 more frequent ones are watched by themselves."""
    frequent = 0.8 ** np.arange(12)
    usual = np.concatenate([0.9 * frequent / frequent.sum(), np.full(30, 0.1 / 30), [0.0]])
    part = (after - usual[12]) / (1 - usual[12])
    changed = (1 - part) * usual
    changed[12] += part
    divergence = float(special.rel_entr(changed, usual).sum())
    return Change(f"one of 30 rare values to {after:.0%}", ("category", usual), changed, divergence)


CHANGES: Sequence[Change] = [
    *(of_rate(*rates) for rates in ((0.02, 0.06), (0.04, 0.08), (0.04, 0.06), (0.005, 0.02), (0.3, 0.4), (0.04, 0.02))),
    *(of_length(move) for move in (0.1, 0.2, 0.4)),
    of_length(0.0, 1.3),
    *(of_topic(part, cluster) for part in (0.03, 0.06) for cluster in (0.002, 0.05)),
    of_rare_value(0.02),
    of_rare_value(0.05),
]


def delays(change: Change, count: int, seed: int, records: float = 5.0) -> tuple[float, Floats]:
    """Information bound in measured records, and the delays of `count` streams; infinite beyond _AT_MOST bounds.

    Records come at `records` a second, of a sample twice as fast as it takes them.
    """
    records = 2 * change.sample / FINE * 1000 if change.sample else records
    streams = Streams(Traffic([change.series], records, sample=change.sample), count, np.random.default_rng(seed))
    watching = watches(streams, FalseAlarmSettings(), alive=_ALIVE)
    needed = float(watching[0].needed[0])
    for number in range(_QUIET):
        step(streams, watching, number)
    before, seen, found = alarms(streams, watching), np.zeros(count), np.full(count, np.inf)
    bound, number = needed / change.divergence, _QUIET
    while seen.min() < _AT_MOST * bound and np.isinf(found).any():
        (drawn,) = step(streams, watching, number, {0: change.after})
        seen += drawn.units.sum(axis=1) ** 2 / np.maximum(drawn.inverse, 1e-9)
        now = alarms(streams, watching) > before
        found = np.where(now & np.isinf(found), seen, found)
        number += 1
    return bound, found


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=200, help="of the default setting; the others a twentieth each")
    parser.add_argument("--days", type=float, default=30, help="to a month")
    parser.add_argument("--runs", type=int, default=100, help="of each change")
    parser.add_argument("--only", default="", help="settings and changes whose name holds this")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    begin = time.monotonic()
    print("| setting | months | false alarms a month (95 %) | series |")
    print("|---|---|---|---|")
    for place, (name, traffic) in enumerate(SETTINGS.items()):
        if chosen.only in name:
            count = chosen.months if not place else max(chosen.months // 20, 1)
            series = len(traffic.series) * (1 + traffic.segments)
            done = found = 0
            while done < count:
                part = min(max(_AT_ONCE // series, 1), count - done)
                found += int(months(traffic, part, round(chosen.days * DAY / FINE), chosen.seed + done).sum())
                done += part
            seen = count * chosen.days / 30
            low, high = interval(found)
            shown = f"{found / seen:.2f} ({low / seen:.2f} to {high / seen:.2f})"
            print(f"| {name} | {seen:g} | {shown} | {series} |", flush=True)
    print()
    print(f"| change, {chosen.runs} runs each | information bound | median, 90 % of delays over the bound |")
    print("|---|---|---|")
    for change in CHANGES:
        if chosen.only in change.name:
            bound, delay = delays(change, chosen.runs, chosen.seed)
            ratio = np.sort(delay) / bound
            later = ratio[int(np.ceil(0.9 * chosen.runs)) - 1]
            print(f"| {change.name} | {bound:,.0f} records | {np.median(ratio):.2f}, {later:.2f} |", flush=True)
    print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
