"""Wiring only: a configuration in, a run out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from monitor.config import Config
from monitor.continuity import Changes, Made, RefusedError, carry, compare, fingerprints, prove
from monitor.contracts import SampleScorer, Scorer, Source
from monitor.decoding import Decoder, make_decoder
from monitor.engine import Engine, Plan, Step
from monitor.measuring import signals_of
from monitor.model import AlertChange, Checkpoint, Position, Raw, Signal
from monitor.pipeline import Pipeline
from monitor.redaction import redact
from monitor.reference_file import ReferenceFile, ReferenceFileError, misfits, unpack
from monitor.rows import change_row, reading_row, reject_row
from monitor.sampled import SampledSignals
from monitor.scorers import SAMPLE_SCORERS, SCORERS, SampleScorerKind, ScorerKind, made
from monitor.scorers.custom import Custom, custom_paths
from monitor.scorers.encoder import ModelUnavailableError
from monitor.scoring import Score, score
from monitor.settings import format_duration, format_time
from monitor.sources import SOURCES
from monitor.sources.files import FilesSettings
from monitor.store import Store, read_only
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


def make_engine(config: Config, scorers: Sequence[Scorer] | None = None, score: Score = score) -> Engine:
    """The engine of a configuration, without any state.

    Parameters
    ----------
    scorers : of all records, where they are made already
    score : what runs a scorer of samples

    """
    scorers = make_scorers(config) if scorers is None else scorers
    samples = SampledSignals(make_sample_scorers(config), keeps_text=config.content != "none", score=score)
    signals = signals_of([*scorers, samples])
    plan = Plan(
        signals,
        config.windows,
        config.streams,
        config.reference,
        config.false_alarms,
        config.signals.matters,
        config.all_rules(),
        config.signals.sample,
        reference_file(config, signals),
    )
    if plan.file is not None:
        samples.clusters.books |= plan.file.books
    return Engine(plan, samples, list if config.content == "full" else redact)


def reference_file(config: Config, measured: Mapping[str, Signal]) -> ReferenceFile | None:
    """The file that windows are held against, if it is a file. Raises UsageError where it cannot be, and says why."""
    path = config.reference.path
    if path is None:
        return None
    file = read_reference(path)
    problems = misfits(file, config.windows, {name: s for name, s in measured.items() if s.kind != "level"})
    if problems:
        hint = "measure what it has, or build another one with `driftd reference build`"
        raise UsageError("\n".join(f"{path}: {problem}; {hint}" for problem in problems))
    return file


def read_reference(path: Path) -> ReferenceFile:
    """A file that `driftd reference build` made. Raises UsageError where it is none."""
    try:
        return unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ReferenceFileError as error:
        raise UsageError(str(error)) from None


def decoder_of(config: Config) -> Callable[[], Decoder]:
    """What makes a decoder of what the configuration says is in the logs."""
    format_ = config.sources[0].format if config.sources else "native"
    return partial(make_decoder, format_, custom_paths(config.signals.custom))


def make_scorers(config: Config) -> list[Any]:
    """The scorers that are on."""
    custom = [Custom(config.signals.custom)] if config.signals.custom else []
    return [*_made(config, SCORERS), *custom]


def make_sample_scorers(config: Config) -> list[SampleScorer]:
    """The scorers of samples that are on. Raises UsageError where a model cannot be had."""
    try:
        return _made(config, SAMPLE_SCORERS)
    except ModelUnavailableError as error:
        raise UsageError(str(error)) from None


def _made(config: Config, table: Mapping[str, ScorerKind] | Mapping[str, SampleScorerKind]) -> list[Any]:
    chosen = {name: config.signals.chosen(name) for name in table}
    return [made(row, chosen[name]) for name, row in table.items() if chosen[name] is not None]


def replay(
    config: Config,
    out: Path,
    logs: Sequence[str],
    *,
    resume: bool,
    on_commit: Callable[[Pipeline], None] = lambda _: None,
    on_step: Callable[[Step], None] = lambda _: None,
    stdin: BufferedIOBase | None = None,
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
        source = open_logs(config, logs, growing=resume, stdin=stdin)
        stack.callback(source.close)
        engine = make_engine(config, scorers := make_scorers(config))
        out.mkdir(parents=True, exist_ok=True)
        store = open_store(out / STORE, config, engine)
        stack.callback(store.close)
        pipeline = Pipeline(
            source,
            decoder_of(config),
            scorers,
            engine,
            Admission(config.times()),
            store,
            on_commit,
            on_step,
            excerpts=config.content != "none",
        )
        resume_from_store(pipeline)
        pipeline.run(close=not resume or not logs)
        return _write(out, store, pipeline, monotonic() - started, config.signals.left_out())


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


def open_logs(
    config: Config, logs: Sequence[str], *, growing: bool = False, stdin: BufferedIOBase | None = None
) -> Source:
    """The source of the logs named on the command line. Raises UsageError."""
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


def open_store(path: Path, config: Config, engine: Engine) -> Store:
    """A store that was made with this configuration, these models and this reference, or is new.

    Raises UsageError where it was not, and StoreError.
    """
    store = Store(path)
    try:
        _same(store, made_by(config, engine))
    except UsageError:
        store.close()
        raise
    return store


def continue_store(path: Path, config: Config, engine: Engine) -> tuple[Store, Changes | None]:
    """A store that is new, or fitted to this configuration, and how that differs from the one before, if it does.

    Raises UsageError where the store cannot go on with it, and StoreError; nothing is changed then.
    """
    with ExitStack() as stack:
        store = Store(path)
        stack.callback(store.close)
        found = _carried(store, made_by(config, engine), engine)
        stack.pop_all()
        return store, found


def made_by(config: Config, engine: Engine) -> Made:
    """What decides the results of a run; `engine` is that of the configuration."""
    plan = engine.plan
    signals = fingerprints(plan.signals, plan.sampled, config.content)
    return Made(settings_text(config), signals, "" if plan.file is None else plan.file.id)


def changes(before: Made, config: Config, engine: Engine) -> Changes | None:
    """What would change if a store that was made `before` went on with a configuration; None where nothing would.

    Raises UsageError where it cannot. No store is touched.
    """
    after = made_by(config, engine)
    return None if after == before else _compared(before, after, config.store.path)


def foretold(config: Config, engine: Engine) -> Changes | None:
    """What `driftd run` would change of the store that is there; None where there is none, or nothing would.

    Raises UsageError where it could not go on, and StoreError.
    """
    path = config.store.path
    if not config.sources or not path.is_file() or not path.stat().st_size:
        return None
    with closing(read_only(path)) as store:
        known = made_of(store)
    return None if known is None else changes(known, config, engine)


def made_of(store: Store) -> Made | None:
    """What a store was made with; None of one that nothing was committed to, or that does not say what it measured."""
    meta = store.meta()
    if "signals" not in meta or not store.blobs("pipeline"):
        return None
    return Made(meta["configuration"], json.loads(meta["signals"]), meta.get("reference", ""))


def _compared(before: Made, after: Made, path: Path) -> Changes:
    try:
        return compare(before, after, str(path))
    except RefusedError as error:
        raise UsageError(str(error)) from None


def _carried(store: Store, made: Made, engine: Engine) -> Changes | None:
    """Fit a store to a configuration, in one transaction with what it then remembers to be made with."""
    known = made_of(store)
    if known is None:
        if store.blobs("pipeline"):  # of an earlier driftd, which can only go on as it was
            _same(store, made)
        _remember(store, made)
        return None
    if known == made:
        return None
    found, state = _compared(known, made, store.path), store.blobs()
    try:
        carried = carry(state, found, engine)
        prove(state, carried, engine)
    except ValueError as error:
        raise UsageError(f"{store.path} cannot go on with this configuration: {error}") from None
    if found.stricter:
        store.redact(engine.redact, keeps_text=engine.samples.keeps_text)
    store.commit(
        Checkpoint(
            positions={},
            blobs=carried.blobs,
            counts=store.counts(),
            readings=(),
            changes=carried.changes,
            alerts=carried.alerts,
            rejects=(),
            notices=[found.words],
            meta=_meta(made),
        )
    )
    return found


def resume_from_store(pipeline: Pipeline) -> None:
    """Go on from what the store holds. Raises UsageError where that does not fit what is there now."""
    try:
        pipeline.resume()
    except ValueError as error:
        raise UsageError(str(error)) from None


def settings_text(config: Config) -> str:
    """What decides the results of a run, as a store remembers it; of the sources only how records are read."""
    others = {"store": True, "log": True, "web": True, "idle_after": True, "reference": {"path"}}
    parts = config.model_dump(mode="json", by_alias=True, exclude=others)  # type: ignore[arg-type]  # a set within
    parts["sources"] = [{"format": source["format"]} for source in parts["sources"]]
    return json.dumps(parts)


def _meta(made: Made) -> dict[str, str]:
    """As a store remembers it."""
    file = {"reference": made.reference} if made.reference else {}
    return {"configuration": made.configuration, "signals": json.dumps(made.signals), **file}


def _remember(store: Store, made: Made) -> None:
    for name, value in _meta(made).items():
        store.remember(name, value)


def _same(store: Store, made: Made) -> None:
    """Refuse to go on with another configuration than the store was made with; remember it in a new one."""
    meta, now = store.meta(), json.loads(made.configuration)
    known = json.loads(meta.get("configuration", made.configuration))
    changed = [key for key, value in now.items() if known.get(key) != value]
    if changed:
        raise UsageError(
            f"{store.path} was made with another configuration ({', '.join(changed)} changed); "
            "give another --out, or the configuration it was made with"
        )
    was = json.loads(meta.get("signals", json.dumps(made.signals)))
    changed = sorted(name for name in {*was, *made.signals} if was.get(name) != made.signals.get(name))
    if changed:
        raise UsageError(
            f"{store.path} was made with another embedding model, or without one ({', '.join(changed)} changed); "
            "give another --out, or the model it was made with"
        )
    if meta.get("reference", made.reference) != made.reference:
        raise UsageError(
            f"{store.path} was made with the reference {meta['reference']}, not with {made.reference}; "
            "give another --out, or the reference it was made with"
        )
    _remember(store, made)


def _write(out: Path, store: Store, pipeline: Pipeline, seconds: float, notices: Sequence[str]) -> Outcome:
    """The result's files, from what was committed; `notices` are of this run."""
    changes = list(store.changes())
    _write_lines(out / "readings.jsonl", map(reading_row, store.readings()))
    _write_lines(out / "alerts.jsonl", map(change_row, changes))
    _write_lines(out / "rejects.jsonl", map(reject_row, store.rejects()))
    _write_lines(out / "triggers.jsonl", ())
    records = dict(pipeline.fates())
    summary = {
        "records": records,
        "scoring": dict(sorted(pipeline.engine.slices.remarks.items())),
        "generated_ids": int(store.meta().get("generated_ids", "0")),
        "reference": _reference(pipeline.engine.plan),
        "windows": [format_duration(size) for size in pipeline.engine.plan.sizes],
        "streams": sorted({scope.stream for scope in pipeline.engine.known_scopes()}),
        "alerts": {
            state: sum(c.state == state and c.reason != "joined" for c in changes) for state in ("firing", "resolved")
        },
        "thresholds": _thresholds(pipeline.engine),
        "false_alarms": _false_alarms(pipeline.engine),
        "notices": [*store.notices(), *notices, *_still_learning(pipeline.engine)],
        "seconds": round(seconds, 3),
        "records_per_second": round(sum(records.values()) / max(seconds, 1e-9), 1),
    }
    _replace(out / "summary.json", [json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n"])
    return Outcome(summary, changes)


def _reference(plan: Plan) -> dict[str, str]:
    """What windows were held against."""
    if plan.file is None:
        return {"kind": plan.reference.kind}
    times = {"from": format_time(plan.file.begin), "to": format_time(plan.file.end)}
    return {"kind": plan.reference.kind, "id": plan.file.id, **times}


def _false_alarms(engine: Engine) -> dict[str, Any]:
    """The budget, what of it is spent, and the false alarms to be expected; none are known before somebody says so."""
    settings, spending = engine.plan.false_alarms, engine.spending
    return {
        "at_most": settings.at_most,
        "per": format_duration(settings.per),
        "spent": spending.ratio(settings),
        "expected": spending.expected,
        "observed": None,
    }


def _still_learning(engine: Engine) -> list[str]:
    """Streams of which nothing could be judged."""
    return [
        f"reference: {part.scope.stream} learns until {format_time(learning.end)}; nothing of it is judged before"
        for part, learning in sorted(engine.baselines.learning.items(), key=lambda item: item[0].scope.stream)
        if part.scope.segment is None and part.number == 0
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
