"""What moved: the signals of an alert by their share of the shift, before and after, and the segments it shows in.

Comes in: readings and how values were spread before and now. Goes out: lines for a person. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from monitor.clusters import Codebook, embedding_of
from monitor.model import Ints, Reading
from monitor.sampling import Sample
from monitor.settings import format_duration, format_time
from monitor.summaries import AnySummary, Category, Vector
from monitor.summaries.vector import embed

MOST_SIGNALS = 6
MOST_SEGMENTS = 5
MOST_VALUES = 3
MOST_EXAMPLES = 2
EXAMPLE_CHARS = 160


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
    """Redacted texts of the window: of vectors those that pull most away from the reference, of clusters those of the
    one that grew most."""
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
    samples : exchanges of the stream in those slices
    book : of a signal of clusters, what they are

    """
    if isinstance(before, Category):
        parts = [part for part in after if isinstance(part, Category)]
        shares, now = before.shares(), Category.merged(parts).shares() if parts else {}
        rose = max(now, key=lambda name: (now[name] - shares.get(name, 0.0), name), default="")
        examples = [] if book is None or rose not in book.names else _of_cluster(reading, book, rose, samples)
        return Moved(reading, strength, shares, now, examples)
    if isinstance(before, Vector):
        found = [part for part in after if isinstance(part, Vector)]
        return Moved(reading, strength, examples=_examples(reading, before, found, samples) if found else ())
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
            (value, " ".join(text.split())[:EXAMPLE_CHARS])
            for value, text in zip(values.tolist(), texts, strict=True)
            if text and value > 0
        ]
    ranked = sorted(scored, key=lambda pair: (-pair[0], pair[1]))
    return list(dict.fromkeys(text for _, text in ranked))[:MOST_EXAMPLES]


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
            (novelty, " ".join(text.split())[:EXAMPLE_CHARS])
            for novelty, text, here in zip(book.novelty(found).tolist(), texts, mine.tolist(), strict=True)
            if text and here
        ]
    return list(dict.fromkeys(text for _, text in sorted(scored)))[:MOST_EXAMPLES]


def _side(reading: Reading) -> str:
    return "prompt" if reading.signal.startswith("prompt") else "response"


def _rows_of(sample: Sample, segment: str | None) -> Ints:
    """The exchanges of a segment, `label=value`, with a vector."""
    if segment is None:
        return np.arange(len(sample))
    label, _, value = segment.partition("=")
    return np.flatnonzero(np.equal(sample.segments[label], value).astype(np.bool_))


def explain(together: Sequence[Moved], elsewhere: Sequence[tuple[Reading, float]]) -> str:
    """A few lines: what moved by how much, and where.

    Parameters
    ----------
    together : the signals of the alert, at most one entry a signal
    elsewhere : readings of the same signals in other scopes of the stream, each with its strength

    """
    ranked = sorted(together, key=lambda part: (-part.strength, part.reading.signal))
    total = sum(part.strength for part in ranked) or 1.0
    lines = [_signal_line(part, part.strength / total) for part in ranked[:MOST_SIGNALS]]
    if len(ranked) > MOST_SIGNALS:
        rest = sum(part.strength for part in ranked[MOST_SIGNALS:]) / total
        lines.append(f"{len(ranked) - MOST_SIGNALS} more signals: {rest:.0%} of the shift")
    lines += [f"{part.reading.signal}, for example: {text}" for part in ranked[:MOST_SIGNALS] for text in part.examples]
    return "\n".join([*lines, *_segment_lines(elsewhere)])


def _signal_line(part: Moved, share: float) -> str:
    reading = part.reading
    window = format_duration(reading.window)
    since = f", {part.ramp}" * bool(part.ramp)
    since += "" if reading.changed_at is None else f", since about {format_time(reading.changed_at)}"
    change = _change(part) + _origin(reading) + _mostly(reading)
    return f"{reading.signal}: {share:.0%} of the shift: {change} ({reading.n:,} records in {window}{since})"


def _change(part: Moved) -> str:
    """Before and after, in the signal's own terms."""
    reading = part.reading
    if reading.kind == "category":
        changed = "; ".join(_values(part.before, part.after, reading.baseline)) or "values changed"
        return f"{changed}, {_effect(reading)}" if reading.effect_low is not None else changed
    if reading.kind == "vector":
        return f"at least {abs(reading.effect or 0.0):.0%} of the texts are unlike the reference's{_interval(reading)}"
    before, after = (_figure(value, reading) for value in (reading.reference_value, reading.value_then))
    effect = "" if reading.effect is None else f", {_effect(reading)}"
    if reading.baseline:
        return f"{after} against {before} in {reading.baseline}{effect}"
    return f"{before} before, {after} now{effect}" + (f", by its {reading.moved}" if reading.moved else "")


def _origin(reading: Reading) -> str:
    """Whether other prompts explain what answers show."""
    share, low, high = reading.from_prompts, reading.from_prompts_low, reading.from_prompts_high
    if share is None or low is None or high is None:
        return ""
    inside = min(max(share, 0.0), 1.0)
    if low <= inside <= high:
        part = f"{inside:.0%} ({max(low, 0.0):.0%} to {min(high, 1.0):.0%})"
        return f"; of this {part} goes with other prompts, the rest with other answers to the same prompts"
    if share > 1:
        return "; other prompts alone would have moved it further, other answers to the same prompts pull the other way"
    return "; it goes with other answers to the same prompts, other prompts pull the other way"


def _effect(reading: Reading) -> str:
    told = f"{reading.effect_unit} {reading.effect or 0.0:+.3g}{_interval(reading)}"
    if reading.value is None or reading.value_then == reading.value:
        return told
    return f"{told}; {reading.value:.1%} of the whole window"


def _interval(reading: Reading) -> str:
    """The 95 % interval of the effect; '' where there is none."""
    low, high = reading.effect_low, reading.effect_high
    if low is None and high is None:
        return ""
    scale, form, unit = {"rate": (100, "+.1f", " points"), "vector": (1, ".0%", "")}.get(reading.kind, (1, "+.3g", ""))
    ends = ["any" if end is None else format(scale * end, form) for end in (low, high)]
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
