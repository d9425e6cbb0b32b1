"""A run whose last commit can be looked at, as a daemon shows it."""

from __future__ import annotations

from pathlib import Path

from monitor import app
from monitor.config import Config
from monitor.engine import Step
from monitor.pipeline import Pipeline
from monitor.snapshot import Snapshot, snapshot
from tests.replay.logs import few_signals

COMMITTED = 1_800_000_000.0


class Watched:
    """A replay, and the snapshot of its last commit; what is open at its end stays open."""

    def __init__(self, settings: Config, out: Path, *logs: Path) -> None:
        self.steps: list[Step] = []
        self.store = out / "driftd.db"
        self._settings, self._out = settings, out
        self.read(*logs)

    def read(self, *logs: Path) -> Snapshot:
        """Go on with further logs."""
        with few_signals(sampled=True):
            app.replay(
                self._settings,
                self._out,
                [str(log) for log in logs],
                resume=True,
                on_commit=self._look,
                on_step=self.steps.append,
            )
        return self.snapshot

    def _look(self, pipeline: Pipeline) -> None:
        self.snapshot = snapshot(pipeline.engine, pipeline.fates(), pipeline.admission.watermark, COMMITTED)
