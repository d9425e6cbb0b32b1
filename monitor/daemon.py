"""`driftd run`: live sources to a store for as long as it may live. Wiring, signals, and what is said of it all."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from monitor import __version__
from monitor.app import UsageError, continue_store, foretold, make_engine, make_scorers, resume_from_store
from monitor.config import Config, ConfigError
from monitor.contracts import LiveSource
from monitor.decoding import Decoder, make_decoder
from monitor.decoding.several import EachItsOwn
from monitor.engine import Step
from monitor.idleness import Idleness
from monitor.logs import tell
from monitor.metrics import Metrics
from monitor.pipeline import Pipeline
from monitor.scorers.custom import custom_paths
from monitor.scoring import scorer_name
from monitor.settings import format_time
from monitor.snapshot import snapshot
from monitor.sources import SOURCES
from monitor.sources.push import Push, PushSettings
from monitor.sources.several import Several
from monitor.store import StoreError, StoreSettings, StoreUnwritableError
from monitor.watermark import Admission
from monitor.web import SERIES
from monitor.web.desk import STALLED_SECONDS, Asked, Desk, Intake, drained
from monitor.web.server import ListenError, served
from monitor.web.tokens import TokensError

DRAIN_SECONDS = 25.0
"""How long the end may take after the first signal; an orchestrator kills after 30."""
UPKEEP_SECONDS = 60.0
"""Time between two looks for what the store may forget."""
WATCH_SECONDS = 15.0
"""Time between two looks whether the loop lives."""
_LOOKS = (1.0, 30.0)
"""Least and longest time, in seconds, between two looks for new partitions."""


class Stop:
    """Asked to stop by the first signal; a second one, or too long an end, ends the process at once.

    That loses nothing: what was not committed is read again.
    """

    def __init__(self, deadline: float = DRAIN_SECONDS) -> None:
        self._deadline, self._asked = deadline, threading.Event()

    def __call__(self) -> bool:
        return self._asked.is_set()

    def ask(self, number: int = 0, _: FrameType | None = None) -> None:
        """Stop; what handles a signal."""
        if self._asked.is_set():
            os._exit(128 + number)
        self._asked.set()
        overdue = threading.Timer(self._deadline, os._exit, (3,))
        overdue.daemon = True
        overdue.start()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Reload:
    """Asked to read the configuration again, by a signal or over HTTP."""

    def __init__(self, read: Callable[[], Config]) -> None:
        self._read, self._asked = read, threading.Event()
        self.accepted: Config | None = None
        """What the daemon is to begin anew with."""
        self.before: Config | None = None
        """What it goes back to, as long as it has not begun with what was accepted."""

    def ask(self, *_: object) -> None:
        """Read it again; what handles a signal."""
        self._asked.set()

    @contextmanager
    def on_signal(self) -> Iterator[None]:
        before = signal.signal(signal.SIGHUP, self.ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def look(self, desk: Desk) -> None:
        """Read it again where that was asked for, and say so; where it is refused, the old one stays in use."""
        waiting = drained(desk.reloads)
        if not waiting and not self._asked.is_set():
            return
        self._asked.clear()
        try:
            new = self._read()
            changed = foretold(new, make_engine(new))
        except (ConfigError, UsageError, StoreError) as error:
            tell(logging.ERROR, f"the configuration was read again and is refused, the old one stays: {error}")
            desk.metrics.reloaded(successful=False, at=time.time())
            for answer in waiting:
                answer.set_exception(ValueError(str(error)))
            return
        more = "" if changed is None else f"; {changed.words}"
        said = f"the configuration was read again, and is in use from now on{more}"
        tell(logging.INFO, said)
        self.accepted = new
        for answer in waiting:
            answer.set_result(said)


def run(config: Config, stopped: Callable[[], bool], reload: Reload | None = None) -> None:
    """Follow the sources of a configuration until told to stop. Raises UsageError and StoreError.

    With `reload` another configuration may take over; one that cannot be begun with gives way to the one before.
    """
    while True:
        try:
            _run(config, stopped, reload)
        except (UsageError, StoreError) as error:
            if reload is None or reload.before is None:
                raise
            tell(logging.ERROR, f"the new configuration cannot be begun with, the old one is in use again: {error}")
            config, reload.before = reload.before, None
            continue
        if reload is None or reload.accepted is None or stopped():
            break
        reload.before, config, reload.accepted = config, reload.accepted, None


def _run(config: Config, stopped: Callable[[], bool], reload: Reload | None) -> None:
    """Until told to stop, or another configuration was accepted."""
    with ExitStack() as stack:
        rules = [(rule.name, rule.severity) for rule in config.all_rules()]
        scorers = make_scorers(config)
        metrics = Metrics(config.web.series if config.web else SERIES, rules, list(map(scorer_name, scorers)))
        desk = Desk(config.store.path, metrics)
        source = open_sources(config)
        stack.callback(source.close)
        desk.intakes = intakes_of(config, source)
        if config.web:  # before models are loaded, so that a start can be watched
            try:
                stack.enter_context(served(config.web, desk))
            except (TokensError, ListenError) as error:
                raise UsageError(str(error)) from None
        engine = make_engine(config, scorers, metrics.score)
        store, changed = continue_store(config.store.path, config, engine)
        stack.callback(store.close)
        if changed is not None:
            tell(logging.WARNING, changed.words)
        upkeep = _Upkeep(config.store)
        journal = _Journal(source, desk, upkeep)
        pipeline = Pipeline(
            source,
            decoders_of(config, source),
            scorers,
            engine,
            Admission(config.times()),
            store,
            on_commit=journal.committed,
            on_step=journal.stepped,
            on_beat=journal.look,
            excerpts=config.content != "none",
            score=metrics.score,
        )
        resume_from_store(pipeline)
        journal.begin(pipeline, config)
        stack.enter_context(side_jobs(upkeep, desk))

        def over() -> bool:
            if reload is not None:
                reload.before = None
                reload.look(desk)
            ends = stopped() or (reload is not None and reload.accepted is not None)
            desk.phase = "stopping" if ends else "running"
            return ends

        pipeline.follow(source, Idleness(config.idle_after / 1000), over)
        tell(logging.INFO, "stopped", records=sum(pipeline.fates().values()))


@contextmanager
def side_jobs(upkeep: _Upkeep, desk: Desk) -> Iterator[None]:
    """What is done now and then beside the loop."""
    from apscheduler.schedulers.background import BackgroundScheduler  # noqa: PLC0415

    # Late jobs are run late, which the library would leave out.
    jobs = BackgroundScheduler(
        timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
    )
    jobs.add_job(upkeep.due.set, "interval", seconds=UPKEEP_SECONDS)
    jobs.add_job(_Watch(desk), "interval", seconds=WATCH_SECONDS)
    jobs.start()
    try:
        yield
    finally:
        jobs.shutdown()


class _Watch:
    """Says so where the loop gives no sign of life, and where it is."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._told, self._loop = desk, False, threading.get_ident()

    def __call__(self) -> None:
        stalled = self._desk.silent_seconds > STALLED_SECONDS
        if stalled and not self._told:
            frame = sys._current_frames().get(self._loop)  # noqa: SLF001  there is no other way
            where = "" if frame is None else "".join(traceback.format_stack(frame, limit=5))
            tell(logging.ERROR, "the loop gives no sign of life", seconds=round(self._desk.silent_seconds), at=where)
        self._told = stalled


