"""What a configuration may say, and how every mistake in one is told: file, line, key, and what to write instead."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from monitor.config import Config, ConfigError, json_schema, load, parse
from monitor.rules import LevelSettings
from monitor.settings import DAY, HOUR, MINUTE

ROOT = Path(__file__).parent.parent
COMMENTED = ROOT / "config" / "driftd.yaml"
SCHEMA = ROOT / "config" / "driftd.schema.json"


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    return str(caught.value).splitlines()


# ---- what is right --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "---\n"])
def test_nothing_said_is_all_defaults(text: str) -> None:
    assert parse(text, "f.yaml") == Config()


def test_values_arrive() -> None:
    config = parse(
        """
        windows: [2m, 10m, 1h]
        lateness: 0s
        reference: {until: 2026-11-20T01:00:00+01:00}
        false_alarms: {at_most: 2, per: 1w}
        streams: {by: tenant, segments: [], at_most: 3}
        signals: {operational: false, matters: {prompt_chars: 0.2}}
        rules:
          - {name: Slow, signal: [prompt_words, "*_chars"], on: {value: mean, below: 3}, window: 2m, for: 90s}
        built_in_rules: [SilentStream]
        """,
        "f.yaml",
    )
    assert config.windows == (2 * MINUTE, 10 * MINUTE, HOUR)
    assert config.times().lateness == 0
    assert config.reference.until == 1795132800000  # 2026-11-20T00:00:00Z
    assert (config.false_alarms.at_most, config.false_alarms.per) == (2.0, 7 * DAY)
    assert config.signals.matters == {"prompt_chars": 0.2}
    assert config.rules[0].hold == 90_000
    assert config.rules[0].on == LevelSettings(value="mean", below=3)
    assert [rule.name for rule in config.all_rules()] == ["Slow", "SilentStream"]


def test_a_rule_may_take_the_place_of_a_built_in_one() -> None:
    text = "rules: [{name: VolumeChange, signal: volume, on: {value: count, above: 9}, window: 5m}]\nbuilt_in_rules: []"
    assert [rule.name for rule in parse(text, "f.yaml").all_rules()] == ["VolumeChange"]


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("2026-11-20", 1795132800000),
        ("2026-11-20T00:00:00", 1795132800000),
        ("'2026-11-20T00:00:00.5Z'", 1795132800500),
    ],
)
def test_times_that_yaml_reads_as_times(until: str, expected: int) -> None:
    assert parse(f"reference: {{until: {until}}}", "f.yaml").reference.until == expected


def test_on_is_a_key_and_no_truth_value() -> None:
    assert parse("rules: [{name: A, signal: cost, on: drift}]", "f.yaml").rules[0].on == "drift"


def test_the_environment_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTD_TEST_FIELD", "tenant")
    monkeypatch.setenv("DRIFTD_TEST_COUNT", "7")
    config = parse("streams: {by: '${DRIFTD_TEST_FIELD}_id', at_most: '${DRIFTD_TEST_COUNT}'}", "f.yaml")
    assert (config.streams.by, config.streams.at_most) == ("tenant_id", 7)


def test_a_configuration_is_read_back_from_what_it_dumps_to() -> None:
    config = parse("windows: [90s, 15m]\nreference: {size: 1d12h}\nskew: 250ms", "f.yaml")
    assert parse(config.model_dump_json(by_alias=True, exclude_defaults=True), "f.yaml") == config


# ---- what is wrong --------------------------------------------------------------------------------------------------

WRONG = {
    "windows: [5m]\nlatenes: 10s": ["f.yaml:2: latenes: unknown key; did you mean 'lateness'?"],
    "reference:\n  siez: 1d": ["f.yaml:2: reference.siez: unknown key; did you mean 'size'?"],
    "streams: {size: 1d}": ["f.yaml:1: streams.size: unknown key"],  # a key of elsewhere is not suggested
    "retraining: []": ["f.yaml:1: retraining: unknown key"],
    "signals: {embedding: {modle: x}}": ["f.yaml:1: signals.embedding.modle: unknown key; did you mean 'model'?"],
    "signals: {toxicity: {threshold: 3}}": ["f.yaml:1: signals.toxicity.threshold: must be at most 1, not 3"],
    "signals: {embedding: {model: /nowhere}}": ["f.yaml:1: signals.embedding: /nowhere is not there: no such folder"],
    "content: some": ["f.yaml:1: content: expected 'none', 'redacted' or 'full', not 'some'"],
    "skew: 1m\nwindows: [5m]\nskew: 2m": ['f.yaml:3: duplicate key "skew"'],
    "rules:\n- {name: A, name: B}": ['f.yaml:2: duplicate key "name"'],
    "windows: [5m\nskew: 1m": [
        "f.yaml:2: expected ',' or ']', but got ':' (while parsing a flow sequence that begins in"
    ],
    "windows:\n\t- 5m": ["f.yaml:2: found character '\\t' that cannot start any token"],
    "a: 1\n---\nb: 2": ["f.yaml:2: but found another document"],
    "a: \x07": ["f.yaml: unacceptable character #x0007"],
    "- 5m": ["f.yaml: expected keys and values at the top, not a list"],
    "hello": ["f.yaml: expected keys and values at the top, not 'hello'"],
    "1: x": ["f.yaml:1: [1]: a key must be text"],
    "sources: [{kind: kafak, topic: x, brokers: [y]}]": [
        "f.yaml:1: sources[0].kind: unknown kind 'kafak'; there is 'files' or 'kafka' or 'push'"
    ],
    "sources: [{kind: kafka, topic: x, brokers: [y]}]": ["f.yaml:1: sources[0].brokers: expected host:port, not 'y'"],
    "sources: [{kind: kafka, topic: x, brokers: []}]": ["f.yaml:1: sources[0].brokers: must not be empty"],
    "sources: [{kind: kafka, brokers: ['k:1'], topc: x}]": [
        "f.yaml:1: sources[0].topic: is missing",
        "f.yaml:1: sources[0].topc: unknown key; did you mean 'topic'?",
    ],
    "sources:\n- {kind: kafka, brokers: ['k:1'], topic: x}\n- {kind: kafka, brokers: ['l:1'], topic: x}": [
        "f.yaml:3: sources[1].topic: sources[0] reads a topic 'x' already"
    ],
    "sources:\n- {kind: push, spool: a}\n- {kind: push, spool: ./a}": [
        "f.yaml:3: sources[1].name: sources[0] is named 'push' already",
        "f.yaml:3: sources[1].spool: sources[0] has the spool 'a' already",
    ],
    "sources:\n- {kind: push, spool: a, name: t-0}\n- {kind: kafka, brokers: ['k:1'], topic: t}": [
        "f.yaml:2: sources[0].name: is a name of a partition of the topic 't'"
    ],
    "idle_after: 10ms": ["f.yaml:1: idle_after: must be at least 1s, not 10ms"],
    "sources:\n- paths: [x]": ["f.yaml:2: sources[0].kind: is missing"],
    "sources:\n- {kind: files, paths: [], format: nativ}": ["f.yaml:2: sources[0].paths: must not be empty"],
    "sources:\n- kind: files\n  paths: [x]\n  format: nativ": [
        "f.yaml:4: sources[0].format: unknown format 'nativ'; did you mean 'native'?"
    ],
    "reference: {kind: season}": [
        "f.yaml:1: reference.kind: unknown kind 'season'; there is 'learned', 'seasonal', 'file' or 'rolling'"
    ],
    "reference: {kind: seasonal}": ["f.yaml:1: reference: `kind: seasonal` needs a `period`, as in `period: 1d`"],
    "reference: {kind: seasonal, period: 1d}": [
        "f.yaml:1: reference: `kind: seasonal` needs a `size` of two periods at least, 2d, or an `until`"
    ],
    "reference: {kind: seasonal, period: 7d, size: 13d}": [
        "f.yaml:1: reference: a `size` of 13d holds less than two periods: 14d at least"
    ],
    "reference: {kind: learned, period: 7d}": [
        "f.yaml:1: reference: `period` goes with `kind: seasonal`, not with `kind: learned`"
    ],
    "windows: [5m]\nreference: {kind: seasonal, period: 90s, size: 14d}": [
        "f.yaml:2: reference.period: windows of 5m and more need a period of 1m40s at least"
    ],
    "reference: {kind: rolling}": ["f.yaml:1: reference: `kind: rolling` needs a `size`, as in `size: 7d`"],
    "reference: {kind: file}": [
        "f.yaml:1: reference: `kind: file` needs a `path`, of a file that `driftd reference build` made"
    ],
    "reference: {path: good.reference}": [
        "f.yaml:1: reference: `path` goes with `kind: file`, not with `kind: learned`"
    ],
    "reference: {kind: file, path: a, size: 1d}": [
        "f.yaml:1: reference: `size` goes with `kind: learned` or `kind: seasonal` or `kind: rolling`, not with"
    ],
    "reference: {kind: rolling, size: 1d, until: 2026-11-20}": [
        "f.yaml:1: reference: `until` goes with `kind: learned` or `kind: seasonal`, not with `kind: rolling`"
    ],
    "reference: {size: 1d, until: 2026-11-20}": ["f.yaml:1: reference: give size or until, not both"],
    "reference: {until: tomorrow}": [
        "f.yaml:1: reference.until: expected a time such as 2026-11-20T00:00:00Z, not 'tom"
    ],
    "lateness: 30": ["f.yaml:1: lateness: expected a duration such as 30s, 5m, 1h30m or 7d, not 30"],
    "lateness: -5s": ["f.yaml:1: lateness: expected a duration"],
    "lateness:": ["f.yaml:1: lateness: has no value; leave the key out to have its default"],
    "windows: 5m": ["f.yaml:1: windows: expected a list, not '5m'"],
    "windows: []": ["f.yaml:1: windows: must not be empty"],
    "windows:\n- 5m\n- 1 hour": ["f.yaml:3: windows[1]: expected a duration"],
    "windows: [5m, 7m]": ["f.yaml:1: windows: 7m is not a whole multiple of the next shorter one, 5m"],
    "windows: [1h, 5m]": ["f.yaml:1: windows: sizes must grow and not repeat"],
    "windows: [100ms]": ["f.yaml:1: windows: 100ms does not divide into 12 slices"],
    "windows:\n- 1h\n- 5h": [
        "f.yaml:3: windows[1]: a window of 5h needs a reference.size of 1d6h, not 1d, its default"
    ],
    "windows: [10m]\nreference: {size: 50m}": [
        "f.yaml:1: windows[0]: a window of 10m needs a reference.size of 1h, not 50m"
    ],
    "reference: {size: 1h}": ["f.yaml: windows[1]: a window of 1h needs a reference.size of 6h, not 1h"],
    "streams: {by: 5}": ["f.yaml:1: streams.by: expected text, not 5"],
    "streams: {at_most: many}": ["f.yaml:1: streams.at_most: expected a whole number, not 'many'"],
    "streams: {at_most: 1.5}": ["f.yaml:1: streams.at_most: expected a whole number, not 1.5"],
    "streams: {at_most: 0}": ["f.yaml:1: streams.at_most: must be at least 1, not 0"],
    "streams: model": ["f.yaml:1: streams: expected keys and values, not 'model'"],
    "signals: {text: perhaps}": ["f.yaml:1: signals.text: expected true or false, not 'perhaps'"],
    "signals:\n  matters:\n    response_lenght: 1": ["f.yaml:3: signals.matters.response_lenght: there is no signal"],
    "signals: {matters: {promt_chars: 1}}": [
        "f.yaml:1: signals.matters.promt_chars: there is no signal 'promt_chars'; di"
    ],
    "signals: {matters: {cost: 0}}": ["f.yaml:1: signals.matters.cost: must be greater than 0, not 0"],
    "signals: {matters: {cost: .inf}}": ["f.yaml:1: signals.matters.cost: expected a finite number, not inf"],
    "false_alarms: {per: 0s}": ["f.yaml:1: false_alarms.per: must be greater than 0, not '0s'"],
    "false_alarms: {at_most: few}": ["f.yaml:1: false_alarms.at_most: expected a number, not 'few'"],
    "rules: [{name: A b, signal: cost, on: drift}]": ["f.yaml:1: rules[0].name: 'A b' does not have the form"],
    "rules:\n- signal: cost\n  on: drift": ["f.yaml:2: rules[0].name: is missing"],
    "rules:\n- name: A\n  signal: cost\n  on: drfit": [
        "f.yaml:4: rules[0].on: expected 'drift' or 'silent', not 'drfit'; did you mean 'drift'?"
    ],
    "rules: [{name: A, signal: cost, on: drift, severity: bad}]": [
        "f.yaml:1: rules[0].severity: expected 'info', 'war"
    ],
    "rules:\n- name: A\n  signal: cost\n  on:\n    value: mean\n    abov: 1\n  window: 1h": [
        "f.yaml:6: rules[0].on.abov: unknown key; did you mean 'above'?"
    ],
    "rules:\n- {name: A, signal: cost, on: {value: mean}, window: 1h}": [
        "f.yaml:2: rules[0].on: a level needs exactly one of"
    ],
    "rules:\n- {name: A, signal: cost, on: {value: mean, above: 1}}": [
        "f.yaml:2: rules[0]: a level rule needs a window"
    ],
    "rules:\n- {name: A, signal: cost, on: drift, window: 2h}": [
        "f.yaml:2: rules[0].window: A watches a window of 2h; there are 5m, 1h"
    ],
    "rules:\n- &a {name: A, signal: cost, on: drift}\n- *a": ["f.yaml:1: rules: 2 are named A"],
    "rules:\n- name: A\n  signal: respons_refusal\n  on: drift": [
        "f.yaml:3: rules[0].signal: no signal that is measured matches 'respons_refusal'; did you mean 'response_"
    ],
    "signals: {text: false}\nrules: [{name: A, signal: response_r*, on: drift}]": [
        "f.yaml:2: rules[0].signal: no signal that is measured matches 'response_r*'"
    ],
    "rules: [{name: A, signal: 'prompt_*', on: {value: rate, above: 0.1}, window: 1h}]": [
        "f.yaml:1: rules[0].signal: 'prompt_*' matches prompt_chars, prompt_words, prompt_letters_ratio and"
    ],
    "rules: [{name: A, signal: status, on: {value: quantile, q: 0.5, above: 1}, window: 1h}]": [
        "f.yaml:1: rules[0].signal: 'status' matches status, of which there is no quantile"
    ],
    "rules: [{name: A, signal: volume, on: {value: mean, above: 1}, window: 1h}]": [
        "f.yaml:1: rules[0].signal: 'volume' matches volume, of which there is no mean"
    ],
    "rules: [{name: A, signal: cost, on: drift, segment: tenant=acme}]": [
        "f.yaml:1: rules[0].segment: streams.segments has no 'tenant'"
    ],
    "streams: {segments: [tenant, pool], arms: [pol]}": [
        "f.yaml:1: streams.arms[0]: streams.segments has no 'pol'; did you mean 'pool'?"
    ],
    "rules: [{name: A, signal: cost, on: drift, segment: acme}]": [
        "f.yaml:1: rules[0].segment: expected label=value, not 'acme'"
    ],
    "rules: [{name: A, signal: cost, on: drift, sinks: [ops]}]": ["f.yaml:1: rules[0].sinks: there is no sink 'ops'"],
    "built_in_rules: [VolumChange]": [
        "f.yaml:1: built_in_rules[0]: unknown built-in rule 'VolumChange'; did you mean 'VolumeChange'?"
    ],
    "store: {path: 5}": ["f.yaml:1: store.path: expected a path, not 5"],
    "skew: ${DRIFTD_NO_SUCH}": ["f.yaml:1: skew: the environment has no variable DRIFTD_NO_SUCH"],
    "skew: 1m\nstreams:\n  by: ${A-B}": ["f.yaml:3: streams.by: expected the name of an environment variable"],
    "streams: {by: '${HOME'}": ["f.yaml:1: streams.by: expected the name of an environment variable"],
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_told_with_its_place(text: str) -> None:
    found = mistakes(text)
    assert len(found) == len(WRONG[text]), found
    for line, beginning in zip(found, WRONG[text], strict=True):
        assert line.startswith(beginning)


def test_no_mistake_is_told_in_python() -> None:
    told = "\n".join("\n".join(mistakes(text)) for text in WRONG)
    assert not re.search(r"\bInput\b|\bValue error\b|\bNone\b|\btuple\b|\bdict|\bisoformat\b|<class|instance of", told)


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines() -> None:
    found = mistakes(
        """\
