"""`driftd demo`: the real pipeline over a made-up support bot's log, and what it found against what was planted.

Everything but the log and the temporary folder is what `driftd replay` runs with, the false-alarm budget included.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from monitor.calibration import FalseAlarmSettings
from monitor.decoding import FORMATS
from monitor.demo.findings import Result, compare
from monitor.demo.screen import Screen, print_result
from monitor.demo.traffic import SupportBot
from monitor.demo.truth import LEARNING, TRUTH, Planted
from monitor.engine import Engine, Plan, Step
from monitor.measuring import signals_of
from monitor.pipeline import Pipeline
from monitor.reference import ReferenceSettings
from monitor.rules import DEFAULT_RULES, with_built_in
from monitor.scorers import SCORERS
from monitor.settings import MINUTE
from monitor.slices import StreamSettings
from monitor.store import Store
from monitor.watermark import Admission, TimeSettings

WINDOWS = (15 * MINUTE, 30 * MINUTE)
"""The learning period is six of the longer ones, the least that driftd judges by."""


def demonstrate(seed: int, *, quiet: bool) -> bool:
    """Run the demo and print what came of it; True if every planted change was found and nothing else.

    Standard error shows it live, as a table on a terminal and as lines elsewhere, unless `quiet`.
    """
    started = time.monotonic()
    bot = SupportBot(seed)
    with Screen(Console(stderr=True, quiet=quiet), bot, TRUTH) as screen:
        result = run(bot, TRUTH, screen)
    print_result(Console(), result, len(bot), time.monotonic() - started)
    return result.perfect


def run(bot: SupportBot, truth: Sequence[Planted], screen: Screen) -> Result:
    """Send a bot's log through a pipeline with its store in a temporary folder; compare what fired with `truth`."""
    scorers = [row.make() for row in SCORERS.values()]
    engine = Engine(
        Plan(
            signals=signals_of(scorers),
            sizes=WINDOWS,
            streams=StreamSettings(),
            reference=ReferenceSettings(size=f"{LEARNING // MINUTE}m"),
            false_alarms=FalseAlarmSettings(),
            matters={},
            rules=with_built_in(DEFAULT_RULES),
        )
    )

    def show(step: Step) -> None:
        screen.update(step, list(engine.alerts.values()))

    with TemporaryDirectory(prefix="driftd-demo-") as folder:
        store = Store(Path(folder) / "driftd.db")
        try:
            pipeline = Pipeline(bot, FORMATS["native"], scorers, engine, Admission(TimeSettings()), store, on_step=show)
            pipeline.run(close=True)
            changes = list(store.changes())
        finally:
            store.close()
    return compare(truth, changes, bot.schedule, WINDOWS[-1])
