"""What driftd and a plain kernel test need to say whether 2,000 vectors are like 2,000 others.

`python tests/bench/peers_vectors.py`: sentence-sized unit vectors, 2,000 against 2,000 in 384 dimensions, unchanged.
The peer is the two-sample test of Gretton et al. (JMLR 13, 2012) written plainly in numpy: one kernel matrix for the
same four bandwidths, 100 permutations. driftd makes features and sums of both sides, learns the null from the slices of
one and gives the p-value of the other. CPU seconds, median of nine runs (the peer: one) in one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from monitor.model import Floats, Hashes, Ints, Reading, Scope, Signal, Vectors
from monitor.readings import Judge
from monitor.reference import Learning
from monitor.summaries import summarise
from monitor.summaries.vector import BANDWIDTHS, frequencies
from monitor.windows import SLICES, Contents, Slice

ROWS, SIZE, PERMUTATIONS, RUNS = 2_000, 384, 100, 9
REFERENCE_SLICES, WINDOW = 72, 12_000
SCOPE = Scope("bench")
SIGNAL = Signal("embedding", "vector", sample=True, fingerprint="bench", size=SIZE)


def sides() -> tuple[Vectors, Vectors]:
    """Reference and window, shape (ROWS, SIZE): twenty topics, some far more often than others."""
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(20, SIZE)) * 0.05
    shares = rng.dirichlet(np.ones(20))

    def side() -> Vectors:
        x = topics[rng.choice(20, ROWS, p=shares)] + 0.05 * rng.normal(size=(ROWS, SIZE))
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)

    return side(), side()


def permutation_test(x: Vectors, y: Vectors) -> float:
    """The p-value of the biased squared MMD among PERMUTATIONS relabellings."""
    both = np.concatenate([x, y]).astype(np.float64)
    lengths = (both**2).sum(axis=1)
    squared = lengths[:, None] + lengths - 2 * both @ both.T
    kernel: Floats = np.mean([np.exp(-squared / (2 * width**2)) for width in BANDWIDTHS], axis=0)
    rng, n = np.random.default_rng(0), len(x)

    def statistic(order: Ints) -> float:
        shuffled = kernel[np.ix_(order, order)]
        within = float(shuffled[:n, :n].mean() + shuffled[n:, n:].mean())
        return within - 2 * float(shuffled[:n, n:].mean())

    observed = statistic(np.arange(len(both)))
    beyond = sum(statistic(rng.permutation(len(both))) >= observed for _ in range(PERMUTATIONS))
    return (1 + beyond) / (1 + PERMUTATIONS)


def slices(side: Vectors, count: int, first: int) -> list[Slice]:
    """The rows as `count` slices of one second from slice `first` on."""
    groups, none = np.arange(len(side)) * count // len(side), np.zeros(len(side), np.uint64)
    order: Hashes = np.arange(len(side)).astype(np.uint64)
    found = summarise(SIGNAL, side, groups, count, none, None, order)
    return [
        Slice((first + i) * 1000, (first + i + 1) * 1000, {SCOPE: Contents(part.n, {SIGNAL.name: part})})
        for i, part in enumerate(found)
    ]


def learn(reference: Vectors) -> Judge:
    """A judge by a reference of 72 slices."""
    learning = Learning(SCOPE, 0, REFERENCE_SLICES * 1000, [WINDOW])
    for found in slices(reference, REFERENCE_SLICES, 0):
        learning.take(WINDOW, found)
    judge = Judge(WINDOW, {})
    judge.join(learning.freeze({SIGNAL.name: SIGNAL}), [])
    return judge


def read(judge: Judge, window: Vectors) -> Reading:
    """The reading of one window of twelve slices."""
    found = slices(window, SLICES, REFERENCE_SLICES)
    for part in found:
        judge.push(part)
    return judge.read(found[-1].end, list(enumerate(found)), {False: 1e-7, True: 1e-7}, partial=True)[0]


def seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Median CPU time of `work`."""
    times = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return median(times)


def many(judge: Judge, window: Vectors, count: int = 20) -> float:
    """Seconds to read one window of `count` vector series whose slices were pushed."""
    reference = judge.vectors.series[0]
    together = Judge(WINDOW, {})
    found = list(enumerate(slices(window, SLICES, REFERENCE_SLICES)))
    for _ in range(count):
        together.vectors.join(reference, found)
    return seconds(lambda: together.vectors.read(found, np.full(count, 1e-7)))


def main() -> None:
    reference, window = sides()
    frequencies(SIZE)  # drawn once a process
    judge = learn(reference)
    learned, judged = seconds(lambda: learn(reference)), seconds(lambda: read(judge, window))
    peer = seconds(lambda: permutation_test(reference, window), 1)
    print(f"{ROWS:,} against {ROWS:,} vectors of {SIZE} entries")
    print(f"driftd: {judged * 1e3:.1f} ms a window, {learned * 1e3:.0f} ms to learn the reference once")
    print(f"20 vector series of one window read in {many(judge, window) * 1e3:.1f} ms")
    print(f"kernel test with {PERMUTATIONS} permutations: {peer:.1f} s")
    print(f"ratio: {peer / judged:.0f} a window; {peer / (judged + learned):.0f} if the reference were learned anew")


if __name__ == "__main__":
    main()
