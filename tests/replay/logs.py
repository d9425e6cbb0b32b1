"""Small logs made from a seed, and replays of them whose results can be compared byte by byte."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import zstandard

from monitor import app, daemon
from monitor.config import Config, parse
from monitor.contracts import SampleScorer, Scorer
from monitor.engine import Step
from monitor.model import Categories, Records, Scores, Signal, Transcripts
from monitor.pipeline import Pipeline

START = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
CHANGE = START + 480_000
"""When latency doubles and refusals rise."""
SIGNALS = ("response_refusal", "latency_seconds", "status", "feedback")
"""One or two of a kind: what a step costs grows with the number of series."""
REFUSAL = "I cannot help with that."
CENTURY = 100 * 365 * 86_400_000

Row = dict[str, Any]


def config(more: str = "", *, windows: str = "1m", size: str = "6m", lateness: str = "0s") -> Config:
    return parse(f"windows: [{windows}]\nreference: {{size: {size}}}\nlateness: {lateness}\n{more}", "test")


def make_log(seed: int, n: int = 3_000, *, per_second: float = 4.5, streams: int = 2, segments: int = 3) -> list[Row]:
    """Exchanges in order of time, with sessions, and feedback that mostly knows no more than the exchange's id."""
    rng = np.random.default_rng(seed)
    times = START + np.cumsum(rng.exponential(1000 / per_second, n)).astype(np.int64)
    rows = []
    for i, ts in enumerate(times.tolist()):
        changed = ts >= CHANGE
        row: Row = {
            "id": f"{seed}-{i}",
            "ts": ts,
            "model": f"bot-{rng.integers(streams)}",
            "labels": {"segment": f"tenant-{rng.integers(segments)}"},
            "prompt": "what is this?",
            "response": "I cannot help with that."
            if rng.random() < (0.5 if changed else 0.03)
            else f"It is lamp {i * 7919 % 97}.",
            "latency_seconds": round(float(rng.lognormal(0.7 if changed else 0.0, 0.4)), 3),
            "status": str(rng.choice(["ok", "timeout", "500"], p=[0.6, 0.3, 0.1] if changed else [0.96, 0.03, 0.01])),
        }
        if rng.random() < 0.5:
            row["session"] = f"s{i // 40}-{rng.integers(8)}"
        rows.append(row)
        if rng.random() < 0.1:
            rows.append(_feedback(row, rng))
    return sorted(rows, key=lambda row: row["ts"])


def _feedback(row: Row, rng: np.random.Generator) -> Row:
    event: Row = {"kind": "feedback", "id": f"f{row['id']}", "ts": row["ts"] + int(rng.integers(1, 60_000))}
    event |= {"of": row["id"], "feedback": 1 if rng.random() < 0.8 else -1}
    return event | ({"model": row["model"]} if rng.random() < 0.3 else {})


def shuffled(rows: Sequence[Row], seed: int, within: int) -> list[Row]:
    """The rows as they might arrive: none more than `within` milliseconds behind a later one."""
    noise = np.random.default_rng(seed).integers(0, within, len(rows), endpoint=True).tolist()
    return [row for _, row in sorted(zip(noise, rows, strict=True), key=lambda pair: pair[0] + pair[1]["ts"])]


def lines(rows: Sequence[Row]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


def write(path: Path, messages: Sequence[bytes]) -> Path:
    """A file of the messages, compressed as its name says."""
    data = b"".join(message + b"\n" for message in messages)
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def spread(folder: Path, messages: Sequence[bytes], files: int, seed: int) -> list[Path]:
    """The messages over files of every compression, each to a file drawn by chance, in their order."""
    drawn = np.random.default_rng(seed).integers(0, files, len(messages)).tolist()
    parts: list[list[bytes]] = [[] for _ in range(files)]
    for part, message in zip(drawn, messages, strict=True):
        parts[part].append(message)
    suffixes = (".jsonl", ".jsonl.gz", ".jsonl.zst")
    return [write(folder / f"{number}{suffixes[number % 3]}", part) for number, part in enumerate(parts)]


# ---- replays --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What a replay came to, byte by byte; what depends on where a record stood is left out."""

    readings: bytes
    alerts: bytes
    records: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.records.values())