def open_sources(config: Config) -> Several:
    """The sources of a configuration, as one. Raises UsageError."""
    if not config.sources:
        raise UsageError("there are no `sources` to run on; `driftd replay` reads logs")
    sources: list[LiveSource] = []
    with ExitStack() as opened:
        for number, settings in enumerate(config.sources):
            refresh = min(max(config.lateness / 2000, _LOOKS[0]), _LOOKS[1])
            try:
                source = SOURCES[settings.kind].follow(settings, refresh=refresh)
            except ValueError as error:
                raise UsageError(f"sources[{number}]: {error}") from None
            opened.callback(source.close)
            sources.append(source)
        opened.pop_all()
    return Several(sources)


def decoders_of(config: Config, source: Several) -> Callable[[], Decoder]:
    """What makes a decoder of all sources' records."""
    paths = custom_paths(config.signals.custom)
    makers = [partial(make_decoder, settings.format, paths) for settings in config.sources]
    return lambda: EachItsOwn([make() for make in makers], source.number_of)


def intakes_of(config: Config, source: Several) -> dict[str, Intake]:
    """How records are given to the push sources."""
    paths = custom_paths(config.signals.custom)
    return {
        settings.name: Intake(push.accept, partial(make_decoder, settings.format, paths), settings.max_record_bytes)
        for settings, push in zip(config.sources, source.sources, strict=True)
        if isinstance(settings, PushSettings) and isinstance(push, Push)
    }


