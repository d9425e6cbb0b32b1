"""The configuration: joins the settings that each component declares beside its own code, and says all that is wrong.

Comes in: a YAML file. Goes out: `Config`, or ConfigError with one line an error, each `FILE:LINE: key: what is wrong`.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import pydantic
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from monitor.calibration import FalseAlarmSettings
from monitor.clusters import derived
from monitor.decoding import FORMATS, FieldMap
from monitor.logs import LogSettings
from monitor.model import Signal
from monitor.reference import ReferenceSettings
from monitor.rules import DEFAULT_RULES, EVENTS, LevelSettings, RuleSettings, built_in_rules, check_rules, with_built_in
from monitor.sampling import SAMPLE
from monitor.scorers import SAMPLE_SCORERS, SCORERS
from monitor.scorers.custom import Custom, CustomSettings
from monitor.scorers.embedding import EmbeddingSettings, why_unavailable
from monitor.scorers.toxicity import ToxicitySettings
from monitor.settings import HOUR, MINUTE, SECOND, Duration, Settings, format_duration
from monitor.slices import StreamSettings
from monitor.sources import SourceSettings
from monitor.sources.kafka_client import KafkaSettings
from monitor.sources.push import PushSettings
from monitor.store import StoreSettings
from monitor.watermark import TimeSettings
from monitor.web import WebSettings
from monitor.windows import SLICES, check_sizes

LEAST_PHASES = 4
"""Slices of the shortest window that a cycle is at least long."""
LEAST_WINDOWS = 6
"""A reference is at least this many windows long."""
_MEASURED = {
    "mean": ("numeric", "rate"),
    "rate": ("rate",),
    "quantile": ("numeric",),
    "count": ("numeric", "rate", "category", "level"),
}
"""What a level rule looks at -> the kinds of signal that have it."""

_MAP_SUFFIXES = (".yaml", ".yml")
"""What the name of a field map's file ends in."""

_SIGNALS_OF = {name: row.signals for name, row in SCORERS.items()} | {
    name: [*row.signals, *derived(row.signals)] for name, row in SAMPLE_SCORERS.items()
}
"""Scorer -> its signals."""
KeyPath = tuple[str | int, ...]
S = TypeVar("S", bound=Settings)
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


def _refuse(problems: Iterable[tuple[KeyPath, str]]) -> None:
    """Raise what a validator found wrong, each with the path from the top of the configuration."""
    found = list(problems)
    if found:
        text = "\n".join(f"{_dotted(path)}: {problem}" for path, problem in found)
        raise PydanticCustomError("problems", "{text}", {"text": text, "problems": found})


def _taken(sources: Sequence[SourceSettings]) -> Iterator[tuple[KeyPath, str]]:
    """What one source has that is another's already: partitions have different names, and a spool has one owner."""
    taken: dict[tuple[str, str], str] = {}
    for number, source in enumerate(sources):
        mine = {}
        if isinstance(source, KafkaSettings):
            mine["topic"] = (source.topic, f"reads a topic {source.topic!r}")
        elif isinstance(source, PushSettings):
            mine["name"] = (source.name, f"is named {source.name!r}")
            mine["spool"] = (os.path.realpath(source.spool), f"has the spool {str(source.spool)!r}")
        for key, (value, does) in mine.items():
            said = f"sources[{number}] {does}"
            if taken.setdefault((key, value), said) is not said:
                yield ("sources", number, key), f"{taken[key, value]} already"
    topics = [source.topic for source in sources if isinstance(source, KafkaSettings)]
    for number, source in enumerate(sources):
        topic, _, partition = source.name.rpartition("-") if isinstance(source, PushSettings) else ("", "", "")
        if topic in topics and partition.isdecimal():
            yield ("sources", number, "name"), f"is a name of a partition of the topic {topic!r}"


def _a_second_at_least(given: int) -> int:
    if given < SECOND:
        raise ValueError(f"must be at least 1s, not {format_duration(given)}")
    return given


def _signals(scorers: Iterable[str]) -> dict[str, Signal]:
    made = [signal for name in scorers for signal in _SIGNALS_OF[name]]
    return {signal.name: signal for signal in [*made, Signal("volume", "level")]}


