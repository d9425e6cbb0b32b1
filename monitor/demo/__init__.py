"""`driftd demo`: the real pipeline over a made-up support bot's log, and what it found against what was planted.

Everything but the log, the temporary folder and the size of the sample is what `driftd replay` runs with, the scorers
and the false-alarm budget included.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from monitor.calibration import FalseAlarmSettings
from monitor.contracts import Scorer
from monitor.decoding import FORMATS
from monitor.demo.findings import Result, compare
from monitor.demo.screen import Screen, print_result
from monitor.demo.traffic import SupportBot
from monitor.demo.truth import LEARNING, TRUTH, Planted
from monitor.engine import Engine, Plan, Step
from monitor.measuring import signals_of
from monitor.pipeline import Pipeline
from monitor.redaction import redact
from monitor.reference import ReferenceSettings
from monitor.rules import DEFAULT_RULES, with_built_in
from monitor.sampled import SampledSignals
from monitor.scorers import SAMPLE_SCORERS, SCORERS, made
from monitor.scorers.embedding import EmbeddingSettings, why_unavailable
from monitor.settings import MINUTE
from monitor.slices import StreamSettings
from monitor.store import Store
from monitor.watermark import Admission, TimeSettings

WINDOW = 15 * MINUTE
"""A twelfth of the learning period, twice what driftd needs: the more slices, the better it knows how they differ."""
SAMPLED = 7
"""Exchanges of a slice that are embedded. Most of the demo's time is the model's, and so few show what is planted."""
WITHOUT_MODEL = "driftd[bundled-model] is not installed: the topic shift was looked for by length only"


def demonstrate(seed: int, *, quiet: bool) -> bool:
    """Run the demo and print what came of it; True if every planted change was found and nothing else.

    Standard error shows it live, as a table on a terminal and as lines elsewhere, unless `quiet`.
    """
    started, console = time.monotonic(), Console()
    bot = SupportBot(seed, TRUTH)
    with Screen(Console(stderr=True, quiet=quiet), bot, TRUTH) as screen:
        result = run(bot, TRUTH, screen)
    print_result(console, result, len(bot), time.monotonic() - started)
    if not embeds():
        console.print(WITHOUT_MODEL, highlight=False, markup=False, soft_wrap=True)
    return result.perfect


def embeds() -> bool:
    """Whether the bundled model is installed."""
    return why_unavailable(EmbeddingSettings()) is None


def run(bot: SupportBot, truth: Sequence[Planted], screen: Screen) -> Result:
    """Send a bot's log through a pipeline with its store in a temporary folder; compare what fired with `truth`."""
    scorers = [made(row) for row in SCORERS.values()]
    engine = _engine(scorers)

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
    return compare(truth, changes, bot.schedule, WINDOW)


def _engine(scorers: Sequence[Scorer]) -> Engine:
    samples = SampledSignals([made(row) for name, row in SAMPLE_SCORERS.items() if name != "embedding" or embeds()])
    plan = Plan(
        signals=signals_of([*scorers, samples]),
        sizes=[WINDOW],
        streams=StreamSettings(),
        reference=ReferenceSettings(size=f"{LEARNING // MINUTE}m"),
        false_alarms=FalseAlarmSettings(),
        matters={},
        rules=with_built_in(DEFAULT_RULES),
        sampled=SAMPLED,
    )
    return Engine(plan, samples, redact)
