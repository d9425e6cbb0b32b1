"""`driftd run`: live sources to a store for as long as it may live. Wiring, signals, and what is said of it all."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from monitor import __version__
from monitor.app import UsageError, make_engine, make_scorers, open_store, resume_from_store
from monitor.config import Config
from monitor.contracts import LiveSource
from monitor.decoding import Decoder, make_decoder
from monitor.decoding.several import EachItsOwn
from monitor.engine import Step
from monitor.idleness import Idleness
from monitor.logs import tell
from monitor.pipeline import Pipeline
from monitor.scorers.custom import custom_paths
from monitor.settings import format_time
from monitor.sources import SOURCES
from monitor.sources.several import Several
from monitor.store import StoreSettings, StoreUnwritableError
from monitor.watermark import Admission

DRAIN_SECONDS = 25.0
"""How long the end may take after the first signal; an orchestrator kills after 30."""
UPKEEP_SECONDS = 60.0
"""Time between two looks for what the store may forget."""
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


def run(config: Config, stopped: Callable[[], bool]) -> None:
    """Follow the sources of a configuration until told to stop. Raises UsageError and StoreError."""
    with ExitStack() as stack:
        source = open_sources(config)
        stack.callback(source.close)
        engine = make_engine(config, scorers := make_scorers(config))
        store = open_store(config.store.path, config, engine)
        stack.callback(store.close)
        journal = _Journal(source)
        pipeline = Pipeline(
            source,
            decoders_of(config, source),
            scorers,
            engine,
            Admission(config.times()),
            store,
            _Upkeep(config.store),
            on_step=journal.stepped,
            on_beat=journal.look,
            excerpts=config.content != "none",
        )
        resume_from_store(pipeline)
        journal.begin(pipeline, config)
        pipeline.follow(source, Idleness(config.idle_after / 1000), stopped)
        tell(logging.INFO, "stopped", records=sum(pipeline.fates().values()))


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


class _Upkeep:
    """Lets the store forget what is old, now and then."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings, self._next = settings, 0.0

    def __call__(self, pipeline: Pipeline) -> None:
        watermark = pipeline.admission.watermark
        if time.monotonic() < self._next or watermark is None:
            return
        self._next = time.monotonic() + UPKEEP_SECONDS
        with suppress(StoreUnwritableError):  # the next commit says so
            pipeline.store.prune(watermark - self._settings.keep, self._settings)


class _Journal:
    """Tells in the log what happens to a pipeline."""

    def __init__(self, source: LiveSource) -> None:
        self._source, self._trouble, self._told = source, "", 0

    def begin(self, pipeline: Pipeline, config: Config) -> None:
        self._told = len(pipeline.notices)
        watermark = pipeline.admission.watermark
        state = {"store": config.store.path, "records": sum(pipeline.fates().values())}
        upto = None if watermark is None else format_time(watermark)
        tell(logging.INFO, "started", version=__version__, watermark=upto, **state)

    def look(self, pipeline: Pipeline) -> None:
        for notice in pipeline.notices[self._told :]:
            tell(logging.WARNING, notice)
        self._told = len(pipeline.notices)
        trouble = pipeline.trouble or self._source.trouble
        if trouble != self._trouble:
            tell(*(logging.WARNING, trouble) if trouble else (logging.INFO, "all is well again"))
            self._trouble = trouble

    @staticmethod
    def stepped(step: Step) -> None:
        for change in step.changes:
            fields: dict[str, Any] = {"rule": change.rule, "stream": change.stream, "segment": change.segment}
            told = {"at": format_time(change.at), "reason": change.reason, "severity": change.severity}
            level = logging.WARNING if change.state == "firing" and change.reason != "joined" else logging.INFO
            tell(level, f"alert {change.state}: {change.summary}", **fields, **told)
