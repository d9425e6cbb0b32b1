"""What each stage costs: `python tests/bench/throughput.py [--records 100000]`.

Made-up records of about 1 kB in one file: one stream, four segments, 1,000 records to a slice of one second, a window
of 12 s and a reference of 72 s. Every row is the median of three runs in one process, in records per CPU-second; run it
with OPENBLAS_NUM_THREADS=1 and compare rows of one run only, machines differ and are noisy.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from monitor import app
from monitor.config import Config
from monitor.contracts import Scorer
from monitor.decoding import FORMATS
from monitor.engine import Engine
from monitor.measuring import measure
from monitor.model import Raw, Records, Scored
from monitor.redaction import redact
from monitor.scorers import SCORERS
from monitor.sources.files import Files, FilesSettings

RUNS = 3
BATCH = 4096
PER_SECOND = 1000
PLAN = {
    "windows": ["12s"],
    "reference": {"size": "72s"},
    "lateness": "0s",
    # Signals of a sample are left out: its size does not grow with the records.
    "signals": {"duplicates": False, "language": False, "embedding": False},
}
_START = 1_795_132_800_000


def write_log(path: Path, count: int) -> None:
    """Records of about 1 kB with every field that a signal reads."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(map(chr, rng.integers(97, 123, size))) for size in rng.integers(2, 11, 4000)])
    texts = [rng.choice(words, int(rng.integers(20, 130))) for _ in range(4000)]
    with path.open("wb") as file:
        for i in range(count):
            prompt, response = texts[int(rng.integers(2000))][:60], texts[int(rng.integers(4000))]
            record = {
                "id": f"r{i:08d}",
                "ts": _START + i * 1000 // PER_SECOND,
                "model": "bench",
                "model_version": "2026-11-01",
                "prompt": " ".join(prompt),
                "response": " ".join(response) + ".",
                "segment": "abcd"[int(rng.integers(4))],
                "latency_seconds": round(float(rng.lognormal(0, 0.5)), 4),
                "prompt_tokens": len(prompt),
                "response_tokens": len(response),
                "cost": round(float(rng.lognormal(-7, 0.5)), 8),
                "finish_reason": "stop",
                "status": "ok",
                "feedback": int(rng.choice([-1, 1])) if rng.random() < 0.1 else None,
            }
            file.write(msgspec.json.encode(record) + b"\n")


def cpu(work: Callable[[], object]) -> float:
    """Median CPU seconds of `work`."""
    times = []
    for _ in range(RUNS):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return median(times)


def raws(path: Path) -> Iterator[Raw]:
    source = Files(FilesSettings(kind="files", paths=[str(path)]))
    while names := [name for name, ended in source.partitions().items() if not ended]:
        yield from source.poll(names, BATCH)
    source.close()


def decoded(batches: list[Raw]) -> list[Records]:
    decoder = FORMATS["native"]()
    return [decoder.decode(raw)[0] for raw in batches]


def scored_by(scorer: Scorer, records: list[Records]) -> None:
    for batch in records:
        scorer.score(batch)


def summarised(batches: list[Scored], config: Config) -> None:
    """Add all records to slices that stay open."""
    engine = app.make_engine(config)
    for batch in batches:
        engine.add(batch)


def engine_with(batches: list[Scored], config: Config) -> Engine:
    """An engine that has gone through all of the records."""
    engine = app.make_engine(config)
    for batch in batches:
        engine.add(batch)
        list(engine.close(int(batch.ts[-1])))
    return engine


def step_cost(batches: list[Scored], config: Config) -> tuple[int, float]:
    """Readings of one step once there is a reference, and CPU seconds of it."""
    engine, times = app.make_engine(config), []
    for batch in batches:
        engine.add(batch)
        steps = engine.close(int(batch.ts[-1]))
        while True:
            begin = time.process_time()
            step = next(steps, None)
            if step is None:
                break
            if engine.baselines.references and engine.latest:
                times.append(time.process_time() - begin)
    return len(engine.latest), median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    count = parser.parse_args().records
    config = Config.model_validate(PLAN)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        write_log(log, count)
        print(f"{count:,} records of {log.stat().st_size / count:.0f} bytes\n")
        print("| stage | records per CPU-second | µs a record |\n|---|---|---|")
        for name, seconds in stages(log, config, folder):
            print(f"| {name} | {count / seconds:,.0f} | {seconds / count * 1e6:.1f} |", flush=True)
        batches = measure(decoded(list(raws(log))), app.make_scorers(config), "model", ["segment"], redact=redact)
        readings, seconds = step_cost(batches, config)
        print(f"\nclosing a slice and judging its window: {seconds * 1e3:.1f} ms of CPU for {readings} readings")
        peak = replay_memory(log, Path(folder))
    print(f"peak memory of `driftd replay` over the same log: {peak:.0f} MiB")


def replay_memory(log: Path, folder: Path) -> float:
    """Peak memory in MiB of the command in a process of its own, by the kernel's high-water mark."""
    (folder / "driftd.yaml").write_bytes(msgspec.json.encode(PLAN))
    arguments = ["replay", "-c", str(folder / "driftd.yaml"), "--out", str(folder / "own"), str(log)]
    code = (
        "import atexit, pathlib, sys; from monitor.__main__ import main;"
        "atexit.register(lambda: print(pathlib.Path('/proc/self/status').read_text(), file=sys.stderr)); main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)
    (kilobytes,) = (line.split()[1] for line in done.stderr.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) / 1024


def stages(log: Path, config: Config, folder: str) -> Iterator[tuple[str, float]]:
    """CPU seconds for all records, stage by stage, then the whole."""
    batches = list(raws(log))
    yield "read lines", cpu(lambda: list(raws(log)))
    records = decoded(batches)
    yield "decode `native`", cpu(lambda: decoded(batches))
    for name, row in SCORERS.items():
        scorer = row.make()
        yield f"score `{name}`", cpu(partial(scored_by, scorer, records))
    scorers: list[Scorer] = app.make_scorers(config)
    scored = measure(records, scorers, "model", ["segment"], redact=redact)
    yield "summarise into slices", cpu(lambda: summarised(scored, config))
    yield "summarise, close and judge", cpu(lambda: engine_with(scored, config))
    out = iter(range(RUNS))
    yield (
        "whole replay, committed",
        cpu(lambda: app.replay(config, Path(folder) / f"out{next(out)}", [str(log)], resume=False)),
    )


if __name__ == "__main__":
    main()
