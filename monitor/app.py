"""Wiring only: a configuration in, a run out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

import msgspec

from monitor.config import Config
from monitor.contracts import Source
from monitor.decoding import FORMATS
from monitor.engine import Engine, Plan, Step
from monitor.measuring import signals_of
from monitor.model import AlertChange, Position, Raw, Reading, Reject
from monitor.pipeline import Pipeline
from monitor.scorers import SCORERS
from monitor.settings import format_duration, format_time
from monitor.sources import SOURCES
from monitor.sources.files import FilesSettings
from monitor.store import Store
from monitor.watermark import Admission

STORE = "driftd.db"
"""Name of a replay's store in its folder."""


class UsageError(Exception):
    """What was asked for cannot be done as it was asked."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay came to."""

    summary: Mapping[str, Any]
    changes: Sequence[AlertChange]

    @property
    def fired(self) -> bool:
        return any(change.state == "firing" for change in self.changes)


def make_engine(config: Config) -> Engine:
    """The engine of a configuration, without any state."""
    scorers = make_scorers(config)
    return Engine(
        Plan(
            signals_of(scorers),
            config.windows,
            config.streams,
            config.reference,
            config.false_alarms,
            config.signals.matters,
            config.all_rules(),
        )
    )


def make_scorers(config: Config) -> list[Any]:
    """The scorers that are on."""
    return [row.make() for name, row in SCORERS.items() if getattr(config.signals, name)]


def replay(
    config: Config,
    out: Path,
    logs: Sequence[str],
    *,
    resume: bool,
    on_commit: Callable[[Pipeline], None] = lambda _: None,
    on_step: Callable[[Step], None] = lambda _: None,
    stdin: BinaryIO | None = None,
) -> Outcome:
    """Run finished logs through the pipeline and leave the result's files in `out`.

    With `resume`, `out` is created or continued and what is open at the end stays open, unless there are no logs: then
    it is closed. Raises UsageError, for logs that cannot be read too, and StoreError.
    """
    started = monotonic()
    if not resume and (out / STORE).exists():
        raise UsageError(
            f"{out} holds the store of an earlier replay; give another --out, or --resume to go on with it"
        )
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder")
    if not resume and out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; give a folder that does not exist yet or holds nothing")
    if not logs and not resume:
        raise UsageError("no LOG to replay")
    with ExitStack() as stack:
        source = _open(config, logs, growing=resume, stdin=stdin)
        stack.callback(source.close)
        out.mkdir(parents=True, exist_ok=True)
        store = Store(out / STORE)
        stack.callback(store.close)
        _same_plan(store, config)
        pipeline = Pipeline(
            source,
            FORMATS[config.sources[0].format if config.sources else "native"],
            make_scorers(config),
            make_engine(config),
            Admission(config.times()),
            store,
            on_commit,
            on_step,
        )
        _resume(pipeline)
        pipeline.run(close=not resume or not logs)
        return _write(out, store, pipeline, monotonic() - started)


class _NoLogs:
    """A source without partitions: a replay that only closes what is open."""

    def partitions(self) -> Mapping[str, bool]:
        return {}

    def resume(self, positions: Mapping[str, Position]) -> None:
        """Every partition of an earlier run has left."""

    def peek(self, partition: str, limit: int) -> Raw:
        raise KeyError(partition, limit)

    def poll(self, wanted: Sequence[str], limit: int) -> list[Raw]:  # noqa: ARG002
        return []

    def close(self) -> None:
        """Nothing to let go of."""


def _open(config: Config, logs: Sequence[str], *, growing: bool, stdin: BinaryIO | None) -> Source:
    """The source of the logs named on the command line."""
    if not logs:
        return _NoLogs()
    if not all(logs):
        raise UsageError("an empty LOG names no file")
    largest = {source.max_record_bytes for source in config.sources}
    own = {"max_record_bytes": max(largest)} if largest else {}
    settings = FilesSettings(kind="files", paths=list(logs), **own)
    try:
        return SOURCES["files"].make(settings, growing=growing, stdin=stdin)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _resume(pipeline: Pipeline) -> None:
    try:
        pipeline.resume()
    except ValueError as error:
        raise UsageError(str(error)) from None


def _same_plan(store: Store, config: Config) -> None:
    """Refuse to go on with another configuration than the store was made with; remember it in a new one."""
    text = config.model_dump_json(by_alias=True, exclude={"store", "sources"})
    known = store.meta().get("configuration")
    if known is not None and known != text:
        changed = [key for key, value in json.loads(text).items() if json.loads(known).get(key) != value]
        raise UsageError(
            f"{store.path} was made with another configuration ({', '.join(changed)} changed); "
            "give another --out, or the configuration it was made with"
        )
    store.remember("configuration", text)


def _write(out: Path, store: Store, pipeline: Pipeline, seconds: float) -> Outcome:
    """The result's files, from what was committed."""
    changes = list(store.changes())
    _write_lines(out / "readings.jsonl", map(reading_row, store.readings()))
    _write_lines(out / "alerts.jsonl", map(change_row, changes))
    _write_lines(out / "rejects.jsonl", map(reject_row, store.rejects()))
    _write_lines(out / "triggers.jsonl", ())
    records = dict(pipeline.fates())
    summary = {
        "records": records,
        "generated_ids": int(store.meta().get("generated_ids", "0")),
        "windows": [format_duration(size) for size in pipeline.engine.plan.sizes],
        "streams": sorted({scope.stream for scope in pipeline.engine.known_scopes()}),
        "alerts": {
            state: sum(c.state == state and c.reason != "joined" for c in changes) for state in ("firing", "resolved")
        },
        "thresholds": _thresholds(pipeline.engine),
        "notices": [*store.notices(), *_still_learning(pipeline.engine)],
        "seconds": round(seconds, 3),
        "records_per_second": round(sum(records.values()) / max(seconds, 1e-9), 1),
    }
    _replace(out / "summary.json", [json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n"])
    return Outcome(summary, changes)


def _still_learning(engine: Engine) -> list[str]:
    """Streams of which nothing could be judged."""
    return [
        f"reference: {scope.stream} learns until {format_time(learning.end)}; nothing of it is judged before"
        for scope, learning in sorted(engine.learning.items(), key=lambda item: item[0].stream)
        if scope.segment is None
    ]


def _thresholds(engine: Engine) -> dict[str, dict[str, dict[str, float]]]:
    """Error probability of one test, by kind, window size and whether it is of a stream or a segment."""
    return {
        kind: {
            format_duration(size): {"segment" if flag else "stream": value for flag, value in by_class.items()}
            for size, by_class in engine.budget.items()
        }
        for kind in ("numeric", "rate", "category")
    }


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    _replace(path, (msgspec.json.encode(row) + b"\n" for row in rows))


def _replace(path: Path, pieces: Iterable[bytes]) -> None:
    """The whole file, or the one that was there."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.writelines(pieces)
    temporary.replace(path)


def reading_row(reading: Reading) -> dict[str, Any]:
    """A row of readings.jsonl."""
    row = msgspec.structs.asdict(reading)
    row["at"], row["window_start"] = format_time(reading.at), format_time(reading.window_start)
    row["window"] = format_duration(reading.window)
    return row


def change_row(change: AlertChange) -> dict[str, Any]:
    """A row of alerts.jsonl."""
    row = msgspec.structs.asdict(change)
    row["at"], row["started_at"] = format_time(change.at), format_time(change.started_at)
    row["window"] = None if change.window is None else format_duration(change.window)
    return row


def reject_row(reject: Reject) -> dict[str, Any]:
    """A row of rejects.jsonl."""
    return msgspec.structs.asdict(reject)
