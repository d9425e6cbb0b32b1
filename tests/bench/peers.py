"""What driftd and a peer need for the work of one window: `python tests/bench/peers.py`.

20 numeric columns, a window of 10,000 rows against a reference of 50,000, lognormal and unchanged. Wall time, median
of three runs in one process; imports, making the data and turning arrays into the peer's own type are left out.
driftd learns its reference once and judges every window by it; both are stated, each from raw arrays.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from monitor.model import Reading, Scope, Signal
from monitor.readings import Judge, key_of
from monitor.reference import Learning
from monitor.summaries import Numeric
from monitor.windows import SLICES, Contents, Slice

COLUMNS, WINDOW_ROWS, REFERENCE_ROWS = 20, 10_000, 50_000
RUNS = 3
REFERENCE_SLICES, WINDOW = 72, 12_000
SCOPE = Scope("bench")
SIGNALS = {f"signal_{i}": Signal(f"signal_{i}", "numeric") for i in range(COLUMNS)}


def sides() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reference and window, shape (rows, COLUMNS)."""
    rng = np.random.default_rng(0)
    scales = rng.uniform(1, 8, COLUMNS), rng.uniform(0.3, 1.2, COLUMNS)
    return rng.lognormal(*scales, (REFERENCE_ROWS, COLUMNS)), rng.lognormal(*scales, (WINDOW_ROWS, COLUMNS))


def seconds(work: Callable[[], object]) -> float:
    """Median wall time of `work`."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return median(times)


def evidently_seconds() -> float:
    """Evidently's `DataDriftPreset` at its defaults, from its own Dataset to the computed drift scores."""
    os.environ["DO_NOT_TRACK"] = "1"  # read when Evidently is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import and its plots warn of their own dependencies
        import pandas as pd
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        names = [f"signal_{number}" for number in range(COLUMNS)]
        definition = DataDefinition(numerical_columns=names)
        reference, window = (
            Dataset.from_pandas(pd.DataFrame(side, columns=names), data_definition=definition) for side in sides()
        )
        return seconds(lambda: Report([DataDriftPreset()]).run(window, reference))


def slices(side: NDArray[np.float64], count: int, first: int) -> list[Slice]:
    """The rows as `count` slices of one second from slice `first` on, one signal a column."""
    groups = np.arange(len(side)) * count // len(side)
    session = np.zeros(len(side), np.uint64)
    columns = {
        name: Numeric.grouped(signal, side[:, i], groups, count, session)
        for i, (name, signal) in enumerate(SIGNALS.items())
    }
    return [
        Slice(
            (first + i) * 1000,
            (first + i + 1) * 1000,
            {SCOPE: Contents(1, {n: parts[i] for n, parts in columns.items()})},
        )
        for i in range(count)
    ]


def learn(reference: NDArray[np.float64]) -> Judge:
    """A judge by a reference of 72 slices."""
    learning = Learning(SCOPE, 0, REFERENCE_SLICES * 1000, [WINDOW])
    for found in slices(reference, REFERENCE_SLICES, 0):
        learning.take(WINDOW, found)
    judge = Judge(WINDOW, {})
    judge.join(learning.freeze(SIGNALS), [])
    return judge


def verdicts(judge: Judge, window: NDArray[np.float64]) -> list[Reading]:
    """Readings of one window of twelve slices, descriptive distances included."""
    found = slices(window, SLICES, REFERENCE_SLICES)
    for part in found:
        judge.push(part)
    inside = list(enumerate(found))
    readings = judge.read(found[-1].end, inside, {False: 1e-7, True: 1e-7}, partial=True)
    judge.distances(inside, {key_of(SCOPE, name) for name in SIGNALS})
    return readings


def driftd_seconds() -> tuple[float, float]:
    """Learning the reference, and judging one window by it."""
    reference, window = sides()
    judge = learn(reference)
    if len(verdicts(judge, window)) != COLUMNS:
        raise RuntimeError("not every column was judged")
    return seconds(lambda: learn(reference)), seconds(lambda: verdicts(judge, window))


def main() -> None:
    print(f"{COLUMNS} numeric columns, window {WINDOW_ROWS:,} against reference {REFERENCE_ROWS:,}, median of {RUNS}")
    learned, judged = driftd_seconds()
    peer = evidently_seconds()
    print(f"driftd: {judged * 1e3:.1f} ms a window, {learned * 1e3:.0f} ms to learn the reference once")
    print(f"Evidently DataDriftPreset: {peer:.2f} s a window")
    print(
        f"ratio: {peer / judged:.0f} a window; "
        f"{peer / (judged + learned):.0f} if the reference were learned anew for each"
    )


if __name__ == "__main__":
    main()