rules:
- {name: A, signal: no_such, on: drift}
windows: [5m, 7m]
signals: {text: perhaps, matters: {no_such: -1}}
reference: {size: soon}
skew: ${DRIFTD_NO_SUCH}
sources: [{kind: kafka}, {kind: files, paths: [a], format: xml}]
built_in_rules: [X]
"""
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["f.yaml:2", "rules[0].signal"],
        ["f.yaml:3", "windows"],
        ["f.yaml:4", "signals.text"],
        ["f.yaml:4", "signals.matters.no_such"],
        ["f.yaml:4", "signals.matters.no_such"],
        ["f.yaml:5", "reference.size"],
        ["f.yaml:6", "skew"],
        ["f.yaml:7", "sources[0].brokers"],
        ["f.yaml:7", "sources[0].topic"],
        ["f.yaml:8", "built_in_rules[0]"],
    ]


def test_lines_hold_behind_anchors_and_merges() -> None:
    text = "rules:\n- &a {name: X, signal: cost, on: drift, window: 9m}\n- <<: *a\n  name: Y\n"
    assert [line.split(": ")[:2] for line in mistakes(text)] == [
        ["f.yaml:2", "rules[0].window"],
        ["f.yaml:3", "rules[1].window"],
    ]


def test_what_the_code_makes_is_checked_like_what_a_file_says() -> None:
    with pytest.raises(ValidationError, match="7m is not a whole multiple"):
        Config(windows=("5m", "7m"))


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:[]{}&*!|>-'\"#%@`,? \n0.5~$") | st.characters(), max_size=40))
def test_whatever_a_file_holds_it_is_a_configuration_or_a_told_mistake(text: str) -> None:
    try:
        config = parse(text, "f.yaml")
    except ConfigError as error:
        told = str(error).splitlines()
    else:
        told = [] if config == Config() else ["another configuration"]
    assert all(line.startswith("f.yaml") for line in told)


def test_an_alias_may_not_hold_itself() -> None:
    assert mistakes("sources: &s [*s]")
    assert mistakes("sources: " + "[" * 2000) == ["f.yaml: nested too deeply"]


# ---- files ----------------------------------------------------------------------------------------------------------


def test_arms_are_those_of_the_segments_unless_they_are_named() -> None:
    assert Config().streams.compared == ("model_version", "prompt_version")
    assert parse("streams: {segments: [tenant, prompt_version]}", "f.yaml").streams.compared == ("prompt_version",)
    assert parse("streams: {segments: [pool], arms: [pool]}", "f.yaml").streams.compared == ("pool",)
    assert parse("streams: {arms: []}", "f.yaml").streams.compared == ()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file or directory"):
        load(tmp_path / "none.yaml")


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("streams: {by: 'modèle'}".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: cannot be read: not UTF-8 at byte 18"):
        load(path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfskew: 1m")
    assert load(path).skew == MINUTE


def test_the_commented_file_holds_the_defaults() -> None:
    said = load(COMMENTED)
    learned = said.reference
    assert learned.end(0, 0) == Config().reference.end(0, 0)
    assert said.model_copy(update={"reference": Config().reference}) == Config()


def test_the_examples_in_the_commented_file_are_right() -> None:
    text = COMMENTED.read_text()
    for default in ("sources: []", "matters: {}", "embedding: auto "):
        assert default in text
        text = text.replace(default, "# " if default.startswith("embedding") else "")
    text = re.sub(r"(?m)^#: ", "", text)
    config = parse(text, str(COMMENTED))
    assert [source.kind for source in config.sources] == ["files", "files", "kafka", "push"]
    assert len(config.signals.matters) == 4
    assert [rule.name for rule in config.rules] == ["AnyDrift", "SlowAnswers"]


def test_the_commented_file_names_every_key_of_the_schema() -> None:
    schema = json.loads(json_schema())
    keys = {key for part in [schema, *schema["$defs"].values()] for key in part["properties"]}
    text = COMMENTED.read_text()
    assert {"windows", "q", "for", "max_record_bytes"} <= keys
    assert {key for key in keys if not re.search(rf"\b{key}:", text)} == {"below"}
    assert "above or below" in text  # a level has one of them


def test_the_schema_is_the_one_that_was_committed() -> None:
    refresh = 'python -c "from monitor.config import json_schema; print(json_schema())" > config/driftd.schema.json'
    assert SCHEMA.read_text() == json_schema() + "\n", f"refresh it: {refresh}"
