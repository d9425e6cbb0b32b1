"""What moved: the signals of an alert by their size, before and after, the segments it shows in, and what chance does.

Comes in: readings and how values were spread before and now. Goes out: lines for a person. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from monitor.clusters import Codebook, embedding_of
from monitor.model import RELATIVE, STRETCH, Ints, Reading
from monitor.sampling import Sample
from monitor.settings import DAY, format_duration, format_time
from monitor.summaries import AnySummary, Category, Rate, Vector
from monitor.summaries.vector import embed

MOST_SIGNALS = 6
MOST_SEGMENTS = 5
MOST_VALUES = 3
MOST_EXAMPLES = 2
EXAMPLE_CHARS = 160
_ALIKE = 40
"""Letters and digits at the begin of texts that are the same in texts of which one is example enough."""
_YEAR, _MOST_YEARS = 365.25, 1_000.0
"""Days of a year, and years beyond which nothing is told."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One signal of an alert, as it is now."""

    reading: Reading
    strength: float
    """Size of the effect in multiples of what matters."""
    before: Mapping[str, float] = field(default_factory=dict)
    """Categories: value -> its share in the reference."""
    after: Mapping[str, float] = field(default_factory=dict)
    """Categories: value -> its share in the window."""
    examples: Sequence[str] = ()
    """Redacted texts since the change: of vectors those that pull most away from the reference, of clusters those of
    the one that grew most, of a rate that rose those that count."""
    of: str = ""
    """The cluster that they are of."""
    ramp: str = ""
    """How fast it goes on changing since it began, where it does."""


def moved(
    reading: Reading,
    strength: float,
    before: AnySummary | None,
    after: Sequence[AnySummary],
    samples: Sequence[Sample],
    *,
    book: Codebook | None = None,
) -> Moved:
    """A signal that moved, with what tells how.

    Parameters
    ----------
    before : the signal in the reference
    after : the signal in the slices of the window
    samples : exchanges of the stream since the change, in order
    book : of a signal of clusters, what they are

    """
    if isinstance(before, Category):
        parts = [part for part in after if isinstance(part, Category)]
        shares, now = before.shares(), Category.merged(parts).shares() if parts else {}
        rose = max(now, key=lambda name: (now[name] - shares.get(name, 0.0), name), default="")
        examples = [] if book is None or rose not in book.names else _of_cluster(reading, book, rose, samples)
        return Moved(reading, strength, shares, now, examples, rose if examples else "")
    if isinstance(before, Vector):
        found = [part for part in after if isinstance(part, Vector)]
        return Moved(reading, strength, examples=_examples(reading, before, found, samples) if found else ())
    if isinstance(before, Rate) and (reading.effect or 0.0) > 0:
        return Moved(reading, strength, examples=_that_count(reading, samples))
    return Moved(reading, strength)


def _examples(reading: Reading, before: Vector, after: Sequence[Vector], samples: Sequence[Sample]) -> list[str]:
    """Texts where the witness function of the distance, phi(x)'(window's mean - reference's mean), is greatest.

    It is great where texts are more frequent now than before (Gretton et al., JMLR 2012, section 2.3).
    """
    pull = Vector.merged(list(after)).embedding - before.embedding
    scored: list[tuple[float, str]] = []
    for sample in samples:
        vectors = sample.vectors.get(reading.signal)
        if vectors is None:
            continue
        rows = _rows_of(sample, reading.segment)
        values = embed(vectors[rows]) @ pull
        texts = getattr(sample.transcripts, _side(reading))[rows]
        scored += [
            (value, _excerpt(text)) for value, text in zip(values.tolist(), texts, strict=True) if text and value > 0
        ]
    return _distinct(text for _, text in sorted(scored, key=lambda pair: (-pair[0], pair[1])))


def _of_cluster(reading: Reading, book: Codebook, name: str, samples: Sequence[Sample]) -> list[str]:
    """Texts of the window that fall in one cluster, those nearest to its centre first."""
    vectors, code = embedding_of(reading.signal) or "", book.names.index(name)
    scored: list[tuple[float, str]] = []
    for sample in samples:
        if vectors not in sample.vectors:
            continue
        rows = _rows_of(sample, reading.segment)
        found = sample.vectors[vectors][rows].astype(np.float64)
        texts, mine = getattr(sample.transcripts, _side(reading))[rows], book.place(found) == code
        scored += [
            (novelty, _excerpt(text))
            for novelty, text, here in zip(book.novelty(found).tolist(), texts, mine.tolist(), strict=True)
            if text and here
        ]
    return _distinct(text for _, text in sorted(scored))


def _that_count(reading: Reading, samples: Sequence[Sample]) -> list[str]:
    """Prompts or answers of which a rate says yes, the newest slices first."""
    if not reading.signal.startswith(("prompt_", "response_")):
        return []
    found: list[str] = []
    for sample in reversed(samples):
        if reading.signal in sample.measures.signals:
            rows = _rows_of(sample, reading.segment)
            rows = rows[sample.measures.number(reading.signal)[rows] > 0]
            texts = getattr(sample.transcripts, _side(reading))[rows]
            found += [_excerpt(text) for text in texts if text]
    return _distinct(found)


