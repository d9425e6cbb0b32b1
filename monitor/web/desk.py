"""Where the loop and the threads beside it meet: what it published, and what is asked of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal, NamedTuple, TypeVar

from monitor.decoding import Decoder
from monitor.metrics import Metrics
from monitor.model import Action, Event
from monitor.snapshot import Snapshot

T = TypeVar("T")
STALLED_SECONDS = 60.0
"""A loop that gives no sign of life for so long hangs. Waiting for brokers or for a full disk is no hanging."""


class Asked(NamedTuple):
    """What somebody asks the loop to keep; `kept` is done when it was committed."""

    action: Action
    event: Event | None
    kept: Future[None]


class Intake(NamedTuple):
    """A source that records are pushed to."""

    accept: Callable[[Sequence[bytes]], None]
    """Keeps messages for good. Raises SpoolFullError where there is no room now, ValueError where there never is, and
    OSError."""
    make_decoder: Callable[[], Decoder]
    max_record_bytes: int


@dataclass(slots=True)
class Desk:
    """Shared by all threads. Each field is replaced as a whole; no lock is ever held."""

    store: Path
    metrics: Metrics
    intakes: Mapping[str, Intake] = field(default_factory=dict)
    """Name of a push source -> how to give it records."""
    snapshot: Snapshot | None = None
    phase: Literal["starting", "running", "stopping"] = "starting"
    blocked: bool = False
    """Whether the store cannot be written now."""
    reloads: SimpleQueue[Future[str]] = field(default_factory=SimpleQueue)
    """Requests to read the configuration again; answered with what came of it, or a ValueError that says why not."""
    _asked: SimpleQueue[Asked] = field(default_factory=SimpleQueue)
    _beat: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        """The loop lives."""
        self._beat = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        """Since the last sign of life of the loop."""
        return time.monotonic() - self._beat

    def ask(self, action: Action, event: Event | None = None) -> Future[None]:
        """Have something kept with the next commit."""
        kept: Future[None] = Future()
        self._asked.put(Asked(action, event, kept))
        return kept

    def asked(self) -> list[Asked]:
        """What was asked since the last call."""
        return drained(self._asked)


def drained(queue: SimpleQueue[T]) -> list[T]:
    """All that is in a queue now."""
    found: list[T] = []
    while True:
        try:
            found.append(queue.get_nowait())
        except Empty:
            return found
