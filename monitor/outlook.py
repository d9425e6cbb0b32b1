"""What the rules of a configuration would see of traffic like that of some logs or of a store, and how soon.

Logs go through the same pipeline as in a replay, and what is kept on the way is thrown away; of a store the state is
used as it is. Nothing is written to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from monitor import app
from monitor.app import STORE, UsageError
from monitor.config import Config
from monitor.engine import Engine
from monitor.model import Reading, Scope
from monitor.pipeline import Pipeline
from monitor.readings import Judge
from monitor.readings.foresight import Sight, Traffic, sight_of_shares, sight_of_vectors, traffic_of
from monitor.readings.lacking import LEAST_UNITS
from monitor.readings.levels import measure, passed_from
from monitor.readings.matters import VOLUME_FACTOR, matters
from monitor.reference import SeriesReference
from monitor.rules import LevelSettings, Rule, selects
from monitor.settings import DAY, SECOND, format_time
from monitor.store import Store, read_only
from monitor.windows import SLICES

_FREE = ("rules", "built_in_rules", "false_alarms")
"""What may differ from the configuration that a store was made with, `signals.matters` beside it."""


class Volume(NamedTuple):
    """What a window says of its number of records: it is drift below `low` and above `high`."""

    size: int
    usual: float
    low: float
    high: float
    silent: bool
    """Whether a window without records is one that the reference did not have."""


class Passing(NamedTuple):
    """What a level rule needs in one stream or segment."""

    scope: Scope
    signal: str
    usual: float | None
    """Its value over the reference."""
    needed: float
    """What a window must show, see `passed_from`."""
    records: float
    """Records of the window, at the present traffic."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """All that can be said of what is to come."""

    rules: Sequence[Rule]
    sights: Mapping[tuple[Scope, str], Mapping[int, Sight]]
    """Stream or segment and signal -> what windows of each size see."""
    volumes: Mapping[Scope, Sequence[Volume]]
    paces: Mapping[Scope, float]
    """Records a second at present: of the last day that was judged, or of the reference."""
    levels: Mapping[str, Sequence[Passing]]
    """Level rule -> what it needs."""
    notices: Sequence[str]


def foresee(config: Config, logs: Sequence[str], on_commit: Callable[[Pipeline], None] = lambda _: None) -> Outlook:
    """What would be seen of traffic like that of the logs; or, if that is what they are, of one store.

    Raises UsageError, for logs from which nothing can be learned too, and StoreError.
    """
    stores = [log for log in logs if _store(log).is_file()]
    if stores and len(logs) > 1:
        raise UsageError(f"{stores[0]} is the folder of a replay; give it alone, or logs")
    with ExitStack() as stack:
        engine: Engine | None = None
        notices: list[str] = []
        place = _store(stores[0]) if stores else None
        if place is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="driftd-check-")))
            engine, notices = _replayed(config, logs, folder, on_commit)
            place = folder / STORE
        store = read_only(place)
        stack.callback(store.close)
        if engine is None:
            engine, notices = _restored(config, store), store.notices()
        if not any(judge.parts for judge in engine.judges.values()):
            raise UsageError("\n".join(_why_nothing(engine, notices, store.counts())))
        recent = store.readings_of("volume", (engine.now or 0) - DAY)
        return _outlook(config, engine, _factors(recent), notices)


def _store(log: str) -> Path:
    """Where the store is, should it be one."""
    path = Path(log)
    return path if path.name == STORE else path / STORE


def _restored(config: Config, store: Store) -> Engine:
    """The engine as the store left it. Raises UsageError for one that was made otherwise."""
    engine = app.make_engine(config)
    known, now = (_deciding(text) for text in (store.meta().get("configuration", "{}"), app.settings_text(config)))
    changed = [key for key, value in now.items() if known.get(key) != value]
    if engine.plan.file is not None and store.meta().get("reference") != engine.plan.file.id:
        changed.append("reference")
    try:
        if not changed:
            engine.restore(store.blobs())
            return engine
    except ValueError as error:
        raise UsageError(f"{store.path}: {error}") from None
    raise UsageError(
        f"{store.path} was made with another configuration ({', '.join(changed)} changed); give the one it was made "
        "with: only rules, false_alarms and signals.matters may differ"
    )


def _deciding(text: str) -> dict[str, object]:
    settings: dict[str, object] = {key: value for key, value in json.loads(text).items() if key not in _FREE}
    if isinstance(signals := settings.get("signals"), dict):
        settings["signals"] = {key: value for key, value in signals.items() if key != "matters"}
    return settings


def _replayed(
    config: Config, logs: Sequence[str], folder: Path, on_commit: Callable[[Pipeline], None]
) -> tuple[Engine, list[str]]:
    engines: list[Engine] = []

    def keep(pipeline: Pipeline) -> None:
        engines[:] = [pipeline.engine]
        on_commit(pipeline)

    outcome = app.replay(config, folder, logs, resume=False, on_commit=keep)
    return engines[0], outcome.summary["notices"]


def _why_nothing(engine: Engine, notices: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    if engine.now is None:
        fates = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        return [f"nothing can be said: there is no record that counts ({fates or 'the log is empty'})"]
    end = f"the log ends at {format_time(engine.now)}"
    hint = "give more of it, or say in `reference` when less is normal (reference.size, reference.until)"
    return [f"nothing can be said: there is no reference that windows are held against; {end}: {hint}", *notices]


def _factors(recent: Iterator[Reading]) -> dict[tuple[Scope, int], float]:
    """Traffic against that of the reference, by stream or segment and window size."""
    sums: dict[tuple[Scope, int], tuple[float, float]] = {}
    for reading in recent:
        if reading.reference_value:
            now, then = sums.get((reading.scope, reading.window), (0.0, 0.0))
            sums[reading.scope, reading.window] = now + (reading.value or 0.0), then + reading.reference_value
    return {key: now / then for key, (now, then) in sums.items() if now}


def _outlook(
    config: Config, engine: Engine, factors: Mapping[tuple[Scope, int], float], notices: Sequence[str]
) -> Outlook:
    sights: dict[tuple[Scope, str], dict[int, Sight]] = {}
    series: dict[tuple[Scope, str], SeriesReference] = {}
    for found, sight in _sights(engine, factors):
        key = found.scope, found.signal.name
        series[key] = found
        sights.setdefault(key, {})[sight.size] = sight
    volumes: dict[Scope, list[Volume]] = {}
    for scope, volume in _volumes(engine, factors):
        volumes.setdefault(scope, []).append(volume)
    paces = {scope: found[-1].usual / found[-1].size * SECOND for scope, found in volumes.items()}
    rules = config.all_rules()
    levels = {
        rule.name: _passing(rule, rule.on, series, sights, volumes)
        for rule in rules
        if isinstance(rule.on, LevelSettings)
    }
    return Outlook(rules, sights, volumes, paces, levels, notices)


def _sights(engine: Engine, factors: Mapping[tuple[Scope, int], float]) -> Iterator[tuple[SeriesReference, Sight]]:
    """Of every series that is judged, in windows of every size."""
    for size, judge in engine.judges.items():

        def around(found: SeriesReference, judge: Judge = judge) -> tuple[Traffic, float]:
            slices = judge.parts[found.scope, found.signal.name].slices[judge.size]
            traffic = traffic_of(found, judge.size, slices, factors.get((found.scope, judge.size), 1.0))
            return traffic, engine.budget[judge.size][found.scope.segment is not None]

        for watched in judge.shares.series:
            yield watched.reference, sight_of_shares(watched, *around(watched.reference))
        for found in judge.vectors.series:
            yield found, sight_of_vectors(found, size, matters(found.signal, judge.own), *around(found))


def _volumes(engine: Engine, factors: Mapping[tuple[Scope, int], float]) -> Iterator[tuple[Scope, Volume]]:
    times = engine.plan.matters.get("volume", VOLUME_FACTOR)
    for size, judge in engine.judges.items():
        for (scope, name), reference in judge.parts.items():
            if name == "volume":
                least, usual, most = reference.volume[size]
                enough = usual >= LEAST_UNITS and math.isfinite(most)
                low, high = (least / times, most * times) if enough else (0.0, math.inf)
                yield scope, Volume(size, usual * factors.get((scope, size), 1.0), low, high, least > 0)


def _passing(
    rule: Rule,
    on: LevelSettings,
    series: Mapping[tuple[Scope, str], SeriesReference],
    sights: Mapping[tuple[Scope, str], Mapping[int, Sight]],
    volumes: Mapping[Scope, Sequence[Volume]],
) -> list[Passing]:
    """What a level rule needs, of every stream, segment and signal that it watches and that has a reference."""
    level, window = on.below if on.above is None else on.above, rule.window
    assert level is not None
    assert window is not None
    found = []
    for (scope, name), by_size in sights.items():
        if not selects(rule, scope, name) or window not in by_size:
            continue
        traffic, summary = by_size[window].traffic, series[scope, name].summary
        records, units = traffic.records * SLICES, max(traffic.seen * SLICES, 1.0)
        usual = records if on.value == "count" else measure(summary, on.value, on.q).value
        needed = passed_from(summary, on.value, level, units, above=on.above is not None, q=on.q)
        found.append(Passing(scope, name, usual, needed, records))
    for scope, by_window in volumes.items():
        if on.value == "count" and selects(rule, scope, "volume"):
            found += [Passing(scope, "volume", v.usual, level, v.usual) for v in by_window if v.size == window]
    return found