def same(found: Result, expected: Result) -> None:
    """Equal records by fate, readings and alerts, in the same order; says the first line that differs."""
    assert found.records == expected.records, f"records: {found.records} for {expected.records}"
    for left, right in ((found.alerts, expected.alerts), (found.readings, expected.readings)):
        for line, other in zip(left.splitlines(), right.splitlines(), strict=False):
            assert line == other, f"{line.decode()}\nfor\n{other.decode()}"
        assert left.count(b"\n") == right.count(b"\n"), "one has more lines"


def read_result(out: Path) -> Result:
    summary = json.loads((out / "summary.json").read_bytes())
    return Result((out / "readings.jsonl").read_bytes(), (out / "alerts.jsonl").read_bytes(), summary["records"])


@dataclass(frozen=True)
class Few:
    """A scorer cut down to a few signals."""

    scorer: Scorer
    names: Collection[str] = SIGNALS

    @property
    def signals(self) -> Sequence[Signal]:
        return [signal for signal in self.scorer.signals if signal.name in self.names]

    def score(self, records: Records) -> Scores:
        columns = self.scorer.score(records).columns
        return Scores({name: column for name, column in columns.items() if name in self.names})


@dataclass(frozen=True)
class Sketch:
    """A scorer of samples that needs no model: what it makes follows from every character and from its neighbours.

    That a text's numbers depend a little on those scored beside it shows when a sample is not scored as a whole.
    """

    side: Literal["prompt", "response"] = "response"
    fingerprint: str = "sketch"

    @property
    def signals(self) -> Sequence[Signal]:
        return [
            Signal(f"{self.side}_embedding", "vector", sample=True, fingerprint=self.fingerprint, size=4),
            Signal("relevance", "numeric", "unit", sample=True),
            Signal("response_language", "category", sample=True),
        ]

    def score(self, transcripts: Transcripts) -> Scores:
        said = [[ord(letter) for letter in text or " "] for text in getattr(transcripts, self.side)]
        raw = np.array([[len(s), sum(s), sum(s[::2]), sum(s[::3])] for s in said], np.float64).reshape(-1, 4)
        turned = np.sin(raw + np.arange(4)) + 1e-3 * np.sin(raw.sum())
        vectors = (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)
        return Scores(
            {
                f"{self.side}_embedding": vectors,
                "relevance": np.abs(vectors[:, 0]).astype(np.float64),
                "response_language": Categories(["xx", "yy"], (vectors[:, 1] > 0).astype(np.int32)),
            },
            {"sketch_long": raw[:, 0] > 15},
        )


@contextmanager
def few_signals(
    batch: int = 4096, *, sampled: bool | Sequence[SampleScorer] = False, names: Collection[str] = SIGNALS
) -> Iterator[None]:
    """Replays that measure the signals `names` and ask for `batch` messages at a time.

    With `sampled` they measure those of Sketch too, or of the scorers that it is.
    """
    make = app.make_scorers

    def few(settings: Config) -> list[Any]:
        return [Few(scorer, names) for scorer in make(settings)]

    def sample(_: Config) -> list[Any]:
        return list(sampled) if isinstance(sampled, Sequence) else [Sketch()] * sampled

    with (
        patch.object(app, "make_scorers", few),
        patch.object(app, "make_sample_scorers", sample),
        patch.object(app, "Pipeline", partial(Pipeline, batch=batch)),
        patch.object(daemon, "make_scorers", few),
        patch.object(daemon, "Pipeline", partial(Pipeline, batch=batch)),
    ):
        yield


def replay(
    settings: Config,
    out: Path,
    *logs: Path,
    resume: bool = False,
    batch: int = 4096,
    sampled: bool = False,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Result:
    with few_signals(batch, sampled=sampled):
        app.replay(settings, out, [str(log) for log in logs], resume=resume, on_step=on_step)
    return read_result(out)


def replay_in_parts(settings: Config, out: Path, parts: Sequence[Sequence[Path]], *, sampled: bool = False) -> Result:
    """Replay the first logs, then further ones, and at last close what is open."""
    for part in parts:
        replay(settings, out, *part, resume=True, batch=300, sampled=sampled)
    return replay(settings, out, resume=True, sampled=sampled)
