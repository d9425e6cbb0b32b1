"""Finished logs -> a reference file: the same pipeline as a replay, in which every stream learns to the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from monitor import app
from monitor.app import UsageError
from monitor.config import Config
from monitor.contracts import Scorer
from monitor.engine import Engine, Plan
from monitor.pipeline import Pipeline
from monitor.redaction import redact
from monitor.reference import ReferenceSettings
from monitor.reference_file import pack
from monitor.sampled import SampledSignals
from monitor.settings import format_time
from monitor.store import Store
from monitor.watermark import Admission


@dataclass(frozen=True, slots=True)
class Built:
    """A reference file, and what there is to say of it."""

    data: bytes
    notices: Sequence[str]


def build(config: Config, logs: Sequence[str], on_commit: Callable[[Pipeline], None] = lambda _: None) -> Built:
    """Learn from logs to their end, or to `reference.until`. Raises UsageError.

    Without `until` the logs are read twice: which slices are kept follows from where they end.
    """
    if not logs:
        raise UsageError("no LOG to learn from")
    until = config.reference.until
    period = config.reference.period
    wanted = ReferenceSettings() if period is None else config.reference.model_copy(update={"size": 2 * period})
    learned = config.model_copy(update={"reference": wanted})
    if until is None:
        if "-" in logs:
            raise UsageError("standard input cannot be read twice; give files, or reference.until")
        until = _end(learned, logs)
    engine = app.make_engine(learned, scorers := app.make_scorers(learned))
    engine = Engine(replace(engine.plan, rules=(), until=until), engine.samples, engine.redact)
    pipeline = _run(learned, logs, engine, scorers, on_commit)
    if engine.baselines.learning:
        raise UsageError(
            f"reference.until, {format_time(until)}, lies behind the end of the logs; leave it out, or give more logs"
        )
    try:
        data = pack(
            config.windows, engine.plan.signals, engine.baselines.references.values(), engine.samples.clusters.books
        )
    except ValueError as error:
        raise UsageError(f"there is nothing to learn from in these logs: {error}") from None
    return Built(data, pipeline.notices)


def _end(config: Config, logs: Sequence[str]) -> int:
    """The end of the last slice that holds records of the logs."""
    plan = Plan({}, config.windows, config.streams, config.reference, config.false_alarms, {}, ())
    engine = Engine(plan, SampledSignals(), redact)
    _run(config, logs, engine, ())
    return max((found.end for size, found in engine.rings.held() if size == plan.sizes[0]), default=0)


def _run(
    config: Config,
    logs: Sequence[str],
    engine: Engine,
    scorers: Sequence[Scorer],
    on_commit: Callable[[Pipeline], None] = lambda _: None,
) -> Pipeline:
    """All of the logs through the pipeline; what it keeps on the way is thrown away."""
    with ExitStack() as stack:
        source = app.open_logs(config, logs)
        stack.callback(source.close)
        store = Store(Path(stack.enter_context(TemporaryDirectory())) / "driftd.db")
        stack.callback(store.close)
        pipeline = Pipeline(
            source,
            app.decoder_of(config),
            scorers,
            engine,
            Admission(config.times()),
            store,
            on_commit,
            excerpts=False,
        )
        pipeline.run(close=True)
        return pipeline