def _custom_signals(settings: Mapping[str, CustomSettings]) -> dict[str, Signal]:
    return {signal.name: signal for signal in Custom(settings).signals}


def _new_signal(name: str) -> str:
    """The name of a custom signal: none that is measured already, and none that its absence would take."""
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError("the name of a signal is a small letter, then small letters, digits and _")
    if name.endswith("_missing"):
        raise ValueError("names that end in _missing are those of signals of absence")
    built_in = _signals(_SIGNALS_OF)
    taken = next((taken for taken in (name, f"{name}_missing") if taken in built_in), None)
    if taken:
        raise ValueError(f"there is a signal {taken!r} already; give another name")
    return name


def _known_signal(name: str, info: pydantic.ValidationInfo) -> str:
    known = _signals(_SIGNALS_OF) | _custom_signals(info.data.get("custom", {}))
    if name not in known and "custom" in info.data:
        raise ValueError(f"there is no signal {name!r}{_suggestion(name, known)}")
    return name


class SignalSettings(Settings):
    """Which scorers run, and which change of a signal matters."""

    text: bool = True
    """Lengths, ratios, repetition, refusals, truncation of prompts and responses."""
    operational: bool = True
    """Latency, tokens, cost, errors, status, feedback."""
    toxicity: ToxicitySettings | bool = ToxicitySettings()
    """How toxic prompts and responses are."""
    duplicates: bool = True
    """How many prompts and responses say the same as another."""
    language: bool = True
    """Which language prompts and responses are in."""
    embedding: EmbeddingSettings | bool | Literal["auto"] = "auto"
    """What prompts and responses are about; `auto`: with the bundled model, where that is installed."""
    sample: Annotated[int, pydantic.Field(ge=8, le=4096)] = SAMPLE
    """Exchanges of a slice of a stream that the signals of samples are measured on."""
    custom: Mapping[Annotated[str, pydantic.AfterValidator(_new_signal)], CustomSettings] = {}
    """Name of a signal -> the field of the log that it is, and of which kind."""
    matters: Mapping[Annotated[str, pydantic.AfterValidator(_known_signal)], Positive] = {}
    """Signal -> the smallest change of interest: relative for amounts (0.1), absolute for scores, rates and
    categories, a factor for `volume`."""

    def measured(self) -> dict[str, Signal]:
        """The signals that are measured with these settings, by name."""
        return _signals(name for name in _SIGNALS_OF if self.chosen(name) is not None) | _custom_signals(self.custom)

    @pydantic.field_validator("embedding")
    @classmethod
    def _model_is_there(cls, given: Any) -> Any:
        asked = EmbeddingSettings() if given is True else given
        reason = why_unavailable(asked) if isinstance(asked, EmbeddingSettings) else None
        if reason is not None:
            raise ValueError(reason.removeprefix("signals.embedding.model: ").removeprefix("signals.embedding: "))
        return given

    def chosen(self, name: str) -> Settings | bool | None:
        """The settings of a scorer, True where it has none, None where it is off."""
        given = getattr(self, name)
        if given == "auto":
            given = why_unavailable(EmbeddingSettings()) is None
        if given is False:
            return None
        kind = SCORERS[name].settings if name in SCORERS else SAMPLE_SCORERS[name].settings
        return kind() if given is True and kind is not None else given

    def left_out(self) -> list[str]:
        """What would be measured if more were installed."""
        reason = why_unavailable(EmbeddingSettings()) if self.embedding == "auto" else None
        return [] if reason is None else [f"{reason}; without it what is said is not embedded"]