class _Upkeep:
    """Lets the store forget what is old, after a commit, where that is due."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings, self.due = settings, threading.Event()
        self.due.set()

    def __call__(self, pipeline: Pipeline) -> None:
        watermark = pipeline.admission.watermark
        if not self.due.is_set() or watermark is None:
            return
        self.due.clear()
        with suppress(StoreUnwritableError):  # the next commit says so
            pipeline.store.prune(watermark - self._settings.keep, self._settings)


class _Journal:
    """Tells in the log, at the desk and in metrics what happens to a pipeline."""

    def __init__(self, source: Several, desk: Desk, upkeep: _Upkeep) -> None:
        self._source, self._desk, self._upkeep, self._trouble, self._told = source, desk, upkeep, "", 0
        self._kept: list[Asked] = []
        """Asked for, and not committed yet."""

    def begin(self, pipeline: Pipeline, config: Config) -> None:
        self._told = len(pipeline.notices)
        watermark = pipeline.admission.watermark
        state = {"store": config.store.path, "records": sum(pipeline.fates().values())}
        upto = None if watermark is None else format_time(watermark)
        tell(logging.INFO, "started", version=__version__, watermark=upto, **state)
        self._show(pipeline, None)
        self._desk.phase = "running"

    def _show(self, pipeline: Pipeline, committed: float | None) -> None:
        """Let others see what the store holds now."""
        now = snapshot(pipeline.engine, pipeline.fates(), pipeline.admission.watermark, committed)
        self._desk.snapshot = now
        self._desk.metrics.show(now, pipeline.store.megabytes * 2**20)

    def look(self, pipeline: Pipeline) -> None:
        """A round of the loop."""
        for notice in pipeline.notices[self._told :]:
            tell(logging.WARNING, notice)
        self._told = len(pipeline.notices)
        trouble = pipeline.trouble or self._source.trouble
        if trouble != self._trouble:
            tell(*(logging.WARNING, trouble) if trouble else (logging.INFO, "all is well again"))
            self._trouble = trouble
        self._desk.beat()
        self._desk.blocked = bool(pipeline.trouble)
        self._desk.metrics.blocked(bool(pipeline.trouble))
        self._attend(pipeline)

    def _attend(self, pipeline: Pipeline) -> None:
        """Show how far behind the sources are, and take what was asked; a round may take long, so not only then."""
        self._desk.metrics.sources(self._source.lag(), self._source.troubles())
        for asked in self._desk.asked():
            pipeline.record(asked.action, asked.event)
            self._kept.append(asked)

    def committed(self, pipeline: Pipeline) -> None:
        """A commit was written."""
        self._desk.beat()
        self._show(pipeline, time.time())
        self._desk.metrics.committed(pipeline.commit_seconds)
        for asked in self._kept:
            asked.kept.set_result(None)
        self._kept = []
        self._attend(pipeline)
        self._upkeep(pipeline)

    def stepped(self, step: Step) -> None:
        """Event time moved on."""
        self._desk.beat()
        self._desk.metrics.stepped(step)
        for change in step.changes:
            fields: dict[str, Any] = {"rule": change.rule, "stream": change.stream, "segment": change.segment}
            told = {"at": format_time(change.at), "reason": change.reason, "severity": change.severity}
            level = logging.WARNING if change.state == "firing" and change.reason != "joined" else logging.INFO
            tell(level, f"alert {change.state}: {change.summary}", **fields, **told)