def _excerpt(text: str) -> str:
    """How a text begins, on one line."""
    return " ".join(text.split())[:EXAMPLE_CHARS]


def _distinct(texts: Iterable[str]) -> list[str]:
    """The first few that do not begin alike.

    >>> _distinct(["Call me.", "call  me!", "Write."])
    ['Call me.', 'Write.']
    """
    by_begin: dict[str, str] = {}
    for text in texts:
        by_begin.setdefault("".join(filter(str.isalnum, text.casefold()))[:_ALIKE] or text, text)
        if len(by_begin) == MOST_EXAMPLES:
            break
    return list(by_begin.values())


def _side(reading: Reading) -> str:
    return "prompt" if reading.signal.startswith("prompt") else "response"


def _rows_of(sample: Sample, segment: str | None) -> Ints:
    """The exchanges of a segment, `label=value`, with a vector."""
    if segment is None:
        return np.arange(len(sample))
    label, _, value = segment.partition("=")
    return np.flatnonzero(np.equal(sample.segments[label], value).astype(np.bool_))


def explain(
    together: Sequence[Moved],
    elsewhere: Sequence[tuple[Reading, float]],
    *,
    joined: Sequence[str] = (),
    by_chance: float | None = None,
) -> str:
    """A few lines: what moved by how much, where, and how rarely chance shows as much.

    Parameters
    ----------
    together : the signals of the alert that drift, at most one entry a signal
    elsewhere : readings of the same signals in other scopes of the stream, each with its strength
    joined : signals that have joined the alert just now
    by_chance : milliseconds between two times that unchanged traffic shows as much in any series, at least

    """
    ranked = sorted(together, key=lambda part: (-part.strength, part.reading.signal))
    lines = [f"joined now: {', '.join(joined)}"] if joined else []
    if len(ranked) > 1:
        total = sum(part.strength for part in ranked) or 1.0
        sizes = (f"{part.reading.signal} {part.strength / total:.0%}" for part in ranked)
        lines.append(f"drifting, by size in multiples of what matters: {', '.join(sizes)}")
    lines += map(_signal_line, ranked[:MOST_SIGNALS])
    lines += [
        f"{part.reading.signal} {part.of}".rstrip() + f", for example: {text}"
        for part in ranked[:MOST_SIGNALS]
        for text in part.examples
    ]
    lines += _segment_lines(elsewhere)
    if by_chance is not None:
        lines.append(f"false alarms as strong as this, all series together: at most one in {_rarely(by_chance)}")
    return "\n".join(lines)


def _rarely(milliseconds: float) -> str:
    """How long something takes to come again, in days or years.

    >>> _rarely(45.2 * DAY), _rarely(3652 * DAY), _rarely(1e30)
    ('45 days', '10 years', '1,000 years')
    """
    days = milliseconds / DAY
    return f"{days:.0f} days" if days < 2 * _YEAR else f"{min(days / _YEAR, _MOST_YEARS):,.0f} years"


def _signal_line(part: Moved) -> str:
    reading = part.reading
    since = f", {part.ramp}" * bool(part.ramp)
    since += "" if reading.changed_at is None else f", since about {format_time(reading.changed_at)}"
    change = _change(part) + _origin(reading) + _mostly(reading)
    return f"{reading.signal}: {change} ({reading.n:,} records in {format_duration(reading.window)}{since})"


def _change(part: Moved) -> str:
    """Before and after, in the signal's own terms."""
    reading = part.reading
    if reading.kind == "category":
        changed = "; ".join(_values(part.before, part.after, reading.baseline)) or "values changed"
        return f"{changed}{_effect(reading)}"
    if reading.kind == "vector":
        least, low = abs(reading.effect or 0.0), reading.effect_low
        surely = f"at least {least:.0%}" if low is None else f"at least {low:.0%}, more likely {least:.0%} or more,"
        return f"{surely} of the texts are unlike the reference's"
    before, after = (_figure(value, reading) for value in (reading.reference_value, reading.value_then))
    if reading.baseline:
        return f"{after} against {before} in {reading.baseline}{_effect(reading)}"
    if reading.kind == "rate":
        whole = (
            f"; {_figure(reading.value, reading)} in the whole window" if reading.value_then != reading.value else ""
        )
        return f"{before} before, {after} {_when(reading)}{_effect(reading)}{whole}"
    moved = f", {_PARTS[reading.moved]}" if reading.moved else ""
    if reading.effect_unit.startswith(RELATIVE):
        medians = f"; median {before} before, {after} in the window"
        what = reading.effect_unit.removeprefix(RELATIVE).removesuffix(STRETCH)
        return f"{what} {reading.effect or 0.0:+.0%} {_when(reading)}{_interval(reading)}{medians}{moved}"
    return f"mean {before} before, {after} in the window{_effect(reading)}{moved}"