class Config(Settings):
    """The whole configuration. Every key has a default; `replay` takes its logs from the command line."""

    sources: tuple[SourceSettings, ...] = ()
    streams: StreamSettings = StreamSettings()
    signals: SignalSettings = SignalSettings()
    windows: Annotated[tuple[Duration, ...], pydantic.Field(min_length=1)] = (5 * MINUTE, HOUR)
    lateness: Duration = TimeSettings().lateness
    skew: Duration = TimeSettings().skew
    idle_after: Annotated[Duration, pydantic.AfterValidator(_a_second_at_least)] = MINUTE
    """A partition of a live source at whose end nothing has come for so long holds no window open any more."""
    reference: Annotated[ReferenceSettings, pydantic.Field(validate_default=True)] = ReferenceSettings()
    false_alarms: FalseAlarmSettings = FalseAlarmSettings()
    rules: Annotated[tuple[RuleSettings, ...], pydantic.Field(validate_default=True)] = tuple(DEFAULT_RULES)
    content: Literal["none", "redacted", "full"] = "redacted"
    """How much of what was said is kept: in samples, in excerpts of rejects, in explanations."""
    built_in_rules: tuple[str, ...] = tuple(rule.name for rule in built_in_rules())
    store: StoreSettings = StoreSettings()
    log: LogSettings = LogSettings()
    """How `run` speaks of itself."""
    web: WebSettings | Literal[False] = WebSettings()
    """What `run` serves over HTTP."""

    @pydantic.field_validator("sources")
    @classmethod
    def _known_formats(cls, given: tuple[SourceSettings, ...]) -> tuple[SourceSettings, ...]:
        _refuse(
            (("sources", number, "format"), _unknown("format", source.format, FORMATS))
            for number, source in enumerate(given)
            if isinstance(source.format, str) and source.format not in FORMATS
        )
        _refuse(_taken(given))
        return given

    @pydantic.field_validator("streams")
    @classmethod
    def _known_arms(cls, given: StreamSettings) -> StreamSettings:
        if "arms" in given.model_fields_set:
            _refuse(
                (("streams", "arms", number), f"streams.segments has no {label!r}{_suggestion(label, given.segments)}")
                for number, label in enumerate(given.arms)
                if label not in given.segments
            )
        return given

    @pydantic.field_validator("windows")
    @classmethod
    def _nested(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        _refuse((("windows",), problem.removeprefix("windows: ")) for problem in check_sizes(given))
        return given

    @pydantic.field_validator("reference")
    @classmethod
    def _long_enough(cls, given: ReferenceSettings, info: pydantic.ValidationInfo) -> ReferenceSettings:
        shortest = min(info.data.get("windows", (SLICES,)))
        least = LEAST_PHASES * shortest // SLICES
        if given.period is not None and given.period < least:
            needed_period = f"windows of {format_duration(shortest)} and more need a period of {format_duration(least)}"
            _refuse([(("reference", "period"), f"{needed_period} at least")])
        if given.until is None and given.kind != "file":
            size = given.end(0, 0)
            length = format_duration(size) + (", its default" if given.size is None else "")

            def needed(window: int) -> str:
                return format_duration(LEAST_WINDOWS * window)

            _refuse(
                (
                    ("windows", number),
                    f"a window of {format_duration(window)} needs a reference.size of {needed(window)}, not {length}",
                )
                for number, window in enumerate(info.data.get("windows", ()))
                if window * LEAST_WINDOWS > size
            )
        return given

    @pydantic.field_validator("rules")
    @classmethod
    def _sound_rules(cls, given: tuple[RuleSettings, ...], info: pydantic.ValidationInfo) -> tuple[RuleSettings, ...]:
        _refuse(_rule_problems(given, info.data))
        return given

    @pydantic.field_validator("built_in_rules")
    @classmethod
    def _known_rules(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        known = [rule.name for rule in built_in_rules()]
        _refuse(
            (("built_in_rules", number), _unknown("built-in rule", name, known))
            for number, name in enumerate(given)
            if name not in known
        )
        return given

    def all_rules(self) -> list[RuleSettings]:
        """The owner's rules, then the built-in ones that are on and not replaced by name."""
        off = {rule.name for rule in built_in_rules()} - set(self.built_in_rules) - {rule.name for rule in self.rules}
        return [rule for rule in with_built_in(self.rules) if rule.name not in off]

    def times(self) -> TimeSettings:
        return TimeSettings.model_construct(lateness=self.lateness, skew=self.skew)


def _rule_problems(rules: Sequence[RuleSettings], others: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with rules, given the settings before them (those among them that are right)."""
    windows = others.get("windows")
    if windows is not None:
        of_one = {problem: number for number, rule in enumerate(rules) for problem in check_rules([rule], windows)}
        for problem in check_rules(rules, windows):
            path: KeyPath = ("rules", of_one[problem], "window") if problem in of_one else ("rules",)
            yield path, problem.removeprefix("rules: ")
    measured = others.get("signals", SignalSettings()).measured()
    for number, rule in enumerate(rules):
        for problem in _signal_problems(rule, measured):
            yield ("rules", number, "signal"), problem
        if "streams" in others and rule.segment:
            label, equals, _ = rule.segment.partition("=")
            labels = others["streams"].segments
            if equals and not any(fnmatchcase(known, label) for known in labels):
                yield ("rules", number, "segment"), f"streams.segments has no {label!r}{_suggestion(label, labels)}"
            elif not equals and "*" not in label:
                yield ("rules", number, "segment"), f"expected label=value, not {rule.segment!r}"
        if rule.sinks:
            yield ("rules", number, "sinks"), f"there is no sink {rule.sinks[0]!r}; this version sends nothing yet"


def _signal_problems(rule: RuleSettings, measured: Mapping[str, Signal]) -> Iterator[str]:
    """Globs that no signal matches, and signals that do not have what a level rule looks at."""
    for glob in rule.signal:
        matching = [name for name in measured if (name not in EVENTS if glob == "*" else fnmatchcase(name, glob))]
        if not matching and glob != "*":
            yield f"no signal that is measured matches {glob!r}{_suggestion(glob, measured)}"
        elif isinstance(rule.on, LevelSettings):
            what = rule.on.value
            without = [name for name in matching if measured[name].kind not in _MEASURED[what]]
            if without:
                more = f" and {len(without) - 3} more" if len(without) > 3 else ""
                yield f"{glob!r} matches {', '.join(without[:3])}{more}, of which there is no {what}"


class ConfigError(Exception):
    """All that is wrong with a configuration, one line an error."""


def load(path: Path) -> Config:
    """Read a configuration file. Raises ConfigError with every mistake that was found, each with its line."""
    return parse(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: not UTF-8 at byte {error.start}") from None


def parse(text: str, name: str) -> Config:
    r"""Read a configuration from YAML text; `name` stands before every mistake, and files are looked for beside it.

    >>> parse("windows: [5m]\nlatenes: 10s", "driftd.yaml")
    Traceback (most recent call last):
    monitor.config.ConfigError: driftd.yaml:2: latenes: unknown key; did you mean 'lateness'?
    """
    tree = _tree(text, name)
    problems: list[tuple[KeyPath, str]] = []
    filled = _filled_tree(tree, name, problems)
    _place_reference(filled, Path(name).parent)
    mistakes = _with_field_maps(filled, Path(name).parent)
    return _checked(Config, tree, filled, name, problems, mistakes=mistakes)


def _place_reference(filled: Any, folder: Path) -> None:
    """A reference's path is beside the configuration, wherever that is used from."""
    reference = filled.get("reference")
    path = reference.get("path") if isinstance(reference, dict) else None
    if isinstance(path, str) and path:
        reference["path"] = str(folder / path)


def _with_field_maps(filled: Any, folder: Path) -> list[str]:
    """Put field maps in the place of the files that sources name as `format`; the mistakes in those files."""
    mistakes: list[str] = []
    sources = filled.get("sources")
    for source in sources if isinstance(sources, list) else ():
        named = source.get("format") if isinstance(source, dict) else None
        if isinstance(named, str) and named.endswith(_MAP_SUFFIXES):
            try:
                source["format"] = _load_field_map(folder / named)
            except ConfigError as error:
                mistakes.append(str(error))
                source["format"] = "native"
    return mistakes


def _load_field_map(path: Path) -> FieldMap:
    """The field map in a file. Raises ConfigError with every mistake in it."""
    name = str(path)
    tree = _tree(_text(path), name)
    problems: list[tuple[KeyPath, str]] = []
    return _checked(FieldMap, tree, _filled_tree(tree, name, problems), name, problems, mistakes=())


def _tree(text: str, name: str) -> Mapping[Any, Any]:
    """The keys and values of YAML text, which know their lines."""
    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f":{mark.line + 1}"
        raise ConfigError(f"{name}{line}: {_yaml_problem(error)}") from None
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{name}: expected keys and values at the top, not {_shown(tree)}")
    return tree


def _filled_tree(tree: Any, name: str, problems: list[tuple[KeyPath, str]]) -> Any:
    try:
        return _plain(tree, (), problems)
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply, or an alias that holds itself") from None


def _checked(
    model: type[S], tree: Any, filled: Any, name: str, problems: list[tuple[KeyPath, str]], *, mistakes: Sequence[str]
) -> S:
    """The settings; or ConfigError with all that is wrong with them, and with `mistakes` of other files behind it."""
    try:
        settings = model.model_validate(filled)
    except pydantic.ValidationError as error:
        problems += _described(error.errors(), tree, {path for path, _ in problems}, model)
    found = sorted(((_line(tree, path), path, problem) for path, problem in problems), key=lambda row: row[0])
    lines = [f"{name}{f':{line}' if line else ''}: {_dotted(path)}: {problem}" for line, path, problem in found]
    if lines or mistakes:
        raise ConfigError("\n".join(dict.fromkeys([*lines, *mistakes])))
    return settings


def json_schema() -> str:
    """The JSON schema of the configuration, for editors; defaults are written as a file writes them."""
    schema, written = (Config.model_json_schema(mode=mode) for mode in ("validation", "serialization"))
    pairs = [(schema, written), *((part, written["$defs"][name]) for name, part in schema["$defs"].items())]
    for part, other in pairs:
        for key, field in part["properties"].items():
            if "default" in field:
                field["default"] = other["properties"][key]["default"]
    return json.dumps(schema, indent=1, sort_keys=True)


# ---- from YAML to plain values --------------------------------------------------------------------------------------

_VARIABLE = re.compile(r"\$\{([^}]*)\}?")


def _yaml_problem(error: MarkedYAMLError) -> str:
    problem = " ".join((error.problem or str(error)).split())
    if problem.startswith("found duplicate key"):
        return problem.split(" with value")[0].replace("found duplicate key", "duplicate key")
    began, mark = error.context_mark, error.problem_mark
    if error.context and began is not None and mark is not None and began.line != mark.line:
        return f"{problem} ({error.context} that begins in line {began.line + 1})"
    return problem


def _plain(tree: Any, path: KeyPath, problems: list[tuple[KeyPath, str]]) -> Any:
    """The tree in plain types, with `${NAME}` replaced from the environment."""
    if isinstance(tree, Mapping):
        return {key: _plain(value, (*path, key), problems) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value, (*path, index), problems) for index, value in enumerate(tree)]
    if isinstance(tree, dt.date):
        return tree.isoformat()
    return _filled(tree, path, problems) if isinstance(tree, str) else tree


def _filled(text: str, path: KeyPath, problems: list[tuple[KeyPath, str]]) -> str:
    for name in dict.fromkeys(_VARIABLE.findall(text)):
        if not name.isidentifier() or f"${{{name}}}" not in text:
            problems.append((path, "expected the name of an environment variable and no more in ${...}"))
        elif name not in os.environ:
            problems.append((path, f"the environment has no variable {name}"))
    return _VARIABLE.sub(lambda found: os.environ.get(found[1], ""), str(text))


# ---- from what the validator says to what a person reads ------------------------------------------------------------

_EXPECTED = {
    **dict.fromkeys(["string_type", "string_sub_type"], "text"),
    **dict.fromkeys(["int_type", "int_parsing", "int_parsing_size", "int_from_float"], "a whole number"),
    **dict.fromkeys(["float_type", "float_parsing"], "a number"),
    **dict.fromkeys(["bool_type", "bool_parsing"], "true or false"),
    **dict.fromkeys(["list_type", "tuple_type"], "a list"),
    **dict.fromkeys(["model_type", "model_attributes_type", "dict_type", "mapping_type"], "keys and values"),
    "finite_number": "a finite number",
    "path_type": "a path",
}
_SAID = {
    **dict.fromkeys(["missing", "union_tag_not_found"], "is missing"),
    "invalid_key": "a key must be text",
    **dict.fromkeys(["too_short", "string_too_short"], "must not be empty"),
}
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


_OTHER_FORMS = {"bool_type", "literal_error"}
"""What is said of settings that might have been `true` or a word in place of keys and values."""


def _described(
    errors: Sequence[ErrorDetails], tree: Any, told: set[KeyPath], model: type[Settings]
) -> Iterator[tuple[KeyPath, str]]:
    """Path and sentence of each error, but for what follows from one that is told already."""
    placed = [(_placed(error, tree), error) for error in errors]
    other_kinds = {path[:-1] for path, error in placed if error["type"] == "literal_error" and path[-1:] == ("kind",)}
    deeper = {path[:-1] for path, error in placed if not isinstance(error["input"], Mapping)}
    deeper |= {path[:-1] for path, error in placed if error["type"] == "extra_forbidden"}
    for path, error in placed:
        if path in told or (path[:-1] in other_kinds and path[-1] != "kind"):
            continue
        if path in deeper and error["type"] in _OTHER_FORMS and isinstance(error["input"], Mapping):
            continue  # keys and values are right here, and one of them is told
        if error["type"] == "problems":
            yield from error["ctx"]["problems"]
        else:
            yield path, _sentence(error, path, model)


def _placed(error: ErrorDetails, tree: Any) -> KeyPath:
    path = _real_path(error["loc"], tree, missing=error["type"] == "missing")
    return (*path, "kind") if error["type"].startswith("union_tag") else path


def _sentence(error: ErrorDetails, path: KeyPath, model: type[Settings]) -> str:
    """What is wrong, in words that need no Python."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(str(path[-1]), _keys_at(path[:-1], model))}"
    if kind in _SAID:
        return _SAID[kind]
    if kind == "literal_error":
        return _not_among(given, context["expected"], path)
    if kind == "union_tag_invalid":
        return _not_among(context["tag"], context["expected_tags"].replace(", ", " or "), path)
    return _misfit(error)


def _misfit(error: ErrorDetails) -> str:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if given is None:
        return "has no value; leave the key out to have its default"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, not {_shown(given)}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}, not {_shown(given)}"
    return _in_plain_words(error)


def _not_among(given: object, expected: str, path: KeyPath) -> str:
    near = _suggestion(str(given), re.findall(r"'([^']*)'", expected))
    if path[-1] == "kind":
        return f"unknown kind {_shown(given)}; there is {expected}"
    return f"expected {expected}, not {_shown(given)}{near}"


def _in_plain_words(error: ErrorDetails) -> str:
    """A validator's own sentence, or the library's, made readable."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        return f"{_shown(error['input'])} does not have the form {error['ctx']['pattern']}"
    if message.startswith("Invalid isoformat string"):
        return f"expected a time such as 2026-11-20T00:00:00Z, not {_shown(error['input'])}"
    return message.replace("Input should be", "expected").replace("\n", "; ")


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _real_path(loc: Sequence[str | int], tree: Any, *, missing: bool) -> KeyPath:
    """The part of pydantic's path that stands in the file, or is missing there (it also names members of unions)."""
    path: list[str | int] = []
    for step in loc:
        keys: Any = tree if isinstance(tree, Mapping) else range(len(tree)) if isinstance(tree, list) else ()
        if step in keys:
            tree = tree[step]
        elif not (missing and step == loc[-1]):
            continue
        path.append(step)
    return tuple(path)


def _line(tree: Any, path: KeyPath) -> int:
    """The line of a path in the file, as near as the parser knows it; 0 for none."""
    line = 0
    for step in path:
        marks = getattr(tree, "lc", None)
        try:
            line = (marks.key(step) if isinstance(tree, Mapping) else marks.item(step))[0] + 1  # type: ignore[union-attr]
            tree = tree[step]
        except (KeyError, IndexError, AttributeError, TypeError):
            break
    return line


def _dotted(path: KeyPath) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _keys_at(path: KeyPath, model: type[Settings]) -> list[str]:
    """The keys that may stand at a path of the settings."""
    models, named = [model], False
    for step in path:
        if isinstance(step, str) and not named:
            fields = {info.alias or name: info for model in models for name, info in model.model_fields.items()}
            annotation = fields[step].annotation if step in fields else None
            models, named = list(_settings_in(annotation)), get_origin(annotation) is Mapping
        else:
            named = False  # an index, or a name that the owner gave
    return [info.alias or name for model in models for name, info in model.model_fields.items()]


def _settings_in(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for part in get_args(annotation):
        yield from _settings_in(part)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    return f"unknown {what} {name!r}{_suggestion(name, names) or '; there is ' + ', '.join(names)}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