_PARTS = {
    "location": "small and large values alike",
    "spread": "in how much values differ",
    "upper tail": "mostly large values",
    "lower tail": "mostly small values",
}
"""What of a distribution moved, for a person."""


def _when(reading: Reading) -> str:
    """Of what time an effect is."""
    if not reading.effect_unit.endswith(STRETCH):
        return "now"
    if reading.changed_at is None:
        return STRETCH.strip()
    return f"in the last {format_duration(reading.at - reading.changed_at)}"


def _origin(reading: Reading) -> str:
    """Whether other prompts explain what answers show."""
    share, low, high = reading.from_prompts, reading.from_prompts_low, reading.from_prompts_high
    if share is None or low is None or high is None:
        return ""
    inside = min(max(share, 0.0), 1.0)
    if low <= inside <= high:
        low, high = max(low, 0.0), min(high, 1.0)
        if inside > 0.5:
            part = _part(inside, low, high)
            return f"; {part} of it is other prompts, the rest other answers to similar prompts"
        part = _part(1 - inside, 1 - high, 1 - low)
        return f"; {part} of it is other answers to similar prompts, the rest other prompts"
    if share > 1:
        return "; other prompts alone would have moved it further, other answers to similar prompts pull the other way"
    return "; it is other answers to similar prompts, other prompts pull the other way"


def _part(share: float, low: float, high: float) -> str:
    return f"{share:.0%} ({low:.0%} to {high:.0%}, 95 %)"


def _effect(reading: Reading) -> str:
    """The effect in its unit, with its interval; '' where there is none."""
    if reading.effect is None:
        return ""
    if reading.kind == "rate":
        told = f"{100 * reading.effect:+.3g} points"
    else:
        unit = reading.effect_unit.removesuffix(STRETCH)
        told = f"{unit} {reading.effect:+.3g}" + f" {_when(reading)}" * (unit != reading.effect_unit)
    return f", {told}{_interval(reading)}"


def _interval(reading: Reading) -> str:
    """The 95 % interval of the effect; '' where there is none."""
    low, high = reading.effect_low, reading.effect_high
    if low is None and high is None:
        return ""
    scale, form, unit = 1, "+.3g", ""
    if reading.kind == "rate":
        scale, form, unit = 100, "+.1f", " points"
    elif reading.effect_unit.startswith(RELATIVE):
        form = "+.0%"
    ends = ["no bound" if end is None else format(scale * end, form) for end in (low, high)]
    return f" ({ends[0]} to {ends[1]}{unit}, 95 %)"


def _mostly(reading: Reading) -> str:
    """The one part of the stream that a shift is mostly of."""
    if reading.mostly_share is None or reading.mostly_records is None:
        return ""
    return f"; {reading.mostly_share:.0%} of it is {reading.mostly}, {reading.mostly_records:.0%} of the records"


def _figure(value: float | None, reading: Reading) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1%}" if reading.kind == "rate" else f"{value:.3g}"


def _values(before: Mapping[str, float], after: Mapping[str, float], baseline: str = "") -> list[str]:
    """The values whose share changed most; `before` is that of `baseline` where two arms are compared.

    >>> _values({"en": 0.9, "de": 0.1}, {"en": 0.6, "de": 0.1, "ja": 0.3})
    ['ja 0.0% before, 30.0% now', 'en 90.0% before, 60.0% now']
    """
    change = {name: round(after.get(name, 0.0) - before.get(name, 0.0), 9) for name in {*before, *after}}
    most = sorted(change, key=lambda name: (-abs(change[name]), -change[name], name))[:MOST_VALUES]
    moved = [(name, before.get(name, 0.0), after.get(name, 0.0)) for name in most if abs(change[name]) >= 0.001]
    if baseline:
        return [f"{name} {here:.1%} against {there:.1%} in {baseline}" for name, there, here in moved]
    return [f"{name} {there:.1%} before, {here:.1%} now" for name, there, here in moved]


def _segment_lines(elsewhere: Sequence[tuple[Reading, float]]) -> list[str]:
    """The scopes in which the same signals moved most, one line each, then how many did not move."""
    strongest: dict[str, tuple[Reading, float]] = {}
    for reading, strength in elsewhere:
        place = reading.segment or "the whole stream"
        if place not in strongest or strength > strongest[place][1]:
            strongest[place] = (reading, strength)
    ranked = sorted(strongest.items(), key=lambda item: (-item[1][1], item[0]))
    drifted = [(place, reading) for place, (reading, _) in ranked if reading.verdict == "drift"]
    lines = [
        f"also in {place}: {reading.signal}: {_change(Moved(reading, 0.0))}"
        for place, reading in drifted[:MOST_SEGMENTS]
    ]
    if len(drifted) > MOST_SEGMENTS:
        lines.append(f"and in {len(drifted) - MOST_SEGMENTS} more segments")
    quiet = sorted(place for place, (reading, _) in ranked if reading.verdict == "ok")
    if quiet:
        named = ", ".join(quiet[:MOST_SEGMENTS]) + (" ..." if len(quiet) > MOST_SEGMENTS else "")
        lines.append(f"not in: {named}")
    return lines
